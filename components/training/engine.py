"""fit() and evaluate(): the only loops. They name no system, and import no Ray, MLflow or DVC.

    for step in order:  shards of the batch -> task.step(state, update) -> journal
                        now and then: evaluate, checkpoint

The result is a pure function of (recipe, data, threads a worker): not of the number of workers, and not of where the
run was interrupted. A recipe's `fit` section is the keyword arguments of `fit`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ..errors import Diverged, Refusal, Stopped
from ..files import write_json
from ..recipes.ranges import Count, Fraction, Natural, Positive
from ..runs.journal import SAVE, STOP, Journal
from ..schedules import constant
from ..storage.feed import Feed
from . import checkpoint
from .meter import Meter, Scores
from .noise_scale import NoiseScale
from .peers import Peers
from .task import Batch, Spec, State, Task
from .update import ShardedUpdate

DIVERGED_FILE = "diverged.json"  # in a run's folder: the batch whose loss was no number
ROWS_SHOWN = 6  # rows of it that the refusal names


@dataclass
class Outcome:
    state: State
    scores: Scores  # of the last evaluation, or of the best one when the best weights are kept; after `finish`
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
    batch: Count = 128,
    order: Literal["shuffled", "sequential"] = "shuffled",
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
    noise_scale: bool = False,
    checkpoint_seconds: Positive = 30.0,
) -> Outcome:
    """Trains `task` on `train`, from the newest checkpoint in `folder` if there is one.

    batch: examples a step over *all* workers, cut into `shards` fixed slices (at least as many as workers).
    order: sequential lets each element of the batch walk through a stretch of the data (see data/order.py).
    schedule: a factory section of `schedules`; clip: the greatest gradient norm; ema: decay of the weights' moving
    average, which then is what is evaluated; patience: evaluations without progress of `task.monitor` before it stops
    (implies keep="best"); noise_scale: logs train/noise_scale, that of the gradient, by `NoiseScale`.
    `until` stops before that step, as if the process had been killed there.
    """
    peers = peers or Peers()
    best = keep == "best" or patience is not None
    _check(batch, shards, peers, best, validation, noise_scale)
    walk = train.order(batch, seed, order == "sequential")
    state = _set_up(task, spec, seed, peers.device, channels_last, compile, ema)
    options: dict[str, Any] = {"precision": precision, "clip": clip, "accumulate": accumulate, "norms": noise_scale}
    update = ShardedUpdate(state, peers, seed=seed, shards=shards, **options)
    meter = Meter(task.monitor, best, patience, NoiseScale(batch, shards) if noise_scale else None)
    if folder is not None and peers.rank == 0:
        checkpoint.check_free_space(folder, state)
    journal = _resume(state, meter, folder, peers)
    total, factor, saved = epochs * walk.steps_per_epoch, schedule or constant, time.monotonic()
    _train_mode(state)
    meter.seconds()

    while state.step < total and not meter.stopped:
        if state.step == until:
            _save(folder, peers, state, update.own_shards, meter, journal)
            scores = meter.best if best else meter.scores
            return Outcome(state, scores, state.step // walk.steps_per_epoch, done=False)
        if state.step % walk.steps_per_epoch == 0:
            state.carry.clear()
        rate = _set_rates(state, factor(state.step, total))
        update.begin(*train.shards(walk, state.step, shards, update.own_shards))
        meter.add(task.step(state, update))
        if ema is not None:
            _average(state, ema)
        state.step += 1
        epoch, ends_epoch = state.step / walk.steps_per_epoch, state.step % walk.steps_per_epoch == 0
        if ends_epoch or state.step % log_every == 0:
            try:
                _log(journal, meter, state.step, total, epoch, ends_epoch, rate, batch)
            except Diverged as diverged:
                raise _located(diverged, train.rows[walk.indices(diverged.step - 1)], folder, peers) from None
        if validation is not None and ends_epoch and (epoch % evaluate_every == 0 or state.step == total):
            scores, predictions = evaluate(task, state, validation, peers)
            meter.judge(scores, state, epoch, journal)
            if task.album:
                _draw(task, state, predictions, validation, folder, journal)
            _train_mode(state)
        if ends_epoch or state.step % log_every == 0:
            late = time.monotonic() - saved > checkpoint_seconds
            due, stop = peers.broadcast((late or is_requested(folder, SAVE), is_requested(folder, STOP)))
            if due or stop:
                _save(folder, peers, state, update.own_shards, meter, journal)
                saved = time.monotonic()
            if stop:
                raise Stopped(f"step {state.step} of {total} is saved")
            meter.seconds()  # evaluations, pictures and checkpoints are no steps

    if not meter.done:
        meter.restore_best(state)
        state.carry.clear()
        task.finish(state, partial(_over, peers, train, batch))
        if validation is not None and type(task).finish is not Task.finish:
            scores, _ = evaluate(task, state, validation, peers)
            meter.note(scores, state, state.step / walk.steps_per_epoch, journal)
        meter.done = True
        _save(folder, peers, state, update.own_shards, meter, journal)
    noise = None if meter.noise is None else meter.noise.value
    return Outcome(state, meter.scores, -(-state.step // walk.steps_per_epoch), done=True, noise_scale=noise)


@torch.no_grad()
def evaluate(
    task: Task, state: State, feed: Feed, peers: Peers | None = None, batch: int = 512
) -> tuple[Scores, dict[str, np.ndarray]]:
    """(scores, predictions {name: [N, ...]}) in the order of the rows; the batches don't depend on the workers."""
    peers = peers or Peers()
    view = State(state.modules | state.averages, tables=state.tables, step=state.step)
    for module in view.modules.values():
        module.eval()
    parts = _over(
        peers, feed, batch, lambda part: {name: v.cpu().numpy() for name, v in task.predict(view, part).items()}
    )
    predictions = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return task.score(predictions, target_columns(task, feed)), predictions


