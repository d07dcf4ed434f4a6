"""`trainyard run`: what has changed runs on a local Ray cluster that ends with the command; then the summary."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from components import network
from components.cluster import prestart
from components.cluster.local import local_cluster
from components.cluster.spread import requested_workers
from components.errors import TryLater
from components.processes import BIN, end_with_parent
from components.recipes import recipe
from components.tracking import mirror
from components.workspace import runs_folder, work_folder
from pipelines.commands import summary
from pipelines.commands.cli import ENDED
from pipelines.stage.check import check_flagship
from pipelines.stage.dvc_files import FILE, check_repository, check_targets

BEGUN = "begun"  # in the work folder: what `trainyard run` was given, until all of it has ended
LOOK = 1.0  # seconds between two looks whether the local cluster is still there
CLUSTERS = 5  # started at most by one command
Result = TypeVar("Result")


class ClusterLost(TryLater):
    """The local cluster ended before its time (a killed raylet, the kernel short of memory)."""


def main(targets: list[str], workers: str | None) -> int:
    check_flagship(recipe.load("params.yaml"))
    check_repository()
    targets = [f"{target.rstrip('/')}/{FILE}" if Path(target, FILE).is_file() else target for target in targets]
    check_targets(targets)
    if workers is not None:
        os.environ["TRAINYARD_WORKERS"] = workers
    requested_workers()
    os.environ["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"  # stages call `python`: this environment's
    begun = work_folder() / BEGUN
    if not (_known_to_do(targets, begun) or anything_to_do(targets)):
        print("nothing changed: no stage to run")
        return _sum_up(targets)
    begun.parent.mkdir(parents=True, exist_ok=True)
    begun.write_text(" ".join(targets))
    if code := on_clusters(lambda: reproduce(*targets)):
        return code
    begun.unlink(missing_ok=True)  # all of the work folder may be deleted at any time
    from pipelines.reports import plots, report

    report.write_report()  # once more, now that the seconds of all stages are known
    plots.write_template()
    return _sum_up(targets)


def on_clusters(command: Callable[[], Result]) -> Result:
    """What `command` returns on a local cluster, its runs sent to MLflow meanwhile; called again on another one where
    that was lost, for it goes on from what is saved. Raises ClusterLost after `CLUSTERS` of them."""
    with mirror.shared_mirror(runs_folder()):
        for left in reversed(range(CLUSTERS)):
            try:
                with local_cluster():
                    return command()
            except ClusterLost:
                if not left:
                    raise
                print("the local Ray cluster was lost; nothing else is: it goes on with another", file=sys.stderr)
    raise AssertionError("returned or raised")


def reproduce(*targets: str) -> int:
    """`dvc repro`; its exit code, or that of the stage that failed. An interrupt is passed on to it and its stage,
    which saves what it has; the second stops the stage at once, the third kills both.

    In a process group of its own, so that who interrupts both (Ctrl-C) and who interrupts this command alone
    (a service's stop) do the same. Raises ClusterLost as soon as the local cluster is gone: Ray would wait for it.
    """
    ended = work_folder() / "ended"
    ended.parent.mkdir(parents=True, exist_ok=True)
    ended.unlink(missing_ok=True)
    process = subprocess.Popen(
        [BIN / "dvc", "repro", *targets],
        env=os.environ | {ENDED: str(ended.resolve())},
        process_group=0,
        preexec_fn=_interruptible,
    )
    interrupts, code, seen = 0, None, False
    while code is None:
        try:
            with suppress(subprocess.TimeoutExpired):
                code = process.wait(LOOK)
            there = prestart.is_kept_cluster() and network.accepts_connections(os.environ["RAY_ADDRESS"], LOOK / 2)
            if seen and not there and code != 0 and not interrupts:  # it may not have begun yet
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise ClusterLost("the local Ray cluster was lost (memory? trainyard doctor); nothing else is")
            seen = seen or there
        except KeyboardInterrupt:
            interrupts += 1
            os.killpg(process.pid, signal.SIGINT if interrupts < 3 else signal.SIGKILL)
    if interrupts:
        raise KeyboardInterrupt
    return int(ended.read_text()) if code and ended.is_file() else code


def _interruptible() -> None:
    """In the child: a shell that starts commands in the background lets them ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent()


def _sum_up(targets: list[str]) -> int:
    """Of the flagship, once it was evaluated; a family's results are its own files."""
    if any("/" in target for target in targets):
        print("all results: dvc metrics show; a family side by side: trainyard compare FOLDER")
        return 0
    if targets and not Path("metrics/evaluate.json").is_file():
        print("no summary before the last stage: trainyard run")
        return 0
    return summary.main()


def _known_to_do(targets: list[str], begun: Path) -> bool:
    """Without asking dvc, which takes 2 s: nothing was ever run here, or the same command has not come to its end."""
    if not targets and not Path("dvc.lock").is_file():
        return True
    return begun.is_file() and begun.read_text() == " ".join(targets)


def anything_to_do(targets: list[str]) -> bool:
    """A dry run fails where outputs of an earlier stage are missing: the real one makes them, or says what is wrong."""
    dry = subprocess.run([BIN / "dvc", "repro", "--dry", *targets], capture_output=True, text=True, check=False)
    return dry.returncode != 0 or "Running stage" in dry.stdout
