"""`trainyard chaos`: kills workers, nodes, stages, dvc, the tracker; compares with a run left alone.

In a copy of the repository something is killed (SIGKILL) at random moments of pretrain, tune and finetune, and the same
command repeated until it ends. It must end with the same bytes as one that is left in peace, a copy with the same small
flagship or (`--here`) the repository itself; and the tracker must hold every point of the journals exactly once.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import yaml

from components.errors import Refusal, suggest_name
from components.network import accepts_connections, free_port
from components.recipes import recipe
from components.runs import journal
from components.search.trials import RECORD
from components.tracking import mirror, server
from pipelines.commands.dvc import repro

ROOT = Path(__file__).parents[2]
GENERATED = ("metrics/", "plots/", "reports/", "results/", "models/", "dvc.lock")
SMALL = {
    "data.source.per_class": 60,
    "pretrain.fit.epochs": 16,
    "pretrain.fit.checkpoint_seconds": 2.0,
    "tune.folds": 3,
    "tune.search.samples": 6,
    "finetune.seeds": 2,
    "finetune.fit.epochs": 30,
    "finetune.fit.checkpoint_seconds": 2.0,
    "evaluate.draws": 200,
}
STAGES = ("pretrain", "tune", "finetune")
VICTIMS = {  # kind -> what its command line holds
    "worker": ("RayTrainWorker", "ray::ResourceTrainable"),  # the second is Ray Tune's
    "node": ("raylet/raylet",),
    "stage": tuple(f"-m pipelines {stage}" for stage in STAGES),  # Ray Train's controller runs in it
    "dvc": ("bin/dvc repro",),
    "tracker": ("mlflow server",),
}
RESULTS = ("models", "tune", "metrics", "plots")
PAUSE = (1.0, 5.0)  # seconds of work between a recovery and the next kill
LAST_WORDS = 3.0  # seconds in which those that are dying may still write; no recovery is as quick
PATIENCE = 300.0  # seconds without a step


@dataclass
class Kill:
    kind: str
    stage: str
    seconds: float | None = None  # until the next step or trial; None: nothing more came, the run had ended


@dataclass
class Yard:
    """A copy of the repository with its own tracker, in which `trainyard run` is repeated."""

    folder: Path
    port: int = field(default_factory=free_port)
    server: subprocess.Popen | None = None
    starts: int = 0  # of the command

    @property
    def tracker(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serve(self) -> None:
        command = server.server_command(self.port, f"sqlite:///{self.folder}/tracker.db", self.folder / "artifacts")
        log = (self.folder / "tracker.log").open("a")
        self.server = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True)

    def start(self) -> subprocess.Popen:
        self.starts += 1
        foreign = ("RAY_ADDRESS", "DVC", "TRAINYARD")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(foreign) or k == "TRAINYARD_WORKERS"}
        environment |= {
            "MLFLOW_TRACKING_URI": self.tracker,
            "PYTHONPATH": str(self.folder),
            "TRAINYARD_THREADS": "1",
        }
        log = (self.folder / "run.log").open("a")
        command = [sys.executable, "-m", "pipelines", "run"]
        return subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )

    def processes(self) -> list[tuple[psutil.Process, str]]:
        """All of this yard's: those in its folder, or below one of them."""
        found: dict[int, tuple[psutil.Process, str]] = {}
        for process in psutil.process_iter(["cmdline", "name"]):
            try:
                text = " ".join(process.info["cmdline"] or [])
                here = process.cwd() == str(self.folder) or str(self.folder) in text
                if here or any(parent.pid in found for parent in process.parents()):
                    found[process.pid] = process, text
            except psutil.Error:
                continue
        return list(found.values())

    def at(self) -> str | None:
        """The stage among STAGES that is at work."""
        texts = [text for _, text in self.processes()]
        return next((stage for stage in STAGES if any(f"-m pipelines {stage}" in text for text in texts)), None)

    def progress(self) -> float:
        """When the last step or trial was written down."""
        runs = self.folder / ".trainyard" / "runs"
        files = [*journal.find_files(journal.LOG, runs), *journal.find_files(RECORD, runs)]
        return max((file.stat().st_mtime for file in files), default=0.0)

    def kill(self, kind: str, chance: random.Random) -> bool:
        """SIGKILL to one process of that kind, if there is one."""
        signs = VICTIMS[kind]
        found = [process for process, text in self.processes() if any(sign in text for sign in signs)]
        if not found:
            return False
        victim = chance.choice(sorted(found, key=lambda process: process.pid))
        try:  # MLflow's server is two processes: without the first, the second would serve on
            for process in [victim, *(victim.children(recursive=True) if kind == "tracker" else [])]:
                process.kill()
        except psutil.Error:
            return False
        return True

    def end(self) -> None:
        for process, _ in self.processes():
            if process.pid != os.getpid():
                process.kill()


