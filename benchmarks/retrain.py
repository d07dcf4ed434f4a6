"""Retrain on a schedule despite faults, and measure the gate's error rates: `python -m benchmarks.retrain --rounds 20`.

The schedule runs in a copy of the repository with a small flagship on pictures in data/raw, a real MLflow server and
one Ray cluster. Each round changes a parameter and calls `trainyard retrain` until it succeeds. A round has one of
these faults: none; SIGKILL to the retrain at a random moment; an MLflow server that is down at the start; training
pictures with wrong labels.

The table shows whether the champion was ever worse on the held-out examples, and compares alias moves with decisions.
It counts versions registered twice and processes left over. It gives the server's memory and the disk space, both of
temporary files and of what is kept on purpose (models, pages, cache).
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml

from components.cluster.local import local_cluster
from components.data.digits import Digits
from components.network import accepts_connections
from components.recipes import recipe
from components.runs import journal
from components.storage.dataset import prepare_dataset
from components.storage.store import Store
from components.verdicts.gate import Candidate, Gate, judge_challenger
from pipelines.commands import sandbox

SMALL = {
    "data.source.per_class": 40,
    "data.target": {"use": "data.image_folder.ImageFolder", "folder": "data/raw/digits", "size": 16, "colour": False},
    "pretrain.fit.epochs": 4,
    "tune.folds": 2,
    "tune.search.samples": 1,
    "finetune.seeds": 1,
    "finetune.fit.epochs": 2,
    "evaluate.draws": 200,
    "retrain": {"gate": {"level": 0.95}},
}
FAULTS = ("none", "kill", "kill", "tracker", "shuffled")
KILL_AFTER = (2.0, 180.0)  # seconds, range of the random moment
GRACE = 20.0  # seconds in which the children of a killed retrain may end
MAX_TRIES = 5  # per round
HISTORY = (".dvc", "artifacts", "promotions", "tracker.db", "run.log", "tracker.log")  # what a team keeps
SETTLED = 3  # round from which on the temporary files may not grow by more than SLACK
SLACK = 1.25


@dataclass
class Round:
    """The outcome of one round."""

    fault: str
    tries: int = 0
    killed: int = 0
    codes: list[int] = field(default_factory=list)
    leftovers: int = 0  # processes, after GRACE
    work: float = 0.0  # MB of all but the history
    history: float = 0.0  # MB
    rss: float = 0.0  # MB, of the MLflow server
    champion: str | None = None


class Schedule(sandbox.Sandbox):
    """A sandbox whose command is `trainyard retrain`."""

    def start_retrain(self) -> subprocess.Popen:
        """Start a retrain."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("DVC", "TRAINYARD"))}
        environment |= {"MLFLOW_TRACKING_URI": self.tracker, "PYTHONPATH": str(self.folder), "TRAINYARD_THREADS": "1"}
        log = (self.folder / "run.log").open("a")
        command = [sys.executable, "-m", "pipelines", "retrain"]
        return subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)

    def ensure_tracker(self) -> None:
        """Start the MLflow server unless it runs, and wait for it."""
        if self.server is None or self.server.poll() is not None:
            self.start_tracker()
        accepts_connections(f"127.0.0.1:{self.port}", 120)

    def kill_tracker(self) -> None:
        """Kill the MLflow server."""
        assert self.server is not None
        os.killpg(self.server.pid, signal.SIGKILL)
        self.server.wait()

    def workers(self) -> list[psutil.Process]:
        """Return the processes of this sandbox except the tracker."""
        tracker = {self.server.pid} if self.server else set()
        processes = [p for p, text in self.processes() if p.pid != os.getpid() and "mlflow" not in text]
        return [p for p in processes if p.pid not in tracker and p.status() != psutil.STATUS_ZOMBIE]

    def champion(self) -> str | None:
        """Return the number of the champion's version."""
        from mlflow import MlflowClient

        models = MlflowClient(self.tracker).search_registered_models("name = 'glyphs-to-digits'")
        return str(models[0].aliases["champion"]) if models and "champion" in models[0].aliases else None

    def versions(self) -> list[str]:
        """Return the SHA-256 of every registered version."""
        from mlflow import MlflowClient

        return [v.tags["digest"] for v in MlflowClient(self.tracker).search_model_versions("name = 'glyphs-to-digits'")]

    def disk(self) -> tuple[float, float]:
        """Return (MB of work and outputs, MB of history)."""
        sizes = {True: 0, False: 0}
        for file in self.folder.rglob("*"):
            if file.is_file() and not file.is_symlink():
                sizes[file.relative_to(self.folder).parts[0] in HISTORY] += file.stat().st_size
        return sizes[False] / 1e6, sizes[True] / 1e6

    def collect_garbage(self) -> None:
        """Delete from DVC's cache what no output of a stage needs any more, as docs/operations.md advises."""
        command = [str(Path(sys.executable).parent / "dvc"), "gc", "--workspace", "--force", "--quiet"]
        subprocess.run(command, cwd=self.folder, check=True)
        print(f"after dvc gc: {self.disk()[1]:.1f} MB of history", flush=True)

    def change_params(self, changes: dict[str, Any]) -> None:
        """Change params.yaml by {dotted key: value}."""
        file = self.folder / "params.yaml"
        file.write_text(yaml.safe_dump(recipe.overlay(recipe.load(file), changes), sort_keys=False))

    def read_ledger(self) -> list[dict[str, Any]]:
        """Return the records of the ledger, each with its kind."""
        return [r.payload | {"kind": r.kind} for r in journal.read_records(self.folder / "promotions" / "ledger.log")]


