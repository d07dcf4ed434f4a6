"""The losses at the optimum, whose turn it is, latent vectors by number, and a collapse that is noticed."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from components.data.gaussians import Gaussians
from components.errors import Refusal
from components.models import dcgan, gan
from components.optimizers import adam
from components.storage.dataset import prepare_dataset
from components.storage.feed import Feed
from components.storage.store import Store
from components.tasks.adversarial import Adversarial, latents
from components.training import engine
from components.training.task import Shard, Spec, State


class Undecided(torch.nn.Module):
    """D = 0.5 everywhere."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1).sum(1) * 0


def points(count: int = 64) -> Shard:
    batch = {"row": torch.arange(count), "point": torch.randn(count, 2), "label": torch.zeros(count, dtype=torch.int64)}
    return Shard(batch, torch.Generator().manual_seed(0), 0)


def test_losses_at_the_optimum() -> None:
    """Where D can't tell, its loss is 2 log 2, and the generator's log 2 (Goodfellow et al. 2014, proposition 2)."""
    task = Adversarial(gan.Generator, gan.Discriminator, column="point", latent=3)
    state = State({"discriminator": Undecided(), "generator": gan.Generator(3, (2,))})
    loss, said = task.discriminator_loss(state, points())
    assert loss.item() == pytest.approx(2 * math.log(2))
    assert said["real"].item() == said["fake"].item() == 0.5
    assert task.generator_loss(state, points())[0].item() == pytest.approx(math.log(2))


def test_the_discriminator_moves_k_times_then_the_generator_once_and_slower() -> None:
    task = Adversarial(gan.Generator, gan.Discriminator, column="point", latent=3, critic_steps=3, generator_rate=0.25)
    state = task.setup(Spec({"point": (2,), "label": ()}, ("a", "b"), {}))
    turns: list[str] = []

    def update(name: str, loss) -> dict:
        turns.append(name)
        return {"loss": torch.tensor(0.0), "real": torch.tensor(0.5)}

    assert set(task.step(state, update)) == {"discriminator_loss", "real", "generator_loss", "generator_real"}
    assert turns == ["discriminator"] * 3 + ["generator"]
    rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in state.optimizers.items()}
    assert rates["generator"] == rates["discriminator"] / 4


def test_each_networks_gradient_leaves_the_other_alone() -> None:
    task = Adversarial(gan.Generator, gan.Discriminator, column="point", latent=3)
    state = task.setup(Spec({"point": (2,), "label": ()}, ("a", "b"), {}))
    task.discriminator_loss(state, points())[0].backward()
    assert all(p.grad is None for p in state.modules["generator"].parameters())
    assert any(p.grad.abs().sum() > 0 for p in state.modules["discriminator"].parameters())


def test_latent_vectors_are_normal_and_named_by_their_row() -> None:
    z = latents(np.arange(20_000), 8)
    assert np.array_equal(z[100:104], latents(np.arange(100, 104), 8))
    assert stats.kstest(z.reshape(-1), "norm").pvalue > 0.01
    assert np.abs(np.corrcoef(z.T) - np.eye(8)).max() < 0.03
    assert abs(np.corrcoef(z[:-1, 0], z[1:, 0])[0, 1]) < 0.03
    assert np.abs(latents(np.arange(2000), 64)).max() < 6, "one number of 500 million lies beyond, also of example 0"


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 32, 48)])
def test_dcgan_draws_pictures_and_judges_them(shape: tuple[int, ...]) -> None:
    pictures = dcgan.Generator(latent=5, shape=shape)(torch.randn(4, 5))
    assert pictures.shape == (4, *shape)
    assert pictures.abs().max() <= 1
    assert dcgan.Discriminator(shape=shape)(pictures).shape == (4,)


def test_sides_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(Refusal, match="can't be halved"):
        dcgan.Generator(latent=5, shape=(1, 14, 14))


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ring")
    prepare_dataset(Gaussians(), folder)
    return folder


def test_points_lie_on_a_ring(ring: Path) -> None:
    train = Store(ring).split("train")
    values, labels = train.array("point"), train.array("label")
    for mode in range(8):
        angle = mode * math.pi / 4
        centre = values[labels == mode].mean(0)
        assert centre == pytest.approx([math.cos(angle), math.sin(angle)], abs=0.02)
    test = Store(ring).split("test").array("point")
    assert np.linalg.norm(test[:, None] - values, axis=2).min() > 0, "no point is in both splits"


def test_one_noise_scale_for_two_losses_is_refused(ring: Path) -> None:
    task = Adversarial(gan.Generator, gan.Discriminator, column="point", latent=8)
    store = Store(ring)
    spec = Spec({"point": (2,), "label": ()}, tuple(store.manifest["classes"]), {})
    with pytest.raises(Refusal, match=r"fit.noise_scale: is that of one loss, and a GAN has two; leave it out"):
        engine.fit(task, spec, Feed(store.split("train")), epochs=1, batch=256, shards=2, noise_scale=True)


@pytest.mark.parametrize(("rate", "ema", "epochs", "verdict"), [(0.5, 0.99, 30, "none"), (5.0, None, 60, "ALARM")])
def test_mode_collapse_raises_the_alarm(ring: Path, rate: float, ema: float | None, epochs: int, verdict: str) -> None:
    """The notes' rule, a slower generator, covers all 8 modes; turned round, it drops most of them."""
    task = Adversarial(
        gan.Generator,
        gan.Discriminator,
        partial(adam, lr=1e-3, beta1=0.5),
        column="point",
        latent=8,
        generator_rate=rate,
    )
    store = Store(ring)
    spec = Spec({"point": (2,), "label": ()}, tuple(store.manifest["classes"]), {})
    feeds = [Feed(store.split(name)) for name in ("train", "validation")]
    out = engine.fit(task, spec, *feeds, epochs=epochs, batch=256, ema=ema, evaluate_every=epochs)
    tag = task.tags(out.state, out.scores)["mode_collapse"]
    assert tag.startswith(verdict), (tag, out.scores)