def main(kills: int, seed: int, victims: list[str], keep: bool, here: bool = False) -> int:
    """Exit code 1 unless all bytes are equal and no point is lost or doubled."""
    if unknown := set(victims) - set(VICTIMS):
        raise Refusal(
            f"chaos: no victim '{min(unknown)}'{suggest_name(min(unknown), VICTIMS)}; any of {', '.join(VICTIMS)}"
        )
    if here and repro.has_work([]):
        raise Refusal("chaos --here: the results of params.yaml are not here; `trainyard run` makes them")
    folder, chance = Path(tempfile.mkdtemp(prefix="trainyard-chaos-")), random.Random(seed)
    changes = {} if here else {"params.yaml": SMALL}
    yards: list[Yard] = []
    done: list[Kill] = []
    torn: list[float] = []
    try:
        calm, wanted = (
            (None, digest_results(ROOT)) if here else run_undisturbed(Yard(clone_repository(folder / "calm", changes)))
        )
        while len(done) < kills:
            yards.append(Yard(clone_repository(folder / f"torn-{len(yards) + 1}", changes)))
            print(f"up to {kills - len(done)} kills, in {yards[-1].folder}", flush=True)
            known = len(done)
            torn.append(run_disturbed(yards[-1], kills, victims or list(VICTIMS), chance, done))
            if len(done) == known:
                raise Refusal(f"chaos: nothing could be killed in {yards[-1].folder}; see its run.log (--keep)")
        return print_report(wanted, yards, done, calm, torn)
    finally:
        for yard in yards:
            yard.end()
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def run_undisturbed(yard: Yard) -> tuple[float, dict[str, str]]:
    """Seconds of a run that nobody disturbs, and what it leaves."""
    print(f"a run left alone, in {yard.folder}", flush=True)
    began = time.monotonic()
    try:
        yard.serve()
        if yard.start().wait() != 0:
            raise Refusal(f"chaos: the run left alone failed; see {yard.folder}/run.log (trainyard chaos --keep)")
    finally:
        yard.end()
    print(f"  {time.monotonic() - began:.0f} s", flush=True)
    return time.monotonic() - began, digest_results(yard.folder)


def digest_results(folder: Path) -> dict[str, str]:
    """File -> SHA-256 of everything the stages left in the repository at `folder`."""
    files = [file for name in RESULTS for file in (folder / name).rglob("[!.]*") if file.is_file()]
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(files)}


