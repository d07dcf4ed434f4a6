"""Measure the overhead of a stage on a cluster that is already running: `python -m benchmarks.stage`.

The stage's workers do nothing. It runs through the same `stage` as every real one, with tracking, in a new process:

import    from the process's start to the stage's first line: Python, our modules
connect   keys, run folders, joining the Ray cluster
start     Ray Train: its import, placement, a worker process that imports torch
finish    from the worker's return to the driver's
track     sending the last records to MLflow (SQLite): the command's mirror does it after the stage
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import chdir
from pathlib import Path

ROOT = Path(__file__).parent.parent
PARTS = ("import", "connect", "start", "finish", "track", "total")


def note_start(peers: object) -> float:
    """Return the time at which the worker starts."""
    return time.time()


def run_stage() -> None:
    """Run the stage and print the seconds of each part; called in a new process."""
    from pipelines.stage.context import stage
    from pipelines.stage.outputs import read_seconds

    with stage("bench", {"name": "bench"}, {"started": time.time()}, []) as run:
        called = time.time()
        start = run.spread(note_start) - called
        done = time.time()
        finish = done - called - start
    parts = read_seconds()["bench"]
    track = parts["total"] - parts["import"] - parts["connect"] - start - finish
    print(json.dumps({**parts, "start": start, "finish": finish, "track": track}))


def main() -> None:
    """Print the seconds of the first stage and the medians of the later ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        return run_stage()
    from components.cluster.local import local_cluster
    from components.tracking import mirror
    from components.workspace import runs_folder

    command = [sys.executable, "-m", "benchmarks.stage", "--one"]
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ["PYTHONPATH"] = str(ROOT)
    with (
        tempfile.TemporaryDirectory() as folder,
        chdir(folder),
        local_cluster(),
        mirror.shared_mirror(runs_folder()),
    ):
        seconds = []
        for _ in range(arguments.rounds + 1):
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            seconds.append(json.loads(done.stdout.splitlines()[-1]))
    print(
        f"\noverhead of a stage, seconds, median of {arguments.rounds} (without the first, which starts the cluster)\n"
    )
    print(f"| {' | '.join(['', *PARTS])} |\n|---|{'---|' * len(PARTS)}")
    print(f"| first | {' | '.join(f'{seconds[0][part]:.1f}' for part in PARTS)} |")
    medians = [statistics.median(parts[part] for parts in seconds[1:]) for part in PARTS]
    print(f"| later | {' | '.join(f'{value:.1f}' for value in medians)} |")
    return None


if __name__ == "__main__":
    main()
