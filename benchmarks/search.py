"""Does the search pay? Epochs until it has what random search has in the end: `python -m benchmarks.search`.

LeNet on Fashion-MNIST (the original files, in data/raw/fashion-mnist), learning rate and batch size. A trial is 9
folds of 5,000 labels, one epoch each, by `pipelines.training.trial`:

random: as many trials as the search, their values drawn evenly, all of them through all folds
search: `components.proposals.Study`: TPE proposes, ASHA lets the best third go on after one and three folds

For each seed of the search: its epochs up to the end of the first trial that went all the way and scored at least what
random search's best did, over all epochs of random search. The random trials are shared: each seed takes some of them.
Exits with 1 where the median is above a third.

The best score of many trials is a lucky one, and the more so the more of them go all the way. So what either would
choose is judged afresh, too: nine fits from other seeds on all labels, scored on the validation split; as good is what
is at most a standard error of the paired difference below random search's.
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

from components.proposals import Study
from components.refusal import Diverged, Refusal
from components.trials import Trial

FOLDS, EPOCHS, AIM = 9, 1, 1 / 3
FRESH = 1000  # first of the seeds that judge afresh
MONITOR = ("accuracy", "max")
DATA = {"use": "data.fashion_mnist.FashionMNIST", "labels": 5000, "validation": 5000}
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
    """One trial of a search, as it ended or paused."""

    epochs: int  # spent by then, all steps before it included
    score: float  # -inf where it has not gone all the way
    values: dict[str, Any] = field(default_factory=dict)  # what it tried


@dataclass(frozen=True)
class Seed:
    """One search beside its random one."""

    target: float  # random's best score
    rival: list[float]  # which was judged afresh
    steps: list[Step]
    afresh: list[list[float]]  # each of chosen(steps), judged afresh


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
    """What the search did, one proposal after the other."""
    study, steps, spent = Study(SPACE, trials, 1, MONITOR, seed, rungs=FOLDS), [], 0
    known: dict[int, Trial] = {}
    while proposed := study.propose():
        trial = known.setdefault(proposed.number, Trial("search", proposed.number, proposed.values))
        try:
            while len(trial.parts) < proposed.until:
                spent += EPOCHS
                trial.parts.append(fold(trial.values, len(trial.parts)))
        except Diverged:
            study.end(proposed, None)
        else:
            study.end(proposed, trial.scores[MONITOR[0]])
        whole = len(trial.parts) == FOLDS
        steps.append(Step(spent, trial.scores[MONITOR[0]] if whole else -math.inf, trial.values))
    return steps


def reached(steps: Sequence[Step], target: float) -> float:
    """Epochs spent until `target` was there; infinite where it never was."""
    return next((float(step.epochs) for step in steps if step.score >= target), math.inf)


def chosen(steps: Sequence[Step]) -> list[Step]:
    """Each that was the best so far; the last is what the search would choose."""
    best: list[Step] = []
    for step in steps:
        if step.score > (best[-1].score if best else -math.inf):
            best.append(step)
    return best


def as_good(mine: Sequence[float], theirs: Sequence[float]) -> bool:
    """At most a standard error of the paired difference below, on average."""
    gains = np.subtract(mine, theirs)
    return bool(gains.mean() >= -gains.std(ddof=1) / math.sqrt(len(gains)))


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


def afresh(folder: str, values: dict[str, Any]) -> list[float]:
    """Scores on the validation split of fits that no search saw."""
    from pipelines import training

    paths = {"prepared": f"{folder}/prepared", "augmented": f"{folder}/augmented"}
    runs = [training.trial(values, 1, rung, SECTION, seed=FRESH, **paths) for rung in range(FOLDS)]
    return [run[MONITOR[0]] for run in runs]


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
        random = drawn(given.pool)
        trials = pool.map(partial(through, fold=fold), random)
        found = [search.result() for search in tqdm(searches, "searches")]
        scores = list(tqdm(trials, "random trials", given.pool))
        chances = [np.random.default_rng(seed) for seed in range(given.seeds)]
        lots = [chance.choice(given.pool, given.trials, replace=False) for chance in chances]
        rivals = [max(lot, key=lambda number: scores[number]) for lot in lots]
        wanted = [random[rival] for rival in rivals] + [step.values for steps in found for step in chosen(steps)]
        tried = {str(values): values for values in wanted}
        again = tqdm(pool.map(partial(afresh, folder), tried.values()), "afresh", len(tried))
        judged = dict(zip(tried, again, strict=True))
    seeds = [
        Seed(scores[rival], judged[str(random[rival])], steps, [judged[str(step.values)] for step in chosen(steps)])
        for rival, steps in zip(rivals, found, strict=True)
    ]
    return told(seeds, given.trials, given.pool, time.monotonic() - started)


def told(seeds: list[Seed], trials: int, pool: int, seconds: float) -> int:
    """Prints the table; the exit code."""
    whole = trials * FOLDS * EPOCHS
    strict = [reached(seed.steps, seed.target) / whole for seed in seeds]
    fair, gains = [], []
    print("| seed | random's best | search's | reached after | afresh: random's | search's | as good after | all |")
    print("|---|---|---|---|---|---|---|---|")
    for number, (seed, ratio) in enumerate(zip(seeds, strict, strict=True)):
        best = chosen(seed.steps)
        good = (s.epochs for s, scores in zip(best, seed.afresh, strict=True) if as_good(scores, seed.rival))
        fair.append(next(good, math.inf) / whole)
        mine, theirs = (statistics.mean(scores) for scores in (seed.afresh[-1], seed.rival))
        gains.append(mine - theirs)
        cells = [f"{seed.target:.4f}", f"{best[-1].score:.4f}", _share(ratio), f"{theirs:.4f}", f"{mine:.4f}"]
        cells += [_share(fair[-1]), _share(seed.steps[-1].epochs / whole)]
        print(f"| {number} | {' | '.join(cells)} |")
    print(f"\nshares of random search's {whole} epochs, aim {AIM:.2f}; 95 % bootstrap over seeds;")
    print(f"{pool} random trials shared; {seconds:.0f} s")
    for name, ratios in (("random's best score reached", strict), ("as good afresh", fair)):
        low, high = interval(ratios)
        won, middle = sum(map(math.isfinite, ratios)), statistics.median_high(ratios)
        print(f"{name}: {won} of {len(ratios)} seeds; median {_share(middle)} [{_share(low)}, {_share(high)}]")
    means = np.random.default_rng(0).choice(gains, (10_000, len(gains))).mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    print(f"its choice over random search's, afresh: {statistics.mean(gains):+.4f} [{low:+.4f}, {high:+.4f}]")
    return 1 if statistics.median_high(strict) > AIM else 0


def _share(ratio: float) -> str:
    return f"{ratio:.2f}" if math.isfinite(ratio) else "never"


if __name__ == "__main__":
    sys.exit(main())
