"""Surround the work of a stage: choose its run folder, connect to the cluster, record the run and time it.

    with stage("pretrain", params, section, inputs=["data/prepared/source"]) as run:
        scores = run.spread("pipelines.workers.training.train_and_examine", ...)

Every run is a folder below .trainyard/runs (see components/runs/journal.py). A mirror sends it to MLflow while the
stage runs: the stage's own mirror, or that of the command that runs all stages.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from components.cluster import connection, plan, prestart, spread
from components.errors import Stopped
from components.files import bytes_digest, path_digest
from components.recipes import recipe
from components.runs import journal
from components.runs.description import describe_run
from components.runs.journal import LOG, SAVE, STAGE_LOG, Journal
from components.runs.system_metrics import record_machine_use
from components.tracking import probe, server
from components.tracking.mirror import has_shared_mirror, mirror_unless_shared
from components.workspace import link_raw_data, runs_folder, work_folder
from pipelines.stage.bill import Usage, record_bill, settings_digest
from pipelines.stage.interrupts import stop_gracefully
from pipelines.stage.lock import hold_run
from pipelines.stage.outputs import write_seconds
from pipelines.stage.progress import Progress
from pipelines.stage.provenance import code_digest, provenance
from pipelines.stage.tidy import remove_old_checkpoints

if TYPE_CHECKING:
    import numpy as np

    from components.search.trials import Trial

REQUIREMENTS = ("torch", "numpy", "pyarrow", "pyyaml", "safetensors", "tqdm")  # packages of a registered model
MODEL_TAG = "sha256.model"  # tag of a fit: the digest of the model that it exported
LAST_STAGE = "evaluate"  # of the flagship: no stage after it needs workers


@dataclass
class Stage:
    """A stage that is running: its journals, and methods that run its work and record the results."""

    name: str
    params: dict[str, Any]  # of the pipeline or the recipe
    folder: Path  # of the stage's run
    pipeline: Journal  # of the pipeline's run; the stage's own journal where it has no pipeline
    journal: Journal
    origin: str = ""  # digest of the code and the inputs
    usage: Usage = field(default_factory=Usage)
    seconds: dict[str, float] = field(default_factory=dict)  # of each part so far

    def spread(self, function: Callable[..., Any] | str, *arguments: Any, parts: int | None = None) -> Any:
        """Run `function` on the workers, show its progress, and return what rank 0 returned.

        parts: the number of pieces that the work can be cut into; None: one worker per machine.
        """
        held = plan.plan_holdings(parts)
        started = time.monotonic()
        try:
            with Progress(self.name, self.folder), stop_gracefully(self.folder):
                notice = self.folder / SAVE
                notice.unlink(missing_ok=True)
                return spread.run_on_workers(
                    function,
                    *arguments,
                    name=self.name,
                    folder=work_folder() / "ray",
                    notice=notice,
                    parts=parts,
                    report=self.log_text,
                )
        finally:
            seconds = time.monotonic() - started
            self.seconds["workers"] = self.seconds.get("workers", 0.0) + seconds
            self.usage.add(seconds, held)

    def log_text(self, text: str) -> None:
        """Print a line and write it to the journal."""
        print(f"{self.name}: {text}", flush=True)
        self.journal.write("text", text=text)

    def log_input(self, folder: Path) -> None:
        """Record data that were prepared after the run was described; nothing where the preparation failed."""
        if profile := _data_profile(folder):
            self.journal.write("input", name=profile["set"], digest=path_digest(folder), profile=profile)

    def log_artifact(self, path: str | Path, folder: str = "") -> None:
        """Copy a file as it is now, for `folder` of the run's page in MLflow."""
        copy = journal.copy_to_run(self.folder, Path(path), bytes_digest(path))
        self.journal.write("artifact", path=str(copy.relative_to(self.folder)), folder=folder)

    def log_model(
        self,
        name: str,
        folder: str | Path,
        inputs: dict[str, np.ndarray],
        outputs: dict[str, np.ndarray],
        requires: tuple[str, ...] = (),
        free: dict[str, list[int]] | None = None,
    ) -> None:
        """Copy the exported model in `folder` as it is now, to be registered in MLflow under `name`.

        inputs, outputs: columns [B, ...], which give the model's signature; the inputs are also its example.
        requires: packages that the model needs beside REQUIREMENTS. free: by column, the dimensions of an example that
        may have any length; they are -1 in the signature.
        """
        import numpy as np

        example = self.folder / "example.npz"
        digest = bytes_digest(folder)
        np.savez(example, **inputs)  # type: ignore[arg-type]
        self.journal.write(
            "model",
            name=name,
            path=str(journal.copy_to_run(self.folder, Path(folder), digest).relative_to(self.folder)),
            digest=digest,
            inputs=_column_specs(inputs, free or {}),
            outputs=_column_specs(outputs, free or {}),
            example=example.name,
            requirements=[f"{name}=={importlib.metadata.version(name)}" for name in (*REQUIREMENTS, *requires)],
        )

    def add_child(
        self, name: str, folder: Path, params: dict[str, Any], group: str, kind: str = "fit", created: int = 0
    ) -> None:
        """Describe a run below this one, whose journal is in `folder`.

        MLflow's pages compare the runs that share `kind` and `group`. created: in milliseconds since 1970 (0: now).
        """
        tags = {"trainyard.stage": kind, "trainyard.group": group, "mlflow.source.name": f"pipelines/{self.name}.py"}
        describe_run(folder, name, self.params["name"], self.folder, recipe.flatten(params), tags, created=created)

    def add_trial(self, name: str, folder: Path, trial: Trial, group: str) -> None:
        """Record a trial that ended or paused: its values, its scores after each rung, and its own begin and end."""
        self.add_child(name, folder, trial.values, group, "trial", trial.began)
        times = {"time": trial.ended} if trial.ended else {}
        lines = Journal(folder / LOG, position=0)
        for number, scores in enumerate(trial.rung_scores, 1):
            lines.write("metric", step=number, values=scores, **times)
        self.end_child(folder, "FAILED" if trial.lost else "FINISHED", None, **times)

    def end_child(self, folder: Path, status: str = "FINISHED", model: str | Path | None = None, **times: int) -> None:
        """Record the end of the child in `folder`, and the digest of the model that it exported, if any.

        times: {"time": milliseconds since 1970}, or {} for now.
        """
        lines = Journal(folder / STAGE_LOG)
        if model is not None:
            lines.write("tag", name=MODEL_TAG, value=bytes_digest(model))
        lines.write("end", status=status, **times)


