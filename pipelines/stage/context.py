"""What every stage does around its own work: key its run folder, track, show progress, time.

    with stage("pretrain", params, section, inputs=["data/prepared/source"]) as run:
        scores = run.spread(training.train_all, ...)

Every run is a folder below .trainyard/runs (see components/runs/journal.py); a mirror sends them to MLflow meanwhile:
the stage's own, or that of the command that runs all stages.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import importlib.metadata
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from components.cluster import prestart, spread
from components.errors import Stopped, TryLater
from components.files import write_json
from components.recipes import recipe
from components.runs import journal
from components.runs.journal import LOG, SAVE, STAGE_LOG, STOP, Journal
from components.runs.system_metrics import record_machine_use
from components.tracking.mirror import mirror_unless_shared
from components.workspace import link_raw_data, runs_folder, work_folder
from pipelines.stage.progress import Progress
from pipelines.stage.provenance import provenance
from pipelines.stage.tidy import remove_old_checkpoints

if TYPE_CHECKING:
    import numpy as np

REQUIREMENTS = ("torch", "numpy", "pyarrow", "pyyaml", "safetensors", "tqdm")  # of a registered model
MODEL_TAG = "sha256.model"  # tag of a fit
STOP_PATIENCE = 20  # seconds
LAST_STAGE = "evaluate"  # stage of a pipeline
ROOMS = (
    *("recipes", "training", "storage", "originals", "data", "augment"),
    *("models", "layers", "losses", "metrics", "decoding", "tasks"),
)
CODE = (  # sources that can change a result; what runs, tracks or shows it is not among them
    *("components/optimizers.py", "components/schedules.py"),
    *(f"components/{room}/**/*.py" for room in ROOMS),
    *("pipelines/workers/*.py", "pipelines/prepare.py", "pipelines/augment.py"),
)


@dataclass
class Stage:
    name: str
    params: dict[str, Any]  # of the whole pipeline
    folder: Path
    pipeline: Journal  # of the run above all stages
    journal: Journal
    seconds: dict[str, float] = field(default_factory=dict)

    def spread(self, function: Callable[..., Any] | str, *arguments: Any, parts: int | None = None) -> Any:
        """`cluster.spread`, its progress shown; parts: into how many the work can be cut; None: a worker a machine."""
        started = time.monotonic()
        with Progress(self.name, self.folder), stop_gracefully(self.folder):
            notice = self.folder / SAVE
            notice.unlink(missing_ok=True)
            places = {"folder": work_folder() / "ray", "notice": notice}
            result = spread.run_on_workers(function, *arguments, name=self.name, parts=parts, **places)
        self.seconds["workers"] = self.seconds.get("workers", 0.0) + time.monotonic() - started
        return result

    def tell(self, text: str) -> None:
        print(f"{self.name}: {text}", flush=True)
        self.journal.write("text", text=text)

    def log_input(self, folder: Path) -> None:
        """Data prepared after the run was described, by their manifest, if they came to one."""
        if profile := _profile(folder):
            self.journal.write("input", name=profile["set"], digest=path_digest(folder), profile=profile)

    def log_artifact(self, path: str | Path, folder: str = "") -> None:
        """A file for the run's page in MLflow, as it is now."""
        kept = journal.copy_to_run(self.folder, Path(path), bytes_digest(path))
        self.journal.write("artifact", path=str(kept.resolve()), folder=folder)

    def model(
        self,
        name: str,
        folder: str | Path,
        inputs: dict[str, np.ndarray],
        outputs: dict[str, np.ndarray],
        requires: tuple[str, ...] = (),
    ) -> None:
        """Hands an exported model, as it is now, to MLflow's registry, with its signature and `inputs` [B, ...] as its
        example."""
        import numpy as np

        example, whole = self.folder / "example.npz", path_digest(folder)
        np.savez(example, **inputs)  # type: ignore[arg-type]

        def specs(columns: dict[str, np.ndarray]) -> dict[str, tuple[str, list[int]]]:
            return {name: (str(values.dtype), list(values.shape[1:])) for name, values in columns.items()}

        self.journal.write(
            "model",
            name=name,
            path=str(journal.copy_to_run(self.folder, Path(folder), whole).resolve()),
            digest=whole,
            inputs=specs(inputs),
            outputs=specs(outputs),
            example=str(example),
            requirements=[f"{name}=={importlib.metadata.version(name)}" for name in (*REQUIREMENTS, *requires)],
        )

    def add_child(self, name: str, folder: Path, params: dict[str, Any], group: str, kind: str = "fit") -> None:
        """A run below this one, whose journal is in `folder`; MLflow's pages compare those of a kind and a group."""
        tags = {"trainyard.stage": kind, "trainyard.group": group, "mlflow.source.name": f"pipelines/{self.name}.py"}
        journal.describe_run(folder, name, self.params["name"], self.folder, recipe.flatten(params), tags)

    def trial(self, name: str, folder: Path, values: dict[str, Any], group: str, rungs: list[dict[str, float]]) -> None:
        """A child known only by the values tried and its scores after each rung."""
        self.add_child(name, folder, values, group, "trial")
        lines = Journal(folder / LOG, position=0)
        for number, scores in enumerate(rungs, 1):
            lines.write("metric", step=number, values=scores)
        self.close(folder)

    def close(self, folder: Path, status: str = "FINISHED", model: str | Path | None = None) -> None:
        """The child in `folder` has ended, which exported a model."""
        lines = Journal(folder / STAGE_LOG)
        if model is not None:
            lines.write("tag", name=MODEL_TAG, value=path_digest(model))
        lines.write("end", status=status)


