"""Follow run folders in a background thread and send what is new in them to MLflow.

Work never waits for the thread and never fails because of it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from ..runs.description import RUN
from ..runs.journal import Tail, find_files, read_records
from . import server
from .note import Note, read_note
from .points import metric_points, to_point
from .replay import RunReplay

PAUSE = 1.0  # seconds between two passes over the journals
MAX_PAUSE = 60.0  # seconds, after several passes that failed
PATIENCE = 20.0  # seconds for which the end of a stage waits for the last records to be sent
SHARED = "TRAINYARD_FOLLOWED"  # environment variable: the folder whose runs a parent process sends
log = logging.getLogger(__name__)


class Mirror:
    """A background thread that sends all run folders in and below `folders` while the block runs.

    address: another tracker than that of the environment.
    since (Unix seconds): skip top-level runs whose run.json is older, and the runs below them.
    """

    def __init__(self, *folders: Path, address: str | None = None, since: float | None = None) -> None:
        self.folders = folders
        self.uri = address or server.tracking_uri()
        self.since = since
        self.failure: Exception | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Mirror:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ending.set()
        self._thread.join(PATIENCE)
        if self.failure or self._thread.is_alive():
            reason = server.explain_failure(self.failure) if self.failure else f"not done after {PATIENCE:.0f} s"
            place = server.hide_credentials(self.uri)
            log.warning("%s did not take all records (%s); they are kept: trainyard sync", place, reason)

    def start(self) -> None:
        """Start the thread; without a block it runs until the process ends."""
        self._thread.start()

    def send(self) -> int:
        """Send everything new now and return the number of records.

        A run that fails does not keep others from being sent. A tracker that does not answer ends the pass. In both
        cases the first error is raised at the end; it may be any that MLflow raises.
        """
        folders = self.folders if self.since is None else _recent_runs(self.folders, self.since)
        runs = [file.parent for file in find_files(RUN, *folders)]
        client = server.make_client(self.uri) if runs else None
        count = 0
        failure: Exception | None = None
        for folder in runs:
            try:
                count += RunReplay(client, self.uri, folder).send()
            except Exception as error:
                failure = failure or error
                if not server.is_available(client):
                    break
        if failure:
            raise failure
        return count

    def _follow(self) -> None:
        pause = PAUSE
        while True:
            is_last = self._ending.is_set()
            try:
                self.send()
                self.failure = None
                pause = PAUSE
            except Exception as error:  # no error of a tracker may reach the work
                self.failure = error
                pause = min(2 * pause, MAX_PAUSE)
            if is_last:
                return
            self._ending.wait(pause)


@contextmanager
def shared_mirror(folder: Path) -> Iterator[None]:
    """Mirror the runs below `folder` for all stages that child processes run during the block.

    One mirror for all saves each stage the 3 s that importing MLflow takes. At the end, send what earlier commands
    left unsent, too.
    """
    os.environ[SHARED] = str(folder.resolve())
    try:
        with Mirror(folder, since=time.time() - 1) as mirror:  # a file's time may lag behind the clock
            yield
    finally:
        del os.environ[SHARED]
    if not mirror.failure and find_unsent_runs(folder):
        with Mirror(folder):
            pass


def mirror_unless_shared(*folders: Path) -> AbstractContextManager[object]:
    """Return a mirror of the folders, or a context that does nothing if a parent process mirrors them all."""
    return contextlib.nullcontext() if all(map(has_shared_mirror, folders)) else Mirror(*folders)


def has_shared_mirror(folder: Path) -> bool:
    """Return whether a parent process sends the runs in and below `folder`."""
    shared = os.environ.get(SHARED)
    return shared is not None and folder.resolve().is_relative_to(shared)


def find_unsent_runs(folder: Path) -> list[Path]:
    """Return the runs in and below `folder` with lines still to be sent; compare notes and file sizes alone."""

    def is_unsent(run: Path) -> bool:
        note = read_note(run) or Note()
        sizes = {file.name: file.stat().st_size for file in run.glob("*.log")}
        return not note.deleted and any(note.offsets.get(name, 0) != size for name, size in sizes.items())

    return [file.parent for file in find_files(RUN, folder) if is_unsent(file.parent)]


def find_missing_files(folder: Path) -> list[str]:
    """Return the files of the runs in and below `folder` that were gone before they could be sent."""
    return [path for file in find_files(RUN, folder) for path in (read_note(file.parent) or Note()).missing]


def audit_metrics(folder: Path, address: str | None = None) -> tuple[int, int, int]:
    """Compare the metrics that stand in the journals below `folder` with the tracker's.

    Return (points in the journals, points that the tracker lacks, points that it has beyond them). The last are points
    stored twice, and points that a rewind revoked after they were sent.
    """
    client = server.make_client(address or server.tracking_uri())
    points = lost = surplus = 0
    for file in find_files(RUN, folder):
        run = (read_note(file.parent) or Note()).run
        logs = sorted(file.parent.glob("*.log"))
        standing = metric_points(record for log in logs for record in read_records(log))
        ever_written = metric_points(record for log in logs for record in Tail(log).read_new())
        keys = {key for key, *_ in ever_written} if run else set()
        stored = [to_point(metric) for key in keys for metric in client.get_metric_history(run, key)]
        points += len(standing)
        lost += len(standing - set(stored))
        surplus += len(stored) - len(set(stored) & standing)
    return points, lost, surplus


def _recent_runs(folders: Iterable[Path], since: float) -> list[Path]:
    files = [file for folder in folders for file in folder.glob(f"*/{RUN}")]
    return [file.parent for file in files if file.stat().st_mtime >= since]
