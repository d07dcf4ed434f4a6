"""The buffers of a step's modules, such as batch statistics: each shard starts from the same values."""

from __future__ import annotations

import torch

from .tree import Vector


class ModuleBuffers:
    """The buffers of all modules, which the modules must change in place only.

    Each shard starts from the values at the beginning of the step. The step's result is the mean over the shards for
    buffers of floating point, and the value of the last shard for others.
    """

    def __init__(self, buffers: Vector, averaged: bool) -> None:
        kinds = dict.fromkeys(buffer.dtype for buffer in buffers)
        self.current = [[buffer for buffer in buffers if buffer.dtype == kind] for kind in kinds]
        self.start = [[torch.empty_like(buffer) for buffer in kind] for kind in self.current]
        self.averaged = [buffer for buffer in buffers if buffer.is_floating_point()] if averaged else []
        self.touched = False

    def begin(self) -> None:
        """Remember the values at the beginning of a step."""
        self._copy(self.start, self.current)
        self.touched = False

    def rewind(self) -> None:
        """Restore the values at the beginning of the step, before the next shard."""
        if self.touched:
            self._copy(self.current, self.start)
        self.touched = True

    def read(self) -> Vector:
        """Return copies of the buffers that are averaged over shards."""
        values = [torch.empty_like(buffer) for buffer in self.averaged]
        self._copy([values], [self.averaged])
        return values

    def write(self, values: Vector) -> None:
        """Set the buffers that are averaged over shards."""
        self._copy([self.averaged], [values])

    @staticmethod
    def _copy(targets: list[Vector], sources: list[Vector]) -> None:
        """Copy tensors with one call per kind, which on a GPU is one kernel per kind."""
        for target, source in zip(targets, sources, strict=True):
            if target:
                torch._foreach_copy_(target, source)