@contextmanager
def stage(
    name: str,
    params: dict[str, Any],
    tracked: dict[str, Any],
    inputs: list[str],
    title: str | None = None,
    lock: str | Path = "dvc.lock",
) -> Iterator[Stage]:
    """Tracks, connects, and notes the stage's seconds; a failure is recorded and raised.

    tracked: the values that decide the stage's result; with the bytes of `inputs` and of the code they key its folder.
    title: of a run that stands alone; others are runs below their pipeline's. lock: where DVC notes the stage's bytes.
    """
    link_raw_data()
    importing = time.time() - psutil.Process().create_time()
    started = time.monotonic()
    digests = {path: path_digest(path) for path in inputs}
    code = code_digest()
    key = recipe.digest({"stage": name, "params": tracked, "inputs": digests, "code": code})[:16]
    folder = runs_folder() / f"{title or name}-{key}"
    above = folder if title else runs_folder() / f"pipeline-{recipe.digest(params)[:12]}"
    origin = provenance(lock) | {"sha256.code": code}
    if above != folder:
        shown = f"{params['name']} {os.environ.get('DVC_EXP_NAME') or recipe.digest(params)[:7]}"
        tags = {"trainyard.stage": "pipeline", **origin}
        journal.describe_run(above, shown, params["name"], params=recipe.flatten(params), tags=tags)
    journal.describe_run(
        folder,
        title or name,
        params["name"],
        None if title else above,
        recipe.flatten(tracked),
        {"trainyard.stage": name, "trainyard.key": key, "mlflow.source.name": f"pipelines/{name}.py", **origin},
        [{"name": path, "digest": found, "profile": _profile(path)} for path, found in digests.items()],
    )
    lines = Journal(folder / STAGE_LOG)
    current = Stage(name, params, folder, lines if title else Journal(above / STAGE_LOG), lines)
    with (
        hold_lock(title or name),
        mirror_unless_shared(above, folder),
        record_machine_use(current.journal),
        _noted(current),
    ):
        spread.connect()
        current.seconds["connect"] = time.monotonic() - started
        yield current
        if name != LAST_STAGE:
            prestart.prestart_workers(spread.plan_workers(prestart.MAX_IDLE_WORKERS).workers)
    remove_old_checkpoints(runs_folder(), title or name, params["name"])
    parts = {"import": importing, **current.seconds, "total": importing + time.monotonic() - started}
    write_json(
        work_folder() / "seconds.json",
        stage_seconds() | {name: {part: round(value, 2) for part, value in parts.items()}},
    )


