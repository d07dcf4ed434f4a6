"""Run every benchmark in turn, each in its own process (`make bench`); nothing else should run on the machine."""

from __future__ import annotations

import subprocess
import sys
import time

BENCHMARKS = (
    "engine",
    "link",
    "scaling",
    "gpu",
    "pretraining",
    "augmentation",
    "stage",
    "repro",
    "memory",
    "tracking",
    "search",
    "retrain",
    "readers",
    "object_store",
)


def main() -> int:
    """Run the benchmarks named on the command line, or all; return the exit code."""
    names = sys.argv[1:] or BENCHMARKS
    failed = []
    for name in names:
        started = time.monotonic()
        print(f"\n## {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode:
            failed.append(name)
        print(f"({time.monotonic() - started:.0f} s)", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
