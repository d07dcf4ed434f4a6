"""Optimisers, built as recipes name them, follow their update rules written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from components import optimizers
from components.recipes import recipe

STEPS = 50


def trace(make) -> list[list[float]]:
    """Return the weights after each step on the gradient 2 w - 1, whose minimum is at 0.5."""
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.3]))
    optimizer = make([weight])
    weights = []
    for _ in range(STEPS):
        weight.grad = 2 * weight.detach() - 1
        optimizer.step()
        weights.append(weight.tolist())
    return weights


def apply_rule(rule) -> list[list[float]]:
    """Return the weights after each step of an update rule written out."""
    weight, memory, weights = torch.tensor([1.0, -2.0, 0.3]), {}, []
    for step in range(1, STEPS + 1):
        weight = rule(weight, 2 * weight - 1, memory, step)
        weights.append(weight.tolist())
    return weights


def plain(w: Tensor, g: Tensor, m: dict, t: int) -> Tensor:
    return w - 0.1 * (g + 0.01 * w)


def momentum(w: Tensor, g: Tensor, m: dict, t: int) -> Tensor:
    m["v"] = 0.9 * m["v"] + g if m else g
    return w - 0.1 * m["v"]


def nesterov(w: Tensor, g: Tensor, m: dict, t: int) -> Tensor:
    m["v"] = 0.9 * m["v"] + g if m else g
    return w - 0.1 * (g + 0.9 * m["v"])


def adagrad(w: Tensor, g: Tensor, m: dict, t: int) -> Tensor:
    m["s"] = m.get("s", 0) + g * g
    return w - 0.1 * g / (m["s"].sqrt() + 1e-10)


def rmsprop(w: Tensor, g: Tensor, m: dict, t: int) -> Tensor:
    m["s"] = 0.9 * m.get("s", 0) + 0.1 * g * g
    return w - 0.1 * g / (m["s"].sqrt() + 1e-8)


def adam(w: Tensor, g: Tensor, m: dict, t: int) -> Tensor:
    m["v"] = 0.9 * m.get("v", 0) + 0.1 * g
    m["s"] = 0.99 * m.get("s", 0) + 0.01 * g * g
    return w - 0.1 * (m["v"] / (1 - 0.9**t)) / ((m["s"] / (1 - 0.99**t)).sqrt() + 1e-8)


def adamw(w: Tensor, g: Tensor, m: dict, t: int) -> Tensor:
    return adam(w * (1 - 0.1 * 0.05), g, m, t)


@pytest.mark.parametrize(
    ("section", "rule"),
    [
        ({"use": "optimizers.sgd", "weight_decay": 0.01}, plain),
        ({"use": "optimizers.sgd", "momentum": 0.9}, momentum),
        ({"use": "optimizers.sgd", "momentum": 0.9, "nesterov": True}, nesterov),
        ({"use": "optimizers.adagrad"}, adagrad),
        ({"use": "optimizers.rmsprop", "alpha": 0.9}, rmsprop),
        ({"use": "optimizers.adam", "beta2": 0.99}, adam),
        ({"use": "optimizers.adamw", "beta2": 0.99, "weight_decay": 0.05}, adamw),
    ],
    ids=lambda value: value["use"] if isinstance(value, dict) else value.__name__,
)
def test_steps_follow_the_rule(section: dict, rule) -> None:
    section = section | {"lr": 0.1}
    recipe.check_use(section, "optimizer", "Optimizer")
    traced = trace(lambda parameters: recipe.build(section, torch.optim.Optimizer, parameters=parameters))
    torch.testing.assert_close(torch.tensor(traced), torch.tensor(apply_rule(rule)), rtol=0, atol=1e-6)


def test_parameter_groups_keep_their_own_rates() -> None:
    a, b = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    optimizer = optimizers.sgd([{"params": [a], "lr": 0.5}, {"params": [b]}], lr=0.1)
    a.grad = b.grad = torch.ones(1)
    optimizer.step()
    assert (a.item(), b.item()) == pytest.approx((0.5, 0.9))