@contextmanager
def hold_lock(name: str, wait: bool = True) -> Iterator[None]:
    """Holds the stage's lock in this directory: one that outlived its killed `dvc` is waited for, not raced.

    Raises Later where another process holds it and `wait` is false.
    """
    path = Path(".trainyard") / "locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = path.read_text().strip() or "another"
            if not wait:
                raise TryLater(f"{name}: process {owner} is at it already; let it end (or --wait for it)") from None
            print(f"{name}: process {owner} is still at this stage; waiting for its end (or: kill {owner})", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def stop_gracefully(folder: Path) -> Iterator[None]:
    """SIGINT and SIGTERM ask the workers to save and stop; a second one, or no answer in time, interrupts at once."""
    flag = folder / STOP
    flag.unlink(missing_ok=True)
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: object) -> None:
        if number == signal.SIGALRM or flag.exists():
            raise KeyboardInterrupt
        flag.touch()
        signal.alarm(STOP_PATIENCE)
        print("stopping as soon as all is saved; once more to stop at once", file=sys.stderr, flush=True)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    try:
        yield
    finally:
        signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)
        flag.unlink(missing_ok=True)


@contextmanager
def _noted(current: Stage) -> Iterator[None]:
    """Notes how the stage, and with it its pipeline, begins and ends."""
    for lines in {current.pipeline, current.journal}:
        lines.write("begin", stage=current.name)
    status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except (KeyboardInterrupt, Stopped):
        status = "KILLED"
        raise
    finally:
        last = status != "FINISHED" or current.name == LAST_STAGE
        for lines in {current.pipeline, current.journal} if last else {current.journal}:
            lines.write("end", status=status)


def code_digest() -> str:
    """SHA-256 over the sources that a result depends on."""
    root = Path(__file__).parents[2]
    return _digest(root, [file for pattern in CODE for file in root.glob(pattern)])


def path_digest(path: str | Path) -> str:
    """SHA-256: of prepared data its manifest's; of any other file or folder `bytes_digest`."""
    manifest = Path(path) / "manifest.json"
    content = json.loads(manifest.read_text()) if manifest.is_file() else {}
    return str(content["digest"]) if "digest" in content else bytes_digest(path)


def bytes_digest(path: str | Path) -> str:
    """SHA-256 over the names and bytes of a file, or of all files in a folder."""
    place = Path(path)
    return _digest(place.parent, [p for p in place.rglob("*") if p.is_file()] if place.is_dir() else [place])


def stage_seconds() -> dict[str, dict[str, float]]:
    """Seconds of each stage's last run, split into parts."""
    try:
        found: dict[str, dict[str, float]] = json.loads((work_folder() / "seconds.json").read_text())
        return found
    except (FileNotFoundError, ValueError):  # nothing hangs on them: a damaged file is written anew
        return {}


def write_history(path: str | Path, folders: dict[str, Path]) -> None:
    """The metrics of several runs' journals as one table: run, step, epoch, metric... (for `dvc plots`)."""
    rows: list[dict[str, Any]] = []
    for name, folder in folders.items():
        by_step: dict[int, dict[str, Any]] = {}
        for record in journal.read_records(folder / LOG):
            if record.kind == "metric":
                row = by_step.setdefault(record.payload["step"], {"run": name, "step": record.payload["step"]})
                row |= {"epoch": round(record.payload["epoch"], 4), **record.payload["values"]}
        rows += by_step.values()
    write_table(path, rows)


def write_table(path: str | Path, rows: list[dict[str, Any]]) -> None:
    """Rows as CSV; a column that a row lacks is left empty."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def _digest(root: Path, files: Iterable[Path]) -> str:
    whole = hashlib.sha256()
    for path in sorted(files):
        with path.open("rb") as file:
            whole.update(f"{path.relative_to(root)}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()


def _profile(path: str | Path) -> dict[str, Any]:
    """What MLflow shows of prepared data: examples a split."""
    file = Path(path) / "manifest.json"
    if not file.is_file():
        return {}
    manifest = json.loads(file.read_text())
    return {"set": manifest["name"], **{name: split["rows"] for name, split in manifest["splits"].items()}}
