"""Does the search pay? Epochs until it has what random search has in the end: `python -m benchmarks.search`.

LeNet on Fashion-MNIST (the original files, in data/raw/fashion-mnist), learning rate and batch size. A trial is 9
folds of 5,000 labels, one epoch each, by `pipelines.training.trial`:

random: as many trials as the search, their values drawn evenly, all of them through all folds
search: `components.proposals.Study`: TPE proposes, ASHA stops the poor after one and three folds, one trial at a time

For each seed of the search: its epochs up to the end of the first trial that went all the way and scored at least what
random search's best did, over all epochs of random search. The random trials are shared: each seed takes some of them.
Exits with 1 where the median is above a third.
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
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from components.proposals import Study
from components.refusal import Diverged, Refusal
from components.trials import Trial

FOLDS, EPOCHS, AIM = 9, 1, 1 / 3
MONITOR = ("accuracy", "max")
DATA = {"use": "data.fashion_mnist.FashionMNIST", "labels": 5000}
SECTION: dict[str, Any] = {
    "task": {
        "use": "tasks.classification.Classification",
        "model": {"use": "models.lenet.LeNet"},
        "optimizer": {"use": "optimizers.adam", "lr": 0.001},
    },
    "fit": {"epochs": EPOCHS, "batch": 32},
}
SPACE: dict[str, dict[str, Any]] = {
    "task.optimizer.lr": {"low": 1e-4, "high": 0.1, "log": True},
    "fit.batch": {"choices": [16, 32, 64, 128]},
}
Fold = Callable[[dict[str, Any], int], dict[str, float]]  # values, rung -> its scores


@dataclass(frozen=True)
class Step:
    """One trial of a search, as it ended."""

    epochs: int  # spent by then, all trials before it included
    score: float  # -inf where it was stopped or diverged


def drawn(count: int) -> list[dict[str, Any]]:
    """Values of the random trials: evenly, on the logarithm where the space says so."""
    random = np.random.default_rng(0)
    low, high = (math.log(SPACE["task.optimizer.lr"][end]) for end in ("low", "high"))
    rates = np.exp(random.uniform(low, high, count))
    sizes = random.choice(SPACE["fit.batch"]["choices"], count)
    return [{"task.optimizer.lr": float(r), "fit.batch": int(b)} for r, b in zip(rates, sizes, strict=True)]


def through(values: dict[str, Any], fold: Fold) -> float:
    """The score of a trial that nobody stops."""
    trial = Trial("random", 0, values)
    try:
        trial.parts += [fold(values, rung) for rung in range(FOLDS)]
    except Diverged:
        return -math.inf
    return trial.scores[MONITOR[0]]


def searched(seed: int, trials: int, fold: Fold) -> list[Step]:
    """The search's trials in order."""
    study, steps, spent = Study(SPACE, trials, 1, MONITOR, seed, rungs=FOLDS), [], 0
    while proposed := study.propose():
        number, values = proposed
        trial, score = Trial("search", number, values), math.nan
        while len(trial.parts) < FOLDS:
            spent += EPOCHS
            try:
                trial.parts.append(fold(values, len(trial.parts)))
            except Diverged:
                score = math.nan
                break
            score = trial.scores[MONITOR[0]]
            if not study.keeps(number, len(trial.parts), score):
                break
        study.end(number, None if math.isnan(score) else score)
        steps.append(Step(spent, score if len(trial.parts) == FOLDS else -math.inf))
    return steps


def reached(steps: Sequence[Step], target: float) -> float:
    """Epochs spent until `target` was there; infinite where it never was."""
    return next((float(step.epochs) for step in steps if step.score >= target), math.inf)


def interval(ratios: Sequence[float], draws: int = 10_000) -> tuple[float, float]:
    """95 % bootstrap interval of the median over seeds; a ratio may be infinite."""
    picks = np.random.default_rng(0).integers(len(ratios), size=(draws, len(ratios)))
    medians = np.sort(np.sort(np.array(ratios)[picks], 1)[:, len(ratios) // 2])  # one that occurred, as below
    return float(medians[int(0.025 * draws)]), float(medians[int(0.975 * draws)])


# ------------------------------------------------------------------------------------------------ the processes


def alone() -> None:
    """In a process of its own: one thread."""
    import torch

    from components import allocator

    torch.set_num_threads(1)
    allocator.keep_freed_memory()


def prepared(folder: str) -> None:
    from components.peers import Peers
    from pipelines import training

    training.ready(Peers(), DATA, folder, SECTION["task"])


def fold_of(folder: str, values: dict[str, Any], rung: int) -> dict[str, float]:
    from pipelines import training

    paths = {"prepared": f"{folder}/prepared", "augmented": f"{folder}/augmented"}
    return training.trial(values, 1, rung, SECTION, count=FOLDS, seed=0, **paths)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--trials", type=int, default=24, help="of each search")
    parser.add_argument("--pool", type=int, default=96, help="random trials to share")
    given = parser.parse_args()
    started, spawn = time.monotonic(), multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="trainyard-search-") as folder,
        ProcessPoolExecutor(min(2, os.cpu_count() or 1), spawn, alone) as pool,
    ):
        try:
            pool.submit(prepared, folder).result()
        except Refusal as refusal:
            print(f"skipped: {refusal}")
            return 0
        fold = partial(fold_of, folder)
        searches = [pool.submit(searched, seed, given.trials, fold) for seed in range(given.seeds)]
        scores = list(pool.map(partial(through, fold=fold), drawn(given.pool)))
        found = [search.result() for search in searches]
    return told(found, scores, given.trials, time.monotonic() - started)


def told(found: list[list[Step]], scores: list[float], trials: int, seconds: float) -> int:
    """Prints the table; the exit code."""
    whole, ratios = trials * FOLDS * EPOCHS, []
    print("| seed | random's best | search's best | epochs until random's best | of random's epochs | all its epochs |")
    print("|---|---|---|---|---|---|")
    for seed, steps in enumerate(found):
        mine = np.random.default_rng(seed).choice(len(scores), trials, replace=False)
        target = max(scores[number] for number in mine)
        epochs = reached(steps, target)
        ratios.append(epochs / whole)
        best = max(step.score for step in steps)
        told = f"{epochs:.0f} | {ratios[-1]:.2f}" if math.isfinite(epochs) else "never | -"
        print(f"| {seed} | {target:.4f} | {best:.4f} | {told} | {steps[-1].epochs} of {whole} |")
    low, high = interval(ratios)
    middle = statistics.median_high(ratios)
    won = sum(map(math.isfinite, ratios))
    print(f"\nreached by {won} of {len(ratios)} seeds; median {middle:.2f} of random's epochs [{low:.2f}, {high:.2f}],")
    print(f"95 % bootstrap over seeds; aim {AIM:.2f}; {len(scores)} random trials shared; {seconds:.0f} s")
    return 1 if middle > AIM else 0


if __name__ == "__main__":
    sys.exit(main())
