"""Write and read the files of results, and format their values for the report and the summary."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from components.errors import Refusal
from components.files import read_object, write_json
from components.runs import journal
from components.workspace import work_folder
from pipelines import flagship

INTERVAL_SUFFIXES = ("", "_low", "_high")
METRIC_KEYS = (
    *(f"{prefix}accuracy{suffix}" for prefix in ("", "scratch_") for suffix in (*INTERVAL_SUFFIXES, "_std")),
    *(f"gain{suffix}" for suffix in INTERVAL_SUFFIXES),
    *("seeds", "seeds_won", "loss", "scratch_loss", "constant_accuracy"),
)
RUN_AGAIN = "run its stage again (dvc repro --force)"
DISPLAY_NAMES = {"lr": "learning rate", "batch": "batch size"}

Rows = list[dict[str, str]]
Seconds = dict[str, dict[str, float]]  # stage -> part -> seconds of its last run


# ------------------------------------------------------------------------------------------------ write


def write_table(path: str | Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as CSV; a column that a row lacks is empty."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def write_history(path: str | Path, folders: dict[str, Path]) -> None:
    """Write the metrics of the runs {name: folder} as one CSV table: run, step, epoch, metrics (for `dvc plots`)."""
    rows: list[dict[str, Any]] = []
    for name, folder in folders.items():
        by_step: dict[int, dict[str, Any]] = {}
        for metrics in journal.read_metrics(folder):
            row = by_step.setdefault(metrics.step, {"run": name, "step": metrics.step})
            row |= {"epoch": round(metrics.epoch, 4), **metrics.values}
        rows += by_step.values()
    write_table(path, rows)


def write_seconds(stage: str, parts: dict[str, float]) -> None:
    """Record the seconds that each part of the stage took; replace a damaged file, for no result depends on it."""
    try:
        seconds: Seconds = read_object(_seconds_file())
    except (FileNotFoundError, ValueError):
        seconds = {}
    rounded = {part: round(value, 2) for part, value in parts.items()}
    write_json(_seconds_file(), seconds | {stage: rounded})


# ------------------------------------------------------------------------------------------------ read


def read_json(path: str, keys: Sequence[str] = (), remedy: str = RUN_AGAIN) -> Any:
    """Return the content of a JSON file, or None if there is no such file.

    Raise Refusal, which names the `remedy`, for a file that can't be read, and for one without all `keys`.
    """
    content = _read(path, json.loads, remedy)
    if content is not None:
        for key in keys:
            if key not in content:
                raise Refusal(f"{path}: has no '{key}'; {remedy}")
    return content


def read_csv(path: str, columns: Sequence[str]) -> Rows:
    """Return the rows of a CSV file, or [] if there is no such file.

    Raise Refusal for a file that can't be read, and for one without all `columns`.
    """
    rows: Rows = _read(path, lambda text: list(csv.DictReader(io.StringIO(text, newline="")))) or []
    if rows:
        for column in columns:
            if column not in rows[0]:
                raise Refusal(f"{path}: has no column '{column}'; {RUN_AGAIN}")
    return rows


def read_metrics() -> Any:
    """Return the comparison of both arms, or None before `evaluate` has written it."""
    return read_json(flagship.METRICS_FILE, METRIC_KEYS)


def read_manifest(role: str) -> Any:
    """Return the manifest of the prepared `source` or `target`, or None before `prepare` has written it."""
    return read_json(f"{flagship.prepared_folder(role)}/manifest.json")


def read_seconds() -> Seconds:
    """Return {stage of the flagship: {part: seconds of its last run}}, empty before a stage has run."""
    seconds: Seconds = read_json(str(_seconds_file()), remedy="delete it: the next runs write it again") or {}
    return {stage: parts for stage, parts in seconds.items() if stage != "fit"}  # that of a family's recipe


def _seconds_file() -> Path:
    return work_folder() / "seconds.json"


def _read(path: str, parse: Callable[[str], Any], remedy: str = RUN_AGAIN) -> Any:
    """Return the parsed content of a file, or None if there is no such file."""
    file = Path(path)
    if not file.is_file():
        return None
    try:
        return parse(file.read_bytes().decode("utf-8"))
    except (ValueError, csv.Error) as error:
        raise Refusal(f"{path}: can't be read ({error}); {remedy}") from None


# ------------------------------------------------------------------------------------------------ values


def parse_number(row: dict[str, str], column: str, path: str) -> float:
    """Return the number in a column of a row of the CSV file `path`; raise Refusal if it is not a number."""
    try:
        return float(row[column])
    except ValueError:
        raise Refusal(f"{path}: '{row[column]}' in column '{column}' is not a number; run its stage again") from None


def display_name(key: str) -> str:
    """Return a key's name for readers, for example 'learning rate' for 'task.optimizer.lr'."""
    last = key.rpartition(".")[2]
    return DISPLAY_NAMES.get(last, last.replace("_", " "))


def format_value(value: Any) -> str:
    """Return a value as text, as a recipe writes it; a float in three digits, or whole without an exponent."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if not isinstance(value, float):
        return str(value)
    if 999.5 <= abs(value) < 10_000_000 or (value.is_integer() and abs(value) < 1000):
        return f"{value:.0f}"
    return f"{value:.3g}"
