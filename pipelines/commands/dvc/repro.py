"""Run `dvc repro` as a child process, on a local Ray cluster that is replaced if it is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from components import exit_code, network
from components.cluster import prestart
from components.cluster.local import local_cluster
from components.cluster.private_folder import read_last_words
from components.errors import Refusal, Stopped, TryLater
from components.processes import BIN, end_with_parent
from components.tracking import mirror
from components.workspace import runs_folder, work_folder
from pipelines.commands.dvc import locks

POLL_SECONDS = 1.0  # between two checks that the local cluster is still there
MAX_CLUSTERS = 5  # per command
Result = TypeVar("Result")


class ClusterLost(TryLater):
    """The local cluster ended too early: its raylet was killed, or the kernel ran out of memory."""


def run_on_local_cluster(command: Callable[[], Result]) -> Result:
    """Return the result of `command`, called on a local cluster while its runs are sent to MLflow.

    If the cluster is lost, start another one and call `command` again: it continues from its saved progress. Raise
    ClusterLost after MAX_CLUSTERS of them.
    """
    with mirror.shared_mirror(runs_folder()):
        for remaining in reversed(range(MAX_CLUSTERS)):
            try:
                with local_cluster():
                    return command()
            except ClusterLost as loss:
                if not remaining:
                    raise
                print(f"{loss}: continuing on a new one", file=sys.stderr)
    raise AssertionError("the loop returns or raises")


def reproduce(*targets: str, deadline: float | None = None) -> int:
    """Run `dvc repro` and return its exit code, or that of the stage that failed.

    deadline: of time.monotonic(). Then the stage is interrupted: it saves its progress and ends. Raise Stopped.

    dvc gets a process group of its own. So an interrupt of both (Ctrl-C) and one of this process alone (a service's
    stop) have the same effect. Raise KeyboardInterrupt after an interrupt, ClusterLost as soon as the local cluster is
    gone, because Ray would wait for it, and TryLater if dvc gave way to another dvc in this folder.
    """
    code_file = work_folder() / "ended"
    code_file.parent.mkdir(parents=True, exist_ok=True)
    code_file.unlink(missing_ok=True)
    others = locks.live_holders()
    process = subprocess.Popen(
        [BIN / "dvc", "repro", *targets],
        env=os.environ | {exit_code.VARIABLE: str(code_file.resolve())},
        process_group=0,
        preexec_fn=_prepare_child,
    )
    code = _wait_for_dvc(process, deadline, others)
    if not code:
        return 0
    # dvc itself says no more than 255
    if not code_file.is_file() and (others or locks.is_locked()):
        who = f" (process {min(others)})" if others else ""
        raise TryLater(f"another dvc{who} is at work in this folder; repeat the command when it has ended")
    return exit_code.read_exit_code(code_file, default=code)


def _wait_for_dvc(process: subprocess.Popen, deadline: float | None, others: set[int]) -> int:
    """Return dvc's exit code; pass interrupts on to its process group.

    others: the processes of other dvcs, to which those that appear during the wait are added.

    The first interrupt lets the stage save its progress, the second stops it at once, the third kills it and dvc. The
    deadline counts as one.
    """
    interrupts = 0
    code = None
    is_late = False
    was_up = False  # the cluster may not have started yet
    while code is None:
        try:
            with suppress(subprocess.TimeoutExpired):
                code = process.wait(POLL_SECONDS)
            if code is None and not is_late and deadline is not None and time.monotonic() >= deadline:
                is_late = True
                if not interrupts:
                    interrupts = 1
                    _signal_group(process, signal.SIGINT)
            others |= locks.live_holders() - {process.pid}
            is_up = _is_local_cluster_up()
            if was_up and not is_up and code != 0 and not interrupts:
                _signal_group(process, signal.SIGKILL)
                process.wait()
                raise ClusterLost(f"the local Ray cluster was lost ({_guess_cause()}); no results were lost")
            was_up = was_up or is_up
        except KeyboardInterrupt:
            interrupts += 1
            _signal_group(process, signal.SIGINT if interrupts < 3 else signal.SIGKILL)
    if is_late and interrupts == 1:
        if code:
            raise Stopped("the budget is used up, and all progress is saved")
    elif interrupts:
        raise KeyboardInterrupt
    return code


def _guess_cause() -> str:
    """Return why the local cluster may have gone: Ray gives its head 30 s to start, and says so in the head's log."""
    is_slow = "timed out during startup" in (read_last_words() or "")
    return "it did not start in time: this machine is too busy" if is_slow else "memory? trainyard doctor"


def _signal_group(process: subprocess.Popen, number: signal.Signals) -> None:
    """Send a signal to dvc's process group, which is gone if dvc ended a moment ago."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _is_local_cluster_up() -> bool:
    return prestart.is_kept_cluster() and network.accepts_connections(os.environ["RAY_ADDRESS"], POLL_SECONDS / 2)


def _prepare_child() -> None:
    """Restore SIGINT in the child: shells let commands that they start in the background ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent()


def reproduce_or_refuse(*targets: str) -> None:
    """Run `dvc repro`, its output visible; raise Refusal if it fails, or TryLater if a stage says so."""
    if code := reproduce(*targets):
        command = " ".join(["dvc repro", *targets])
        if code == exit_code.TRY_LATER:
            raise TryLater(f"{command} can only succeed later; see above")
        raise Refusal(f"{command} ended with exit code {code}; see above")


def is_unfinished(targets: list[str], started: Path) -> bool:
    """Return whether there is certainly work; dvc is not asked, because it takes 2 s to answer.

    There is work if nothing was ever run here, or if the file `started` shows that the same command did not finish.
    """
    if not targets and not Path("dvc.lock").is_file():
        return True
    return started.is_file() and started.read_text() == " ".join(targets)


def has_work(targets: list[str]) -> bool:
    """Return whether `dvc repro` would run a stage.

    A dry run fails if outputs of an earlier stage are missing. The real run creates them, or reports what is wrong.
    """
    dry_run = subprocess.run([BIN / "dvc", "repro", "--dry", *targets], capture_output=True, text=True, check=False)
    return dry_run.returncode != 0 or "Running stage" in dry_run.stdout
