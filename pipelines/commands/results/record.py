"""Keep the measured figures of one system: docs/records/<family>/<system>.json, a file under git."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from components.errors import Refusal
from components.files import check_fields, read_object, write_json
from components.recipes import recipe

FOLDER = Path("docs/records")
FIELD_TYPES: dict[str, type] = {
    **dict.fromkeys(("recipe", "hardware", "split", "monitor", "direction"), str),
    **dict.fromkeys(("commits", "seeds", "seconds", "trials"), list),
    **dict.fromkeys(("scores", "baselines", "cost", "scratch"), dict),
}


@dataclass(frozen=True)
class Record:
    """The figures of one system over its seeds."""

    recipe: str  # digest of the recipe's content
    commits: list[str]  # of the code that ran, one per seed; with a + where code was changed after it
    hardware: str
    split: str  # on which the scores were measured
    monitor: str  # the score that models are compared by
    direction: str  # "max" or "min"
    seeds: list[int]
    # per seed: data, training and scoring; processor seconds of one thread, or on a GPU those that pass
    seconds: list[float]
    scores: dict[str, list[float]]  # one value per seed
    baselines: dict[str, float] = field(default_factory=dict)  # answer without learning -> its monitored score
    trials: list[dict[str, Any]] = field(default_factory=list)  # of a search: values, scores, deviations
    cost: dict[str, float] = field(default_factory=dict)  # as in cost.json, its first three; {} in old records
    # the same scores of the same network without the pretrained weights; {} where the recipe starts from none
    scratch: dict[str, list[float]] = field(default_factory=dict)


def record_path(path: Path) -> Path:
    """Return where the record of the recipe at `path` lies."""
    return FOLDER / path.parent.name / f"{path.stem}.json"


def write_record(path: Path, record: Record) -> Path:
    """Write the record of the recipe at `path`, with numbers of six significant digits; return its path."""
    file = record_path(path)
    write_json(file, shorten_numbers(asdict(record)))
    return file


def read_record(path: Path) -> Record | None:
    """Return the record of the recipe at `path`, or None if it was never measured; refuse a damaged one."""
    file = record_path(path)
    if not file.is_file():
        return None
    try:
        content = {"cost": {}, "scratch": {}} | read_object(file)
        check_fields(content, FIELD_TYPES)
    except ValueError as error:
        raise Refusal(f"{file}: is damaged ({error}); measure again: trainyard results --measure {path}") from None
    return Record(**{name: content[name] for name in FIELD_TYPES})


def add_seeds(record: Record, more: Record) -> Record:
    """Return a record with the seeds of both, in ascending order; refuse records whose scores have other names.

    Baselines and cost are those of `record`; what it lacks comes from `more`.
    """
    if record.scores.keys() != more.scores.keys() or record.scratch.keys() != more.scratch.keys():
        names = ", ".join(sorted(record.scores.keys() ^ more.scores.keys())) or "those from scratch"
        raise Refusal(f"only one of the two records has these scores: {names}; measure all seeds: leave out --add")
    seeds = record.seeds + more.seeds
    order = sorted(range(len(seeds)), key=seeds.__getitem__)

    def merge(first: list[Any], second: list[Any]) -> list[Any]:
        both = first + second
        return [both[position] for position in order]

    return replace(
        record,
        commits=merge(record.commits, more.commits),
        seeds=merge(record.seeds, more.seeds),
        seconds=merge(record.seconds, more.seconds),
        scores={name: merge(values, more.scores[name]) for name, values in record.scores.items()},
        scratch={name: merge(values, more.scratch[name]) for name, values in record.scratch.items()},
        baselines=more.baselines | record.baselines,
        cost=record.cost or more.cost,
    )


def content_digest(path: Path) -> str:
    """Return the digest of a recipe's content: comments do not count."""
    return recipe.digest(recipe.load(path))[:16]


def format_spread(values: Sequence[float]) -> str:
    """Return the mean and, of several values, their standard deviation: "0.982 ± 0.005"."""
    mean, deviation = mean_and_deviation(values)
    return f"{mean:.3f}" + (f" ± {deviation:.3f}" if deviation is not None else "")


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean of the values, and their standard deviation unless there is only one."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def shorten_numbers(value: Any) -> Any:
    """Return a value of records with all numbers rounded to six significant digits."""
    if isinstance(value, dict):
        return {key: shorten_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shorten_numbers(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
