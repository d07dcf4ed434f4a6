"""Seconds of a run that has nothing to do: `dvc repro` alone, and `trainyard run` with its summary."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 5
BIN = Path(sys.executable).parent
COMMANDS = {"dvc repro": [BIN / "dvc", "repro"], "trainyard run": [BIN / "trainyard", "run"]}


def main() -> int:
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
        print(f"| {name} | {statistics.median(seconds):.2f} ({min(seconds):.2f}-{max(seconds):.2f}) |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
