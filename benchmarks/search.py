"""Measure how many epochs the search needs to match random search: `python -m benchmarks.search`.

LeNet on Fashion-MNIST (the original files, in data/raw/fashion-mnist); learning rate and batch size are searched. A
trial is a fit of 9 epochs on 10,000 labels, scored on 10,000 validation pictures, by `pipelines.workers.rungs`:

random: as many trials as the search, with values drawn uniformly; all of them are complete
search: `components.search.proposals.Study`: TPE proposes, ASHA continues the best third after one and three epochs

For each seed, count the epochs until a complete trial of the search reaches the best score of random search. The ratio
of the seed is this count divided by all epochs of random search. The random trials are shared: each seed draws some of
them. The exit code is 1 if the median ratio is above a third.

The best score of many trials is partly luck, and more so with more complete trials. The final choices of both are
therefore also scored by fits from other seeds.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from components.errors import Diverged, Refusal
from components.recipes import recipe
from components.search.objective import Rung
from components.search.proposals import Study
from components.search.trials import Trial
from pipelines.workers.records import TrialSetup

EPOCHS = 9
MAX_RATIO = 1 / 3
FRESH_SEED = 1000  # first of the seeds that no search uses
MONITOR = ("accuracy", "max")
DATA = {"use": "data.fashion_mnist.FashionMNIST", "labels": 10_000, "validation": 10_000}
SECTION: dict[str, Any] = {
    "task": {
        "use": "tasks.classification.Classification",
        "model": {"use": "models.lenet.LeNet"},
        "optimizer": {"use": "optimizers.adam", "lr": 0.001},
    },
    "fit": {"batch": 32},
}
SPACE: dict[str, dict[str, Any]] = {
    "task.optimizer.lr": {"low": 1e-4, "high": 0.1, "log": True},
    "fit.batch": {"choices": [16, 32, 64, 128]},
}
Epoch = Callable[[dict[str, Any], int, str], dict[str, float]]  # values, rung, name of the fit -> its scores


@dataclass(frozen=True)
class Step:
    """A trial of a search when it ended or paused."""

    epochs: int  # spent so far, including those of all earlier steps
    score: float  # -inf if the trial is not complete
    values: dict[str, Any] = field(default_factory=dict)  # the values tried


@dataclass(frozen=True)
class Seed:
    """A search and the random search with which it is compared."""

    target: float  # best score of random search
    steps: list[Step]
    rival: list[float]  # scores of random search's choice from other seeds
    choice: list[float]  # scores of the search's choice from other seeds


def draw_values(count: int) -> list[dict[str, Any]]:
    """Return the values of the random trials, drawn uniformly, the learning rate in its logarithm."""
    random = np.random.default_rng(0)
    low, high = (math.log(SPACE["task.optimizer.lr"][end]) for end in ("low", "high"))
    rates = np.exp(random.uniform(low, high, count))
    sizes = random.choice(SPACE["fit.batch"]["choices"], count)
    return [{"task.optimizer.lr": float(r), "fit.batch": int(b)} for r, b in zip(rates, sizes, strict=True)]


def train_fully(values: dict[str, Any], epoch: Epoch, name: str) -> float:
    """Return the score of a complete trial, or -inf if it diverges."""
    try:
        return [epoch(values, rung, name)[MONITOR[0]] for rung in range(EPOCHS)][-1]
    except Diverged:
        return -math.inf


def run_search(seed: int, trials: int, epoch: Epoch) -> list[Step]:
    """Return the steps of a search, one proposal after the other."""
    study = Study(SPACE, trials, 1, MONITOR, seed, rungs=EPOCHS)
    steps: list[Step] = []
    epochs = 0
    started: dict[int, Trial] = {}
    while proposed := study.propose():
        trial = started.setdefault(proposed.number, Trial("s", proposed.number, proposed.values, cumulative=True))
        try:
            while len(trial.parts) < proposed.target_rungs:
                epochs += 1
                trial.parts.append(epoch(trial.values, len(trial.parts), f"{seed}-{trial.number}"))
        except Diverged:
            study.record_score(proposed, None)
        else:
            study.record_score(proposed, trial.scores[MONITOR[0]])
        is_complete = len(trial.parts) == EPOCHS
        steps.append(Step(epochs, trial.scores[MONITOR[0]] if is_complete else -math.inf, trial.values))
    return steps


def epochs_until(steps: Sequence[Step], target: float) -> float:
    """Return the epochs spent until the score `target` was reached; infinity if it never was."""
    return next((float(step.epochs) for step in steps if step.score >= target), math.inf)


def best_step(steps: Sequence[Step]) -> Step:
    """Return the step with the best score, the first of several."""
    return max(steps, key=lambda step: step.score)


def interval(ratios: Sequence[float], draws: int = 10_000) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the median over seeds; ratios may be infinite."""
    picks = np.random.default_rng(0).integers(len(ratios), size=(draws, len(ratios)))
    medians = np.sort(
        np.sort(np.array(ratios)[picks], 1)[:, len(ratios) // 2]
    )  # high median, which is always one of the ratios
    return float(medians[int(0.025 * draws)]), float(medians[int(0.975 * draws)])


# ------------------------------------------------------------------------------------------------ the processes


def use_one_thread() -> None:
    """Prepare a process of the pool."""
    import torch

    from components.cluster import allocator

    torch.set_num_threads(1)
    allocator.keep_freed_memory()


def prepare(folder: str) -> None:
    """Prepare and augment the data below `folder`."""
    from components.training.peers import Peers
    from pipelines.workers import training

    training.prepare_data(Peers(), DATA, folder, SECTION["task"])


def train_epoch(folder: str, values: dict[str, Any], rung: int, name: str, seed: int = 0) -> dict[str, float]:
    """Train the fit `name` for one more epoch and return its scores."""
    from pipelines.workers import rungs

    setup = TrialSetup(SECTION, f"{folder}/prepared", f"{folder}/augmented", seed)
    return rungs.score_epoch(Rung(values, rung), setup, EPOCHS, f"{folder}/fits/{name}")


def score_from_other_seeds(folder: str, values: dict[str, Any], fits: int) -> list[float]:
    """Return the scores of fits from seeds that no search used."""
    seeds = range(FRESH_SEED, FRESH_SEED + fits)
    names = [f"fresh-{seed}-{recipe.digest(values)}" for seed in seeds]
    return [
        train_fully(values, partial(train_epoch, folder, seed=s), name) for s, name in zip(seeds, names, strict=True)
    ]


def main() -> int:
    """Run all searches and print their ratios; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--trials", type=int, default=24, help="trials per search")
    parser.add_argument("--pool", type=int, default=48, help="random trials to share")
    parser.add_argument("--fits", type=int, default=3, help="fits from other seeds per choice")
    arguments = parser.parse_args()
    started = time.monotonic()
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="trainyard-search-") as folder,
        ProcessPoolExecutor(min(2, os.cpu_count() or 1), spawn, use_one_thread) as pool,
    ):
        try:
            pool.submit(prepare, folder).result()
        except Refusal as refusal:
            print(f"skipped: {refusal}")
            return 0
        run_epoch = partial(train_epoch, folder)
        searches = [pool.submit(run_search, seed, arguments.trials, run_epoch) for seed in range(arguments.seeds)]
        random = draw_values(arguments.pool)
        trials = [pool.submit(train_fully, values, run_epoch, f"random-{n}") for n, values in enumerate(random)]
        results = [search.result() for search in tqdm(searches, "searches")]
        scores = [trial.result() for trial in tqdm(trials, "random trials")]
        chances = [np.random.default_rng(seed) for seed in range(arguments.seeds)]
        draws = [chance.choice(arguments.pool, arguments.trials, replace=False) for chance in chances]
        rivals = [max(draw, key=lambda number: scores[number]) for draw in draws]
        choices = [random[rival] for rival in rivals] + [best_step(steps).values for steps in results]
        fits = {str(values): pool.submit(score_from_other_seeds, folder, values, arguments.fits) for values in choices}
        fresh_scores = {name: scored.result() for name, scored in tqdm(fits.items(), "other seeds")}
    seeds = [
        Seed(scores[rival], steps, fresh_scores[str(random[rival])], fresh_scores[str(best_step(steps).values)])
        for rival, steps in zip(rivals, results, strict=True)
    ]
    return print_table(seeds, arguments.trials, arguments.pool, time.monotonic() - started)


def print_table(seeds: list[Seed], trials: int, pool: int, seconds: float) -> int:
    """Print a row per seed and the summary; return the exit code."""
    total = trials * EPOCHS
    ratios = [epochs_until(seed.steps, seed.target) / total for seed in seeds]
    gains = []
    print("| seed | random's best | search's | reached after | all | other seeds: random's | search's |")
    print("|---|---|---|---|---|---|---|")
    for number, (seed, ratio) in enumerate(zip(seeds, ratios, strict=True)):
        rival, choice = statistics.mean(seed.rival), statistics.mean(seed.choice)
        gains.append(choice - rival)
        cells = [f"{seed.target:.4f}", f"{best_step(seed.steps).score:.4f}", _share(ratio)]
        cells += [_share(seed.steps[-1].epochs / total), f"{rival:.4f}", f"{choice:.4f}"]
        print(f"| {number} | {' | '.join(cells)} |")
    print(f"\nshares of random search's {total} epochs, limit {MAX_RATIO:.2f}; 95 % bootstrap over seeds;")
    print(f"{pool} random trials shared; {seconds:.0f} s")
    low, high = interval(ratios)
    count = sum(map(math.isfinite, ratios))
    median = statistics.median_high(ratios)
    spread = f"{_share(median)} [{_share(low)}, {_share(high)}]"
    print(f"random search's best reached by {count} of {len(ratios)} seeds; median {spread}")
    means = np.random.default_rng(0).choice(gains, (10_000, len(gains))).mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    print(f"its choice minus random search's, other seeds: {statistics.mean(gains):+.4f} [{low:+.4f}, {high:+.4f}]")
    return 1 if median > MAX_RATIO else 0


def _share(ratio: float) -> str:
    return f"{ratio:.2f}" if math.isfinite(ratio) else "never"


if __name__ == "__main__":
    sys.exit(main())
