"""The state of a run before its first step, on the device and in the memory format that training uses."""

from __future__ import annotations

import os
from copy import deepcopy

import torch

from .task import Spec, State, Task


def set_up(task: Task, spec: Spec, seed: int, device: torch.device, channels_last: bool, ema: float | None) -> State:
    """Return the task's state on the device, with moving averages if `ema` asks for them."""
    if device.type == "cuda":
        _make_deterministic()
    torch.manual_seed(seed)
    state = task.setup(spec)
    for module in state.modules.values():
        module.to(device)
        if channels_last:
            module.to(memory_format=torch.channels_last)
    if ema is not None:
        state.averages = {name: deepcopy(m).requires_grad_(False) for name, m in state.modules.items()}
    for optimizer in state.optimizers.values():
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return state


def _make_deterministic() -> None:
    """Let a GPU sum in the same order every time, or warn where it has no such kernel."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)
