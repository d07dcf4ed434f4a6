"""What a stage costs beside its work, on a kept cluster: `python -m benchmarks.stage`.

A stage whose workers do nothing, through the `stage` of every real one (tracking on), in a fresh process each time:

import    from the process's start to the stage's first line: Python, our modules
connect   keys, run folders, joining the Ray cluster
start     Ray Train: its import, placement, a worker process that imports torch
finish    from the worker's return to the driver's
track     sending what is left to MLflow (SQLite): the command's mirror does, after the stage
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


def entered(peers: object) -> float:
    """On the worker."""
    return time.time()


def one() -> None:
    """In a process of its own: prints the seconds of each part."""
    from pipelines.stage.context import stage
    from pipelines.stage.outputs import read_seconds

    with stage("bench", {"name": "bench"}, {"started": time.time()}, []) as run:
        called = time.time()
        start = run.spread(entered) - called
        done = time.time()
        finish = done - called - start
    parts = read_seconds()["bench"]
    track = parts["total"] - parts["import"] - parts["connect"] - start - finish
    print(json.dumps({**parts, "start": start, "finish": finish, "track": track}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        return one()
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
        found = []
        for _ in range(given.rounds + 1):
            asked = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found.append(json.loads(asked.stdout.splitlines()[-1]))
    print(f"\nfixed cost of a stage, seconds, median of {given.rounds} (the first, which starts the cluster, apart)\n")
    print(f"| {' | '.join(['', *PARTS])} |\n|---|{'---|' * len(PARTS)}")
    print(f"| first | {' | '.join(f'{found[0][part]:.1f}' for part in PARTS)} |")
    medians = [statistics.median(parts[part] for parts in found[1:]) for part in PARTS]
    print(f"| later | {' | '.join(f'{value:.1f}' for value in medians)} |")
    return None


if __name__ == "__main__":
    main()
