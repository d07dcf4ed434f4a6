"""Provide a linear network, batches for it, and losses that are means over examples or over some of them."""

from __future__ import annotations

import torch
from torch import nn

from components.training.task import State


def linear_state() -> State:
    torch.manual_seed(0)
    net = nn.Linear(3, 1)
    return State(modules={"net": net}, optimizers={"net": torch.optim.SGD(net.parameters(), 0.1)})


def squared(state: State, shard) -> tuple[torch.Tensor, dict]:
    error = state.modules["net"](shard.batch["x"])[:, 0] - shard.batch["y"]
    return error.square().mean(), {"worst": error.detach().abs().max()}


def batches(sizes: list[int]) -> list[dict]:
    generator = torch.Generator().manual_seed(1)
    return [{"x": torch.randn(n, 3, generator=generator), "y": torch.randn(n, generator=generator)} for n in sizes]


def token_mean(state: State, shard) -> tuple[torch.Tensor, dict]:
    """Return a mean over those rows whose y is positive."""
    shard.weight = (shard.batch["y"] > 0).sum()
    error = state.modules["net"](shard.batch["x"])[shard.batch["y"] > 0].square().sum()
    return error / shard.weight.clamp(min=1), {"terms": shard.weight.float()}
