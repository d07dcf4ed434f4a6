"""Run a recipe without a search once per seed, in this process: its results do not depend on the number of workers."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from components.files import read_object, write_json
from components.processes import background_thread
from components.recipes import recipe
from components.workspace import work_folder
from pipelines.commands.results.record import Record, content_digest
from pipelines.commands.results.scratch import without_pretraining
from pipelines.stage.provenance import code_digest, provenance
from pipelines.workers.records import FitJob, FitResult

if TYPE_CHECKING:
    import torch

SECONDS_BETWEEN_NOTES = 10.0  # of the time spent, for an attempt that is killed


def measure_fits(path: Path, content: dict[str, Any], seeds: Sequence[int], of_data: bool = False) -> Record:
    """Run a recipe without a search once per seed, on one thread; of_data: the seed is that of the data as well.

    A recipe that starts from a pretrained network is also run from scratch, with the same seeds. An interrupted
    measurement of the same recipe and code continues where its last checkpoint is.
    """
    use_one_thread()
    folder = measuring_folder(path)
    _clear_unless_same(folder, recipe.digest([content, code_digest()]))
    results, seconds = [], []
    for seed in seeds:
        data = content["data"] | ({"seed": seed} if of_data else {})
        with _spent_seconds(folder / f"seconds-{seed}.json") as spent:
            results.append(fit_once(content, data, folder, seed))
        seconds.append(spent[-1])
        print(f"{path}: seed {seed}: {_format_scores(results[-1].scores)}", flush=True)
    scratch = _fit_from_scratch(path, content, folder / "scratch", seeds)
    monitor, direction = results[0].measurements.monitor
    record = Record(
        recipe=content_digest(path),
        commits=[describe_commit()] * len(seeds),
        hardware=describe_processor(),
        split=results[0].split,
        monitor=monitor,
        direction=direction,
        seeds=list(seeds),
        seconds=seconds,
        scores=_collect_scores([result.scores for result in results]),
        baselines=score_baselines(content, folder / f"data-{seeds[0]}" if of_data else folder / "data", seeds[0]),
        scratch=scratch,
        cost=results[0].cost,
    )
    shutil.rmtree(folder, ignore_errors=True)
    return record


def _fit_from_scratch(
    path: Path, content: dict[str, Any], folder: Path, seeds: Sequence[int]
) -> dict[str, list[float]]:
    """Return the scores of the same fits without pretrained weights; {} if the recipe starts from none."""
    other = without_pretraining(content)
    if other is None:
        return {}
    scores = []
    for seed in seeds:
        scores.append(fit_once(other, content["data"], folder, seed).scores)
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
    """Append the seconds of the block to the list, and keep them in `file`, those of earlier attempts too.

    They are written while the block runs, for an attempt that is killed.
    """
    spent: list[float] = []
    earlier = float(read_object(file)["seconds"]) if file.is_file() else 0.0
    started = read_clock()

    def keep(ended: Event) -> None:
        while not ended.wait(SECONDS_BETWEEN_NOTES):
            write_json(file, {"seconds": earlier + read_clock() - started})

    try:
        with background_thread(keep):
            yield spent
    finally:
        spent.append(earlier + read_clock() - started)
        write_json(file, {"seconds": spent[-1]})


def fit_once(content: dict[str, Any], data: dict[str, Any], folder: Path, seed: int) -> FitResult:
    """Return the result of one seed; seeds with the same data share what was prepared below `folder`."""
    from components.training.peers import Peers
    from pipelines.workers import training

    place = folder / str(seed)
    prepared = folder / ("data" if data == content["data"] else f"data-{seed}")
    section = {"task": content["task"], "fit": content["fit"]}
    job = FitJob(section, run=str(place / "run"), out=str(place / "model"), seed=seed)
    result = training.fit_and_score(Peers(device=_device()), data, str(prepared), job)
    assert result is not None  # this process is rank 0
    return result


def use_one_thread() -> None:
    """Let this process compute with one thread, as all records do."""
    import torch

    torch.set_num_threads(1)


def _device() -> torch.device:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def read_clock() -> float:
    """Return the seconds that a record counts: those of the processor, or on a GPU those that pass."""
    return time.process_time() if _device().type == "cpu" else time.monotonic()


def describe_processor() -> str:
    from components.training.recorder import describe_processor

    return describe_processor(_device())


def score_baselines(content: dict[str, Any], folder: Path, seed: int) -> dict[str, float]:
    from pipelines.workers import baselines

    return baselines.score_baselines(content["task"], f"{folder}/prepared", f"{folder}/augmented", seed)


def measuring_folder(path: Path) -> Path:
    return work_folder() / "measure" / f"{path.parent.name}-{path.stem}"


def _format_scores(scores: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in scores.items())


def describe_commit() -> str:
    """Return the short name of the current commit, with a + if code was changed after it; "" outside a repository.

    A changed recipe does not count: the record holds its digest.
    """
    tags = provenance()
    commit = tags.get("mlflow.source.git.commit", "")[:10]
    changed = any(line.endswith(".py") for line in tags.get("git.changed", "").splitlines())
    return f"{commit}+" if changed else commit
