"""The files that the stages wrote, read back, and the words for what is in them: for the report and the summary."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from components.errors import Refusal
from components.runs import journal
from components.workspace import work_folder
from pipelines import flagship

INTERVAL_SUFFIXES = ("", "_low", "_high")
METRIC_KEYS = (
    *(f"{prefix}accuracy{end}" for prefix in ("", "scratch_") for end in (*INTERVAL_SUFFIXES, "_std")),
    *(f"gain{end}" for end in INTERVAL_SUFFIXES),
    *("seeds", "seeds_won", "loss", "scratch_loss"),
)
RUN_AGAIN = "run its stage again (dvc repro --force)"
DISPLAY_NAMES = {"lr": "learning rate", "batch": "batch size"}

Rows = list[dict[str, str]]


def read_json(path: str, keys: Sequence[str] = (), remedy: str = RUN_AGAIN) -> Any:
    """The content of a JSON file, which must have `keys`; None when there is no such file. remedy: of a damaged one."""
    content = _read(path, json.loads, remedy)
    lacking = [key for key in keys if content is not None and key not in content]
    if lacking:
        raise Refusal(f"{path}: has no '{lacking[0]}'; {RUN_AGAIN}")
    return content


def read_csv(path: str, columns: Sequence[str]) -> Rows:
    """The rows of a CSV file, none when there is no such file; `columns` must be among its columns."""
    rows: Rows = _read(path, lambda text: list(csv.DictReader(text.splitlines()))) or []
    lacking = [name for name in columns if rows and name not in rows[0]]
    if lacking:
        raise Refusal(f"{path}: has no column '{lacking[0]}'; {RUN_AGAIN}")
    return rows


def read_metrics() -> Any:
    """The comparison of both arms; None before it is there."""
    return read_json(flagship.METRICS_FILE, METRIC_KEYS)


def read_manifest(role: str) -> Any:
    """What the prepared `source` or `target` holds; None before it is there."""
    return read_json(f"{flagship.prepared_folder(role)}/manifest.json")


def read_seconds() -> Any:
    """Seconds of each stage's last run, split into parts; none before one ran."""
    return read_json(str(work_folder() / "seconds.json"), remedy="delete it: the next runs write it again") or {}


def parse_number(row: dict[str, str], column: str, path: str) -> float:
    """What a row of the CSV file `path` holds in `column`."""
    try:
        return float(row[column])
    except ValueError:
        raise Refusal(f"{path}: '{row[column]}' in column '{column}' is no number; run its stage again") from None


def display_name(key: str) -> str:
    """'task.optimizer.lr' -> 'learning rate'."""
    last = key.rpartition(".")[2]
    return DISPLAY_NAMES.get(last, last.replace("_", " "))


def format_value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _read(path: str, parse: Callable[[str], Any], remedy: str = RUN_AGAIN) -> Any:
    file = Path(path)
    if not file.is_file():
        return None
    try:
        return parse(file.read_text(encoding="utf-8"))
    except (ValueError, csv.Error) as error:
        raise Refusal(f"{path}: can't be read ({error}); {remedy}") from None


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


def write_table(path: str | Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as CSV; a column that a row lacks is empty."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
