"""Run a recipe once per seed and record its figures.

A plain fit runs in this process: its result does not depend on the number of workers. A search needs Ray and runs once,
like its stage, because its folds or seeds already repeat each fit.
"""

from __future__ import annotations

import csv
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import Refusal
from components.files import read_object
from components.recipes import recipe
from components.workspace import work_folder
from pipelines import fit
from pipelines.commands.results.expectation import read_expectation
from pipelines.commands.results.record import Record, content_digest, write_record
from pipelines.stage.check import check_recipe
from pipelines.stage.provenance import provenance

if TYPE_CHECKING:
    import torch

BESIDE_SCORES = {"trial", "folds", "seeds", "epochs", "seconds", "finished", "reason", "diagnosis"}
INTERVAL = ("_low", "_high")  # of a score over examples; the record has the spread over seeds


def measure_recipe(path: Path, seeds: int | None = None) -> Path:
    """Measure the recipe at `path` over `seeds` seeds (default: as its header says) and return its record's path."""
    expectation = read_expectation(path)
    count = seeds or (expectation.seeds if expectation else None)
    if count is None:
        raise Refusal(f"{path}: its line '# Expect:' names no number of seeds; name it there, or with --seeds")
    content = recipe.load(path)
    check_recipe(content, str(path))
    if "tune" in content:
        record = measure_search(path, content)
    else:
        record = measure_fits(path, content, count, of_data=bool(expectation and expectation.of_data))
    return write_record(path, record)


def measure_fits(path: Path, content: dict[str, Any], count: int, of_data: bool = False) -> Record:
    """Run a recipe without a search with `count` seeds, from the recipe's own upwards, on one thread."""
    import torch

    torch.set_num_threads(1)
    folder = work_folder() / "measure" / f"{path.parent.name}-{path.stem}"
    shutil.rmtree(folder, ignore_errors=True)
    first, results, seconds = content.get("seed", 0), [], []
    for seed in range(first, first + count):
        started = time.process_time()
        data = content["data"] | ({"seed": seed} if of_data else {})
        results.append(_fit_once(content, data, folder, seed))
        seconds.append(time.process_time() - started)
        print(f"{path}: seed {seed}: {_format_scores(results[-1].scores)}", flush=True)
    monitor, direction = results[0].measurements.monitor
    record = Record(
        recipe=content_digest(path),
        commit=describe_commit(),
        hardware=_describe_processor(),
        split=results[0].split,
        monitor=monitor,
        direction=direction,
        seeds=list(range(first, first + count)),
        seconds=seconds,
        scores={name: [float(result.scores[name]) for result in results] for name in results[0].scores},
        baselines=_score_baselines(content, folder / f"data-{first}" if of_data else folder / "data", first),
    )
    shutil.rmtree(folder, ignore_errors=True)
    return record


def _fit_once(content: dict[str, Any], data: dict[str, Any], folder: Path, seed: int) -> Any:
    """Return the FitResult of one seed; seeds with the same data share what was prepared below `folder`."""
    from components.training.peers import Peers
    from pipelines.workers import training
    from pipelines.workers.records import FitJob

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
    """Run a recipe with a search like its stage, on a local cluster, and read the files that it left."""
    from pipelines.commands.dvc import repro

    repro.run_on_local_cluster(lambda: fit.main(str(path)))
    out = fit.RESULTS / path.parent.name / path.stem
    metrics = {name: value for name, value in read_object(out / "metrics.json").items() if not name.endswith(INTERVAL)}
    with (out / "search.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    kind = next(name for name in fit.RUNG_FUNCTIONS if name in content["tune"])
    data, _ = fit.locate_prepared(content["data"])
    facts = _describe_run(content, data)
    return Record(
        recipe=content_digest(path),
        commit=describe_commit(),
        **facts,
        seeds=[content.get("seed", 0)],
        seconds=[sum(float(row["seconds"]) * int(row[kind]) for row in rows) + _training_seconds(out)],
        scores={name: [float(value)] for name, value in metrics.items()},
        baselines=_score_baselines(content, data, content.get("seed", 0)),
        trials=[_trial_figures(row) for row in rows],
    )


def _describe_run(content: dict[str, Any], data: Path) -> dict[str, str]:
    """Return hardware, split, monitor and direction of a recipe's run on the data below `data`."""
    from components.storage.store import Store
    from components.training.task import Task

    splits = Store(data / "prepared").manifest["splits"]
    split = next(name for name in ("test", "validation", "train") if name in splits)
    monitor, direction = recipe.build(content["task"], Task).monitor
    return {"hardware": _describe_processor(), "split": split, "monitor": monitor, "direction": direction}


def _training_seconds(out: Path) -> float:
    """Return the seconds of the fit after the search; 0 where it logged no speed."""
    return float(read_object(out / "cost.json").get("train_seconds", 0.0))


def _trial_figures(row: dict[str, str]) -> dict[str, Any]:
    """Return the columns of a trial's line in search.csv that are values or scores, numbers as numbers."""
    return {name: _parse(text) for name, text in row.items() if name not in BESIDE_SCORES and text != ""}


def _parse(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


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
