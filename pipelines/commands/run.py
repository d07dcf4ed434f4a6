"""`trainyard run`: what has changed runs on a local Ray cluster that ends with the command; then the summary."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from components import network
from components.cluster import prestart
from components.cluster.spread import LOOPBACK, RAY_SETTINGS, authenticate, requested_workers
from components.errors import TryLater
from components.network import free_port
from components.recipes import recipe
from components.tracking import mirror
from pipelines.commands import summary
from pipelines.commands.cli import ENDED
from pipelines.stage.check import check_flagship
from pipelines.stage.context import IDLE_WORKERS, work
from pipelines.stage.dvc_files import FILE, check_repository, check_targets

BIN = Path(sys.executable).parent
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
LEAN = {  # a cluster that begins and ends with the command
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # nobody is left to be drained
    # workers for the first driver, one for each processor: too many on a large machine
    "RAY_prestart_worker_first_driver": "1" if (os.cpu_count() or 1) <= IDLE_WORKERS else "0",
    # which would end as soon as a placement group has taken their processors, and be started anew: 6 s of each
    "RAY_idle_worker_killing_time_threshold_ms": str(1000 * prestart.IDLE_SECONDS),
}
BEGUN = "begun"  # in the work folder: what `trainyard run` was given, until all of it has ended
GONE = {"RAY_gcs_rpc_server_reconnect_timeout_s": "10"}  # so long its drivers look for a cluster that was killed
LOOK = 1.0  # seconds between two looks whether it was: then dvc and its stage need not wait for that
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
    begun = work() / BEGUN
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
    with mirror.shared_mirror(work() / "runs"):
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
    ended = work() / "ended"
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


@contextmanager
def local_cluster(cpus: int | None = None, loopback: bool = True, jobs: int | None = None) -> Iterator[str]:
    """One Ray head, kept for all stages (starting one takes 10 s), stopped by its own process id.

    loopback: nothing outside this machine reaches it; False lets other nodes join.
    jobs: the port, on loopback, of Ray's dashboard and the Jobs API; without it there is none.
    """
    if "RAY_ADDRESS" in os.environ:
        yield os.environ["RAY_ADDRESS"]
        return
    authenticate()
    port, folder = free_port(), tempfile.mkdtemp(prefix="trainyard-")
    address = f"127.0.0.1:{port}"
    head = _start(port, folder, cpus, jobs, LOOPBACK | prestart.RAYLET_SETTINGS if loopback else {})
    settings = (LOOPBACK | {prestart.KEPT_CLUSTER: address} if loopback else {}) | {"RAY_ADDRESS": address, **GONE}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield address
    finally:
        for name, value in before.items():  # a cluster within another's gives its settings back
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        _stop(head)
        shutil.rmtree(folder, ignore_errors=True)


def _start(port: int, folder: str, cpus: int | None, jobs: int | None, settings: dict[str, str]) -> subprocess.Popen:
    """The head's process, which is about to start its others.

    Without a dashboard Ray would start the process of one all the same, and wait for it (2 s); not where its port is
    taken: by a socket that the head itself holds.
    """
    command = [str(BIN / "ray"), "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}"]
    command += ["--no-monitor", "--include-log-monitor=false"]  # what workers print stays in their logs
    command += ["--disable-usage-stats", f"--temp-dir={folder}", "--dashboard-host=127.0.0.1"]
    command += [f"--num-cpus={cpus}"] if cpus else []
    with socket.create_server(("127.0.0.1", 0)) as taken, (Path(folder) / "head.log").open("w") as log:
        if jobs:  # the agent that starts jobs wants a port of its own: by default that of any other cluster here
            command += [f"--dashboard-port={jobs}", f"--dashboard-agent-listen-port={free_port()}"]
        else:
            command += ["--include-dashboard=false", f"--dashboard-port={taken.getsockname()[1]}"]
        return subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            env=os.environ | RAY_SETTINGS | LEAN | settings,
            start_new_session=True,
            preexec_fn=end_with_parent,
            pass_fds=[taken.fileno()],
        )


def end_with_parent() -> None:
    """In the child, on Linux: a killed parent must leave no cluster, no dvc and no stage behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _stop(head: subprocess.Popen, patience: float = 10.0) -> None:
    """SIGTERM lets Ray end its processes; whatever is left of its process group is killed."""
    head.send_signal(signal.SIGTERM)
    until = time.monotonic() + patience
    while head.poll() is None and time.monotonic() < until:
        time.sleep(0.1)
    with suppress(ProcessLookupError):
        os.killpg(head.pid, signal.SIGKILL)
    head.wait()
