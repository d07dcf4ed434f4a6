"""Run a recipe once per seed and record its figures.

A plain fit and a grid run in this process: their results do not depend on the number of workers. Other searches need
Ray and run like their stage.
"""

from __future__ import annotations

import csv
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from components.cluster import spread
from components.errors import Diverged, Refusal
from components.files import read_object, write_json
from components.recipes import recipe
from components.search.objective import Rung
from components.search.space import grid_combinations
from components.search.trials import Trial, best_trial, describe_trial
from components.workspace import work_folder
from pipelines import fit
from pipelines.commands.results.expectation import read_expectation
from pipelines.commands.results.record import Record, content_digest, write_record
from pipelines.commands.results.scratch import without_pretraining
from pipelines.stage.check import check_recipe
from pipelines.stage.progress import Progress
from pipelines.stage.provenance import code_digest, provenance
from pipelines.workers.records import FitJob, TrialSetup

if TYPE_CHECKING:
    import torch

BESIDE_SCORES = {"trial", "folds", "seeds", "epochs", "seconds", "finished", "diagnosis"}
INTERVAL = ("_low", "_high")  # of a score over examples; the record has the spread over seeds
COST = ("parameters", "flops", "predict_seconds")  # what a record keeps of cost.json


class SearchFigures(NamedTuple):
    """The trials and the best fit of a search."""

    rows: list[dict[str, Any]]  # of search.csv, one per trial
    scores: dict[str, float]  # of the fit with the best values
    cost: dict[str, float]  # of its model
    data: Path


def measure_recipe(path: Path, seeds: int | None = None) -> Path:
    """Measure the recipe at `path` over `seeds` seeds (default: as its header says) and return its record's path."""
    expectation = read_expectation(path)
    count = seeds or (expectation.seeds if expectation else None)
    if count is None:
        raise Refusal(f"{path}: its line '# Expect:' names no number of seeds; name it there, or with --seeds")
    content = recipe.load(path)
    check_recipe(content, str(path))
    with Progress(path.stem, _measuring_folder(path)):
        if "tune" in content:
            record = measure_search(path, content)
        else:
            record = measure_fits(path, content, count, of_data=bool(expectation and expectation.of_data))
    return write_record(path, record)


def measure_fits(path: Path, content: dict[str, Any], count: int, of_data: bool = False) -> Record:
    """Run a recipe without a search with `count` seeds, from the recipe's own upwards, on one thread.

    A recipe that starts from a pretrained network is also run from scratch, with the same seeds. An interrupted
    measurement of the same recipe and code continues where its last checkpoint is.
    """
    import torch

    torch.set_num_threads(1)
    folder = _measuring_folder(path)
    _clear_unless_same(folder, recipe.digest([content, code_digest()]))
    first, results, seconds = content.get("seed", 0), [], []
    seeds = list(range(first, first + count))
    for seed in seeds:
        data = content["data"] | ({"seed": seed} if of_data else {})
        with _spent_seconds(folder / f"seconds-{seed}.json") as spent:
            results.append(_fit_once(content, data, folder, seed))
        seconds.append(spent[-1])
        print(f"{path}: seed {seed}: {_format_scores(results[-1].scores)}", flush=True)
    scratch = _fit_from_scratch(path, content, folder / "scratch", seeds)
    monitor, direction = results[0].measurements.monitor
    record = Record(
        recipe=content_digest(path),
        commit=describe_commit(),
        hardware=_describe_processor(),
        split=results[0].split,
        monitor=monitor,
        direction=direction,
        seeds=seeds,
        seconds=seconds,
        scores=_collect_scores([result.scores for result in results]),
        baselines=_score_baselines(content, folder / f"data-{first}" if of_data else folder / "data", first),
        scratch=scratch,
        cost=results[0].cost,
    )
    shutil.rmtree(folder, ignore_errors=True)
    return record


def _fit_from_scratch(path: Path, content: dict[str, Any], folder: Path, seeds: list[int]) -> dict[str, list[float]]:
    """Return the scores of the same fits without pretrained weights; {} if the recipe starts from none."""
    other = without_pretraining(content)
    if other is None:
        return {}
    scores = []
    for seed in seeds:
        scores.append(_fit_once(other, content["data"], folder, seed).scores)
        print(f"{path}: seed {seed} from scratch: {_format_scores(scores[-1])}", flush=True)
    return _collect_scores(scores)


def _collect_scores(scores: list[dict[str, float]]) -> dict[str, list[float]]:
    """Return {score: its value for each seed}."""
    return {name: [float(values[name]) for values in scores] for name in scores[0]}


def _clear_unless_same(folder: Path, key: str) -> None:
    """Remove what another measurement left in `folder`, and mark it as that of `key`."""
    mark = folder / "key.json"
    if not mark.is_file() or read_object(mark).get("key") != key:
        shutil.rmtree(folder, ignore_errors=True)
        write_json(mark, {"key": key})


@contextmanager
def _spent_seconds(file: Path) -> Iterator[list[float]]:
    """Append the processor seconds of the block to the list, and keep them in `file`, those of earlier attempts too."""
    spent: list[float] = []
    earlier = float(read_object(file)["seconds"]) if file.is_file() else 0.0
    started = time.process_time()
    try:
        yield spent
    finally:
        spent.append(earlier + time.process_time() - started)
        write_json(file, {"seconds": spent[-1]})


