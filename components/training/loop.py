"""The only loop over steps of optimisation.

    for step in order:  shards of the batch -> task.step(state, update) -> journal
                        at intervals: evaluate, checkpoint

It names no system and imports no Ray, MLflow or DVC.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from ..errors import Diverged, Stopped
from ..storage.feed import Feed, Walk
from . import metric_names
from .compilation import Choice, run_trial
from .evaluation import evaluate, map_batches, target_columns
from .meter import Meter
from .recorder import RunRecorder
from .task import State, Task
from .update import ShardedUpdate


@dataclass
class Loop:
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
