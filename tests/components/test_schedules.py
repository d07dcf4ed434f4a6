"""Schedules agree with torch's own schedulers, step by step."""

from __future__ import annotations

import math

import pytest
import torch
from torch.optim import lr_scheduler

from components import schedules


def torch_factors(make, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler, factors = make(optimizer), []
    for _ in range(steps):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return factors


@pytest.mark.parametrize(
    ("schedule", "make_scheduler"),
    [
        (schedules.cosine, lambda o: lr_scheduler.CosineAnnealingLR(o, 60)),
        (schedules.exponential, lambda o: lr_scheduler.ExponentialLR(o, 0.01 ** (1 / 60))),
        (schedules.steps, lambda o: lr_scheduler.StepLR(o, 20, 0.1)),
        (schedules.linear, lambda o: lr_scheduler.LinearLR(o, 1.0, 1e-12, 60)),
        (schedules.constant, lambda o: lr_scheduler.ConstantLR(o, 1.0)),
    ],
)
def test_a_schedule_equals_that_of_torch(schedule, make_scheduler) -> None:
    assert [schedule(step, 60) for step in range(60)] == pytest.approx(torch_factors(make_scheduler, 60), abs=1e-6)


def test_warm_up_rises_linearly_to_the_base_rate() -> None:
    factors = [schedules.cosine(step, 100, warmup=0.1) for step in range(100)]
    assert factors[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert factors[10] == 1.0
    assert max(factors) == 1.0
    for decay in (schedules.cosine, schedules.linear, schedules.exponential):
        assert decay(100, 100, floor=0.2) == pytest.approx(0.2)
        assert decay(99, 100, floor=0.2) > 0.2
    assert math.isclose(schedules.cosine(99, 100, floor=0.2), 0.2, abs_tol=1e-3)
