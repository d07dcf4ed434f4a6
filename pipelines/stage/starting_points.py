"""Read the starting points of a search: values, or folders of earlier runs and searches whose values are taken."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from components.errors import Refusal
from components.files import read_object
from components.runs.description import read_description
from components.search.earlier import SEARCH
from components.search.trials import RECORD, best_trial, read_trial


def read_starting_points(search: dict[str, Any], where: str = "tune.search") -> dict[str, Any]:
    """Return the section `search` with each folder in its `start` replaced by the values {dotted key: value} there.

    A folder of a search gives the best trial's values for each of its arms, any other run those of its parameters that
    are searched.
    """
    if "start" not in search or not isinstance(search["start"], list):
        return search
    points: list[Any] = []
    for index, item in enumerate(search["start"]):
        if not isinstance(item, str):
            points.append(item)
            continue
        place = f"{where}.start[{index}]"
        run_points = _read_run(Path(item), place)
        points += [{key: value for key, value in point.items() if key in search["space"]} for point in run_points]
        if not all(points):
            raise Refusal(f"{place}: {item} has no value for {', '.join(search['space'])}; name another run")
    return search | {"start": points}


def _read_run(folder: Path, where: str) -> list[dict[str, Any]]:
    """Return the values of the best trial of each arm, or the parameters of a run; sections are nested, too."""
    if (folder / SEARCH).is_file():
        monitor: Any = tuple(read_object(folder / SEARCH)["monitor"])
        arms: dict[str, list[Any]] = {}
        for file in sorted(folder.glob(f"*/*/{RECORD}")):
            trial = read_trial(file.parent)
            if trial is not None and trial.finished:
                arms.setdefault(trial.arm, []).append(trial)
        if arms:
            return [best_trial(trials, monitor).values for trials in arms.values()]
    with suppress(FileNotFoundError):
        return [_with_sections(read_description(folder)["params"])]
    raise Refusal(f"{where}: {folder} is not the folder of a run (they are in .trainyard/runs)")


def _with_sections(flat: dict[str, Any]) -> dict[str, Any]:
    """Return flat parameters together with the sections that they make up: {a.b.c: 1} also as {a.b: {c: 1}}."""
    values: dict[str, Any] = {}
    for key, value in flat.items():
        owner, dot, name = key.rpartition(".")
        values[key] = value
        while dot:
            section = values.setdefault(owner, {})
            section[name] = values[key]
            key = owner
            owner, dot, name = owner.rpartition(".")
    return values