def _fit_once(content: dict[str, Any], data: dict[str, Any], folder: Path, seed: int) -> Any:
    """Return the FitResult of one seed; seeds with the same data share what was prepared below `folder`."""
    from components.training.peers import Peers
    from pipelines.workers import training

    place = folder / str(seed)
    prepared = folder / ("data" if data == content["data"] else f"data-{seed}")
    section = {"task": content["task"], "fit": content["fit"]}
    job = FitJob(section, run=str(place / "run"), out=str(place / "model"), seed=seed)
    return training.fit_and_score(Peers(device=_device()), data, str(prepared), job)


def _device() -> torch.device:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _describe_processor() -> str:
    from components.training.recorder import describe_processor

    return describe_processor(_device())


def _score_baselines(content: dict[str, Any], folder: Path, seed: int) -> dict[str, float]:
    from pipelines.workers import baselines

    return baselines.score_baselines(content["task"], f"{folder}/prepared", f"{folder}/augmented", seed)


def measure_search(path: Path, content: dict[str, Any]) -> Record:
    """Run a recipe with a search once; its folds or seeds are the repetitions. A grid runs in this process."""
    started = time.process_time()
    if content["tune"]["search"].get("sampler") == "grid":
        rows, scores, cost, data = _run_grid(path, content)
        seconds = time.process_time() - started
    else:
        rows, scores, cost, data = _run_on_cluster(path, content)
        kind = next(name for name in fit.RUNG_FUNCTIONS if name in content["tune"])
        seconds = sum(float(row["seconds"]) * int(row[kind]) for row in rows)
    facts = _describe_run(content, data)
    record = Record(
        recipe=content_digest(path),
        commit=describe_commit(),
        **facts,
        seeds=[content.get("seed", 0)],
        seconds=[seconds],
        scores={name: [float(value)] for name, value in scores.items() if not name.endswith(INTERVAL)},
        baselines=_score_baselines(content, data, content.get("seed", 0)),
        cost=cost,
        trials=[_trial_figures(row, content["tune"].get("columns", [])) for row in rows],
        scratch={},
    )
    shutil.rmtree(_measuring_folder(path), ignore_errors=True)
    return record


def _run_grid(path: Path, content: dict[str, Any]) -> SearchFigures:
    """Score every rung of a grid, then the fit with the best values.

    The functions are those that a cluster's workers call, in the same order within a trial.
    """
    import torch

    from components.training.peers import Peers
    from pipelines.workers import training

    torch.set_num_threads(1)
    folder, seed, tune = _measuring_folder(path), content.get("seed", 0), content["tune"]
    shutil.rmtree(folder, ignore_errors=True)
    facts = training.prepare_data(Peers(), content["data"], str(folder / "data"), content["task"])
    section = {"task": content["task"], "fit": content["fit"]}
    setup = TrialSetup(section, f"{folder}/data/prepared", f"{folder}/data/augmented", seed)
    kind = next(name for name in fit.RUNG_FUNCTIONS if name in tune)
    trials = []
    for number, values in enumerate(grid_combinations(tune["search"]["space"])):
        trial = Trial("trials", number, values, cumulative=kind == "epochs")
        trials.append(_score_trial(trial, setup, kind, tune[kind], folder / f"trial-{number}"))
        print(f"{path}: trial {number}: {describe_trial(trials[-1], rungs=kind)}", flush=True)
    best = recipe.overlay(section, best_trial(trials, facts.monitor).values)
    result = _fit_once(content | best, content["data"], folder, seed)
    return SearchFigures([fit.trial_row(trial, kind) for trial in trials], result.scores, result.cost, folder / "data")


def _score_trial(trial: Trial, setup: TrialSetup, kind: str, count: int, folder: Path) -> Trial:
    """Score all rungs of a trial; those that go on from each other leave their checkpoints in `folder`."""
    function = spread.resolve_function(fit.RUNG_FUNCTIONS[kind])
    arguments = fit.rung_arguments(kind, count) | ({"folder": str(folder)} if trial.cumulative else {})
    started = time.process_time()  # as a record counts
    try:
        for number in range(count):
            trial.parts.append(function(Rung(trial.values, number), setup, **arguments))
        trial.finished = True
    except Diverged as diverged:
        trial.diverged = str(diverged)
    trial.seconds = time.process_time() - started
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


def _measuring_folder(path: Path) -> Path:
    return work_folder() / "measure" / f"{path.parent.name}-{path.stem}"


def _describe_run(content: dict[str, Any], data: Path) -> dict[str, str]:
    """Return hardware, split, monitor and direction of a recipe's run on the data below `data`."""
    from components.storage.store import Store
    from components.training.task import Task

    splits = Store(data / "prepared").manifest["splits"]
    split = next(name for name in ("test", "validation", "train") if name in splits)
    monitor, direction = recipe.build(content["task"], Task).monitor
    return {"hardware": _describe_processor(), "split": split, "monitor": monitor, "direction": direction}


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


def describe_commit() -> str:
    """Return the short name of the current commit, with a + if code was changed after it; "" outside a repository.

    A changed recipe does not count: the record holds its digest.
    """
    tags = provenance()
    commit = tags.get("mlflow.source.git.commit", "")[:10]
    changed = any(line.endswith(".py") for line in tags.get("git.changed", "").splitlines())
    return f"{commit}+" if changed else commit


def _format_scores(scores: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in scores.items())
