"""Train: `fit` checks its arguments, sets a run up or resumes it, and runs its loop (loop.py).

The result is a pure function of (recipe, data, threads per worker). It depends neither on the number of workers nor on
where the run was interrupted. A recipe's `fit` section holds the keyword-only arguments of `fit`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import Refusal
from ..recipes.ranges import Count, Decay, Natural, Positive
from ..schedules import constant
from ..storage.feed import Feed
from .compilation import compile_run
from .loop import Loop
from .meter import Meter, Scores
from .noise_scale import NoiseScale
from .options import batch_size, check_options
from .peers import Peers
from .recorder import RunRecorder
from .set_up import set_up
from .task import Spec, State, Task
from .tree import owned_shards
from .update import Moments, ShardedUpdate


@dataclass
class Outcome:
    """The result of a fit."""

    state: State
    scores: Scores  # of the last evaluation (after `Task.finish`), or of the best one where the best weights are kept
    epochs: int
    done: bool  # False when stopped by `until`
    noise_scale: float | None = None  # of the gradient at the end, in examples, where it was asked for


def fit(
    task: Task,
    spec: Spec,
    train: Feed,
    validation: Feed | None = None,
    folder: Path | None = None,
    peers: Peers | None = None,
    until: int | None = None,
    *,
    seed: Natural = 0,
    epochs: Count = 10,
    batch: Count | Literal["all"] = 128,
    order: Literal["shuffled", "grouped", "sequential"] = "shuffled",
    window: Count | None = None,
    shards: Count = 1,
    accumulate: Count = 1,
    precision: Literal["float32", "bfloat16"] = "float32",
    channels_last: bool = True,
    compile: bool | Literal["auto"] = False,
    schedule: Callable[[int, int], float] | None = None,
    clip: Positive | None = None,
    clip_by: Literal["norm", "value", "none"] = "norm",
    examples: Count | None = None,
    ema: Decay | None = None,
    patience: Count | None = None,
    keep: Literal["last", "best"] = "last",
    evaluate_every: Count = 1,
    log_every: Count = 10,
    noise_scale: bool = False,
    moments: Moments = "auto",
    checkpoint_seconds: Positive = 30.0,
) -> Outcome:
    """Train `task` on `train`, from the newest checkpoint in `folder` if there is one.

    until: stop before this step, as if the process had been killed there.
    batch: examples per step over *all* workers, cut into `shards` fixed slices (at least one per worker); all: every
    training row, in a fold every row of the fold.
    order: grouped shuffles batches of examples of similar length, which need little padding (`Task.lengths`);
    sequential lets each element of the batch walk through a contiguous stretch of the data (storage/order.py).
    window: draw each shard's examples from so many parts at a time (storage/window_order.py); null: from all parts, or
    from 16 where the parts are in an object store.
    compile: auto tries compiled modules once, before the first step, and uses them if their gain over the run exceeds
    the time of compilation; the run stores what it chose (see compilation.py).
    schedule: a factory section of `schedules`.
    clip: the maximum norm of a module's gradient or, with clip_by "value", of each of its elements; "none" bounds
    nothing, for comparisons. train/gradient_norm is the norm before clipping.
    examples: train on the first so many examples alone; they repeat, so that the number of steps stays the same.
    ema: the decay of the weights' moving average, which is then evaluated in place of the weights.
    patience: evaluations without progress of `task.monitor` before training stops (implies keep="best").
    noise_scale: log train/noise_scale, the noise scale of the gradient (see `NoiseScale`).
    moments: whether each worker keeps all of the optimiser's moments or those of its own parameters (see
    `ShardedMoments`); the results are the same. auto: sharded for large modules whose parameters divide evenly.
    """
    peers = peers or Peers()
    keep_best = keep == "best" or patience is not None
    batch = batch_size(batch, len(train))
    check_options(batch, shards, noise_scale)
    _check_full_batch(task, batch, len(train))
    _check_run(peers, shards, keep_best, validation)
    own_shards = owned_shards(shards, peers.size, peers.rank)
    if examples is not None:
        train = _first_examples(train, examples)
    grouped_by = _columns_with_lengths(task, train) if order == "grouped" else ()
    walk = train.walk(batch, seed, shards, own_shards, order == "sequential", grouped_by, window)
    state = set_up(task, spec, seed, peers.device, channels_last, ema)
    options: dict[str, Any] = {"precision": precision, "accumulate": accumulate, "norms": noise_scale}
    options |= {"clip": clip, "clip_by": clip_by, "moments": moments}
    update = ShardedUpdate(state, peers, seed=seed, shards=shards, **options)
    meter = Meter(task.monitor, keep_best, patience, NoiseScale(batch, shards) if noise_scale else None)
    recorder = RunRecorder(folder, peers, checkpoint_seconds)
    recorder.resume(state, meter)
    update.forget_others()
    loop = Loop(
        task=task,
        state=state,
        update=update,
        walk=walk,
        validation=validation,
        meter=meter,
        recorder=recorder,
        steps=epochs * walk.steps_per_epoch,
        factor=schedule or constant,
        ema=ema,
        evaluate_every=evaluate_every,
        log_every=log_every,
    )
    alone = partial(ShardedUpdate, peers=Peers(device=peers.device), seed=seed, **options)
    with compile_run(compile, state, recorder, partial(loop.try_compilation, alone)):
        is_complete = loop.run(until)
    if not is_complete:
        recorder.save(state, meter, update)
        scores = meter.best_scores if keep_best else meter.scores
        return Outcome(state, scores, state.step // walk.steps_per_epoch, done=False)
    if not meter.finished:
        loop.finish()
    noise = None if meter.noise is None else meter.noise.value
    return Outcome(state, meter.scores, -(-state.step // walk.steps_per_epoch), done=True, noise_scale=noise)


def _check_run(peers: Peers, shards: int, keep_best: bool, validation: Feed | None) -> None:
    """Refuse options that do not go with the number of workers or with the data."""
    if peers.size > shards:
        raise Refusal(
            f"{peers.size} workers but fit.shards is {shards}: raise fit.shards to at least {peers.size},"
            " or start fewer workers (TRAINYARD_WORKERS)"
        )
    if keep_best and validation is None:
        raise Refusal("fit.patience, fit.keep: best need a validation split; give the data set one or drop them")


def _check_full_batch(task: Task, batch: int, rows: int) -> None:
    """Refuse a batch that leaves out training rows if the task needs all of them in every step."""
    if task.full_batch and batch != rows:
        raise Refusal(
            f"fit.batch: {batch} of {rows} training rows; each step of {type(task).__name__} needs all: set it to all"
        )


def _columns_with_lengths(task: Task, train: Feed) -> list[str]:
    """Return the columns of the data by whose lengths examples are grouped; refuse a task that has none."""
    names = [name for name in task.lengths if name in train.split.columns]
    if not names:
        raise Refusal(
            f"fit.order: grouped needs examples of different lengths, which {type(task).__name__} does not have here;"
            " set it to shuffled"
        )
    return names


def _first_examples(train: Feed, count: int) -> Feed:
    """Return a feed as long as `train` in which its first `count` examples repeat."""
    if count > len(train):
        raise Refusal(f"fit.examples: {count} are more than the {len(train)} training examples; lower it")
    return Feed(train.split, np.resize(train.rows[:count], len(train)), train.device)
