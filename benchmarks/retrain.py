"""A schedule under fire: `python -m benchmarks.retrain --rounds 20`, and how often the gate errs.

A copy of the repository with a small flagship on pictures in data/raw, a real MLflow server, one Ray cluster. Each
round changes a parameter and calls `trainyard retrain` until it is done; a round's fault is none, SIGKILL to the
retrain at a random moment, the MLflow server gone at the start, or training pictures with wrong labels. Told at the
end: whether the champion was ever worse on the held-out examples, alias moves against verdicts, versions registered
twice, processes left over, memory, and disk: what is worked with, and what is kept on purpose (models, pages, cache).
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
from pipelines.commands import chaos, sandbox

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
KILL_AFTER = (2.0, 180.0)  # seconds
LAST_WORDS = 20.0  # seconds in which the children of a killed retrain may end
LATER = 75
HISTORY = (".dvc", "artifacts", "promotions", "tracker.db", "run.log", "tracker.log")  # what a team keeps on purpose
SETTLED, SLACK = 3, 1.25  # from this round on the rest of the disk may not grow by more


@dataclass
class Round:
    fault: str
    tries: int = 0
    killed: int = 0
    codes: list[int] = field(default_factory=list)
    left: int = 0  # processes, after LAST_WORDS
    work: float = 0.0  # MB of all but the history
    history: float = 0.0  # MB
    rss: float = 0.0  # of the MLflow server, MB
    champion: str | None = None


class Schedule(chaos.Yard):
    """A yard whose command is `trainyard retrain`."""

    def start(self) -> subprocess.Popen:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("DVC", "TRAINYARD"))}
        environment |= {"MLFLOW_TRACKING_URI": self.uri, "PYTHONPATH": str(self.folder), "TRAINYARD_THREADS": "1"}
        log = (self.folder / "run.log").open("a")
        command = [sys.executable, "-m", "pipelines", "retrain"]
        return subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def up(self) -> None:
        if self.server is None or self.server.poll() is not None:
            self.serve()
        accepts_connections(f"127.0.0.1:{self.port}", 120)

    def down(self) -> None:
        assert self.server is not None
        os.killpg(self.server.pid, signal.SIGKILL)
        self.server.wait()

    def workers(self) -> list[psutil.Process]:
        """Everything of this yard's but the tracker."""
        tracker = {self.server.pid} if self.server else set()
        found = [p for p, text in self.processes() if p.pid != os.getpid() and "mlflow" not in text]
        return [p for p in found if p.pid not in tracker and p.status() != psutil.STATUS_ZOMBIE]

    def champion(self) -> str | None:
        from mlflow import MlflowClient

        found = MlflowClient(self.uri).search_registered_models("name = 'glyphs-to-digits'")
        return str(found[0].aliases["champion"]) if found and "champion" in found[0].aliases else None

    def versions(self) -> list[str]:
        """The bytes (their SHA-256) of every version there is."""
        from mlflow import MlflowClient

        return [v.tags["digest"] for v in MlflowClient(self.uri).search_model_versions("name = 'glyphs-to-digits'")]

    def disk(self) -> tuple[float, float]:
        """(MB of work and outputs, MB of history)."""
        sizes = {True: 0, False: 0}
        for file in self.folder.rglob("*"):
            if file.is_file() and not file.is_symlink():
                sizes[file.relative_to(self.folder).parts[0] in HISTORY] += file.stat().st_size
        return sizes[False] / 1e6, sizes[True] / 1e6

    def sweep(self) -> None:
        """DVC's cache without what no stage's output needs any more, as docs/operations.md advises."""
        command = [str(Path(sys.executable).parent / "dvc"), "gc", "--workspace", "--force", "--quiet"]
        subprocess.run(command, cwd=self.folder, check=True)
        print(f"after dvc gc: {self.disk()[1]:.1f} MB of history", flush=True)

    def set(self, changes: dict[str, Any]) -> None:
        file = self.folder / "params.yaml"
        file.write_text(yaml.safe_dump(recipe.overlay(recipe.load(file), changes), sort_keys=False))

    def decisions(self) -> list[dict[str, Any]]:
        return [r.payload | {"kind": r.kind} for r in journal.read_records(self.folder / "promotions" / "ledger.log")]


