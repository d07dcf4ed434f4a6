"""A rung of a search's trial, on its worker: a fold of the training split, another seed, or the next epoch of one fit.

Each function's first arguments are `values` {dotted key: value} in place of the recipe's, `accumulate` (a batch in so
many pieces, which a lack of memory raises) and the rung's number; it gives {score: value}, those on examples it learned
from as train_*, for the diagnosis.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from components.recipes import recipe
from components.storage.feed import Feed
from components.storage.order import contiguous_folds, stratified_folds
from components.storage.store import Store
from components.training import engine
from components.training.peers import Peers
from components.training.task import State, Task
from pipelines.workers.training import TRAINING_EXAMPLES, parameter_count, read_spec, train_feed, training_scores


def fold(
    values: dict[str, Any],
    accumulate: int,
    rung: int,
    section: dict[str, Any],
    prepared: str,
    augmented: str,
    seed: int,
    count: int,
) -> dict[str, float]:
    """On one of `count` folds of the training split: stratified by the label, or stretches where there is none."""
    everything, device = train_feed(prepared, augmented), _alone().device
    rows, held_out = split_folds(everything, count, seed)[rung]
    train, judge = (train_feed(prepared, augmented, part, device) for part in (rows, held_out))
    section, watched = recipe.overlay(section, values), judge
    if _steered(section["fit"]) and "validation" in Store(prepared).manifest["splits"]:
        watched = Feed(Store(prepared).split("validation"), None, device)  # what says when to stop does not judge, too
    return _whole(section, accumulate, seed, prepared, augmented, train, judge, watched)


def seed(
    values: dict[str, Any],
    accumulate: int,
    rung: int,
    section: dict[str, Any],
    prepared: str,
    augmented: str,
    seed: int,
) -> dict[str, float]:
    """With the seed `seed + rung`, trained on all of the training split and scored on the validation split."""
    device = _alone().device
    train = train_feed(prepared, augmented, None, device)
    judge = Feed(Store(prepared).split("validation"), None, device)
    return _whole(recipe.overlay(section, values), accumulate, seed + rung, prepared, augmented, train, judge, judge)


def epoch(
    values: dict[str, Any],
    accumulate: int,
    rung: int,
    section: dict[str, Any],
    prepared: str,
    augmented: str,
    seed: int,
    epochs: int,
    folder: str,
) -> dict[str, float]:
    """On the validation split after the epochs 0 to `rung` of the `epochs` of one fit.

    It goes on from what the rung before left in `folder`; where nothing is left, from the start, to the same scores.
    """
    section, peers, at = recipe.overlay(section, values), _alone(), Path(folder)
    train = train_feed(prepared, augmented, None, peers.device)
    judge = Feed(Store(prepared).split("validation"), None, peers.device)
    changes = {"epochs": epochs, "evaluate_every": 1}
    fit = _parted(section["fit"], accumulate, seed) | changes
    until = (rung + 1) * train.order(fit["batch"], seed).steps_per_epoch
    at.mkdir(parents=True, exist_ok=True)
    task: Task = recipe.build(section["task"])
    outcome = engine.fit(task, read_spec(prepared, augmented), train, judge, at, peers, until, **fit)
    return outcome.scores | _learned(task, outcome.state, train, peers)


def split_folds(everything: Feed, count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """[(rows to train on, rows held out)] of each of `count` folds."""
    if "label" in everything.split.columns:
        return stratified_folds(everything.column("label"), count, seed)
    return contiguous_folds(len(everything), count)


def _alone() -> Peers:
    return Peers(device=torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def _parted(fit: dict[str, Any], accumulate: int, seed: int) -> dict[str, Any]:
    """All arguments of a section's fit, each batch in at least as many microbatches as were learned to be needed."""
    found = recipe.fill_defaults("training.engine.fit", {"seed": seed} | recipe.resolve_arguments(fit))
    return found | {"accumulate": max(accumulate, found["accumulate"])}


def _steered(fit: dict[str, Any]) -> bool:
    """Whether scores say when training stops, or which weights are kept."""
    return fit.get("patience") is not None or fit.get("keep") == "best"


def _whole(
    section: dict[str, Any],
    accumulate: int,
    seed: int,
    prepared: str,
    augmented: str,
    train: Feed,
    judge: Feed,
    watched: Feed,
) -> dict[str, float]:
    """One whole fit on `train`, scored on `judge`; `watched` says when to stop and what to keep, if that is asked."""
    peers = _alone()
    fit = _parted(section["fit"], accumulate, seed)
    if not _steered(fit):
        fit |= {"evaluate_every": fit["epochs"]}
    task: Task = recipe.build(section["task"])
    outcome = engine.fit(task, read_spec(prepared, augmented), train, watched, None, peers, **fit)
    scores = outcome.scores if watched is judge else engine.evaluate(task, outcome.state, judge, peers)[0]
    told = _learned(task, outcome.state, train, peers, len(judge))
    if fit["patience"] is not None:
        told["epochs"] = float(outcome.epochs)
    if outcome.noise_scale is not None:
        told["noise_scale"] = outcome.noise_scale
    return scores | told


def _learned(task: Task, state: State, train: Feed, peers: Peers, most: int = TRAINING_EXAMPLES) -> dict[str, float]:
    told = {f"train_{name}": value for name, value in training_scores(task, state, train, peers, most).items()}
    return told | {"parameters": float(parameter_count(state))}
