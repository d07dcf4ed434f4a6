"""Check that pictures grow, that new layers fade in without a jump, and that a direction changes its attribute."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from components.errors import Refusal
from components.metrics.shape import fit_direction, measure_shapes
from components.models import progressive
from components.tasks import adversarial
from components.tasks.progressive import Progressive, film_changes, interpolate, shrink
from components.training.task import Spec, State

RISING = 2  # the latent number that `Grey` paints


class Grey(nn.Module):
    """A generator of evenly grey pictures, the brighter the greater one latent number is."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1 / 6))

    def forward(self, z: torch.Tensor, level: float) -> torch.Tensor:
        return (z[:, RISING] * self.scale).view(-1, 1, 1, 1).expand(-1, 1, 32, 32)


class Blind:
    """A judge that sees no difference."""

    def compare(self, generated: torch.Tensor, real: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return what `Judge.compare` returns."""
        count = len(generated)
        blank = {"feature": torch.zeros(count, 2), "probability": torch.ones(count, 1)}
        return blank | {f"real_{name}": values for name, values in blank.items()}


def make_task() -> Progressive:
    return Progressive(progressive.Generator, progressive.Discriminator, "results/none", stages=3, stage_steps=100)


@pytest.fixture(scope="module")
def grey() -> tuple[Progressive, State, dict[str, np.ndarray]]:
    """Return a task, its state and the predictions for 400 rows, whose pictures `Grey` generates."""
    task = make_task()
    task.setup(Spec({"image": (32, 32, 1)}, (), {}))
    task.judge = Blind()  # type: ignore[assignment]
    state = State({"generator": Grey()}, step=300)
    batch: dict[str, Any] = {"row": torch.arange(400), "image": torch.zeros(400, 32, 32, 1, dtype=torch.uint8)}
    with torch.no_grad():
        return task, state, {name: values.numpy() for name, values in task.predict(state, batch).items()}


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


def test_more_stages_than_widths_are_refused() -> None:
    """Check what would fail only when the first stage without layers begins."""
    spec = Spec({"image": (32, 32, 1)}, (), {})
    task = make_task()
    task.discriminator = partial(progressive.Discriminator, widths=[8, 8])
    with pytest.raises(Refusal, match=r"task.stages: 3 are more than the 2 of task.discriminator.widths"):
        task.setup(spec)
    task.stages = 2
    task.setup(spec)


def test_new_layers_fade_in_without_a_jump() -> None:
    generator = progressive.Generator(5, (1, 32, 32)).eval()
    discriminator = progressive.Discriminator((1, 32, 32)).eval()
    z = torch.randn(3, 5)
    small, faded = generator(z, 1.0), generator(z, 1 + 1e-6)
    assert torch.allclose(F.interpolate(small, scale_factor=2.0), faded, atol=1e-4)
    assert torch.allclose(discriminator(faded, 1 + 1e-6), discriminator(small, 1.0), atol=1e-4)
    real = torch.rand(3, 1, 32, 32)
    assert torch.allclose(shrink(real, 32, 1 + 1e-6), F.interpolate(shrink(real, 16, 1.0), scale_factor=2.0), atol=1e-4)


@pytest.mark.parametrize("size", [(32, 32), (16, 64), (64, 16)])
def test_predictions_always_have_the_last_stages_size(size: tuple[int, int]) -> None:
    task = make_task()
    state = task.setup(Spec({"image": (*size, 1)}, (), {}))
    for step in (1, 150, 400):
        state.step = step
        assert task.predict(state, {"row": torch.arange(2)})["image"].shape == (2, *size, 1)


def test_interpolation_runs_along_an_arc() -> None:
    start, end = np.array([2.0, 0, 0]), np.array([0, 2.0, 0])
    arc = interpolate(start, end, 5)
    assert np.linalg.norm(arc, axis=1) == pytest.approx(2)
    assert arc[0] == pytest.approx(start)
    assert arc[-1] == pytest.approx(end)
    assert arc[2] == pytest.approx([np.sqrt(2), np.sqrt(2), 0])
    assert interpolate(start, start, 3) == pytest.approx(np.tile(start, (3, 1)))
    both = interpolate(np.stack([start, start]), np.stack([end, start]), 5)
    assert both == pytest.approx(np.stack([arc, np.tile(start, (5, 1))], axis=1))


def test_changes_of_films_by_hand() -> None:
    film = torch.zeros(4, 3, 2, 2, 1, dtype=torch.uint8)
    film[:, 0, 0, 0, 0] = torch.tensor([0, 8, 48, 60])  # a single pixel of four
    film[:, 1] = torch.tensor([10, 20, 30, 0]).view(4, 1, 1, 1)
    film[:, 2] = 77
    changes = film_changes(film)
    assert changes["largest_change"].tolist() == [10, 30, 0]
    assert changes["end_change"].tolist() == [15, 10, 0]


def test_a_film_has_twelve_frames_from_each_example_to_the_next(
    grey: tuple[Progressive, State, dict[str, np.ndarray]],
) -> None:
    task, _, predictions = grey
    latent = adversarial.latents(np.arange(401), task.latent)
    assert predictions["latent"] == pytest.approx(latent[:400])
    for row in range(40):
        angle = np.arccos(latent[row] @ latent[row + 1] / np.prod(np.linalg.norm(latent[row : row + 2], axis=1)))
        share = np.linspace(0, 1, 12)
        weights = np.stack([np.sin((1 - share) * angle), np.sin(share * angle)]) / np.sin(angle)
        brightness = ((latent[row : row + 2, RISING] @ weights / 6 + 1) * 127.5).round()
        assert predictions["largest_change"][row] == pytest.approx(np.abs(np.diff(brightness)).max(), abs=1.01)
        assert predictions["end_change"][row] == pytest.approx(abs(brightness[-1] - brightness[0]), abs=1.01)


def test_scores_of_films_and_probes(grey: tuple[Progressive, State, dict[str, np.ndarray]]) -> None:
    """Compare with ordinary least squares: a ridge of 1 is one more example per latent number, whose attribute is 0."""
    task, _, predictions = grey
    random = np.random.default_rng(0)
    latent = random.normal(size=(400, 6))
    pictures = random.integers(40, size=(400, 32, 32, 1))
    pictures[:, 8:24, 12:20] += (60 * (latent[:, 1] + 3).clip(0, 6) / 6 + 100).astype(int)[:, None, None, None]
    changed = predictions | {
        **{name: np.repeat(predictions[name][:1], 400, 0) for name in ("feature", "real_feature")},
        **{name: np.ones((400, 1)) for name in ("probability", "real_probability")},
        **{"image": pictures.astype(np.uint8), "latent": latent.astype(np.float32)},
        **{"largest_change": np.array([1.0, 3.0]), "end_change": np.array([10.0, 6.0])},
    }
    scores = task.score(changed, {})
    assert scores["film_jump"] == pytest.approx(4 / 16)
    for name, attribute in measure_shapes(changed["image"]).items():
        mean = attribute[::2].mean()
        rows, values = np.vstack([latent[::2], np.eye(6)]), np.concatenate([attribute[::2] - mean, np.zeros(6)])
        error = attribute[1::2] - mean - latent[1::2] @ np.linalg.lstsq(rows, values)[0]
        expected = 1 - (error**2).mean() / attribute[1::2].var()
        assert scores[f"{name}_r2"] == pytest.approx(expected, abs=0.01)
    assert scores["ink_r2"] > 0.9
    assert task.score(predictions, {})["width_r2"] == 0, "each picture is as wide as the others"


def sheet(figure: Any, columns: int) -> np.ndarray:
    """Return the mean brightness of the pictures of a mosaic [rows, columns], for pictures of 32 pixels a side."""
    pixels = np.asarray(figure.axes[0].images[0].get_array())[..., 0].astype(float)
    rows = -(-len(pixels) // 34)
    assert pixels.shape == (34 * rows - 2, 34 * columns - 2)
    tiles = [[pixels[34 * i : 34 * i + 32, 34 * j : 34 * j + 32].mean() for j in range(columns)] for i in range(rows)]
    return np.array(tiles)


def test_pictures_show_six_films_and_a_direction_per_attribute(
    grey: tuple[Progressive, State, dict[str, np.ndarray]],
) -> None:
    task, state, predictions = grey
    few = {name: predictions[name][:40] for name in ("feature", "real_feature")}  # no curves of FIDs
    drawn = task.draw(state, predictions | few, {})
    films, directions = (sheet(drawn[name], columns=12) for name in ("films", "directions"))
    brightness = predictions["image"].mean((1, 2, 3))
    assert films.shape == (6, 12)
    assert films[:, 0] == pytest.approx(brightness[0:12:2])
    assert films[:, -1] == pytest.approx(brightness[1:12:2])
    assert directions.shape == (4, 12)
    assert np.diff(directions[0]).min() > 0
    assert directions[0, -1] - directions[0, 0] == pytest.approx(6 / 6 * 127.5, rel=0.05)
    name, explained, along, _ = str(drawn["attributes"]).splitlines()[1].split()
    assert name == "ink"
    assert float(explained) > 0.95
    assert float(along) == pytest.approx(2, rel=0.1), "one standard deviation either way"


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
