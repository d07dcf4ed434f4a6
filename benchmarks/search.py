"""Does the search pay? Epochs until it has what random search has in the end: `python -m benchmarks.search`.

LeNet on Fashion-MNIST (the original files, in data/raw/fashion-mnist), learning rate and batch size. A trial is a fit
of 9 epochs on 10,000 labels, scored on 10,000 validation pictures, by `pipelines.workers.rungs.score_epoch`:

random: as many trials as the search, their values drawn evenly, all of them to the end
search: `components.search.proposals.Study`: TPE proposes, ASHA lets the best third go on after one and three epochs

For each seed of the search: its epochs up to the end of the first trial that went all the way and scored at least what
random search's best did, over all epochs of random search. The random trials are shared: each seed takes some of them.
Exits with 1 where the median is above a third.

The best score of many trials is a lucky one, and the more so the more of them go all the way. So what either chooses in
the end is judged afresh, too: by fits from other seeds.
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

EPOCHS, AIM = 9, 1 / 3
FRESH = 1000  # first of the seeds that judge afresh
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
    """One trial of a search, as it ended or paused."""

    epochs: int  # spent by then, all steps before it included
    score: float  # -inf where it has not gone all the way
    values: dict[str, Any] = field(default_factory=dict)  # what it tried


@dataclass(frozen=True)
class Seed:
    """One search beside its random one."""

    target: float  # random's best score
    steps: list[Step]
    rival: list[float]  # random's best, judged afresh
    choice: list[float]  # the search's


def draw_values(count: int) -> list[dict[str, Any]]:
    """Values of the random trials: evenly, on the logarithm where the space says so."""
    random = np.random.default_rng(0)
    low, high = (math.log(SPACE["task.optimizer.lr"][end]) for end in ("low", "high"))
    rates = np.exp(random.uniform(low, high, count))
    sizes = random.choice(SPACE["fit.batch"]["choices"], count)
    return [{"task.optimizer.lr": float(r), "fit.batch": int(b)} for r, b in zip(rates, sizes, strict=True)]


def train_fully(values: dict[str, Any], epoch: Epoch, name: str) -> float:
    """The score of a trial that nobody stops."""
    try:
        return [epoch(values, rung, name)[MONITOR[0]] for rung in range(EPOCHS)][-1]
    except Diverged:
        return -math.inf


def run_search(seed: int, trials: int, epoch: Epoch) -> list[Step]:
    """What the search did, one proposal after the other."""
    study, steps, spent = Study(SPACE, trials, 1, MONITOR, seed, rungs=EPOCHS), [], 0
    known: dict[int, Trial] = {}
    while proposed := study.propose():
        trial = known.setdefault(proposed.number, Trial("s", proposed.number, proposed.values, cumulative=True))
        try:
            while len(trial.parts) < proposed.target_rungs:
                spent += 1
                trial.parts.append(epoch(trial.values, len(trial.parts), f"{seed}-{trial.number}"))
        except Diverged:
            study.record_score(proposed, None)
        else:
            study.record_score(proposed, trial.scores[MONITOR[0]])
        whole = len(trial.parts) == EPOCHS
        steps.append(Step(spent, trial.scores[MONITOR[0]] if whole else -math.inf, trial.values))
    return steps


def epochs_until(steps: Sequence[Step], target: float) -> float:
    """Epochs spent until `target` was there; infinite where it never was."""
    return next((float(step.epochs) for step in steps if step.score >= target), math.inf)


def best_step(steps: Sequence[Step]) -> Step:
    """The first of the best."""
    return max(steps, key=lambda step: step.score)


def interval(ratios: Sequence[float], draws: int = 10_000) -> tuple[float, float]:
    """95 % bootstrap interval of the median over seeds; a ratio may be infinite."""
    picks = np.random.default_rng(0).integers(len(ratios), size=(draws, len(ratios)))
    medians = np.sort(np.sort(np.array(ratios)[picks], 1)[:, len(ratios) // 2])  # one that occurred, as below
    return float(medians[int(0.025 * draws)]), float(medians[int(0.975 * draws)])


# ------------------------------------------------------------------------------------------------ the processes


def alone() -> None:
    """In a process of its own: one thread."""
    import torch

    from components.cluster import allocator

    torch.set_num_threads(1)
    allocator.keep_freed_memory()


def prepared(folder: str) -> None:
    from components.training.peers import Peers
    from pipelines.workers import training

    training.prepare_data(Peers(), DATA, folder, SECTION["task"])


def epoch_of(folder: str, values: dict[str, Any], rung: int, name: str, seed: int = 0) -> dict[str, float]:
    from pipelines.workers import rungs

    setup = TrialSetup(SECTION, f"{folder}/prepared", f"{folder}/augmented", seed)
    return rungs.score_epoch(Rung(values, rung), setup, EPOCHS, f"{folder}/fits/{name}")


def afresh(folder: str, values: dict[str, Any], fits: int) -> list[float]:
    """Scores of fits from seeds that no search saw."""
    seeds = range(FRESH, FRESH + fits)
    names = [f"afresh-{seed}-{recipe.digest(values)}" for seed in seeds]
    return [train_fully(values, partial(epoch_of, folder, seed=s), name) for s, name in zip(seeds, names, strict=True)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--trials", type=int, default=24, help="of each search")
    parser.add_argument("--pool", type=int, default=48, help="random trials to share")
    parser.add_argument("--fits", type=int, default=3, help="that judge a choice afresh")
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
        epoch = partial(epoch_of, folder)
        searches = [pool.submit(run_search, seed, given.trials, epoch) for seed in range(given.seeds)]
        random = draw_values(given.pool)
        trials = [pool.submit(train_fully, values, epoch, f"random-{n}") for n, values in enumerate(random)]
        found = [search.result() for search in tqdm(searches, "searches")]
        scores = [trial.result() for trial in tqdm(trials, "random trials")]
        chances = [np.random.default_rng(seed) for seed in range(given.seeds)]
        lots = [chance.choice(given.pool, given.trials, replace=False) for chance in chances]
        rivals = [max(lot, key=lambda number: scores[number]) for lot in lots]
        wanted = [random[rival] for rival in rivals] + [best_step(steps).values for steps in found]
        tried = {str(values): pool.submit(afresh, folder, values, given.fits) for values in wanted}
        again = {name: fits.result() for name, fits in tqdm(tried.items(), "afresh")}
    seeds = [
        Seed(scores[rival], steps, again[str(random[rival])], again[str(best_step(steps).values)])
        for rival, steps in zip(rivals, found, strict=True)
    ]
    return told(seeds, given.trials, given.pool, time.monotonic() - started)


def told(seeds: list[Seed], trials: int, pool: int, seconds: float) -> int:
    """Prints the table; the exit code."""
    whole = trials * EPOCHS
    ratios = [epochs_until(seed.steps, seed.target) / whole for seed in seeds]
    gains = []
    print("| seed | random's best | search's | reached after | all | afresh: random's | search's |")
    print("|---|---|---|---|---|---|---|")
    for number, (seed, ratio) in enumerate(zip(seeds, ratios, strict=True)):
        theirs, mine = statistics.mean(seed.rival), statistics.mean(seed.choice)
        gains.append(mine - theirs)
        cells = [f"{seed.target:.4f}", f"{best_step(seed.steps).score:.4f}", _share(ratio)]
        cells += [_share(seed.steps[-1].epochs / whole), f"{theirs:.4f}", f"{mine:.4f}"]
        print(f"| {number} | {' | '.join(cells)} |")
    print(f"\nshares of random search's {whole} epochs, aim {AIM:.2f}; 95 % bootstrap over seeds;")
    print(f"{pool} random trials shared; {seconds:.0f} s")
    low, high = interval(ratios)
    won, middle = sum(map(math.isfinite, ratios)), statistics.median_high(ratios)
    spread = f"{_share(middle)} [{_share(low)}, {_share(high)}]"
    print(f"random search's best reached by {won} of {len(ratios)} seeds; median {spread}")
    means = np.random.default_rng(0).choice(gains, (10_000, len(gains))).mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    print(f"its choice over random search's, afresh: {statistics.mean(gains):+.4f} [{low:+.4f}, {high:+.4f}]")
    return 1 if middle > AIM else 0


def _share(ratio: float) -> str:
    return f"{ratio:.2f}" if math.isfinite(ratio) else "never"


if __name__ == "__main__":
    sys.exit(main())