@contextmanager
def stage(
    name: str,
    params: dict[str, Any],
    tracked: dict[str, Any],
    inputs: list[str],
    title: str | None = None,
    lock: str | Path = "dvc.lock",
) -> Iterator[Stage]:
    """Run a stage as a `with` block: record its begin and end, connect to the cluster, write its seconds.

    tracked: the values that decide the stage's result; the run folder's name is a digest of them, of the bytes of
    `inputs` and of the code. title: the name of a run without a pipeline (a recipe's); other runs lie below the
    pipeline's run. lock: the file in which DVC writes the digests of the stage. An exception is recorded and raised.
    """
    link_raw_data()
    importing = time.time() - psutil.Process().create_time()
    started = time.monotonic()
    identity = _identify_run(name, params, tracked, inputs, title)
    folder, pipeline = identity.folder, identity.pipeline
    if not has_shared_mirror(runs_folder()):  # otherwise the command above has asked
        probe.refuse_lasting_faults(server.tracking_uri())
    outputs = f"{params['name']}+{title}" if title else name
    with hold_run(outputs, pipeline, folder):
        _describe_runs(identity, name, params, tracked, title, lock)
        lines = Journal(folder / STAGE_LOG)
        above = lines if title else Journal(pipeline / STAGE_LOG)
        current = Stage(name, params, folder, above, lines, recipe.digest([identity.code, identity.inputs]))
        with (
            mirror_unless_shared(pipeline, folder),
            record_machine_use(current.journal),
            _record_outcome(current),
            record_bill(
                current.usage,
                current.journal,
                time.time() - importing,
                name=f"{params['name']}/{title}" if title else name,
                run=folder.name,
                settings=settings_digest(params),
            ),
        ):
            connection.connect()
            current.seconds["connect"] = time.monotonic() - started
            yield current
            if name != LAST_STAGE:
                prestart.prestart_workers(plan.plan_workers(prestart.MAX_IDLE_WORKERS).workers)
    remove_old_checkpoints(runs_folder(), title or name, params["name"])
    total = importing + time.monotonic() - started
    write_seconds(name, {"import": importing, **current.seconds, "total": total})