def target_columns(task: Task, feed: Feed) -> dict[str, Any]:
    """The columns that the task's scores and pictures need, of all rows."""
    return {name: feed.column(name) for name in task.targets}


def draw_pictures(task: Task, state: State, predictions: dict[str, np.ndarray], feed: Feed, folder: Path) -> list[Path]:
    """Draws an evaluation's pictures and samples of text into `folder`: the files written."""
    from ..drawings import figures

    files = []
    for name, drawn in task.draw(state, predictions, target_columns(task, feed)).items():
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(drawn, str):
            files.append(folder / f"{name}.txt")
            files[-1].write_text(drawn, encoding="utf-8")
        else:
            files.append(figures.save_figure(drawn, folder / f"{name}.png"))
    return files


def is_requested(folder: Path | None, what: str) -> bool:
    """Whether the run in `folder`, or the stage above it, was asked to STOP or to SAVE (since its last checkpoint)."""
    if folder is None:
        return False
    files = [file for file in (folder / what, folder.parent / what) if file.exists()]
    if what == SAVE and files:
        saved = [
            path.stat().st_mtime for path in checkpoint.list_checkpoints(folder)
        ]  # a damaged one may have the last number
        return max(file.stat().st_mtime for file in files) > max(saved, default=0.0)
    return bool(files)


# ------------------------------------------------------------------------------------------------ pieces of fit


def _check(batch: int, shards: int, peers: Peers, best: bool, validation: Feed | None, noise_scale: bool) -> None:
    if batch < shards:
        raise Refusal(f"fit.batch: {batch} is smaller than fit.shards: {shards}; each shard needs an example")
    if peers.size > shards:
        raise Refusal(
            f"{peers.size} workers but fit.shards is {shards}: raise fit.shards to at least {peers.size},"
            " or start fewer workers (TRAINYARD_WORKERS)"
        )
    if noise_scale and shards < 2:
        raise Refusal("fit.noise_scale: compares the gradients of shards; set fit.shards to 2 or more")
    if best and validation is None:
        raise Refusal("fit.patience, fit.keep: best need a validation split; give the data set one or drop them")


def _set_up(
    task: Task, spec: Spec, seed: int, device: torch.device, channels_last: bool, compile: bool, ema: float | None
) -> State:
    if device.type == "cuda":
        _exact()
    torch.manual_seed(seed)
    state = task.setup(spec)
    for module in state.modules.values():
        module.to(device)
        if channels_last:
            module.to(memory_format=torch.channels_last)
    if ema is not None:
        state.averages = {name: deepcopy(m).requires_grad_(False) for name, m in state.modules.items()}
    if compile:
        for module in state.modules.values():
            module.compile()
    for optimizer in state.optimizers.values():
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return state


