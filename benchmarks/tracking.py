"""What tracking costs training, however the tracker is: `python -m benchmarks.tracking`.

In each round LeNet trains for the same number of steps in a process of its own, in turn: without a mirror, and
mirrored by another process, as a stage's driver does for its workers, to a real MLflow server, to a port where nobody
listens, and to one that takes connections and never answers. Ratios of seconds to the first are taken within a round;
median and range over the rounds are printed.
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


def contender(name: str, steps: int) -> None:
    import torch

    from benchmarks.engine import CLASSES, SIDE, network, pictures
    from components.cluster import allocator
    from components.runs import journal
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

    def epoch() -> None:
        nonlocal count
        count += 1
        run = folder / f"run-{count}"
        journal.describe_run(run, f"{name} {count}", "tracking")
        task = Classification(lambda **shape: network("lenet"))
        options = {"epochs": max(1, steps // 32), "batch": 128, "log_every": 1, "checkpoint_seconds": 1e9}
        engine.fit(task, spec, feed, None, run, **options)

    if name == "none":
        race.serve(epoch)
        return
    command = [sys.executable, "-m", "benchmarks.tracking", "--follow", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE):  # it ends with its standard input
        race.serve(epoch)


def follow(folder: Path) -> None:
    """Sends what is new below `folder` until standard input ends."""
    mirror.Mirror(folder).start()
    sys.stdin.read()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=640)
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--follow", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.follow:
        follow(given.follow)
        return
    if given.contender:
        contender(given.contender, given.steps)
        return
    folder, port = tempfile.mkdtemp(), network.free_port()
    command = server.server_command(port, f"sqlite:///{folder}/server.db", f"{folder}/kept")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    process = subprocess.Popen(command, cwd=folder, **quiet)  # type: ignore[call-overload]
    mute = socket.create_server(("127.0.0.1", 0))
    places = {"alive": port, "down": network.free_port(), "mute": mute.getsockname()[1]}
    try:
        network.answers(f"127.0.0.1:{port}", patience=90)
        arguments = ["--steps", str(given.steps), "--contender"]
        commands = {name: ["benchmarks.tracking", *arguments, name] for name in CONTENDERS}
        uris = {name: {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{place}"} for name, place in places.items()}
        seconds = race.race(commands, given.rounds, {name: os.environ | uri for name, uri in uris.items()})
        with closing(sqlite3.connect(f"{folder}/server.db")) as database:
            (arrived,) = database.execute("SELECT COUNT(*) FROM metrics").fetchone()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        mute.close()
    print("| tracker | seconds | of none |\n|---|---|---|")
    for name in CONTENDERS:
        ratios = [ours / none for ours, none in zip(seconds[name], seconds["none"], strict=True)]
        spread = f"{statistics.median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f})"
        print(f"| {name} | {statistics.median(seconds[name]):.2f} | {spread} |")
    print(f"points at the server that was alive: {arrived:,}")


if __name__ == "__main__":
    main()