@dataclass(frozen=True)
class _Identity:
    """The identity of a stage's run: its folder and that of its pipeline, and the digests in the folder's name."""

    folder: Path
    pipeline: Path  # equal to `folder` for a run with a title
    key: str
    code: str
    inputs: dict[str, str]  # path -> digest


def _identify_run(
    name: str, params: dict[str, Any], tracked: dict[str, Any], inputs: list[str], title: str | None
) -> _Identity:
    digests = {path: path_digest(path) for path in inputs}
    code = code_digest()
    key = recipe.digest({"stage": name, "params": tracked, "inputs": digests, "code": code})[:16]
    folder = runs_folder() / f"{title or name}-{key}"
    pipeline = folder if title else runs_folder() / f"pipeline-{recipe.digest(params)[:12]}"
    return _Identity(folder, pipeline, key, code, digests)


def _describe_runs(
    identity: _Identity,
    name: str,
    params: dict[str, Any],
    tracked: dict[str, Any],
    title: str | None,
    lock: str | Path,
) -> None:
    """Describe the stage's run and that of its pipeline in their folders."""
    origin = provenance(lock) | {"sha256.code": identity.code}
    if not title:
        shown = f"{params['name']} {os.environ.get('DVC_EXP_NAME') or recipe.digest(params)[:7]}"
        tags = {"trainyard.stage": "pipeline", **origin}
        describe_run(identity.pipeline, shown, params["name"], params=recipe.flatten(params), tags=tags)
    source = {"trainyard.key": identity.key, "mlflow.source.name": f"pipelines/{name}.py"}
    describe_run(
        identity.folder,
        title or name,
        params["name"],
        None if title else identity.pipeline,
        recipe.flatten(tracked),
        {"trainyard.stage": name, **source, **origin},
        [{"name": path, "digest": digest, "profile": _data_profile(path)} for path, digest in identity.inputs.items()],
    )


@contextmanager
def _record_outcome(current: Stage) -> Iterator[None]:
    """Record how the stage begins and ends, in its run and in that of its pipeline.

    No stage can know whether DVC runs another one after it. The pipeline's run therefore ends with each stage, and
    begins again with the next.
    """
    both = {current.pipeline, current.journal}
    for lines in both:
        lines.write("begin", stage=current.name)
    status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except (KeyboardInterrupt, Stopped):
        status = "KILLED"
        raise
    finally:
        for lines in both:
            lines.write("end", status=status)


def _column_specs(columns: dict[str, np.ndarray], free: dict[str, list[int]]) -> dict[str, tuple[str, list[int]]]:
    """Return {column: (type, shape of an example)}; free dimensions are -1, and texts have no size."""
    specs = {}
    for name, values in columns.items():
        shape = [-1 if place in free.get(name, ()) else side for place, side in enumerate(values.shape[1:])]
        specs[name] = ("str" if values.dtype.kind == "U" else str(values.dtype), shape)
    return specs


def _data_profile(path: str | Path) -> dict[str, Any]:
    """Return the name and the examples per split of prepared data, for MLflow; empty for other paths."""
    file = Path(path) / "manifest.json"
    if not file.is_file():
        return {}
    manifest = json.loads(file.read_text())
    return {"set": manifest["name"], **{name: split["rows"] for name, split in manifest["splits"].items()}}
