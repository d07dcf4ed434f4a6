"""Run folders on their way to MLflow: one thread follows the journals and sends what is new.

Work never waits for it and never fails by it. Sending again what was sent before changes nothing (a metric is the same
one when key, time, step and value are), so a mirror killed anywhere starts again from its last note, `mirror.json`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from ..files import write_json
from ..runs.journal import RUN, STAGE_LOG, Record, Tail, find_files, read_records
from . import server

NOTE = "mirror.json"  # in a run's folder: how much of it was sent, and where to
PAUSE = 1.0  # seconds between two looks at the journals
PATIENCE = 20.0  # seconds that a stage's end waits for what is still to be sent
BATCH = 1000  # metrics, tags or parameters MLflow takes at once
SHARED = "TRAINYARD_FOLLOWED"  # the folder whose runs a parent process sends already
log = logging.getLogger(__name__)


class Mirror:
    """Follows all run folders in and below `folders` while its block runs; address: of another tracker than `uri`.

    since (Unix seconds): skip top-level runs whose run.json is older, together with the runs below them.
    """

    def __init__(self, *folders: Path, address: str | None = None, since: float | None = None) -> None:
        self.folders, self.uri, self.since = folders, address or server.tracking_uri(), since
        self.ended, self.thread = threading.Event(), threading.Thread(target=self._follow, daemon=True)
        self.failure: Exception | None = None

    def __enter__(self) -> Mirror:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.ended.set()
        self.thread.join(PATIENCE)
        if self.failure or self.thread.is_alive():
            reason = type(self.failure).__name__ if self.failure else f"not done after {PATIENCE:.0f} s"
            place = server.hide_credentials(self.uri)
            log.warning("%s did not take all records (%s); they are kept: trainyard sync", place, reason)

    def _follow(self) -> None:
        wait = PAUSE
        while True:
            last = self.ended.is_set()
            try:
                self.send()
                self.failure, wait = None, PAUSE
            except Exception as error:  # whatever a tracker does must not reach the work
                self.failure, wait = error, min(2 * wait, 60)
            if last:
                return
            self.ended.wait(wait)

    def send(self) -> int:
        """Everything new, now; the number of records sent.

        A run that fails keeps no other from being sent; a tracker that answers nothing ends the pass. Either way the
        first error, whatever MLflow raises, is raised at the end.
        """
        folders = self.folders if self.since is None else _described(self.folders, self.since)
        runs = [file.parent for file in find_files(RUN, *folders)]
        client = server.make_client(self.uri) if runs else None
        count, failure = 0, None
        for folder in runs:
            try:
                count += _Run(client, self.uri, folder).send()
            except Exception as error:
                failure = failure or error
                if not server.is_available(client):
                    break
        if failure:
            raise failure
        return count


@contextmanager
def shared_mirror(folder: Path) -> Iterator[None]:
    """One mirror of the runs below `folder` for all stages that child processes run meanwhile: importing MLflow takes
    3 s. At the end what earlier commands left is sent, too."""
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
    """A mirror of them, or none where a parent process follows them."""
    return contextlib.nullcontext() if all(map(has_shared_mirror, folders)) else Mirror(*folders)


def has_shared_mirror(folder: Path) -> bool:
    """Whether a parent process sends the runs in or below `folder`."""
    return (above := os.environ.get(SHARED)) is not None and folder.resolve().is_relative_to(above)


def _described(folders: Iterable[Path], since: float) -> list[Path]:
    found = [file for folder in folders for file in folder.glob(f"*/{RUN}")]
    return [file.parent for file in found if file.stat().st_mtime >= since]


def find_unsent_runs(folder: Path) -> list[Path]:
    """Runs below `folder` of whose lines some are still to be sent; looks at notes and sizes alone."""

    def waits(run: Path) -> bool:
        note = run / NOTE
        known = json.loads(note.read_text()) if note.is_file() else {"offsets": {}}
        sizes = {file.name: file.stat().st_size for file in run.glob("*.log")}
        return not known.get("deleted") and any(known["offsets"].get(name, 0) != sizes[name] for name in sizes)

    return [file.parent for file in find_files(RUN, folder) if waits(file.parent)]


def audit_metrics(folder: Path, address: str | None = None) -> tuple[int, int, int]:
    """(points in the journals of all runs below `folder`, how many the tracker lacks, how many it has too often)."""
    client = server.make_client(address or server.tracking_uri())
    points = lost = doubled = 0
    for file in find_files(RUN, folder):
        run = json.loads((file.parent / NOTE).read_text())["run"]
        records = [record for log in file.parent.glob("*.log") for record in Tail(log).read_new()]
        wanted = {(m.key, m.step, m.value, m.timestamp) for record in records for m in _metrics(record)}
        keys = {key for key, *_ in wanted}
        kept = [(m.key, m.step, m.value, m.timestamp) for key in keys for m in client.get_metric_history(run, key)]
        points += len(wanted)
        lost += len(wanted - set(kept))
        doubled += len(kept) - len(set(kept) & wanted)
    return points, lost, doubled


# ------------------------------------------------------------------------------------------------ one run


class _Run:
    """One run folder and its MLflow run."""

    def __init__(self, client: Any, uri: str, folder: Path) -> None:
        self.client, self.uri, self.folder = client, uri, folder
        self.note = folder / NOTE
        self.facts: dict[str, Any] = json.loads((folder / RUN).read_text())
        known = json.loads(self.note.read_text()) if self.note.is_file() else {}
        same = known.get("uri") == server.hide_credentials(uri) and known.get("id") == self.facts["id"]
        self.known: dict[str, Any] = known if same else self.fresh()

    def fresh(self) -> dict[str, Any]:
        """The note of a run of which nothing was sent."""
        return {"uri": server.hide_credentials(self.uri), "id": self.facts["id"], "offsets": {}, "models": []}

    def send(self) -> int:
        tails = {file.name: Tail(file, self.known["offsets"].get(file.name, 0)) for file in self.folder.glob("*.log")}
        attempts = self.facts.get("attempts", [])
        news = any(tail.path.stat().st_size != tail.offset for tail in tails.values())
        news = news or "run" not in self.known or len(attempts) != self.known.get("attempts", 0)
        if not news or self.known.get("deleted"):
            return 0
        with _alone(self.folder / ".mirror") as alone:
            if not alone:
                return 0
            run = self.identify()
            try:
                return self.deliver(run, tails, attempts)
            except Exception:
                if not self.deleted(run):
                    raise
                return 0

    def deliver(self, run: str, tails: dict[str, Tail], attempts: list[dict[str, Any]]) -> int:
        """What is new of attempts and lines; noted once all of it is there."""
        for number, changed in enumerate(attempts[self.known.get("attempts", 0) :], self.known.get("attempts", 0) + 2):
            for name, (old, new) in changed.items():
                self.client.set_tag(run, f"attempt.{number}.{name}", f"{old} -> {new}")
            self.client.set_tag(run, "attempt", str(number))
        self.known["attempts"] = len(attempts)
        count = 0
        for tail in sorted(tails.values(), key=lambda tail: tail.path.name == STAGE_LOG):
            records = tail.read_new()
            self.replay(run, records)
            self.known["offsets"][tail.path.name] = tail.offset
            count += len(records)
        self.remember()
        return count

    def deleted(self, run: str) -> bool:
        """Whether a person deleted the run at MLflow; it is noted, and no more is sent of it.

        A run that MLflow has never heard of (another database behind the same address) is forgotten here, and made
        anew the next time.
        """
        from mlflow.exceptions import MlflowException

        try:
            gone = bool(self.client.get_run(run).info.lifecycle_stage == "deleted")
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                self.known = self.fresh()
                self.remember()
            return False
        if gone:
            self.known["deleted"] = True
            self.remember()
            place = server.hide_credentials(self.uri)
            log.warning("%s: deleted at %s: no more of it is sent (all, again: rm %s)", self.folder, place, self.note)
        return gone

    def identify(self) -> str:
        """The MLflow run's id: noted, or found by our id, or made now (after its parent's)."""
        if "run" not in self.known:
            owner = server.get_or_create_experiment(self.client, self.facts["experiment"], self.uri)
            tags = {"trainyard.id": self.facts["id"]} | self.facts["tags"]
            if self.facts["parent"]:
                parent = (self.folder / self.facts["parent"]).resolve()
                with _alone(parent / ".mirror", wait=True):
                    tags["mlflow.parentRunId"] = _Run(self.client, self.uri, parent).identify()
            query = f"tags.\"trainyard.id\" = '{self.facts['id']}'"
            if not (found := self.client.search_runs([owner], query)):
                self.client.create_run(owner, self.facts["created"], tags, self.facts["name"])
                found = self.client.search_runs([owner], query)
            run, *doubled = [one.info.run_id for one in found]
            for other in doubled:  # an answer was lost and the client asked again
                self.client.delete_run(other)
            self.known["run"] = run
            self.describe(run)
            self.remember()
        return str(self.known["run"])

    def describe(self, run: str) -> None:
        from mlflow.entities import Param

        params = [Param(key, str(value)[:6000]) for key, value in self.facts["params"].items()]
        for start in range(0, len(params), 100):
            self.client.log_batch(run, params=params[start : start + 100])
        self.use(run, self.facts["inputs"])

    def use(self, run: str, data: list[dict[str, Any]]) -> None:
        """Says which data the run reads; a second time it changes nothing."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                Dataset(
                    name=given["name"],
                    digest=given["digest"][:32],
                    source_type="local",
                    source=json.dumps({"uri": given["name"]}),
                    profile=json.dumps(given.get("profile", {})),
                ),
                [InputTag("mlflow.data.context", given.get("context", "input"))],
            )
            for given in data
        ]
        if inputs:
            self.client.log_inputs(run, inputs)

    def replay(self, run: str, records: list[Record]) -> None:
        metrics = [metric for record in records for metric in _metrics(record)]
        for start in range(0, len(metrics), BATCH):
            self.client.log_batch(run, metrics=metrics[start : start + BATCH])
        if any(record.kind == "text" for record in records):
            told = [r.payload["text"] for r in read_records(self.folder / STAGE_LOG, "text")]
            self.client.log_text(run, "\n".join(told) + "\n", "log.txt")
        for record in records:
            given = record.payload
            if record.kind == "begin":
                self.client.update_run(run, status="RUNNING")
            elif record.kind == "input":
                self.use(run, [given])
            elif record.kind == "tag":
                self.client.set_tag(run, given["name"], given["value"])
            elif record.kind == "artifact" and Path(given["path"]).is_file():
                self.client.log_artifact(run, given["path"], given["folder"] or None)
            elif record.kind == "model":
                self.register(run, given)
            elif record.kind == "end":
                self.client.set_terminated(run, given["status"], record.time)

    def register(self, run: str, given: dict[str, Any]) -> None:
        """Logs an exported model's folder with its signature, once, and registers it under `given["name"]`.

        What an earlier mirror did, but had no time to note, is not done again; nor is what the client asked for twice
        because an answer was lost kept twice.
        """
        if given["digest"] in self.known["models"] or not Path(given["path"]).is_dir():
            return
        from mlflow.exceptions import MlflowException

        if not self.versions(run, given["digest"]):
            model = self.logged(run, given["digest"]) or self.log(run, given)
            with contextlib.suppress(MlflowException):  # it is there already
                self.client.create_registered_model(given["name"])
            tags = {"digest": given["digest"]}
            self.client.create_model_version(given["name"], model.model_uri, run, tags, model_id=model.model_id)
        for doubled in self.versions(run, given["digest"])[1:]:
            self.client.delete_model_version(doubled.name, doubled.version)
        self.known["models"].append(given["digest"])
        self.remember()

    def versions(self, run: str, digest: str) -> list[Any]:
        """Those registered from this run with these bytes, oldest first."""
        found = self.client.search_model_versions(f"run_id = '{run}'")
        return sorted((v for v in found if v.tags.get("digest") == digest), key=lambda v: int(v.version))

    def logged(self, run: str, digest: str) -> Any | None:
        """The model of this run with these bytes, if it was logged to the end; what was begun and left is removed."""
        owner = server.get_or_create_experiment(self.client, self.facts["experiment"], self.uri)
        found = self.client.search_logged_models([owner], f"source_run_id = '{run}' AND tags.digest = '{digest}'")
        whole = [model for model in found if model.status == "READY"]
        for left in [model for model in found if model not in whole[:1]]:
            self.client.delete_logged_model(left.model_id)
        return whole[0] if whole else None

    def log(self, run: str, given: dict[str, Any]) -> Any:
        """The logged model: a pyfunc that reads the exported folder, with its signature and an example."""
        import mlflow
        import numpy as np
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec

        def schema(specs: dict[str, Any]) -> Any:
            return Schema([TensorSpec(np.dtype(dtype), (-1, *shape), name) for name, (dtype, shape) in specs.items()])

        root = Path(__file__).parents[1]
        mlflow.set_tracking_uri(self.uri)
        with mlflow.start_run(run_id=run):
            model = mlflow.pyfunc.log_model(
                name="model",
                tags={"digest": given["digest"]},
                python_model=str(root / "tracking" / "predictor.py"),
                artifacts={"model": given["path"]},
                code_paths=[str(root)],
                signature=ModelSignature(schema(given["inputs"]), schema(given["outputs"])),
                input_example=dict(np.load(given["example"])),
                pip_requirements=given["requirements"],
            )
        self.client.update_run(run, status="RUNNING")  # leaving the block above ended it
        return model

    def remember(self) -> None:
        write_json(self.note, self.known)


def _metrics(record: Record) -> list[Any]:
    """Against the step, and what belongs to a whole epoch against the epoch, too (under epoch/)."""
    from mlflow.entities import Metric

    given = record.payload
    if record.kind == "progress":
        return [Metric("train/examples_per_second", given["speed"], record.time, given["step"])]
    if record.kind != "metric":
        return []
    metrics = []
    for name, value in given["values"].items():
        group, _, rest = name.partition("/")
        if group != "epoch":
            metrics.append(Metric(name, value, record.time, given["step"]))
        if group in ("epoch", "validation"):
            by_epoch = f"epoch/{'train' if group == 'epoch' else group}/{rest}"
            metrics.append(Metric(by_epoch, value, record.time, round(given["epoch"])))
    if "epoch" in given:
        metrics.append(Metric("epoch", given["epoch"], record.time, given["step"]))
    return metrics


@contextmanager
def _alone(path: Path, wait: bool = False) -> Iterator[bool]:
    """Whether this process holds the lock at `path`; another one that mirrors the same folder is left to do it."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            yield False
            return
        yield True
