"""Replay one run folder to its MLflow run: parameters, metrics, tags, inputs, artifacts and models.

Sending a record twice changes nothing: MLflow stores metrics of equal key, time, step and value once. A replay that is
killed anywhere therefore resumes from its last note, `mirror.json`. Records that a rewind revoked are not sent. Those
that were sent before the rewind remain, and a tag of the run tells which they are.
"""

from __future__ import annotations

import fcntl
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..runs.description import read_description
from ..runs.journal import RESUME, STAGE_LOG, Record, Tail, read_records
from . import local_store, server
from .model_log import ExportedModel, ModelLog
from .note import NOTE, Note, read_note
from .points import Point, metric_points, to_mlflow_metrics, to_point

LOCK = ".mirror"
MAX_METRICS = 1000  # per request to MLflow
MAX_PARAMS = 100  # per request to MLflow
MAX_PARAM_LENGTH = 6000  # characters
log = logging.getLogger(__name__)


class RunReplay:
    """One run folder and the MLflow run to which it is replayed."""

    def __init__(self, client: Any, uri: str, folder: Path) -> None:
        self.client = client
        self.uri = uri
        self.folder = folder
        self.description = read_description(folder)
        new, old = self._new_note(), read_note(folder)
        self.note = new
        if old is not None and old.id == new.id and local_store.is_same_store(old.uri, new.uri):
            self.note = old
            self.note.uri = new.uri

    def send(self) -> int:
        """Send what is new and return the number of records.

        Return 0 as well if another process replays this folder now, or if the run was deleted at MLflow.
        """
        tails = [Tail(file, self.note.offsets.get(file.name, 0)) for file in self.folder.glob("*.log")]
        if self.note.deleted or not self._has_news(tails):
            return 0
        with _lock(self.folder / LOCK) as is_locked:
            if not is_locked:
                return 0
            run = self.find_or_create_run()
            try:
                return self._send_new(run, tails)
            except Exception:
                if not self._check_deleted(run):
                    raise
                return 0

    def find_or_create_run(self) -> str:
        """Return the id of the MLflow run: noted, found by the run's own id, or created after its parent's."""
        if self.note.run is None:
            run = self._identify()
            self._log_params(run)
            self._log_inputs(run, self.description["inputs"])
            self.note.run = run
            self.save_note()
        return self.note.run

    def save_note(self) -> None:
        """Write the note to the run's folder."""
        self.note.write(self.folder)

    def _new_note(self) -> Note:
        return Note(server.hide_credentials(self.uri), self.description["id"])

    @property
    def _attempts(self) -> list[dict[str, Any]]:
        return list(self.description.get("attempts", []))

    def _has_news(self, tails: list[Tail]) -> bool:
        is_longer = any(tail.path.stat().st_size != tail.offset for tail in tails)
        return is_longer or self.note.run is None or len(self._attempts) != self.note.attempts

    def _send_new(self, run: str, tails: list[Tail]) -> int:
        """Send new attempts and records, then save the note; return the number of records."""
        for number, changes in list(enumerate(self._attempts, 2))[self.note.attempts :]:
            for name, (old, new) in changes.items():
                self.client.set_tag(run, f"attempt.{number}.{name}", f"{old} -> {new}")
            self.client.set_tag(run, "attempt", str(number))
        self.note.attempts = len(self._attempts)
        count = 0
        # The driver's journal comes last: its line `end` closes the run.
        for tail in sorted(tails, key=lambda tail: tail.path.name == STAGE_LOG):
            news = tail.read_news()
            self._replay(run, news.records)
            for number, records in news.superseded.items():
                self._mark_superseded(run, number, metric_points(records) - metric_points(news.records))
            self.note.offsets[tail.path.name] = tail.offset
            count += news.count
        self.save_note()
        return count

    def _check_deleted(self, run: str) -> bool:
        """Return whether the run was deleted at MLflow, and note it: no more of it is sent then.

        Forget a run that MLflow does not know (another database behind the same address): it is created again the
        next time.
        """
        from mlflow.exceptions import MlflowException

        try:
            is_deleted = bool(self.client.get_run(run).info.lifecycle_stage == "deleted")
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                self.note = self._new_note()
                self.save_note()
            return False
        if is_deleted:
            self.note.deleted = True
            self.save_note()
            place, note = server.hide_credentials(self.uri), self.folder / NOTE
            log.warning("%s: deleted at %s: no more of it is sent (to send all again: rm %s)", self.folder, place, note)
        return is_deleted

    def _identify(self) -> str:
        """Return the id of the MLflow run that carries the run's own id as a tag; create it if there is none."""
        experiment = server.get_or_create_experiment(self.client, self.description["experiment"], self.uri)
        query = f"tags.\"trainyard.id\" = '{self.description['id']}'"
        runs = self.client.search_runs([experiment], query)
        if not runs:
            tags = {"trainyard.id": self.description["id"]} | self.description["tags"] | self._parent_tag()
            self.client.create_run(experiment, self.description["created"], tags, self.description["name"])
            runs = self.client.search_runs([experiment], query)
        # There are several if an answer was lost and the client repeated its request.
        for duplicate in runs[1:]:
            self.client.delete_run(duplicate.info.run_id)
        return str(runs[0].info.run_id)

    def _parent_tag(self) -> dict[str, str]:
        if not self.description["parent"]:
            return {}
        folder = (self.folder / self.description["parent"]).resolve()
        with _lock(folder / LOCK, wait=True):
            return {"mlflow.parentRunId": RunReplay(self.client, self.uri, folder).find_or_create_run()}

    # -------------------------------------------------------------------------------------------- records

    def _replay(self, run: str, records: list[Record]) -> None:
        metrics = [metric for record in records for metric in to_mlflow_metrics(record)]
        for start in range(0, len(metrics), MAX_METRICS):
            self.client.log_batch(run, metrics=metrics[start : start + MAX_METRICS])
        if any(record.kind == "text" for record in records):
            self._log_text(run)
        handlers = {
            "begin": self._begin,
            "input": self._log_input,
            "tag": self._set_tag,
            RESUME: self._mark_resume,
            "artifact": self._log_artifact,
            "model": self._register_model,
            "end": self._end,
        }
        for record in records:
            if record.kind in handlers:
                handlers[record.kind](run, record)

    def _log_text(self, run: str) -> None:
        lines = [record.payload["text"] for record in read_records(self.folder / STAGE_LOG, "text")]
        self.client.log_text(run, "\n".join(lines) + "\n", "log.txt")

    def _begin(self, run: str, record: Record) -> None:
        self.client.update_run(run, status="RUNNING")

    def _end(self, run: str, record: Record) -> None:
        self.client.set_terminated(run, record.payload["status"], record.time)

    def _set_tag(self, run: str, record: Record) -> None:
        self.client.set_tag(run, record.payload["name"], record.payload["value"])

    def _mark_resume(self, run: str, record: Record) -> None:
        before, now = ("; ".join(record.payload[name]) for name in ("before", "now"))
        self.client.set_tag(run, f"resumed.{record.payload['step']}", f"{before} -> {now}")

    def _mark_superseded(self, run: str, number: int, points: set[Point]) -> None:
        """Tag the run with the points that a restart superseded: MLflow can neither delete nor replace single points.

        number: of the rewind. points: those that it revoked; only those that MLflow has are counted.
        """
        names = {name for name, *_ in points}
        points = points & {to_point(metric) for name in names for metric in self.client.get_metric_history(run, name)}
        if not points:
            return
        steps = [step for _, step, *_ in points]
        last = datetime.fromtimestamp(max(time for *_, time in points) / 1000, UTC)
        text = (
            f"steps {min(steps)} to {max(steps)} were run again and came out differently: of two points at a step the"
            f" later one counts ({len(points)} points up to {last:%Y-%m-%d %H:%M:%S} UTC are superseded)"
        )
        self.client.set_tag(run, f"superseded.{number}", text)

    def _log_artifact(self, run: str, record: Record) -> None:
        path, folder = self._locate(record.payload["path"]), record.payload["folder"]
        if path.is_file():
            self.client.log_artifact(run, str(path), folder or None)
            return
        sent = {Path(file.path).name for file in self.client.list_artifacts(run, folder or None)}
        if path.name not in sent:
            self._note_missing(path)

    def _register_model(self, run: str, record: Record) -> None:
        places = {name: str(self._locate(record.payload[name])) for name in ("path", "example")}
        model = ExportedModel(**record.payload | places)
        models = ModelLog(self.client, self.uri, self.description["experiment"], run)
        if not Path(model.path).is_dir():
            if not models.find_versions(model.digest):
                self._note_missing(Path(model.path))
            return
        models.register(model)  # also if somebody deleted an earlier version with these bytes

    def _locate(self, path: str) -> Path:
        """Return the file or folder that a line names by its path relative to the run's folder.

        Older lines have absolute paths; those within a run's folder are looked up in its present place.
        """
        place = self.folder / path
        name = f"/{self.folder.name}/"
        if not place.exists() and name in path:
            place = self.folder / path.rpartition(name)[2]
        return place

    def _note_missing(self, path: Path) -> None:
        """Count a file or folder that can't be sent because it is gone; the other records are sent."""
        log.warning("%s: is not there any more, so the tracker does not get it", path)
        if str(path) not in self.note.missing:
            self.note.missing.append(str(path))

    def _log_input(self, run: str, record: Record) -> None:
        self._log_inputs(run, [record.payload])

    def _log_inputs(self, run: str, inputs: list[dict[str, Any]]) -> None:
        """Log which data the run reads, {name, digest, profile} each; MLflow ignores repetitions."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        datasets = [
            DatasetInput(
                Dataset(
                    name=data["name"],
                    digest=data["digest"][:32],
                    source_type="local",
                    source=json.dumps({"uri": data["name"]}),
                    profile=json.dumps(data.get("profile", {})),
                ),
                [InputTag("mlflow.data.context", data.get("context", "input"))],
            )
            for data in inputs
        ]
        if datasets:
            self.client.log_inputs(run, datasets)

    def _log_params(self, run: str) -> None:
        from mlflow.entities import Param

        params = [Param(key, str(value)[:MAX_PARAM_LENGTH]) for key, value in self.description["params"].items()]
        for start in range(0, len(params), MAX_PARAMS):
            self.client.log_batch(run, params=params[start : start + MAX_PARAMS])


@contextmanager
def _lock(path: Path, wait: bool = False) -> Iterator[bool]:
    """Yield whether this process holds the lock at `path`; without `wait` another holder is not waited for."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            yield False
            return
        yield True
