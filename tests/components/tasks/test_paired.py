"""Check the loss of pix2pix, L1 alone, the scores of blurred pictures, and films whose frames are judged one by one."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from components.data.moving_glyphs import MovingGlyphs, draw_motion
from components.data.outlined_glyphs import OutlinedGlyphs
from components.errors import Refusal
from components.models import film, pix2pix
from components.tasks.paired import Paired
from components.training.task import Shard, Spec, State

SPEC = Spec({"image": (16, 16, 1), "source": (16, 16, 3)}, (), {})
FILM_SPEC = Spec({"image": (16, 16, 6), "source": (16, 16, 1), "pose": (6, 3), "label": ()}, ("a", "b"), {})


def make_shard(spec: Spec, count: int = 4) -> Shard:
    random = torch.Generator().manual_seed(0)
    batch: dict[str, Any] = {"row": torch.arange(count), "label": torch.arange(count) % 2}
    for name in ("image", "source"):
        batch[name] = torch.randint(256, (count, *spec.columns[name]), generator=random, dtype=torch.uint8)
    batch["pose"] = torch.rand(count, 6, 3, generator=random)
    return Shard(batch, torch.Generator().manual_seed(1), 0)


def test_the_generators_loss_is_the_weighted_sum() -> None:
    task = Paired(pix2pix.Generator, pix2pix.Discriminator, rivalry=0.5, distance=7.0)
    state = task.setup(SPEC)
    for module in state.modules.values():
        module.eval()
    shard = make_shard(SPEC)
    loss, metrics = task.generator_loss(state, shard)
    source, truth = (shard.batch[name].permute(0, 3, 1, 2) / 127.5 - 1 for name in ("source", "image"))
    generated = state.modules["generator"](source)
    rivalry = -torch.log(state.modules["discriminator"](generated, source).sigmoid()).mean()
    expected = 0.5 * rivalry + 7 * (generated - truth).abs().mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert metrics["l1"].item() == pytest.approx((generated - truth).abs().mean().item(), rel=1e-5)


def test_without_rivalry_there_is_no_discriminator() -> None:
    state = Paired(pix2pix.Generator, pix2pix.Discriminator, rivalry=0.0).setup(SPEC)
    assert list(state.modules) == list(state.optimizers) == ["generator"]
    with pytest.raises(Refusal, match=r"^task.discriminator: is missing; name one, or set rivalry: 0$"):
        Paired(pix2pix.Generator)


def test_a_patchs_logit_depends_on_its_own_neighbourhood_alone() -> None:
    net = pix2pix.Discriminator((3, 32, 32), (1, 32, 32), widths=[8, 16]).eval()
    x, source = torch.randn(1, 1, 32, 32), torch.randn(1, 3, 32, 32)
    logits = net(x, source)
    assert logits.shape == (1, 8, 8)
    changed = x.clone()
    changed[:, :, :8, :8] += 1
    difference = (net(changed, source) - logits).abs()[0]
    assert difference[0, 0] > 0
    assert difference[5:, 5:].max() == 0


@pytest.mark.parametrize(("widths", "side"), [([4, 4], 18), ([4, 4, 4], 38)])
def test_a_logit_sees_as_many_pixels_as_the_docstring_states(widths: list[int], side: int) -> None:
    net = pix2pix.Discriminator((1, 64, 64), (1, 64, 64), widths=widths).eval()
    x = torch.randn(1, 1, 64, 64, requires_grad=True)
    logits = net(x, torch.randn(1, 1, 64, 64))
    (gradient,) = torch.autograd.grad(logits[0, logits.shape[1] // 2, logits.shape[2] // 2], x)
    assert (gradient[0, 0].abs().sum(0) > 0).sum() == side


def test_pictures_too_small_for_the_discriminator_are_refused() -> None:
    assert pix2pix.Discriminator((1, 4, 5), (1, 4, 5))(torch.zeros(2, 1, 4, 5), torch.zeros(2, 1, 4, 5)).shape[0] == 2
    with pytest.raises(Refusal, match=r"task\.discriminator\.widths: pictures of 5x3 cannot be halved 2 times"):
        pix2pix.Discriminator((1, 5, 3), (1, 5, 3))


def test_the_generator_copies_details_through_its_shortcuts() -> None:
    """Check that it learns to copy noise, which can't pass the narrowest layer: 4 numbers for 256 pixels."""
    torch.manual_seed(0)
    net = pix2pix.Generator((1, 16, 16), (1, 16, 16), widths=[16, 16, 1])
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(150):
        x = torch.rand(16, 1, 16, 16) - 0.5
        loss = F.l1_loss(net(x), x)
        optimizer.zero_grad()
        loss.backward()
        getattr(optimizer, "step")()  # noqa: B009  (only the engine may be written to step)
    assert loss.item() < 0.12, "the mean gives 0.25"