def _exact() -> None:
    """On a GPU: the same sums in the same order every time, or a warning where there is no such kernel."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)


def _train_mode(state: State) -> None:
    for module in state.modules.values():
        module.train()


def _set_rates(state: State, factor: float) -> float:
    """The greatest rate there is now."""
    rate = 0.0
    for optimizer in state.optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
            rate = max(rate, group["lr"])
    return rate


def _log(
    journal: Journal | None,
    meter: Meter,
    step: int,
    steps: int,
    epoch: float,
    ends_epoch: bool,
    rate: float,
    batch: int,
) -> None:
    """Means since the last line, at an epoch's end those over all of it too; every worker keeps count alike."""
    speed = meter.count * batch / max(meter.seconds(), 1e-9)
    means = meter.means(step)
    values = {f"train/{name}": value for name, value in means.items()} | {"learning_rate": rate}
    if ends_epoch:
        values |= {f"epoch/{name}": value for name, value in meter.epoch_means().items()}
    if journal is not None:
        journal.write("metric", step=step, epoch=epoch, values=values)
        journal.write("progress", step=step, steps=steps, values=means, speed=speed)


def _located(diverged: Diverged, rows: np.ndarray, folder: Path | None, peers: Peers) -> Diverged:
    """Where the loss went wrong, in one line: step, rows [B] of the batch, the checkpoint before it."""
    some = ", ".join(map(str, rows[:ROWS_SHOWN])) + (", ..." if len(rows) > ROWS_SHOWN else "")
    before = "no checkpoint before it"
    if folder is not None:
        kept = checkpoint.list_checkpoints(folder)
        before = f"the checkpoint before it is {kept[0]}" if kept else before
        if len(rows) > ROWS_SHOWN:
            some += f" (all {len(rows)} in {folder / DIVERGED_FILE})"
        if peers.rank == 0:
            write_json(folder / DIVERGED_FILE, {"step": diverged.step, "rows": rows.tolist()})
    told = (
        f"step {diverged.step}: {diverged} on training rows {some}; {before}; lower the learning rate or set fit.clip"
    )
    return Diverged(told, diverged.step)


@torch.no_grad()
def _average(state: State, decay: float) -> None:
    """Moving average of weights; buffers (batch statistics) are copied."""
    for name, average in state.averages.items():
        live = state.modules[name]
        torch._foreach_lerp_(list(average.parameters()), [p.detach() for p in live.parameters()], 1 - decay)
        for mine, theirs in zip(average.buffers(), live.buffers(), strict=True):
            mine.copy_(theirs)


def _resume(state: State, meter: Meter, folder: Path | None, peers: Peers) -> Journal | None:
    """Loads the newest whole checkpoint (read by rank 0 for all) and opens rank 0's journal at its position."""
    if folder is None:
        return None
    loaded = peers.broadcast(checkpoint.load_latest(folder) if peers.rank == 0 else None)
    if loaded is not None:
        tensors, record = loaded
        checkpoint.unpack_state(state, tensors, record, peers.device)
        meter.load(record["progress"], checkpoint.select_prefix(tensors, "extra/"), peers.device)
    return Journal(folder / "journal.log", position=meter.position) if peers.rank == 0 else None


def _over(peers: Peers, feed: Feed, size: int, function: Callable[[Batch], Any]) -> list[Any]:
    """What `function` gives for each batch of `feed`, in order, on every worker; each works on its share of them."""
    theirs = peers.gather([function(part) for part in feed.batches(size, peers.rank, peers.size)])
    return [theirs[i % peers.size][i // peers.size] for i in range(sum(map(len, theirs)))]


def _draw(
    task: Task,
    state: State,
    predictions: dict[str, np.ndarray],
    feed: Feed,
    folder: Path | None,
    journal: Journal | None,
) -> None:
    """An evaluation's pictures, by rank 0, under the step's number; a run that goes on draws the same ones again."""
    if folder is None or journal is None:
        return
    for file in draw_pictures(task, state, predictions, feed, folder / "pictures"):
        kept = file.with_stem(f"{file.stem}-{state.step:06d}")
        file.replace(kept)
        journal.write("artifact", path=str(kept.resolve()), folder="pictures")


def _save(
    folder: Path | None, peers: Peers, state: State, shards: range, meter: Meter, journal: Journal | None
) -> None:
    """Written by rank 0; called by all at the same step, for each knows but its own shards' carry."""
    if folder is None:
        return
    mine = {i: {n: t.cpu() for n, t in kept.items()} for i, kept in state.carry.items() if i in shards}
    carry = {i: kept for theirs in peers.gather(mine) for i, kept in theirs.items()}
    if peers.rank != 0:
        return
    if journal is not None:
        journal.sync()
        meter.position = journal.position
    checkpoint.write_checkpoint(folder, replace(state, carry=carry), meter.save(), meter.best_weights)
