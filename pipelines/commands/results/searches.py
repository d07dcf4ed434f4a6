"""Run a recipe with a search once: a grid in this process, other searches on Ray like their stage."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from components.cluster import spread
from components.errors import Diverged
from components.files import read_object
from components.recipes import recipe
from components.search.objective import Rung
from components.search.space import grid_combinations
from components.search.trials import Trial, best_trial, describe_trial
from pipelines import fit
from pipelines.commands.results.fits import (
    describe_commit,
    describe_processor,
    fit_once,
    measuring_folder,
    read_clock,
    score_baselines,
    use_one_thread,
)
from pipelines.commands.results.record import Record, content_digest
from pipelines.workers.records import TrialSetup

BESIDE_SCORES = {"trial", "folds", "seeds", "epochs", "seconds", "finished", "diagnosis"}
INTERVAL = ("_low", "_high")  # of a score over examples; the record has the spread over seeds
COST = ("parameters", "flops", "predict_seconds")  # what a record keeps of cost.json


class SearchFigures(NamedTuple):
    """The trials and the best fit of a search."""

    rows: list[dict[str, Any]]  # of search.csv, one per trial
    scores: dict[str, float]  # of the fit with the best values
    cost: dict[str, float]  # of its model
    data: Path


def measure_search(path: Path, content: dict[str, Any]) -> Record:
    """Run a recipe with a search once; its folds or seeds are the repetitions. A grid runs in this process."""
    started = read_clock()
    if content["tune"]["search"].get("sampler") == "grid":
        rows, scores, cost, data = _run_grid(path, content)
        seconds = read_clock() - started
    else:
        rows, scores, cost, data = _run_on_cluster(path, content)
        kind = fit.rung_kind(content["tune"])
        seconds = sum(float(row["seconds"]) * int(row[kind]) for row in rows)
    facts = _describe_run(content, data)
    record = Record(
        recipe=content_digest(path),
        commits=[describe_commit()],
        **facts,
        seeds=[content.get("seed", 0)],
        seconds=[seconds],
        scores={name: [float(value)] for name, value in scores.items() if not name.endswith(INTERVAL)},
        baselines=score_baselines(content, data, content.get("seed", 0)),
        cost=cost,
        trials=[_trial_figures(row, content["tune"].get("columns", [])) for row in rows],
        scratch={},
    )
    shutil.rmtree(measuring_folder(path), ignore_errors=True)
    return record


def _run_grid(path: Path, content: dict[str, Any]) -> SearchFigures:
    """Score every rung of a grid, then the fit with the best values.

    The functions are those that a cluster's workers call, in the same order within a trial.
    """
    from components.training.peers import Peers
    from pipelines.workers import training

    use_one_thread()
    folder, seed, tune = measuring_folder(path), content.get("seed", 0), content["tune"]
    shutil.rmtree(folder, ignore_errors=True)
    facts = training.prepare_data(Peers(), content["data"], str(folder / "data"), content["task"])
    section = {"task": content["task"], "fit": content["fit"]}
    setup = TrialSetup(section, f"{folder}/data/prepared", f"{folder}/data/augmented", seed)
    kind = fit.rung_kind(tune)
    trials = []
    for number, values in enumerate(grid_combinations(tune["search"]["space"])):
        trial = Trial("trials", number, values, cumulative=kind == "epochs")
        trials.append(_score_trial(trial, setup, kind, tune[kind], folder / f"trial-{number}"))
        if trial.finished:
            fit.check_shown(tune, fit.trial_row(trial, kind))
        print(f"{path}: trial {number}: {describe_trial(trials[-1], rungs=kind)}", flush=True)
    best = recipe.overlay(section, best_trial(trials, facts.monitor).values)
    result = fit_once(content | best, content["data"], folder, seed)
    return SearchFigures([fit.trial_row(trial, kind) for trial in trials], result.scores, result.cost, folder / "data")


def _score_trial(trial: Trial, setup: TrialSetup, kind: str, count: int, folder: Path) -> Trial:
    """Score all rungs of a trial; those that go on from each other leave their checkpoints in `folder`."""
    function = spread.resolve_function(fit.RUNG_FUNCTIONS[kind])
    arguments = fit.rung_arguments(kind, count) | ({"folder": str(folder)} if trial.cumulative else {})
    started = read_clock()
    try:
        for number in range(count):
            trial.parts.append(function(Rung(trial.values, number), setup, **arguments))
        trial.finished = True
    except Diverged as diverged:
        trial.diverged = str(diverged)
    trial.seconds = read_clock() - started
    return trial


def _run_on_cluster(path: Path, content: dict[str, Any]) -> SearchFigures:
    """Run a recipe like its stage, on a local cluster, and read the files that it left."""
    from pipelines.commands.dvc import repro

    repro.run_on_local_cluster(lambda: fit.main(str(path)))
    out = fit.RESULTS / path.parent.name / path.stem
    with (out / fit.SEARCH_FILE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    cost = {name: value for name, value in read_object(out / "cost.json").items() if name in COST}
    return SearchFigures(rows, read_object(out / "metrics.json"), cost, fit.locate_prepared(content["data"])[0])


def _describe_run(content: dict[str, Any], data: Path) -> dict[str, str]:
    """Return hardware, split, monitor and direction of a recipe's run on the data below `data`."""
    from components.storage.store import Store
    from components.training.task import Task

    split = Store(data / "prepared").final_split
    monitor, direction = recipe.build(content["task"], Task).monitor
    return {"hardware": describe_processor(), "split": split, "monitor": monitor, "direction": direction}


def _trial_figures(row: dict[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    """Return the columns of a trial's row that are values or scores, numbers as numbers, and what ended it early.

    columns: what the study's table shows besides, such as `seconds`.
    """
    beside = BESIDE_SCORES.difference(columns)
    return {name: _parse(value) for name, value in row.items() if name not in beside and value not in ("", [])}


def _parse(value: Any) -> Any:
    try:
        return value if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return value