def test_blurred_pictures_score_a_smaller_sharpness_and_a_greater_fid() -> None:
    task = Paired(pix2pix.Generator, rivalry=0.0)
    examples = list(OutlinedGlyphs(per_class=4).examples("train", 0))
    real = np.stack([example["image"] for example in examples])
    smooth = torch.from_numpy(real).permute(0, 3, 1, 2).float()
    blurred = F.avg_pool2d(smooth, 5, 1, 2).byte().permute(0, 2, 3, 1).numpy()
    scores = {
        name: task.score({"image": part}, {"image": real}) for name, part in (("real", real), ("blurred", blurred))
    }
    assert scores["real"]["l1"] == 0
    assert scores["real"]["sharpness"] == scores["real"]["real_sharpness"]
    assert scores["blurred"]["sharpness"] < 0.5 * scores["real"]["sharpness"]
    assert scores["blurred"]["fid"] > scores["real"]["fid"] + 1


def test_agreement_is_that_of_the_frames_and_of_the_worst_position() -> None:
    task = Paired(film.Generator, film.Discriminator, pose="pose", judge="results/none")
    features = np.random.default_rng(0).normal(size=(2, 6 * 5))
    predictions = {
        "image": np.zeros((2, 4, 4, 6), np.uint8),
        "feature": features,
        "real_feature": features,
        "frame_label": np.array([[0, 0, 0, 0, 0, 0], [1, 1, 0, 1, 1, 1]]),
        "real_frame_label": np.array([[0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0]])[::-1],
    }
    scores = task.score(predictions, {"image": predictions["image"], "label": np.array([0, 1])})
    assert scores["agreement"] == pytest.approx(11 / 12)
    assert scores["worst_frame"] == 0.5
    assert scores["real_agreement"] == pytest.approx(1 / 12)
    assert scores["fid"] == pytest.approx(0, abs=1e-6)


class Levels:
    """A judge whose class of a picture is the grey level of its first pixel."""

    def compare(self, generated: torch.Tensor, real: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return what `Judge.compare` returns."""
        levels = {"": generated[:, 0, 0, :1].long(), "real_": real[:, 0, 0, :1].long()}
        probabilities = {f"{name}probability": F.one_hot(level[:, 0], 256) for name, level in levels.items()}
        return {f"{name}feature": level.float() for name, level in levels.items()} | probabilities


class Still(torch.nn.Module):
    """A generator whose frames are the source, a level brighter from frame to frame."""

    def forward(self, source: torch.Tensor, pose: torch.Tensor) -> torch.Tensor:
        return source + torch.arange(6).view(1, 6, 1, 1) / 127.5


def test_the_judge_sees_each_frame_of_each_film() -> None:
    task = Paired(film.Generator, film.Discriminator, pose="pose", judge="results/none")
    task.judge = Levels()  # type: ignore[assignment]
    batch = make_shard(FILM_SPEC, 2).batch
    batch["source"] = torch.tensor([0, 20], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 16, 16, 1)
    batch["image"] = torch.arange(12, dtype=torch.uint8).view(2, 1, 1, 6).expand(2, 16, 16, 6)
    predictions = task.predict(State({"generator": Still()}), batch)
    assert predictions["frame_label"].tolist() == [[0, 1, 2, 3, 4, 5], [20, 21, 22, 23, 24, 25]]
    assert predictions["real_frame_label"].tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    assert predictions["feature"].tolist() == predictions["frame_label"].tolist()


def test_a_frame_depends_on_its_own_pose_alone() -> None:
    net = film.Generator((1, 16, 16), (6, 16, 16), (6, 3)).eval()
    still, pose = torch.randn(2, 1, 16, 16), torch.randn(2, 6, 3)
    frames = net(still, pose)
    changed = pose.clone()
    changed[:, 2] += 1
    difference = (net(still, changed) - frames).abs().amax((0, 2, 3))
    assert difference[2] > 0
    assert difference[[0, 1, 3, 4, 5]].max() < 1e-6


def test_the_films_discriminator_sees_film_still_and_poses() -> None:
    task = Paired(film.Generator, film.Discriminator, partial(torch.optim.Adam, lr=1e-3), pose="pose", judge="none")
    state = task.setup(FILM_SPEC)
    net = state.modules["discriminator"].eval()
    film_, still, pose = torch.randn(2, 6, 16, 16), torch.randn(2, 1, 16, 16), torch.randn(2, 6, 3)
    logits = net(film_, still, pose)
    assert logits.shape == (2,)
    for other in ((film_ + 1, still, pose), (film_, still + 1, pose), (film_, still, pose + 1)):
        assert not torch.equal(net(*other), logits)
    loss, metrics = task.discriminator_loss(state, make_shard(FILM_SPEC))
    assert torch.isfinite(loss)
    assert set(metrics) == {"real", "fake"}


def test_films_move_as_their_poses_say() -> None:
    dataset = MovingGlyphs(per_class=3)
    example = next(dataset.examples("train", 0))
    assert example["image"].shape == (16, 16, 6)
    poses = draw_motion(50, 6, np.random.default_rng(0))
    assert np.abs(poses).max() <= 1
    assert np.abs(np.diff(poses, axis=1)).max() < 1.2, "the motion is smooth"
    columns = np.arange(16)
    for film_ in list(dataset.examples("train", 0))[:5]:
        middles = (film_["image"].sum(0) * columns[:, None]).sum(0) / film_["image"].sum((0, 1))
        assert np.corrcoef(middles, film_["pose"][:, 1])[0, 1] > 0.7
