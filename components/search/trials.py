"""A search's trial: its record, which is a file, and the worker's part in it. What is known is read, not done again.

trial-007/trial.json     values, scores of each rung so far; the search needs no other state
trial-007/running.json   while a worker is at it: what one that dies leaves behind
trial-007/fit/           where the rungs are epochs of one fit: its checkpoints, until the search ends
"""

from __future__ import annotations

import json
import math
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..cluster import spread
from ..errors import Diverged, Refusal
from ..files import write_json

Scores = dict[str, float]
RECORD, MARKER, FIT = "trial.json", "running.json", "fit"
MAX_LOST_WORKERS = 8  # workers that one trial may lose


@dataclass
class Trial:
    arm: str
    number: int
    values: dict[str, Any]  # dotted recipe key -> value
    parts: list[Scores] = field(default_factory=list)  # the scores of each rung by itself
    finished: bool = False  # False: it did not go on
    seconds: float = 0.0
    accumulate: int = 1  # > 1 after running out of memory
    diverged: str = ""  # why there are no more scores
    cumulative: bool = False  # each rung goes on from the one before, such as an epoch

    @property
    def rungs(self) -> list[Scores]:
        """The scores after each rung: the mean so far, or the rung's own where it goes on from the one before."""
        if self.cumulative:
            return self.parts
        return [_mean(self.parts[: count + 1]) for count in range(len(self.parts))]

    @property
    def scores(self) -> Scores:
        return self.rungs[-1] if self.parts else {}


def read_trials(folder: Path, samples: int) -> list[Trial]:
    """The trials below `folder` as far as they have come, in order of their numbers."""
    files = [folder / trial_name(number) / RECORD for number in range(samples)]
    return [Trial(**json.loads(file.read_text())) for file in files if file.is_file()]


def trial_name(number: int) -> str:
    return f"trial-{number:03d}"


def describe_trial(trial: Trial, values_only: bool = False, rungs: str = "folds") -> str:
    """`lr=0.0123 batch=16  accuracy 0.93 loss 0.2 after 4 folds`, or whatever its rungs are."""
    values = " ".join(_told(key.rpartition(".")[2], value) for key, value in trial.values.items())
    scores = " ".join(f"{name} {value:{',.0f' if value >= 1000 else '.4f'}}" for name, value in trial.scores.items())
    return values if values_only else f"{values}  {trial.diverged or scores} after {len(trial.parts)} {rungs}"


def _told(name: str, value: Any) -> str:
    """`lr=0.0123`; a section as what it uses and with which values: `sgd lr=0.1`."""
    if isinstance(value, dict):
        inner = [_told(key, given) for key, given in value.items() if key != "use"]
        return " ".join([str(value["use"]).rpartition(".")[2], *inner] if "use" in value else inner)
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return " + ".join(_told("", item) for item in value)
    return f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"


def best_trial(trials: list[Trial], monitor: tuple[str, str]) -> Trial:
    """The best of those that went all the way; equal scores are told apart by the lower loss, then the lower number."""
    name, mode = monitor
    sign = 1 if mode == "max" else -1
    return max(
        (t for t in trials if t.finished), key=lambda t: (sign * t.scores[name], -t.scores.get("loss", 0), -t.number)
    )


class Attempt:
    """A trial on its worker; its record is written after every rung."""

    def __init__(
        self,
        trial: Callable[..., Scores] | str,
        arms: dict[str, dict[str, Any]],
        folder: Path,
        rungs: int,
        monitor: str,
        search: str,
        cumulative: bool,
        config: dict[str, Any],
    ) -> None:
        self.trial, self.arguments = spread.resolve_function(trial), arms[config["arm"]]
        self.rungs, self.monitor = rungs, monitor
        self.folder, self.search = folder / config["arm"] / trial_name(config["number"]), search
        self.folder.mkdir(parents=True, exist_ok=True)
        if cumulative:
            self.arguments = self.arguments | {"folder": str(self.folder / FIT)}
        self.record = Trial(config["arm"], config["number"], json.loads(config["values"]), cumulative=cumulative)
        self.until, self.told, self.deaths = config["until"], 0, 0
        file = self.folder / RECORD
        known = Trial(**json.loads(file.read_text())) if file.is_file() else None
        if known and known.values == self.record.values:
            self.record = known
        self._learn_from_death()

    def step(self) -> dict[str, Any]:
        """The next rung: mean scores so far, `done` after the `until`-th; NaN and `done` for one that diverges.

        A monitored score that is no number is a divergence: it can't be compared, and must not win by that.
        """
        if self.told == len(self.record.parts) and not self.record.diverged:
            self._run()
        if self.told == len(self.record.parts):
            return {self.monitor: math.nan, "done": True}
        self.told += 1
        return {**self.record.rungs[self.told - 1], "done": self.told == self.until}

    def _run(self) -> None:
        started, record = time.monotonic(), self.record
        try:
            scores = self._scores()
            if self.monitor not in scores:
                raise Refusal(f"tune: the task gives no score '{self.monitor}'; it gives: {', '.join(scores)}")
            if not math.isfinite(scores[self.monitor]):
                raise Diverged(f"the {self.monitor} became {scores[self.monitor]}")
            record.parts.append(scores)
            record.finished = len(record.parts) == self.rungs
        except Diverged as reason:
            record.diverged = str(reason)
        record.seconds += time.monotonic() - started
        write_json(self.folder / RECORD, asdict(record))
        (self.folder / MARKER).unlink(missing_ok=True)

    def _scores(self) -> Scores:
        """Of the next rung; out of memory, it is tried again with half the microbatch."""
        from ..training.update import is_out_of_memory

        record = self.record
        while True:
            self._mark()
            try:
                return self.trial(record.values, record.accumulate, len(record.parts), **self.arguments)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or record.accumulate >= 1 << MAX_LOST_WORKERS:
                    raise
            record.accumulate *= 2

    def _mark(self) -> None:
        """A note that only a worker that dies leaves behind."""
        given = {"search": self.search, "host": socket.gethostname(), "kills": kernel_kills(), "deaths": self.deaths}
        write_json(self.folder / MARKER, given | {"accumulate": self.record.accumulate})

    def _learn_from_death(self) -> None:
        """A worker lost to memory, or lost again, is followed by one with half the microbatch."""
        file = self.folder / MARKER
        left = json.loads(file.read_text()) if file.is_file() else {}
        if left.get("search") != self.search:
            return  # nothing left, or the whole search was killed
        self.deaths = left["deaths"] + 1
        memory = left["kills"] < 0 or (left["host"] == socket.gethostname() and left["kills"] < kernel_kills())
        self.record.accumulate = left["accumulate"] * (2 if memory or self.deaths > 1 else 1)


def kernel_kills() -> int:
    """Processes that this machine's kernel has killed for want of memory since it started."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def _mean(parts: list[Scores]) -> Scores:
    return {name: float(np.mean([part[name] for part in parts])) for name in parts[-1]}
