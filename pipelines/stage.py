"""What every stage does around its own work: read and check params, key its run folder, track, show progress, time.

    with stage("pretrain", params, section, inputs=["data/prepared/source"]) as run:
        scores = run.spread(training.train_all, ...)
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components import cluster, journal, recipe, tracking
from components.journal import Journal
from pipelines.progress import Progress

WORK = Path(".trainyard")  # unfinished runs, timings: everything that is not an output; safe to delete
CODE = ("components", "pipelines/training.py")


@dataclass
class Stage:
    name: str
    key: str
    folder: Path  # outlives the stage: DVC deletes outs before it runs a stage, so unfinished work can't live there
    run: tracking.Run
    journal: Journal
    seconds: dict[str, float] = field(default_factory=dict)

    def spread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """`cluster.spread`, its progress shown."""
        started = time.monotonic()
        with Progress(self.name, self.folder):
            result = cluster.spread(function, *arguments, name=self.name, folder=WORK / "ray")
        self.seconds["workers"] = time.monotonic() - started
        return result

    def tell(self, text: str) -> None:
        print(f"{self.name}: {text}", flush=True)
        self.journal.write("text", text=text)

    def artifact(self, path: str | Path, folder: str = "") -> None:
        """A file for the run's page in MLflow."""
        self.journal.write("artifact", path=str(Path(path).resolve()), folder=folder)


@contextmanager
def stage(name: str, params: dict[str, Any], tracked: dict[str, Any], inputs: list[str]) -> Iterator[Stage]:
    """Connects, tracks, and notes the stage's seconds; a failure is recorded and raised.

    tracked: the values that decide the stage's result, with the bytes of `inputs` and of the code: they key its folder.
    """
    started = time.monotonic()
    digests = {path: _digest(path) for path in inputs}
    key = recipe.digest({"stage": name, "params": tracked, "inputs": digests, "code": code_digest()})[:16]
    folder = WORK / "runs" / f"{name}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    run = tracking.start(
        name,
        folder / "journal.log",
        experiment=params["name"],
        parent=lambda: tracking.pipeline(params["name"], recipe.digest(params)[:12], params),
        params=tracked,
        tags={"trainyard.stage": name, "trainyard.key": key},
        inputs=[{"name": path, "digest": digest} for path, digest in digests.items()],
    )
    try:
        cluster.connect()
        connected = time.monotonic() - started
        current = Stage(name, key, folder, run, Journal(folder / "stage.log"))
        yield current
    except BaseException as error:
        run.close("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    run.close("FINISHED")
    parts = {"connect": connected, **current.seconds, "total": time.monotonic() - started}
    write_json(WORK / "seconds.json", seconds() | {name: {part: round(value, 2) for part, value in parts.items()}})


def code_digest() -> str:
    """SHA-256 over the sources that a result depends on."""
    digest = hashlib.sha256()
    for root in CODE:
        path = Path(__file__).parent.parent / root
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def write_json(path: str | Path, value: Any) -> None:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(value, indent=2) + "\n")
    draft.replace(path)


def seconds() -> dict[str, dict[str, float]]:
    """Seconds of each stage's last run, split into parts."""
    path = WORK / "seconds.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def history(path: str | Path, folders: dict[str, Path]) -> None:
    """The metrics of several runs' journals as one table: run, step, epoch, metric... (for `dvc plots`)."""
    rows: list[dict[str, Any]] = []
    for name, folder in folders.items():
        by_step: dict[int, dict[str, Any]] = {}
        for record in journal.read(folder / "journal.log"):
            if record.kind == "metric":
                row = by_step.setdefault(record.payload["step"], {"run": name, "step": record.payload["step"]})
                row |= {"epoch": round(record.payload["epoch"], 4), **record.payload["values"]}
        rows += by_step.values()
    table(path, rows)


def table(path: str | Path, rows: list[dict[str, Any]]) -> None:
    """Rows as CSV; a column that a row lacks is left empty."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def _digest(path: str) -> str:
    """Of prepared data: its manifest's; of any other file or folder: over its bytes."""
    folder = Path(path)
    if (folder / "manifest.json").is_file():
        return str(json.loads((folder / "manifest.json").read_text())["digest"])
    digest = hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else [folder]:
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()
