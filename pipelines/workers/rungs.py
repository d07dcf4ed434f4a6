"""Score one rung of a search's trial on its worker: a fold of the training split, another seed, or the next epoch.

Each function trains with the rung's values in place of the recipe's and returns {score: value}. Scores on training
examples, which the diagnosis needs, begin with `train_`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from components.recipes import recipe
from components.search.objective import Rung, Scores
from components.storage.feed import Feed
from components.storage.store import Store
from components.training import engine, evaluation
from components.training.options import batch_size, is_steered
from components.training.peers import Peers
from components.training.task import Spec, State, Task
from pipelines.stage import trial_curves
from pipelines.workers.folds import Feeds, open_fold
from pipelines.workers.records import TrialSetup
from pipelines.workers.scoring import TRAINING_EXAMPLES, parameter_count, training_scores
from pipelines.workers.training import read_spec, train_feed


def score_fold(rung: Rung, setup: TrialSetup, count: int) -> Scores:
    """Train without fold `rung.number` of `count` folds of the training split and score on it.

    Nothing else is learned from that fold, neither normalisation nor when to stop (see folds.py).
    """
    steered = is_steered(recipe.overlay(setup.section, rung.values)["fit"])
    feeds, spec = open_fold(setup, rung.number, count, steered, _single_worker().device)
    return _fit_and_score(rung, setup, feeds, spec)


def score_seed(rung: Rung, setup: TrialSetup) -> Scores:
    """Train on the whole training split with the seed `setup.seed + rung.number` and score on the validation split."""
    device = _single_worker().device
    train = train_feed(setup.prepared, setup.augmented, None, device)
    validation = _validation_feed(setup, device)
    reseeded = replace(setup, seed=setup.seed + rung.number)
    spec = read_spec(setup.prepared, setup.augmented)
    return _fit_and_score(rung, reseeded, Feeds(train, validation, validation), spec)


def score_epoch(rung: Rung, setup: TrialSetup, epochs: int, folder: str) -> Scores:
    """Train epochs 0 to `rung.number` of a fit of `epochs` epochs and score on the validation split.

    Training resumes from the checkpoint that the previous rung left in `folder`. Without one it starts from the
    beginning and comes to the same scores.
    """
    section = recipe.overlay(setup.section, rung.values)
    peers = _single_worker()
    train = train_feed(setup.prepared, setup.augmented, None, peers.device)
    validation = _validation_feed(setup, peers.device)
    fit = _fit_arguments(section["fit"], rung.accumulate, setup.seed) | {"epochs": epochs, "evaluate_every": 1}
    last_step = (rung.number + 1) * train.order(batch_size(fit["batch"], len(train)), setup.seed).steps_per_epoch
    Path(folder).mkdir(parents=True, exist_ok=True)
    task: Task = recipe.build(section["task"], Task)
    spec = read_spec(setup.prepared, setup.augmented)
    outcome = engine.fit(task, spec, train, validation, Path(folder), peers, last_step, **fit)
    if setup.curves:
        # The rungs continue one fit, so one file holds the curve of all
        trial_curves.write_curves(trial_curves.curve_file(setup.curves, rung.values, 0), Path(folder))
    return outcome.scores | _training_scores(task, outcome.state, train, peers)


def _single_worker() -> Peers:
    return Peers(device=torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def _validation_feed(setup: TrialSetup, device: torch.device) -> Feed:
    return Feed(Store(setup.prepared).split("validation"), None, device)


def _fit_arguments(fit: dict[str, Any], accumulate: int, seed: int) -> dict[str, Any]:
    """Return all arguments of a section's fit, with at least `accumulate` microbatches per batch."""
    arguments = recipe.fill_defaults(
        "training.engine.fit", {"seed": seed} | recipe.resolve_arguments(fit, "training.engine.fit")
    )
    return arguments | {"accumulate": max(accumulate, arguments["accumulate"])}


def _fit_and_score(rung: Rung, setup: TrialSetup, feeds: Feeds, spec: Spec) -> Scores:
    """Train from start to end and return the scores on the held-out examples and on some training examples."""
    section = recipe.overlay(setup.section, rung.values)
    peers = _single_worker()
    fit = _fit_arguments(section["fit"], rung.accumulate, setup.seed)
    if not is_steered(fit):
        fit |= {"evaluate_every": fit["epochs"]}
    task: Task = recipe.build(section["task"], Task)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) if setup.curves else None
        outcome = engine.fit(task, spec, feeds.train, feeds.watched, folder, peers, **fit)
        if folder is not None:
            trial_curves.write_curves(trial_curves.curve_file(setup.curves, rung.values, rung.number), folder)
    scores = outcome.scores
    if feeds.watched is not feeds.held_out:
        scores = evaluation.evaluate(task, outcome.state, feeds.held_out, peers)[0]
    scores = scores | _training_scores(task, outcome.state, feeds.train, peers, len(feeds.held_out))
    if fit["patience"] is not None:
        scores["epochs"] = float(outcome.epochs)
    if outcome.noise_scale is not None:
        scores["noise_scale"] = outcome.noise_scale
    return scores


def _training_scores(
    task: Task, state: State, train: Feed, peers: Peers, examples: int = TRAINING_EXAMPLES
) -> dict[str, float]:
    """Return the scores on evenly spread training examples as `train_*`, and the number of parameters."""
    scores = training_scores(task, state, train, peers, examples)
    return {f"train_{name}": value for name, value in scores.items()} | {"parameters": float(parameter_count(state))}
