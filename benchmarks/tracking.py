"""Measure how much tracking slows down training, in four states of the tracker: `python -m benchmarks.tracking`.

In each round LeNet trains for the same number of steps in its own process, without a mirror (`none`) and with one. The
mirror is another process, as a stage's driver is for its workers. It sends to a real MLflow server (`alive`), to a port
without a listener (`down`), and to one that accepts connections and never answers (`mute`). Ratios to `none` are taken
within a round; median and range over the rounds are printed.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from benchmarks import race
from components import network
from components.tracking import mirror, server

CONTENDERS = ("none", "alive", "down", "mute")


def serve(name: str, steps: int) -> None:
    """Build a contender and run its epochs on demand, in its own process."""
    import torch

    from benchmarks.engine import CLASSES, SIDE, network, pictures
    from components.cluster import allocator
    from components.runs.description import describe_run
    from components.storage.feed import Feed
    from components.storage.store import Column, Split, write_part
    from components.tasks.classification import Classification
    from components.training import engine
    from components.training.task import Spec

    torch.set_num_threads(1)
    allocator.keep_freed_memory()
    folder = Path(tempfile.mkdtemp())
    images, labels = pictures(4096)
    columns = {"image": Column("uint8", (SIDE, SIDE, 1)), "label": Column("int64")}
    examples = ({"image": image, "label": int(label)} for image, label in zip(images, labels, strict=True))
    write_part(folder / "train.arrow", columns, examples)
    spec = Spec({"image": (SIDE, SIDE, 1)}, tuple(map(str, range(CLASSES))), {"mean": [0.25], "std": [0.2]})
    feed = Feed(Split([folder / "train.arrow"]))
    count = 0

    def run_epoch() -> None:
        nonlocal count
        count += 1
        run = folder / f"run-{count}"
        describe_run(run, f"{name} {count}", "tracking")
        task = Classification(lambda **shape: network("lenet"))
        options = {"epochs": max(1, steps // 32), "batch": 128, "log_every": 1, "checkpoint_seconds": 1e9}
        engine.fit(task, spec, feed, None, run, **options)

    if name == "none":
        race.serve(run_epoch)
        return
    command = [sys.executable, "-m", "benchmarks.tracking", "--follow", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE):  # ends with its standard input
        race.serve(run_epoch)


def follow(folder: Path) -> None:
    """Mirror the runs below `folder` until standard input ends."""
    mirror.Mirror(folder).start()
    sys.stdin.read()


def main() -> None:
    """Print a table of seconds per state of the tracker."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=640)
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--follow", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.follow:
        follow(arguments.follow)
        return
    if arguments.contender:
        serve(arguments.contender, arguments.steps)
        return
    folder, port = tempfile.mkdtemp(), network.free_port()
    command = server.server_command(port, f"{folder}/artifacts")
    environment = server.server_settings(f"sqlite:///{folder}/server.db")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    process = subprocess.Popen(command, cwd=folder, env=environment, **quiet)  # type: ignore[call-overload]
    mute = socket.create_server(("127.0.0.1", 0))
    places = {"alive": port, "down": network.free_port(), "mute": mute.getsockname()[1]}
    try:
        network.answers(f"127.0.0.1:{port}", patience=90)
        options = ["--steps", str(arguments.steps), "--contender"]
        commands = {name: ["benchmarks.tracking", *options, name] for name in CONTENDERS}
        uris = {name: {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{place}"} for name, place in places.items()}
        seconds = race.race(commands, arguments.rounds, {name: os.environ | uri for name, uri in uris.items()})
        with closing(sqlite3.connect(f"{folder}/server.db")) as database:
            (arrived,) = database.execute("SELECT COUNT(*) FROM metrics").fetchone()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        mute.close()
    print("| tracker | seconds | of none |\n|---|---|---|")
    for name in CONTENDERS:
        ratios = [ours / none for ours, none in zip(seconds[name], seconds["none"], strict=True)]
        print(f"| {name} | {statistics.median(seconds[name]):.2f} | {race.median_and_range(ratios, 3)} |")
    print(f"points at the server `alive`: {arrived:,}")


if __name__ == "__main__":
    main()