def write_pictures(folder: Path, shift: int) -> None:
    """Write 200 digits to train on and 500 to test on; training labels are shifted by `shift`."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as prepared:
        prepare_dataset(Digits(200), prepared)
        store = Store(prepared)
        shutil.rmtree(folder, ignore_errors=True)
        for name, rows, offset in (("train", 200, shift), ("test", 500, 0)):
            examples = store.split(name).take(np.arange(rows))
            for row, (image, label) in enumerate(zip(examples["image"], examples["label"], strict=True)):
                place = folder / name / str((int(label) + offset) % 10)
                place.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image[..., 0]).save(place / f"{row:03d}.png")


def run_round(schedule: Schedule, number: int, fault: str, chance: random.Random) -> Round:
    """Retrain until it succeeds, at most MAX_TRIES times."""
    done = Round(fault)
    write_pictures(schedule.folder / "data/raw/digits", 1 if fault == "shuffled" else 0)
    schedule.change_params({"finetune.fit.epochs": 2 + number, "seed": number})
    if fault == "tracker":
        schedule.kill_tracker()
    while not done.codes or done.codes[-1] != 0:
        run = schedule.start_retrain()
        done.tries += 1
        try:
            done.codes.append(run.wait(chance.uniform(*KILL_AFTER) if fault == "kill" and done.tries == 1 else 600))
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()
            done.killed += 1
            done.codes.append(-9)
        schedule.ensure_tracker()
        if done.tries >= MAX_TRIES:
            break
    until = time.monotonic() + GRACE
    while (leftovers := schedule.workers()) and time.monotonic() < until:
        time.sleep(0.5)
    done.leftovers = len(leftovers)
    done.work, done.history = schedule.disk()
    server = psutil.Process(schedule.server.pid) if schedule.server else psutil.Process()
    done.rss = sum(p.memory_info().rss for p in [server, *server.children(recursive=True)]) / 1e6
    done.champion = schedule.champion()
    return done


def run_schedule(rounds: int, minutes: float, seed: int, keep: bool) -> int:
    """Run the rounds and print the table; return the exit code."""
    folder = Path(tempfile.mkdtemp(prefix="trainyard-schedule-"))
    chance = random.Random(seed)
    schedule = Schedule(sandbox.clone_repository(folder / "yard", {"params.yaml": SMALL}))
    bag: list[str] = []
    done: list[Round] = []
    try:
        with local_cluster(cpus=2):
            schedule.ensure_tracker()
            until = time.monotonic() + 60 * minutes
            for number in range(rounds):
                if time.monotonic() > until:
                    print(f"{number} rounds of {rounds} in {minutes:g} minutes", flush=True)
                    break
                bag = bag or chance.sample(FAULTS, len(FAULTS))
                fault = bag.pop() if number else "none"
                began = time.monotonic()
                done.append(run_round(schedule, number, fault, chance))
                last = done[-1]
                print(
                    f"{number + 1:2} {fault:8} exit {last.codes}, champion {last.champion}, "
                    f"{last.leftovers} processes left over, {last.work:.0f} MB, {last.history:.0f} MB of history, "
                    f"tracker {last.rss:.0f} MB, "
                    f"{time.monotonic() - began:.0f} s",
                    flush=True,
                )
            schedule.collect_garbage()
            began = time.monotonic()
            idle = schedule.start_retrain().wait()
            print(f"nothing changed: exit {idle} after {time.monotonic() - began:.1f} s", flush=True)
        return print_table(schedule, done)
    finally:
        schedule.end()
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def print_table(schedule: Schedule, done: list[Round]) -> int:
    """Print the table; return 0 if every promise was kept, otherwise 1."""
    events = schedule.read_ledger()
    decided = [e for e in events if e["kind"] == "decided"]
    verdicts = [e for e in decided if e["promote"]]
    moved = [e for e in events if e["kind"] == "moved"]
    champions = [r.champion for r in done]
    moves = sum(a != b for a, b in zip([None, *champions], champions, strict=False))
    gains = [e["values"]["gain"] for e in verdicts if e["values"].get("gain") is not None]
    scores = [e["values"]["score"] for e in verdicts]
    failed = [r for r in done if r.codes[-1] != 0]
    versions = schedule.versions()
    duplicates = len(versions) - len(set(versions))
    settled = done[:SETTLED][-1].work
    growth = (done[-1].history - done[0].history) / max(1, len(done) - 1)
    rows = {
        "rounds": f"{len(done)} ({', '.join(f'{n} {f}' for f, n in sorted(Counter(r.fault for r in done).items()))})",
        "retrains killed": str(sum(r.killed for r in done)),
        "rounds that did not end with 0": str(len(failed)),
        "decisions": f"{len(decided)}, {len(verdicts)} to promote",
        "alias moves": f"{len(moved)} in the ledger, {moves} at MLflow",
        "versions": f"{len(versions)}, {duplicates} registered twice",
        "champion on the held-out examples": " -> ".join(f"{score:.3f}" for score in scores),
        "processes left over": str(sum(r.leftovers for r in done)),
        "disk, MB": f"{done[0].work:.1f}, {settled:.1f} after {SETTLED}, {done[-1].work:.1f} after the last",
        "history, MB": f"{done[0].history:.0f}, {done[-1].history:.0f}: {growth:.1f} per round",
        "tracker's memory, MB": f"{done[0].rss:.0f}, {done[-1].rss:.0f}",
    }
    for name, value in rows.items():
        print(f"{name:<36} {value}")
    promises = [
        len(moved) == len(verdicts) == moves,
        all(gain > 0 for gain in gains),
        not failed,
        not duplicates,
        done[-1].work <= SLACK * settled,
        not any(r.leftovers for r in done),
    ]
    return 0 if all(promises) else 1


# ------------------------------------------------------------------------------------------------ the gate alone


def measure_gates(count: int) -> None:
    """Print how often the gate promotes a candidate that is equal, worse or better.

    The models answer an example correctly with the same probability, plus the candidate's gain, and independently.
    """
    examples = 1700
    generator = np.random.default_rng(0)
    table = {
        "better, level 0.95": Gate(level=0.95),
        "better, level 0.8": Gate(level=0.8),
        "not_worse, level 0.95, margin 0.01": Gate(rule="not_worse", level=0.95, margin=0.01),
    }
    print(f"| {count} gates, {examples} examples | equal | worse by 0.01 | better by 0.02 |\n|---|---|---|---|")
    for name, gate in table.items():
        shares = []
        for gain in (0.0, -0.01, 0.02):
            wins = 0
            for _ in range(count):
                probability = generator.beta(8, 0.8, examples)
                candidate, champion = (generator.random(examples) < probability + more for more in (gain, 0.0))
                wins += judge_challenger(gate, Candidate(candidate), Candidate(champion)).promote
            shares.append(f"{wins} ({wins / count:.1%})")
        print(f"| {name} | {' | '.join(shares)} |", flush=True)


def main() -> int:
    """Measure the gates, then run the schedule; return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no round after this time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gates", type=int, default=200)
    parser.add_argument("--keep", action="store_true", help="do not delete the copy, which contains run.log")
    arguments = parser.parse_args()
    if arguments.gates:
        measure_gates(arguments.gates)
    return run_schedule(arguments.rounds, arguments.minutes, arguments.seed, arguments.keep) if arguments.rounds else 0


if __name__ == "__main__":
    raise SystemExit(main())