def pictures(folder: Path, shift: int) -> None:
    """200 digits to train on, in the folder of the digit `shift` further on; 500 to test on, in their own."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as prepared:
        prepare_dataset(Digits(200), prepared)
        store = Store(prepared)
        shutil.rmtree(folder, ignore_errors=True)
        for name, rows, further in (("train", 200, shift), ("test", 500, 0)):
            taken = store.split(name).take(np.arange(rows))
            for row, (image, label) in enumerate(zip(taken["image"], taken["label"], strict=True)):
                place = folder / name / str((int(label) + further) % 10)
                place.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image[..., 0]).save(place / f"{row:03d}.png")


def one(schedule: Schedule, number: int, fault: str, chance: random.Random) -> Round:
    """A round, repeated until a retrain ends by itself."""
    done = Round(fault)
    pictures(schedule.folder / "data/raw/digits", 1 if fault == "shuffled" else 0)
    schedule.set({"finetune.fit.epochs": 2 + number, "seed": number})
    if fault == "tracker":
        schedule.down()
    while not done.codes or done.codes[-1] != 0:
        run = schedule.start()
        done.tries += 1
        try:
            done.codes.append(run.wait(chance.uniform(*KILL_AFTER) if fault == "kill" and done.tries == 1 else 600))
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()
            done.killed += 1
            done.codes.append(-9)
        schedule.up()
        if done.tries > 4:
            break
    until = time.monotonic() + LAST_WORDS
    while (left := schedule.workers()) and time.monotonic() < until:
        time.sleep(0.5)
    done.left = len(left)
    done.work, done.history = schedule.disk()
    server = psutil.Process(schedule.server.pid) if schedule.server else psutil.Process()
    done.rss = sum(p.memory_info().rss for p in [server, *server.children(recursive=True)]) / 1e6
    done.champion = schedule.champion()
    return done


def scheduled(rounds: int, minutes: float, seed: int, keep: bool) -> int:
    folder, chance = Path(tempfile.mkdtemp(prefix="trainyard-schedule-")), random.Random(seed)
    schedule = Schedule(sandbox.clone_repository(folder / "yard", {"params.yaml": SMALL}))
    bag: list[str] = []
    done: list[Round] = []
    try:
        with local_cluster(cpus=2):
            schedule.up()
            until = time.monotonic() + 60 * minutes
            for number in range(rounds):
                if time.monotonic() > until:
                    print(f"{number} rounds of {rounds} in {minutes:g} minutes", flush=True)
                    break
                bag = bag or chance.sample(FAULTS, len(FAULTS))
                fault = bag.pop() if number else "none"
                began = time.monotonic()
                done.append(one(schedule, number, fault, chance))
                last = done[-1]
                print(
                    f"{number + 1:2} {fault:8} exit {last.codes}, champion {last.champion}, left over {last.left}, "
                    f"{last.work:.0f} MB and {last.history:.0f} kept, tracker {last.rss:.0f} MB, "
                    f"{time.monotonic() - began:.0f} s",
                    flush=True,
                )
            schedule.sweep()
            began = time.monotonic()
            idle = schedule.start().wait()
            print(f"nothing changed: exit {idle} after {time.monotonic() - began:.1f} s", flush=True)
        return told(schedule, done)
    finally:
        schedule.end()
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def told(schedule: Schedule, done: list[Round]) -> int:
    """Prints the table; 0 when every promise held."""
    events = schedule.decisions()
    decided = [e for e in events if e["kind"] == "decided"]
    verdicts = [e for e in decided if e["promote"]]
    moved = [e for e in events if e["kind"] == "moved"]
    held = [r.champion for r in done]
    seen = sum(a != b for a, b in zip([None, *held], held, strict=False))
    gains = [e["values"]["gain"] for e in verdicts if e["values"].get("gain") is not None]
    scores = [e["values"]["score"] for e in verdicts]
    lost = [r for r in done if r.codes[-1] != 0]
    versions = schedule.versions()
    twice = len(versions) - len(set(versions))
    settled = done[:SETTLED][-1].work
    each = (done[-1].history - done[0].history) / max(1, len(done) - 1)
    rows = {
        "rounds": f"{len(done)} ({', '.join(f'{n} {f}' for f, n in sorted(Counter(r.fault for r in done).items()))})",
        "retrains killed": str(sum(r.killed for r in done)),
        "rounds that did not end with 0": str(len(lost)),
        "decisions": f"{len(decided)}, {len(verdicts)} to promote",
        "alias moves": f"{len(moved)} noted, {seen} seen at MLflow",
        "versions": f"{len(versions)}, {twice} registered twice",
        "champion on the held-out examples": " -> ".join(f"{score:.3f}" for score in scores),
        "processes left over": str(sum(r.left for r in done)),
        "disk, MB": f"{done[0].work:.1f}, {settled:.1f} after {SETTLED}, {done[-1].work:.1f} after the last",
        "history, MB": f"{done[0].history:.0f}, {done[-1].history:.0f}: {each:.1f} a round",
        "tracker's memory, MB": f"{done[0].rss:.0f}, {done[-1].rss:.0f}",
    }
    for name, value in rows.items():
        print(f"{name:<36} {value}")
    fine = len(moved) == len(verdicts) == seen and all(gain > 0 for gain in gains) and not lost and not twice
    fine = fine and done[-1].work <= SLACK * settled
    return 0 if fine and not any(r.left for r in done) else 1


# ------------------------------------------------------------------------------------------------ the gate alone


def gates(count: int, examples: int = 1700) -> None:
    """How often equal models change places: each example is as likely to be right with either, independently."""
    random_ = np.random.default_rng(0)
    table = {
        "better, level 0.95": Gate(level=0.95),
        "better, level 0.8": Gate(level=0.8),
        "not_worse, level 0.95, margin 0.01": Gate(rule="not_worse", level=0.95, margin=0.01),
    }
    print(f"| {count} gates, {examples} examples | equal | worse by 0.01 | better by 0.02 |\n|---|---|---|---|")
    for name, gate in table.items():
        shares = []
        for lead in (0.0, -0.01, 0.02):
            wins = 0
            for _ in range(count):
                right = random_.beta(8, 0.8, examples)
                ours, theirs = (random_.random(examples) < right + more for more in (lead, 0.0))
                wins += judge_challenger(gate, Candidate(ours), Candidate(theirs)).promote
            shares.append(f"{wins} ({wins / count:.1%})")
        print(f"| {name} | {' | '.join(shares)} |", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no round after so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gates", type=int, default=200)
    parser.add_argument("--keep", action="store_true", help="leave the copy for a look at run.log")
    given = parser.parse_args()
    if given.gates:
        gates(given.gates)
    return scheduled(given.rounds, given.minutes, given.seed, given.keep) if given.rounds else 0


if __name__ == "__main__":
    raise SystemExit(main())
