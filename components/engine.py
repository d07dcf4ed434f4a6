"""fit() and evaluate(): the only loops. They name no system, and import no Ray, MLflow or DVC.

    for step in order:  shards of the batch -> task.step(state, update) -> journal
                        now and then: evaluate, checkpoint

The result is a pure function of (recipe, data, threads a worker): not of the number of workers, and not of where the
run was interrupted. A recipe's `fit` section is the keyword arguments of `fit`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from components import checkpoint
from components.data.feed import Feed
from components.journal import Journal
from components.peers import Peers
from components.ranges import Count, Fraction, Natural, Positive
from components.refusal import Refusal
from components.schedules import constant
from components.task import Spec, State, Task
from components.update import Update

Scores = dict[str, float]


@dataclass
class Outcome:
    state: State
    scores: Scores  # of the last evaluation, or of the best one when the best weights are kept
    epochs: int
    done: bool  # False when stopped by `until` or by `after_epoch`


def fit(
    task: Task,
    spec: Spec,
    train: Feed,
    validation: Feed | None = None,
    folder: Path | None = None,
    peers: Peers | None = None,
    after_epoch: Callable[[int, Scores], bool] | None = None,
    until: int | None = None,
    *,
    seed: Natural = 0,
    epochs: Count = 10,
    batch: Count = 128,
    shards: Count = 1,
    accumulate: Count = 1,
    precision: Literal["float32", "bfloat16"] = "float32",
    channels_last: bool = True,
    compile: bool = False,
    schedule: Callable[[int, int], float] | None = None,
    clip: Positive | None = None,
    ema: Fraction | None = None,
    patience: Count | None = None,
    keep: Literal["last", "best"] = "last",
    evaluate_every: Count = 1,
    log_every: Count = 10,
    checkpoint_seconds: Positive = 30.0,
) -> Outcome:
    """Trains `task` on `train`, from the newest checkpoint in `folder` if there is one.

    batch: examples a step over *all* workers, cut into `shards` fixed slices (at least as many as workers).
    schedule: a factory section of `schedules`; clip: the greatest gradient norm; ema: decay of the weights' moving
    average, which then is what is evaluated; patience: evaluations without progress of `task.monitor` before it stops
    (implies keep="best"). `after_epoch(epoch, scores)` returning True stops the run; `until` stops before that step.
    """
    peers = peers or Peers()
    _check(train, batch, shards, peers, patience, validation)
    order = train.order(batch, seed)
    state = _set_up(task, spec, seed, peers.device, channels_last, compile, ema)
    update = Update(state, peers, seed=seed, shards=shards, precision=precision, clip=clip, accumulate=accumulate)
    meter = _Meter(task.monitor, keep_best=keep == "best" or patience is not None)
    journal = _resume(state, meter, folder, peers)
    total, factor = epochs * order.steps_per_epoch, schedule or constant
    saved, stopped = time.monotonic(), False

    while state.step < total and not stopped:
        if state.step == until:
            _save(folder, peers, state, meter, journal)
            return Outcome(state, meter.scores, state.step // order.steps_per_epoch, done=False)
        rate = _set_rates(state, factor(state.step, total))
        batches, sizes = train.shards(order, state.step, shards, update.mine)
        for module in state.modules.values():
            module.train()
        update.begin(batches, sizes)
        meter.add(task.step(state, update))
        if ema is not None:
            _average(state, ema)
        state.step += 1
        epoch = -(-state.step // order.steps_per_epoch)
        ends_epoch = state.step % order.steps_per_epoch == 0
        if state.step % log_every == 0 or ends_epoch:
            meter.log(journal, state.step, state.step / order.steps_per_epoch, rate, total, batch)
        if ends_epoch and validation is not None and (epoch % evaluate_every == 0 or state.step == total):
            scores, _ = evaluate(task, state, validation, peers)
            meter.judge(scores, state, epoch, journal)
            stopped = patience is not None and meter.waited >= patience
            stopped = stopped or bool(after_epoch and after_epoch(epoch, scores))
        if time.monotonic() - saved > checkpoint_seconds:
            _save(folder, peers, state, meter, journal)
            saved = time.monotonic()

    meter.restore_best(state)
    task.finish(state, train.batches(batch))
    _save(folder, peers, state, meter, journal)
    return Outcome(state, meter.scores, -(-state.step // order.steps_per_epoch), done=True)


@torch.no_grad()
def evaluate(
    task: Task, state: State, feed: Feed, peers: Peers | None = None, batch: int = 512
) -> tuple[Scores, dict[str, np.ndarray]]:
    """(scores, predictions {name: [N, ...]}) in the order of the rows; the batches don't depend on the workers."""
    peers = peers or Peers()
    view = State(state.modules | state.averages, tables=state.tables, step=state.step)
    for module in view.modules.values():
        module.eval()
    mine = [
        {name: values.cpu().numpy() for name, values in task.predict(view, part).items()}
        for part in feed.batches(batch, peers.rank, peers.size)
    ]
    theirs = peers.gather(mine)
    parts = [theirs[i % peers.size][i // peers.size] for i in range(sum(map(len, theirs)))]
    predictions = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return task.score(predictions, {name: feed.column(name) for name in task.targets}), predictions


# ------------------------------------------------------------------------------------------------ pieces of fit


def _check(train: Feed, batch: int, shards: int, peers: Peers, patience: int | None, validation: Feed | None) -> None:
    if batch < shards:
        raise Refusal(f"fit.batch: {batch} is smaller than fit.shards: {shards}; each shard needs an example")
    if peers.size > shards:
        raise Refusal(
            f"{peers.size} workers but fit.shards is {shards}: raise fit.shards to at least {peers.size},"
            " or start fewer workers (TRAINYARD_WORKERS)"
        )
    if patience is not None and validation is None:
        raise Refusal("fit.patience: early stopping needs a validation split; give one or drop patience")


def _set_up(
    task: Task, spec: Spec, seed: int, device: torch.device, channels_last: bool, compile: bool, ema: float | None
) -> State:
    torch.manual_seed(seed)
    state = task.setup(spec)
    for module in state.modules.values():
        module.to(device)
        if channels_last:
            module.to(memory_format=torch.channels_last)
        if compile:
            module.compile()
    if ema is not None:
        state.averages = {name: deepcopy(m).requires_grad_(False) for name, m in state.modules.items()}
    for optimizer in state.optimizers.values():
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return state


def _set_rates(state: State, factor: float) -> float:
    rate = 0.0
    for optimizer in state.optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
            rate = max(rate, group["lr"])
    return rate


@torch.no_grad()
def _average(state: State, decay: float) -> None:
    """Moving average of weights; buffers (batch statistics) are copied."""
    for name, average in state.averages.items():
        live = state.modules[name]
        torch._foreach_lerp_(list(average.parameters()), [p.detach() for p in live.parameters()], 1 - decay)
        for mine, theirs in zip(average.buffers(), live.buffers(), strict=True):
            mine.copy_(theirs)


def _resume(state: State, meter: _Meter, folder: Path | None, peers: Peers) -> Journal | None:
    """Loads the newest whole checkpoint (read by rank 0 for all) and opens rank 0's journal at its position."""
    if folder is None:
        return None
    loaded = peers.broadcast(checkpoint.latest(folder) if peers.rank == 0 else None)
    if loaded is not None:
        tensors, record = loaded
        checkpoint.unpack(state, tensors, record)
        meter.load(record["progress"], checkpoint.below(tensors, "extra/"))
    return Journal(folder / "journal.log", position=meter.position) if peers.rank == 0 else None


def _save(folder: Path | None, peers: Peers, state: State, meter: _Meter, journal: Journal | None) -> None:
    if folder is None or peers.rank != 0:
        return
    if journal is not None:
        journal.sync()
        meter.position = journal.position
    checkpoint.write(folder, state, meter.save(), meter.best_weights)


@dataclass
class _Meter:
    """Running means between two log lines, the last scores, and the best weights so far. Saved with the checkpoint."""

    monitor: tuple[str, str]
    keep_best: bool
    sums: dict[str, Tensor] = field(default_factory=dict)
    count: int = 0
    scores: Scores = field(default_factory=dict)
    best: Scores = field(default_factory=dict)
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    waited: int = 0
    position: int = 0
    started: float = field(default_factory=time.monotonic)

    def add(self, metrics: dict[str, Tensor]) -> None:
        for name, value in metrics.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()
        self.count += 1

    def log(self, journal: Journal | None, step: int, epoch: float, rate: float, steps: int, batch: int) -> None:
        means = {name: float(value) / self.count for name, value in self.sums.items()}
        seconds, self.started = time.monotonic() - self.started, time.monotonic()
        count, self.sums, self.count = self.count, {}, 0
        if not math.isfinite(means.get("loss", 0.0)):
            raise Refusal(f"step {step}: the loss became {means['loss']}; lower the learning rate or set fit.clip")
        if journal is not None:
            values = {f"train/{name}": value for name, value in means.items()} | {"learning_rate": rate}
            journal.write("metric", step=step, epoch=epoch, values=values)
            journal.write("progress", step=step, steps=steps, values=means, speed=count * batch / max(seconds, 1e-9))

    def judge(self, scores: Scores, state: State, epoch: int, journal: Journal | None) -> None:
        self.scores, (name, direction) = scores, self.monitor
        self.started = time.monotonic()
        if name not in scores:
            raise Refusal(f"monitor: the task gives no score '{name}'; it gives: {', '.join(scores)}")
        if journal is not None:
            values = {f"validation/{key}": value for key, value in scores.items()}
            journal.write("metric", step=state.step, epoch=float(epoch), values=values)
        sign = 1 if direction == "max" else -1
        if not self.best or sign * scores[name] > sign * self.best[name]:
            self.best, self.waited = scores, 0
            if self.keep_best:
                self.best_weights = {k: v.clone() for k, v in checkpoint.pack(state)[0].items() if _is_weight(k)}
        else:
            self.waited += 1

    def restore_best(self, state: State) -> None:
        if self.best_weights:
            self.scores = self.best
            for kind, modules in (("modules", state.modules), ("averages", state.averages)):
                for name, module in modules.items():
                    module.load_state_dict(checkpoint.below(self.best_weights, f"{kind}/{name}/"))

    def save(self) -> dict[str, Any]:
        names = ("count", "scores", "best", "waited", "position")
        return {name: getattr(self, name) for name in names} | {"sums": {n: float(v) for n, v in self.sums.items()}}

    def load(self, saved: dict[str, Any], best_weights: dict[str, Tensor]) -> None:
        for name, value in saved.items():
            setattr(self, name, value)
        self.sums = {name: torch.tensor(value) for name, value in saved["sums"].items()}
        self.best_weights = best_weights


def _is_weight(name: str) -> bool:
    return name.startswith(("modules/", "averages/"))
