"""`trainyard chaos`: kill workers, nodes, stages, dvc and the tracking server, and check that nothing is lost.

In a copy of the repository, processes are killed (SIGKILL) at random moments of pretrain, tune and finetune, and the
same command is repeated until it ends. Its results must have the same bytes as those of an undisturbed run: that of a
second copy with the same small flagship, or (`--here`) that of the repository itself. The tracking server must hold
every point of the journals exactly once.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

from components.errors import Refusal, suggest_name
from components.network import accepts_connections
from components.recipes import recipe
from components.tracking import mirror
from pipelines.commands.dvc import repro
from pipelines.commands.kills import Kill, Portion, Series, print_report
from pipelines.commands.sandbox import ROOT, STAGES, VICTIMS, Sandbox, clone_repository
from pipelines.stage.provenance import code_digest

SMALL = {
    "data.source.per_class": 60,
    "pretrain.fit.epochs": 8,
    "pretrain.fit.checkpoint_seconds": 2.0,
    "tune.folds": 2,
    "tune.search.samples": 4,
    "finetune.seeds": 2,
    "finetune.fit.epochs": 12,
    "finetune.fit.checkpoint_seconds": 2.0,
    "evaluate.draws": 200,
}
RESULTS = ("models", "tune", "metrics", "plots")
PAUSE = (1.0, 5.0)  # seconds of work between a recovery and the next kill
LAST_WRITES = 3.0  # seconds in which dying processes may still write; no recovery is as quick
PATIENCE = 300.0  # seconds without a step


def main(kills: int, seed: int, victims: list[str], keep: bool, here: bool = False, record: Path | None = None) -> int:
    """Return exit code 0 if all bytes are equal and no point is lost or doubled, otherwise 1.

    kills: number of processes to kill. seed: of the random moments. victims: kinds among VICTIMS, empty for all.
    keep: leave the copies. here: use params.yaml unchanged and compare with the results in the repository. record: a
    file to which finished runs are added, so that many kills can be done in several calls; the report is then about
    all of its runs.
    """
    if unknown := set(victims) - set(VICTIMS):
        suggestion = suggest_name(min(unknown), VICTIMS)
        raise Refusal(f"chaos: no victim '{min(unknown)}'{suggestion}; choose from {', '.join(VICTIMS)}")
    if here and repro.has_work([]):
        raise Refusal("chaos --here: the results of params.yaml are not here; `trainyard run` makes them")
    changes = {} if here else {"params.yaml": SMALL}
    series = Series(record, code=code_digest(), settings=recipe.digest("here" if here else SMALL))
    folder = Path(tempfile.mkdtemp(prefix="trainyard-chaos-"))
    generator = random.Random(seed)
    done: list[Kill] = []
    runs = 0
    try:
        if here:
            series.expected = digest_results(ROOT)
        elif not series.expected:
            calm = Sandbox(clone_repository(folder / "calm", changes))
            series.undisturbed_seconds, series.expected = run_undisturbed(calm)
            series.save()
        while len(done) < kills:
            runs += 1
            sandbox = Sandbox(clone_repository(folder / f"torn-{runs}", changes))
            print(f"up to {kills - len(done)} kills, in {sandbox.folder}", flush=True)
            before = len(done)
            try:
                seconds = Disturbance(sandbox, kills, victims or list(VICTIMS), generator, done).run()
                if len(done) == before:
                    raise Refusal(f"chaos: nothing could be killed in {sandbox.folder}; see its run.log (--keep)")
                series.portions.append(examine_run(sandbox, series.expected, done[before:], seconds))
                series.save()
            finally:
                sandbox.end()
        return print_report(series.portions, series.undisturbed_seconds)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def examine_run(sandbox: Sandbox, expected: dict[str, str], kills: list[Kill], seconds: float) -> Portion:
    """Return what a disturbed run lost; expected: digests of the undisturbed results."""
    files = digest_results(sandbox.folder)
    different = sorted(name for name in expected.keys() | files.keys() if expected.get(name) != files.get(name))
    points, lost, doubled = audit_tracker(sandbox)
    return Portion(list(kills), sandbox.starts - 1, len(expected), different, points, lost, doubled, seconds)


def run_undisturbed(sandbox: Sandbox) -> tuple[float, dict[str, str]]:
    """Return the duration in seconds and the digests of the results of an undisturbed run."""
    print(f"an undisturbed run, in {sandbox.folder}", flush=True)
    began = time.monotonic()
    try:
        sandbox.start_tracker()
        if sandbox.start_run().wait() != 0:
            raise Refusal(f"chaos: the undisturbed run failed; see {sandbox.folder}/run.log (trainyard chaos --keep)")
    finally:
        sandbox.end()
    print(f"  {time.monotonic() - began:.0f} s", flush=True)
    return time.monotonic() - began, digest_results(sandbox.folder)


def digest_results(folder: Path) -> dict[str, str]:
    """Return {file: SHA-256} of all results of the stages in the repository at `folder`."""
    files = [file for name in RESULTS for file in (folder / name).rglob("[!.]*") if file.is_file()]
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(files)}


class Disturbance:
    """A run in which processes are killed until `kills` holds `limit` of them.

    Each stage gets an equal share of all kills; those for which it ends too soon are left to the next run.
    """

    def __init__(
        self, sandbox: Sandbox, limit: int, kinds: list[str], generator: random.Random, kills: list[Kill]
    ) -> None:
        self.sandbox = sandbox
        self.limit = limit
        self.kinds = kinds
        self.generator = generator
        self.kills = kills
        share = -(-limit // len(STAGES))  # rounded up
        self.remaining = Counter(dict.fromkeys(STAGES, share)) - Counter(kill.stage for kill in kills)
        self.bag: list[str] = []  # kinds to kill next, in random order
        self.killed_at = 0.0  # time of the last kill until the run has recovered from it, otherwise 0
        self.due = 0.0  # time of the next kill, 0 if it has not been drawn

    def run(self) -> float:
        """Repeat the command until it succeeds, and return the duration in seconds."""
        began = time.monotonic()
        self.sandbox.start_tracker()
        process = self.sandbox.start_run()
        kills_before = len(self.kills)  # of earlier attempts of the command
        while True:
            time.sleep(0.1)
            self.revive_tracker()
            progress = self.sandbox.last_progress()
            now = time.time()
            self.note_recovery(progress, now)
            if process.poll() is not None:
                if process.returncode == 0:
                    return time.monotonic() - began
                # After a kill the command may have to wait for what the kill left, as long as `check_patience` lets it
                if not self.killed_at and len(self.kills) == kills_before:
                    raise Refusal(
                        f"chaos: the run ended with exit code {process.returncode} although nothing was killed;"
                        f" see {self.sandbox.folder}/run.log (trainyard chaos --keep)"
                    )
                kills_before = len(self.kills)
                process = self.sandbox.start_run()
            self.check_patience(now)
            if not self.killed_at and len(self.kills) < self.limit:
                self.kill_if_due(now)

    def revive_tracker(self) -> None:
        """Restart the tracking server if it was killed."""
        if self.sandbox.server is not None and self.sandbox.server.poll() is not None:
            self.sandbox.start_tracker()

    def note_recovery(self, progress: float, now: float) -> None:
        """Record how long the run took to its next step after a kill, and draw the time of the next kill."""
        if not self.killed_at:
            return
        kill = self.kills[-1]
        margin = 0 if kill.kind == "tracker" else LAST_WRITES
        if progress > self.killed_at + margin:
            kill.seconds = progress - self.killed_at
            self.killed_at = 0.0
            self.due = now + self.generator.uniform(*PAUSE)
            text = f"{kill.kind} during {kill.stage}, next step after {kill.seconds:.1f} s"
            print(f"  {len(self.kills)}: {text}", flush=True)

    def check_patience(self, now: float) -> None:
        """Raise Refusal if the run does not recover from a kill."""
        if self.killed_at and now - self.killed_at > PATIENCE:
            kind = self.kills[-1].kind
            raise Refusal(f"chaos: no step within {PATIENCE:.0f} s after killing the {kind}; see {self.sandbox.folder}")

    def kill_if_due(self, now: float) -> None:
        """Kill a process if the current stage still has a share of the kills and the time has come."""
        stage = self.sandbox.current_stage()
        if stage is None or not self.remaining[stage]:
            self.due = 0.0  # kill the next stage at a random moment rather than at its start
            return
        self.due = self.due or now + self.generator.uniform(*PAUSE)
        if now >= self.due and self.kill_next(stage):
            self.killed_at = now

    def kill_next(self, stage: str) -> bool:
        """Kill a process of the first kind in the bag that has one; return whether there was one."""
        self.bag = self.bag or self._shuffled_kinds()
        killed = next((kind for kind in self.bag if self.sandbox.kill(kind, self.generator)), None)
        if killed is None:  # the remaining kinds do not occur in this stage: add the others behind them
            self.bag += [kind for kind in self._shuffled_kinds() if kind not in self.bag]
            return False
        self.bag.remove(killed)
        self.remaining[stage] -= 1
        self.kills.append(Kill(killed, stage))
        return True

    def _shuffled_kinds(self) -> list[str]:
        return self.generator.sample(self.kinds, len(self.kinds))


def audit_tracker(sandbox: Sandbox) -> tuple[int, int, int]:
    """Send what is left and return how many points the journals hold, and how many the server lost and doubled."""
    if not accepts_connections(f"127.0.0.1:{sandbox.port}", 60):
        raise Refusal(f"chaos: the tracker of {sandbox.folder} does not answer; see its tracker.log (--keep)")
    runs = sandbox.folder / ".trainyard" / "runs"
    mirror.Mirror(runs, address=sandbox.tracker).send()
    return mirror.audit_metrics(runs, sandbox.tracker)
