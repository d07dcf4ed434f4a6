"""What a training run has seen so far: running means, scores, the best state, and how long it waits for better ones.

All of it is saved with every checkpoint: a run that goes on writes the very lines an undisturbed one writes.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import Diverged, Refusal
from ..runs.journal import Journal
from . import checkpoint
from .noise_scale import BATCH_GRADIENT, SHARD_GRADIENT, NoiseScale
from .task import State

Scores = dict[str, float]
SAVED = ("count", "totals", "seen", "scores", "best", "waited", "stopped", "done", "position")


@dataclass
class Meter:
    """monitor: the score to watch and its direction; patience: evaluations without a better one before it stops."""

    monitor: tuple[str, str]
    keep_best: bool = False
    patience: int | None = None
    noise: NoiseScale | None = None
    sums: dict[str, Tensor] = field(default_factory=dict)  # since the last line, on the device
    recent: list[dict[str, Tensor]] = field(default_factory=list)  # each step's since then: where a loss went wrong
    count: int = 0
    totals: dict[str, float] = field(default_factory=dict)  # of the epoch, up to the last line
    seen: int = 0
    scores: Scores = field(default_factory=dict)
    best: Scores = field(default_factory=dict)
    best_weights: dict[str, Tensor] = field(default_factory=dict)  # and tables, by their names in a checkpoint
    waited: int = 0
    stopped: bool = False  # no more steps: patience ran out
    done: bool = False  # finished, the best weights in place
    position: int = 0  # of the journal
    started: float = field(default_factory=time.monotonic)

    def add(self, metrics: dict[str, Tensor]) -> None:
        for name, value in metrics.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()
        self.recent.append(metrics)
        self.count += 1

    def means(self, step: int) -> Scores:
        """Since the last call; a loss that is no number any more ends the run."""
        sums = {name: float(value) for name, value in self.sums.items()}
        means = {name: value / self.count for name, value in sums.items()}
        if self.noise is not None and SHARD_GRADIENT in means:
            self.noise.add(means.pop(SHARD_GRADIENT), means.pop(BATCH_GRADIENT), self.count)
            sums = {name: sums[name] for name in means}
            if math.isfinite(self.noise.value):
                means["noise_scale"] = self.noise.value
        for name, value in sums.items():
            self.totals[name] = self.totals.get(name, 0.0) + value
        self.seen, self.sums, self.count = self.seen + self.count, {}, 0
        recent, self.recent = self.recent, []
        for name, value in means.items():
            if name.endswith("loss") and not math.isfinite(value):
                back = next((n for n, one in enumerate(recent) if not math.isfinite(float(one[name]))), 0)
                raise Diverged(f"the {name} became {value}", step - len(recent) + 1 + back)
        return means

    def epoch_means(self) -> Scores:
        """Over the epoch that ends here."""
        means = {name: value / self.seen for name, value in self.totals.items()}
        self.totals, self.seen = {}, 0
        return means

    def seconds(self) -> float:
        """Since the last call."""
        seconds, self.started = time.monotonic() - self.started, time.monotonic()
        return seconds

    def judge(self, scores: Scores, state: State, epoch: float, journal: Journal | None) -> None:
        """Notes the scores of an evaluation; keeps weights and tables if they are the best so far."""
        name, direction = self.monitor
        if name not in scores:
            raise Refusal(f"monitor: the task gives no score '{name}'; it gives: {', '.join(scores)}")
        self.note(scores, state, epoch, journal)
        sign, new, old = 1 if direction == "max" else -1, scores[name], self.best.get(name, math.nan)
        if not self.best or (not math.isnan(new) and (math.isnan(old) or sign * new > sign * old)):
            self.best, self.waited = scores, 0
            if self.keep_best:
                tables = {f"tables/{key}": torch.from_numpy(table) for key, table in state.tables.items()}
                kept = checkpoint.module_tensors(state) | tables
                self.best_weights = {key: value.clone() for key, value in kept.items()}
        else:
            self.waited += 1
        self.stopped = self.patience is not None and self.waited >= self.patience

    def note(self, scores: Scores, state: State, epoch: float, journal: Journal | None) -> None:
        """The scores that count from now on."""
        self.scores = scores
        if journal is not None:
            values = {f"validation/{key}": value for key, value in scores.items()}
            journal.write("metric", step=state.step, epoch=epoch, values=values)

    def restore_best(self, state: State) -> None:
        if self.best_weights:
            checkpoint.load_modules(state, self.best_weights)
            state.tables = {key: t.numpy() for key, t in checkpoint.select_prefix(self.best_weights, "tables/").items()}
            self.scores, self.best_weights = self.best, {}

    def save(self) -> dict[str, Any]:
        noise = [] if self.noise is None else [self.noise.signal, self.noise.noise]
        sums = {name: float(value) for name, value in self.sums.items()}
        return {name: getattr(self, name) for name in SAVED} | {"sums": sums, "noise": noise}

    def load(self, saved: dict[str, Any], best_weights: dict[str, Tensor], device: torch.device) -> None:
        for name in SAVED:
            setattr(self, name, saved[name])
        self.sums = {name: torch.tensor(value, device=device) for name, value in saved["sums"].items()}
        if self.noise is not None and saved["noise"]:
            self.noise.signal, self.noise.noise = saved["noise"]
        self.best_weights = best_weights
