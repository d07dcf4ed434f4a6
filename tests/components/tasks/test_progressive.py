"""Check that pictures grow, that new layers fade in without a jump, and that a direction changes its attribute."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from components.metrics.shape import fit_direction, measure_shapes
from components.models import progressive
from components.tasks.progressive import Progressive, interpolate, shrink
from components.training.task import Spec


def make_task() -> Progressive:
    return Progressive(progressive.Generator, progressive.Discriminator, "results/none", stages=3, stage_steps=100)


def test_the_level_rises_in_the_first_half_of_each_later_stage() -> None:
    task = make_task()
    levels = [task.level(step) for step in range(500)]
    assert levels[:100] == [0.0] * 100
    assert levels[100] == pytest.approx(0.02)
    assert levels[149:200] == [1.0] * 51
    assert levels[224] == pytest.approx(1.5)
    assert levels[249:] == [2.0] * 251
    assert np.diff(levels).min() >= 0


@pytest.mark.parametrize(("level", "side"), [(0.0, 8), (0.5, 16), (1.0, 16), (1.25, 32), (2.0, 32)])
def test_both_networks_work_on_pictures_of_the_levels_size(level: float, side: int) -> None:
    pictures = progressive.Generator(5, (1, 32, 32))(torch.randn(3, 5), level)
    assert pictures.shape == (3, 1, side, side)
    assert progressive.Discriminator((1, 32, 32))(pictures, level).shape == (3,)
    assert shrink(torch.randn(3, 1, 32, 32), side, level).shape == pictures.shape


def test_new_layers_fade_in_without_a_jump() -> None:
    generator = progressive.Generator(5, (1, 32, 32)).eval()
    discriminator = progressive.Discriminator((1, 32, 32)).eval()
    z = torch.randn(3, 5)
    small, faded = generator(z, 1.0), generator(z, 1 + 1e-6)
    assert torch.allclose(F.interpolate(small, scale_factor=2.0), faded, atol=1e-4)
    assert torch.allclose(discriminator(faded, 1 + 1e-6), discriminator(small, 1.0), atol=1e-4)
    real = torch.rand(3, 1, 32, 32)
    assert torch.allclose(shrink(real, 32, 1 + 1e-6), F.interpolate(shrink(real, 16, 1.0), scale_factor=2.0), atol=1e-4)


def test_predictions_always_have_the_last_stages_size() -> None:
    task = make_task()
    state = task.setup(Spec({"image": (32, 32, 1)}, (), {}))
    for step in (1, 150, 400):
        state.step = step
        assert task.predict(state, {"row": torch.arange(2)})["image"].shape == (2, 32, 32, 1)


def test_interpolation_runs_along_an_arc() -> None:
    start, end = np.array([2.0, 0, 0]), np.array([0, 2.0, 0])
    arc = interpolate(start, end, 5)
    assert np.linalg.norm(arc, axis=1) == pytest.approx(2)
    assert arc[0] == pytest.approx(start)
    assert arc[-1] == pytest.approx(end)
    assert arc[2] == pytest.approx([np.sqrt(2), np.sqrt(2), 0])
    assert interpolate(start, start, 3) == pytest.approx(np.tile(start, (3, 1)))


def test_the_probe_finds_the_direction_of_an_attribute() -> None:
    random = np.random.default_rng(0)
    latent, direction = random.normal(size=(400, 8)), np.eye(8)[2]
    estimate, explained = fit_direction(latent, 3 + 0.5 * latent @ direction + 0.05 * random.normal(size=400))
    assert estimate @ direction > 0.99
    assert explained > 0.95
    assert abs(fit_direction(latent, random.normal(size=400))[1]) < 0.2


def test_shapes_of_drawn_figures() -> None:
    pictures = np.zeros((3, 21, 21, 1), np.uint8)
    pictures[0, 5:16, 10] = 255  # upright
    pictures[1, np.arange(5, 16), np.arange(15, 4, -1)] = 255  # to the right by one pixel per pixel upward
    shapes = measure_shapes(pictures)
    assert shapes["ink"] == pytest.approx([11 / 441, 11 / 441, 0])
    assert shapes["slant"] == pytest.approx([0, 1, 0])
    assert shapes["height"][:2] == pytest.approx([np.sqrt(10), np.sqrt(10)])
    assert shapes["width"] == pytest.approx([0, np.sqrt(10), 0])
