"""Train: fit() is the only loop over steps. It names no system and imports no Ray, MLflow or DVC.

    for step in order:  shards of the batch -> task.step(state, update) -> journal
                        at intervals: evaluate, checkpoint

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
import torch

from ..errors import Diverged, Refusal, Stopped
from ..recipes.ranges import Count, Fraction, Natural, Positive
from ..schedules import constant
from ..storage.feed import Feed, Walk
from . import metric_names
from .compilation import Choice, compile_run, run_trial
from .evaluation import evaluate, map_batches, target_columns
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
    ema: Fraction | None = None,
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
    loop = _Loop(
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


@dataclass
class _Loop:
    """The loop over the steps of one run, and everything that it changes."""

    task: Task
    state: State
    update: ShardedUpdate
    walk: Walk
    validation: Feed | None
    meter: Meter
    recorder: RunRecorder
    steps: int  # of the entire run
    factor: Callable[[int, int], float]  # of the learning rates, from (step, steps)
    ema: float | None
    evaluate_every: int
    log_every: int

    @property
    def epoch(self) -> float:
        """Return the number of epochs up to this step, with a fraction."""
        return self.state.step / self.walk.steps_per_epoch

    @property
    def at_epoch_boundary(self) -> bool:
        """Return whether this step begins an epoch, so that the step before it ended one."""
        return self.state.step % self.walk.steps_per_epoch == 0

    def run(self, until: int | None) -> bool:
        """Train to the last step, or as long as patience lasts; return False if step `until` comes first."""
        state = self.state
        _set_train_mode(state)
        self.meter.lap_seconds()
        while state.step < self.steps and not self.meter.stopped:
            if state.step == until:
                return False
            rate = self._step()
            logs = self.at_epoch_boundary or state.step % self.log_every == 0
            if logs:
                self._log(rate)
            if self.at_epoch_boundary and (self.epoch % self.evaluate_every == 0 or state.step == self.steps):
                self._evaluate()
            if logs:
                self._save_or_stop()
                # evaluations, pictures and checkpoints do not count in the speed
                self.meter.lap_seconds()
        return True

    def try_compilation(self, make_update: Callable[[State], ShardedUpdate]) -> Choice:
        """Return whether compiled modules pay, from steps of copies of the state on the run's first shard."""
        (first_shard, *_), sizes = self.walk.at(0)

        def make_step(copy: State) -> Callable[[], None]:
            update = make_update(copy)

            def practise() -> None:
                update.begin([first_shard], sizes[:1])
                self.task.step(copy, update)
                copy.step += 1

            return practise

        return run_trial(self.state, make_step, self.steps * len(self.walk.own_shards))

    def _step(self) -> float:
        """Do one step and return the greatest learning rate in it."""
        if self.at_epoch_boundary:
            self.state.carry.clear()
        rate = _set_rates(self.state, self.factor(self.state.step, self.steps))
        self.update.begin(*self.walk.at(self.state.step))
        metrics = self.task.step(self.state, self.update)
        self.meter.add(metrics, self.update.weight)
        if self.ema is not None:
            _move_averages(self.state, self.ema)
        self.state.step += 1
        return rate

    def _log(self, rate: float) -> None:
        """Write the means since the last line, at the end of an epoch also those over the epoch.

        Every worker computes them, so that all of them stop together where a loss is not finite.
        """
        step = self.state.step
        speed = self.meter.steps * self.walk.order.batch / max(self.meter.lap_seconds(), 1e-9)
        try:
            means = self.meter.take_means(step)
        except Diverged as diverged:
            raise self.recorder.locate(diverged, self.walk.rows(diverged.step - 1)) from None
        values = metric_names.since_last_line(means) | {metric_names.LEARNING_RATE: rate}
        if self.at_epoch_boundary:
            values |= metric_names.over_epoch(self.meter.take_epoch_means())
        self.recorder.log_metrics(step, self.epoch, values)
        self.recorder.log_progress(step, self.steps, means, speed)

    def _evaluate(self) -> None:
        if self.validation is None:
            return
        scores, predictions = evaluate(self.task, self.state, self.validation, self.recorder.peers)
        self.meter.judge(scores, self.state)
        self.recorder.log_metrics(self.state.step, self.epoch, metric_names.of_validation(scores))
        if self.task.album and self.recorder.journal is not None:
            targets = target_columns(self.task, self.validation)
            self.recorder.draw(self.task, self.state, predictions, targets)
        _set_train_mode(self.state)

    def _save_or_stop(self) -> None:
        is_due, stops = self.recorder.requests()
        if is_due or stops:
            self.recorder.save(self.state, self.meter, self.update)
        if stops:
            raise Stopped(f"step {self.state.step} of {self.steps} is saved")

    def finish(self) -> None:
        """Restore the best weights, call `Task.finish` and save; done once per run."""
        self.meter.restore_best(self.state)
        self.state.carry.clear()
        peers, batch = self.recorder.peers, self.walk.order.batch
        self.task.finish(self.state, partial(map_batches, peers, self.walk.feed, batch))
        if self.validation is not None and type(self.task).finish is not Task.finish:
            self.meter.scores, _ = evaluate(self.task, self.state, self.validation, peers)
            self.recorder.log_metrics(self.state.step, self.epoch, metric_names.of_validation(self.meter.scores))
        self.meter.finished = True
        self.recorder.save(self.state, self.meter, self.update)


# ------------------------------------------------------------------------------------------------ parts of fit


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


def _set_train_mode(state: State) -> None:
    for module in state.modules.values():
        module.train()


def _set_rates(state: State, factor: float) -> float:
    """Scale all base learning rates by `factor`; return the greatest result."""
    greatest = 0.0
    for optimizer in state.optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
            greatest = max(greatest, group["lr"])
    return greatest


@torch.no_grad()
def _move_averages(state: State, decay: float) -> None:
    """Move the averages towards the weights; buffers (batch statistics) are copied."""
    for name, average in state.averages.items():
        module = state.modules[name]
        torch._foreach_lerp_(list(average.parameters()), [p.detach() for p in module.parameters()], 1 - decay)
        for target, source in zip(average.buffers(), module.buffers(), strict=True):
            target.copy_(source)