def run_disturbed(yard: Yard, kills: int, kinds: list[str], chance: random.Random, done: list[Kill]) -> float:
    """Kills until there are `kills` in `done`, repeats the command until a run has ended; seconds.

    Each stage has its share of all kills: those that it ends too soon for are left for another run.
    """
    bag: list[str] = []
    left = Counter(dict.fromkeys(STAGES, -(-kills // len(STAGES)))) - Counter(kill.stage for kill in done)
    began = time.monotonic()
    killed_at = due = 0.0
    yard.serve()
    process = yard.start()
    while True:
        time.sleep(0.1)
        if yard.server is not None and yard.server.poll() is not None:
            yard.serve()
        latest, now = yard.progress(), time.time()
        if killed_at and latest > killed_at + (0 if done[-1].kind == "tracker" else LAST_WORDS):
            done[-1].seconds = latest - killed_at
            killed_at, due = 0.0, now + chance.uniform(*PAUSE)
            told_of = f"{done[-1].kind} during {done[-1].stage}"
            print(f"  {len(done)}: {told_of}, next step after {done[-1].seconds:.1f} s", flush=True)
        if process.poll() is not None:
            if process.returncode == 0:
                return time.monotonic() - began
            process = yard.start()
        if killed_at and now - killed_at > PATIENCE:
            raise Refusal(f"chaos: nothing for {PATIENCE:.0f} s after killing the {done[-1].kind}; see {yard.folder}")
        if killed_at or len(done) >= kills:
            continue
        if (stage := yard.at()) is None or not left[stage]:
            due = 0.0  # the next one is killed at a random moment of its own, not as it starts
            continue
        due = due or now + chance.uniform(*PAUSE)
        if now >= due:
            bag = bag or chance.sample(kinds, len(kinds))
            killed = next((kind for kind in bag if yard.kill(kind, chance)), None)
            if killed is None:  # those that are left have no process in this stage: they come first in the next
                bag += [kind for kind in chance.sample(kinds, len(kinds)) if kind not in bag]
                continue
            bag.remove(killed)
            left[stage] -= 1
            done.append(Kill(killed, stage))
            killed_at = now


def print_report(
    wanted: dict[str, str], yards: list[Yard], done: list[Kill], calm: float | None, torn: list[float]
) -> int:
    """Prints the table; 0 when nothing was lost. wanted, calm: digests and seconds (if known) of the run left alone."""
    found = [digest_results(yard.folder) for yard in yards]
    different = [name for one in found for name in wanted.keys() | one.keys() if wanted.get(name) != one.get(name)]
    audits = []
    for yard in yards:
        if not accepts_connections(f"127.0.0.1:{yard.port}", 60):
            raise Refusal(f"chaos: the tracker of {yard.folder} does not answer; see its tracker.log (--keep)")
        runs = yard.folder / ".trainyard" / "runs"
        mirror.Mirror(runs, address=yard.tracker).send()
        audits.append(mirror.audit_metrics(runs, yard.tracker))
    points, lost, doubled = (sum(numbers) for numbers in zip(*audits, strict=True))
    rows = {
        "kills": f"{len(done)} ({format_counts(kill.kind for kill in done)})",
        "during": format_counts(kill.stage for kill in done),
        "command repeated": f"{sum(yard.starts - 1 for yard in yards)} times",
        "files equal": f"{len(wanted) * len(found) - len(different)} of {len(wanted) * len(found)}",
        "points sent": f"{points:,}, lost {lost}, doubled {doubled}",
    }
    rows |= time_rows(done, calm, torn)
    for name, value in rows.items():
        print(f"{name:<36} {value}")
    for name in sorted(set(different)):
        print(f"DIFFERENT: {name}")
    return 1 if different or lost or doubled else 0


def format_counts(names: Iterable[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(Counter(names).items()))


def time_rows(done: list[Kill], calm: float | None, torn: list[float]) -> dict[str, str]:
    """Rows on the time that kills cost, over runs of `torn` seconds that take `calm` when left alone."""
    rows = {}
    if calm is not None:
        cost = (sum(torn) - len(torn) * calm) / len(done)
        rows = {
            "seconds lost a kill": f"{cost:.1f} (work done again, starting anew)",
            "effective time": f"{len(torn) * calm / sum(torn):.0%} at a kill every {sum(torn) / len(done):.0f} s,"
            f" as here; by the seconds lost {60 / (60 + cost):.0%} at one every 60 s",
        }
    for kind in sorted({kill.kind for kill in done}):
        seconds = [kill.seconds for kill in done if kill.kind == kind and kill.seconds is not None]
        middle = f"{median(seconds):.1f} (median of {len(seconds)})" if seconds else "-"
        rows[f"seconds to the next step, {kind}"] = middle
    return rows


def clone_repository(folder: Path, changes: dict[str, dict[str, Any]]) -> Path:
    """The repository's files in `folder`, recipes changed by {file: {dotted key: value}}, one commit."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(GENERATED):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for name, values in changes.items():
        content = recipe.overlay(recipe.load(folder / name), values)
        (folder / name).write_text(yaml.safe_dump(content, sort_keys=False))
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "start"]):
        identity = ["-c", "user.name=trainyard", "-c", "user.email=trainyard@localhost"]
        subprocess.run(["git", *identity, *command], cwd=folder, check=True)
    return folder
