"""Run rungs of one trial on a worker, and adapt to lack of memory and lost workers."""

from __future__ import annotations

import json
import math
import socket
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import Diverged, Refusal
from ..files import read_object, write_json
from .objective import Objective, Rung, Scores
from .trials import FIT, MARKER, RECORD, Trial, read_trial, trial_name

MAX_LOST_WORKERS = 8  # per trial


class Attempt:
    """The rungs of a trial that one worker runs. It goes on from the trial's record and writes it after every rung.

    folder: of the search. search_id: tells a worker lost in this search from a search that was killed as a whole.
    config: {arm, number, values (JSON), until (the number of rungs to reach)}, one proposal.
    """

    def __init__(self, objective: Objective, folder: Path, search_id: str, config: dict[str, Any]) -> None:
        from ..cluster.spread import resolve_function

        arm, number = config["arm"], config["number"]
        self.objective = objective
        self.function = resolve_function(objective.function)
        self.arguments = objective.arms[arm]
        self.folder = folder / arm / trial_name(number)
        self.folder.mkdir(parents=True, exist_ok=True)
        if objective.cumulative:
            self.arguments = self.arguments | {"folder": str(self.folder / FIT)}
        self.search_id = search_id
        self.until = config["until"]
        self.reported = 0  # rungs whose scores `step` has returned
        self.deaths = 0  # workers that this trial has lost
        self.record = Trial(arm, number, json.loads(config["values"]), cumulative=objective.cumulative)
        earlier = read_trial(self.folder)
        if earlier and earlier.values == self.record.values:
            self.record = earlier
            self.record.lost = ""  # an earlier search gave it up; this one tries again
        self._learn_from_death()

    def step(self) -> dict[str, Any]:
        """Run the next rung if it has no scores yet; return the scores so far, and `done` after the `until`-th rung.

        A trial that diverges returns NaN and `done`. A monitored score that is not finite counts as divergence: it
        cannot be compared and must not win.
        """
        monitor = self.objective.monitor[0]
        if self.reported == len(self.record.parts) and not self.record.diverged:
            self._run_rung()
        if self.reported == len(self.record.parts):
            return {monitor: math.nan, "done": True}
        self.reported += 1
        return {**self.record.rung_scores[self.reported - 1], "done": self.reported == self.until}

    def _run_rung(self) -> None:
        """Run the next rung, then write the record and delete the marker."""
        started = time.monotonic()
        record, monitor = self.record, self.objective.monitor[0]
        record.began = record.began or time.time_ns() // 1_000_000
        try:
            scores = self._compute_scores()
            if monitor not in scores:
                raise Refusal(f"tune: the task has no score '{monitor}'; it has: {', '.join(scores)}")
            if not math.isfinite(scores[monitor]):
                raise Diverged(f"the {monitor} became {scores[monitor]}")
            record.parts.append(scores)
            record.finished = len(record.parts) == self.objective.rungs
        except Diverged as reason:
            record.diverged = str(reason)
        record.seconds += time.monotonic() - started
        record.ended = time.time_ns() // 1_000_000
        record.memory = max(record.memory, gpu_memory_share())
        write_json(self.folder / RECORD, asdict(record))
        (self.folder / MARKER).unlink(missing_ok=True)

    def _compute_scores(self) -> Scores:
        """Return the scores of the next rung; on lack of memory in training, try again with half the microbatch.

        Evaluations halve their own batches; what still does not fit is a Refusal and ends the search.
        """
        from ..training.memory import is_out_of_memory

        record = self.record
        while True:
            self._write_marker()
            try:
                rung = Rung(record.values, len(record.parts), record.accumulate)
                return self.function(rung, **self.arguments)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or record.accumulate >= 1 << MAX_LOST_WORKERS:
                    raise
            record.accumulate *= 2

    def _write_marker(self) -> None:
        """Write the file that remains only if the worker dies."""
        state = {
            "search": self.search_id,
            "host": socket.gethostname(),
            "kills": count_kernel_kills(),
            "deaths": self.deaths,
            "accumulate": self.record.accumulate,
        }
        write_json(self.folder / MARKER, state)

    def _learn_from_death(self) -> None:
        """Halve the microbatch if an earlier worker of this search died of lack of memory, or died repeatedly."""
        file = self.folder / MARKER
        marker = _read_marker(file)
        if marker.get("search") != self.search_id:
            return  # no worker has died, the whole search was killed, or the marker is damaged
        self.deaths = marker["deaths"] + 1
        same_host = marker["host"] == socket.gethostname()
        lack_of_memory = marker["kills"] < 0 or (same_host and marker["kills"] < count_kernel_kills())
        self.record.accumulate = marker["accumulate"] * (2 if lack_of_memory or self.deaths > 1 else 1)


def gpu_memory_share() -> float:
    """Return the largest share of its GPU's memory that this process has taken for tensors; 0 without a GPU."""
    import torch

    if not torch.cuda.is_initialized():
        return 0.0
    return torch.cuda.max_memory_reserved() / torch.cuda.get_device_properties(0).total_memory


def mark_killed_for_memory(folder: Path) -> None:
    """Note in the trial's marker that Ray ended its worker for lack of memory."""
    marker = _read_marker(folder / MARKER)
    if marker:
        write_json(folder / MARKER, marker | {"kills": -1})


def _read_marker(file: Path) -> dict[str, Any]:
    """Return the marker of a worker that runs or died, or {} if there is none, or a damaged one."""
    try:
        marker = read_object(file)
        valid = all(type(marker[name]) is int for name in ("kills", "deaths", "accumulate"))
        return marker if valid and marker["accumulate"] > 0 and isinstance(marker["host"], str) else {}
    except (FileNotFoundError, Refusal, ValueError, KeyError):
        return {}


def count_kernel_kills() -> int:
    """Return the number of processes that this machine's kernel has killed for lack of memory since it booted."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
