"""Measure a run that has nothing to do: `dvc repro`, and `trainyard run` with its summary."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from benchmarks import race

ROUNDS = 5
BIN = Path(sys.executable).parent
COMMANDS = {"dvc repro": [BIN / "dvc", "repro"], "trainyard run": [BIN / "trainyard", "run"]}


def main() -> int:
    """Print a table of seconds; return 2 if a stage would run."""
    dry = subprocess.run([BIN / "dvc", "repro", "--dry"], capture_output=True, text=True, check=False)
    if dry.returncode or "Running stage" in dry.stdout:
        print("something has changed since the last run: make run first", file=sys.stderr)
        return 2
    print("\n| nothing to do | seconds, median (range) |\n|---|---|")
    for name, command in COMMANDS.items():
        seconds = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            subprocess.run(command, capture_output=True, check=True)
            seconds.append(time.perf_counter() - started)
        print(f"| {name} | {race.median_and_range(seconds, 2)} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
