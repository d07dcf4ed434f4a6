"""Write a run's folder: the journal, checkpoints, pictures, and the batch at which its loss diverged."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import Diverged, pluralize
from ..files import write_json
from ..processes import processor_name
from ..runs.journal import LOG, SAVE, STOP, Journal
from . import checkpoint
from .meter import Meter
from .peers import Peers
from .run_copies import RunCopies
from .task import State, Task
from .update import ShardedUpdate

DIVERGED_FILE = "diverged.json"  # in a run's folder: the rows of the batch whose loss was not finite
ROWS_SHOWN = 6  # of that batch, in the error line


class RunRecorder:
    """The record of a run in its folder, written by rank 0; all workers call each method at the same step.

    Without a folder nothing is recorded.
    """

    def __init__(self, folder: Path | None, peers: Peers, checkpoint_seconds: float) -> None:
        self.folder, self.peers, self.checkpoint_seconds = folder, peers, checkpoint_seconds
        self.journal: Journal | None = None  # of rank 0
        self.saved = time.monotonic()
        self.hardware: list[str] = []  # of all workers
        self.copies = RunCopies.from_environment(folder) if folder is not None and peers.rank == 0 else None

    def resume(self, state: State, meter: Meter) -> None:
        """Load the newest valid checkpoint into `state` and `meter`, and open the journal at its position."""
        if self.folder is None:
            return
        if self.peers.rank == 0:
            checkpoint.check_free_space(self.folder, state)
        latest = self.peers.broadcast(self._load_latest(self.folder, state) if self.peers.rank == 0 else None)
        self.hardware = sorted(set(self.peers.gather(describe_processor(self.peers.device))))
        position = 0
        before = self.hardware
        if latest is not None:
            tensors, record = latest
            checkpoint.unpack_state(state, tensors, record, self.peers.device)
            meter.load(record["progress"], checkpoint.select_prefix(tensors, "extra/"), self.peers.device)
            position = record["progress"]["position"]
            before = record["progress"].get("hardware", self.hardware)  # older checkpoints do not say it
        if self.peers.rank == 0:
            self.journal = Journal(self.folder / LOG, position=position)
            if before != self.hardware:
                self.journal.write_resume(step=state.step, before=before, now=self.hardware)
        self.saved = time.monotonic()

    def _load_latest(self, folder: Path, state: State) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return (tensors, record) of the newest checkpoint, here or among the copies of the run."""
        latest = checkpoint.load_latest(folder, state)
        if self.copies is not None:
            newest = self.copies.newest()
            if newest is not None and newest > (latest[1]["step"] if latest else -1):
                self.copies.fetch(folder)
                latest = checkpoint.load_latest(folder, state)
        return latest

    def log_metrics(self, step: int, epoch: float, values: dict[str, float]) -> None:
        """Write a line of metrics; epoch: the number of epochs up to `step`, with a fraction."""
        if self.journal is not None:
            self.journal.write("metric", step=step, epoch=epoch, values=values)

    def log_progress(self, step: int, steps: int, means: dict[str, float], speed: float) -> None:
        """Write a line of progress; steps: of the entire run; speed: in examples per second."""
        if self.journal is not None:
            self.journal.write("progress", step=step, steps=steps, values=means, speed=speed)

    def log_tag(self, name: str, value: str) -> None:
        """Write a fact about the run for its page."""
        if self.journal is not None:
            self.journal.write("tag", name=name, value=value)

    def draw(self, task: Task, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> None:
        """Draw an evaluation's pictures under the number of the step; a resumed run draws the same ones again."""
        if self.folder is None or self.journal is None:
            return
        for file in draw_pictures(task, state, predictions, targets, self.folder / "pictures"):
            numbered = file.with_stem(f"{file.stem}-{state.step:06d}")
            file.replace(numbered)
            self.journal.write("artifact", path=str(numbered.relative_to(self.folder)), folder="pictures")

    def save(self, state: State, meter: Meter, update: ShardedUpdate) -> None:
        """Write a checkpoint; every worker contributes the carry of its own shards and its own moments."""
        if self.folder is None:
            return
        own_carry = {i: {n: t.cpu() for n, t in c.items()} for i, c in state.carry.items() if i in update.own_shards}
        carry = {index: tensors for part in self.peers.gather(own_carry) for index, tensors in part.items()}
        with update.all_moments():
            if self.journal is not None:
                self.journal.sync()
                progress = meter.progress(self.journal.position) | {"hardware": self.hardware}
                complete = replace(state, carry=carry)
                saved = checkpoint.write_checkpoint(self.folder, complete, progress, meter.best_weights)
                if self.copies is not None and (fault := self.copies.send(saved, state.step)):
                    self.journal.write_warning(fault)
        self.saved = time.monotonic()

    def requests(self) -> tuple[bool, bool]:
        """Return whether a checkpoint is due and whether the run must stop after it, the same on every worker."""
        late = time.monotonic() - self.saved > self.checkpoint_seconds
        return self.peers.broadcast((late or self._is_requested(SAVE), self._is_requested(STOP)))

    def _is_requested(self, request: str) -> bool:
        """Return whether this run, or the stage above it, was asked to STOP, or to SAVE since its last checkpoint."""
        if self.folder is None:
            return False
        files = [file for file in (self.folder / request, self.folder.parent / request) if file.exists()]
        if request == SAVE and files:
            # of all, because the one with the highest number may be damaged
            saved = [path.stat().st_mtime for path in checkpoint.list_checkpoints(self.folder)]
            return max(file.stat().st_mtime for file in files) > max(saved, default=0.0)
        return bool(files)

    def locate(self, diverged: Diverged, rows: np.ndarray) -> Diverged:
        """Return the error with its step, the rows [B] of the batch and the checkpoint before it, in one line."""
        text = self.peers.broadcast(self._describe_batch(diverged, rows) if self.peers.rank == 0 else "")
        return Diverged(
            f"step {diverged.step}: {diverged} on training rows {text}; lower the learning rate or set fit.clip",
            diverged.step,
        )

    def _describe_batch(self, diverged: Diverged, rows: np.ndarray) -> str:
        """Return the rows [B] of the batch and the checkpoint before it; write all rows to a file."""
        text = ", ".join(map(str, rows[:ROWS_SHOWN])) + (", ..." if len(rows) > ROWS_SHOWN else "")
        before = "no checkpoint before it"
        if self.folder is not None:
            checkpoints = checkpoint.list_checkpoints(self.folder)
            if checkpoints:
                before = f"the checkpoint before it is {checkpoints[0]}"
            if len(rows) > ROWS_SHOWN:
                text += f" (all {len(rows)} in {self.folder / DIVERGED_FILE})"
            write_json(self.folder / DIVERGED_FILE, {"step": diverged.step, "rows": rows.tolist()})
        return f"{text}; {before}"


def describe_processor(device: torch.device) -> str:
    """Return what a worker's bytes depend on: `NVIDIA H200`, or `1 thread on AMD EPYC 9V74`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{pluralize(torch.get_num_threads(), 'thread')} on {processor_name()}"


def draw_pictures(
    task: Task, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any], folder: Path
) -> list[Path]:
    """Write an evaluation's pictures and samples of text into `folder`; return the files."""
    from ..drawings import figures

    files = []
    for name, drawn in task.draw(state, predictions, targets).items():
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(drawn, str):
            files.append(folder / f"{name}.txt")
            files[-1].write_text(drawn, encoding="utf-8")
        else:
            files.append(figures.save_figure(drawn, folder / f"{name}.png"))
    return files
