"""The progress of a training run: running means, scores, the best state, and the patience of early stopping.

All of it is saved with every checkpoint, so that a resumed run writes the same lines as an undisturbed one.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import Diverged, Refusal
from . import checkpoint
from .metric_names import NOISE_SCALE
from .noise_scale import BATCH_GRADIENT, SHARD_GRADIENT, NoiseScale
from .task import State

Scores = dict[str, float]


@dataclass
class Meter:
    """The progress of one run.

    monitor: the score to watch and its direction, "min" or "max"; patience: evaluations without progress before the run
    stops.
    """

    monitor: tuple[str, str]
    keep_best: bool = False
    patience: int | None = None
    noise: NoiseScale | None = None
    sums: dict[str, Tensor] = field(default_factory=dict)  # since the last line, on the device
    recent: list[dict[str, Tensor]] = field(default_factory=list)  # metrics of each step since the last line
    steps: int = 0  # since the last line
    # of the steps since the last line: 1 each, or the number of tokens or the like that a step's means are over
    weight: Tensor | float = 0.0
    epoch_sums: dict[str, float] = field(default_factory=dict)  # of the epoch up to the last line
    epoch_weight: float = 0.0
    scores: Scores = field(default_factory=dict)
    best_scores: Scores = field(default_factory=dict)
    best_weights: dict[str, Tensor] = field(default_factory=dict)  # and tables, under their names in a checkpoint
    waited: int = 0  # evaluations since the best one
    stopped: bool = False  # patience ran out
    finished: bool = False  # `Task.finish` was called and the best weights are restored
    lap_start: float = field(default_factory=time.monotonic)

    def add(self, metrics: dict[str, Tensor], weight: Tensor | None = None) -> None:
        """Add the metrics of a step; weight: what they are means over, where it differs between steps."""
        for name, value in metrics.items():
            term = value if weight is None else value * weight
            self.sums[name] = self.sums[name] + term if name in self.sums else term.clone()
        self.recent.append(metrics)
        self.weight = self.weight + (1 if weight is None else weight)
        self.steps += 1

    def take_means(self, step: int) -> Scores:
        """Return the means since the last call, which ended at `step`; raise Diverged if a loss is not finite."""
        sums = {name: float(value) for name, value in self.sums.items()}
        weight = float(self.weight)
        # all sums are 0 where the weight is
        means = {name: value / (weight or 1) for name, value in sums.items()}
        if self.noise is not None and SHARD_GRADIENT in means:
            self.noise.add(means.pop(SHARD_GRADIENT), means.pop(BATCH_GRADIENT), self.steps)
            sums = {name: sums[name] for name in means}
            if math.isfinite(self.noise.value):
                means[NOISE_SCALE] = self.noise.value
        for name, value in sums.items():
            self.epoch_sums[name] = self.epoch_sums.get(name, 0.0) + value
        self.epoch_weight += weight
        self.sums, self.weight, self.steps = {}, 0.0, 0
        recent, self.recent = self.recent, []
        for name, value in means.items():
            if name.endswith("loss") and not math.isfinite(value):
                finite = [math.isfinite(float(metrics[name])) for metrics in recent]
                first = finite.index(False) if False in finite else 0
                raise Diverged(f"the {name} became {value}", step - len(recent) + 1 + first)
        return means

    def take_epoch_means(self) -> Scores:
        """Return the means over the epoch that ends here, and begin the next one."""
        means = {name: value / (self.epoch_weight or 1) for name, value in self.epoch_sums.items()}
        self.epoch_sums, self.epoch_weight = {}, 0.0
        return means

    def lap_seconds(self) -> float:
        """Return the seconds since the last call."""
        now = time.monotonic()
        seconds = now - self.lap_start
        self.lap_start = now
        return seconds

    def judge(self, scores: Scores, state: State) -> None:
        """Record the scores of an evaluation, with weights and tables if they are the best so far."""
        name, direction = self.monitor
        if name not in scores:
            raise Refusal(f"monitor: the task has no score '{name}'; it has: {', '.join(scores)}")
        self.scores = scores
        if self._is_best(scores[name], self.best_scores.get(name, math.nan), direction):
            self.best_scores, self.waited = scores, 0
            if self.keep_best:
                tables = {f"tables/{key}": torch.from_numpy(table) for key, table in state.tables.items()}
                tensors = checkpoint.module_tensors(state) | tables
                self.best_weights = {key: value.clone() for key, value in tensors.items()}
        else:
            self.waited += 1
        self.stopped = self.patience is not None and self.waited >= self.patience

    def _is_best(self, new: float, old: float, direction: str) -> bool:
        if not self.best_scores:
            return True
        if math.isnan(new) or math.isnan(old):
            return not math.isnan(new)
        return new > old if direction == "max" else new < old

    def restore_best(self, state: State) -> None:
        """Put the best weights and tables into `state`, where they were kept."""
        if self.best_weights:
            checkpoint.load_modules(state, self.best_weights)
            tables = checkpoint.select_prefix(self.best_weights, "tables/")
            state.tables = {key: tensor.numpy() for key, tensor in tables.items()}
            self.scores, self.best_weights = self.best_scores, {}

    def progress(self, position: int) -> dict[str, Any]:
        """Return what a checkpoint stores of the run's progress; position: of the journal."""
        return {
            "count": self.steps,
            "weight": float(self.weight),
            "totals": self.epoch_sums,
            "total_weight": self.epoch_weight,
            "scores": self.scores,
            "best": self.best_scores,
            "waited": self.waited,
            "stopped": self.stopped,
            "done": self.finished,
            "position": position,
            "sums": {name: float(value) for name, value in self.sums.items()},
            "noise": [] if self.noise is None else [self.noise.signal, self.noise.noise],
        }

    def load(self, progress: dict[str, Any], best_weights: dict[str, Tensor], device: torch.device) -> None:
        """Continue from the `progress` and the best weights of a checkpoint."""
        self.steps, self.weight = progress["count"], progress["weight"]
        self.epoch_sums, self.epoch_weight = progress["totals"], progress["total_weight"]
        self.scores, self.best_scores, self.best_weights = progress["scores"], progress["best"], best_weights
        self.waited, self.stopped, self.finished = progress["waited"], progress["stopped"], progress["done"]
        self.sums = {name: torch.tensor(value, device=device) for name, value in progress["sums"].items()}
        if self.noise is not None and progress["noise"]:
            self.noise.signal, self.noise.noise = progress["noise"]
