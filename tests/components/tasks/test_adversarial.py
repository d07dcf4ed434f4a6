"""Check the losses at the optimum, the order of updates, latent vectors per row, and the mode-collapse alarm."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from unittest.mock import Mock

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
from components.storage.order import shard_slices
from components.storage.store import Store
from components.tasks.adversarial import Adversarial, latents, on_part
from components.tasks.judge import score_sample_sizes
from components.training import engine
from components.training.peers import Peers
from components.training.task import Shard, Spec, State
from components.training.update import ShardedUpdate


class Undecided(torch.nn.Module):
    """A discriminator with D = 0.5 everywhere."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1).sum(1) * 0


def points_shard(count: int = 64) -> Shard:
    batch = {"row": torch.arange(count), "point": torch.randn(count, 2), "label": torch.zeros(count, dtype=torch.int64)}
    return Shard(batch, torch.Generator().manual_seed(0), 0)


def test_losses_at_the_optimum() -> None:
    """Check proposition 2 of Goodfellow et al. 2014: an undecided D has loss 2 log 2, and the generator log 2."""
    task = Adversarial(gan.Generator, gan.Discriminator, column="point", latent=3)
    state = State({"discriminator": Undecided(), "generator": gan.Generator(3, (2,))})
    loss, metrics = task.discriminator_loss(state, points_shard())
    assert loss.item() == pytest.approx(2 * math.log(2))
    assert metrics["real"].item() == metrics["fake"].item() == 0.5
    assert task.generator_loss(state, points_shard())[0].item() == pytest.approx(math.log(2))


def test_k_discriminator_updates_precede_one_slower_generator_update() -> None:
    task = Adversarial(gan.Generator, gan.Discriminator, column="point", latent=3, critic_steps=3, generator_rate=0.25)
    state = task.setup(Spec({"point": (2,), "label": ()}, ("a", "b"), {}))
    update = Mock(return_value={"loss": torch.tensor(0.0), "real": torch.tensor(0.5)}, examples=64)
    assert set(task.step(state, update)) == {"discriminator_loss", "real", "generator_loss", "generator_real"}
    assert [call.args[0] for call in update.call_args_list] == ["discriminator"] * 3 + ["generator"]
    rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in state.optimizers.items()}
    assert rates["generator"] == rates["discriminator"] / 4


@pytest.mark.parametrize(("shards", "accumulate"), [(1, 1), (2, 1), (1, 2), (3, 1)])
def test_each_discriminator_update_sees_examples_of_its_own(shards: int, accumulate: int) -> None:
    task = Adversarial(gan.Generator, gan.Discriminator, column="point", latent=3, critic_steps=3)
    state = task.setup(Spec({"point": (2,), "label": ()}, ("a", "b"), {}))
    update = ShardedUpdate(state, Peers(), shards=shards, accumulate=accumulate)
    rows: dict[int, list[int]] = {}  # number of the update -> the rows in it

    def discriminator_loss(state: State, shard: Shard) -> tuple[torch.Tensor, dict]:
        rows.setdefault(update.calls, []).extend(shard.batch["row"].tolist())
        return Adversarial.discriminator_loss(task, state, shard)

    task.discriminator_loss = discriminator_loss
    cuts = shard_slices(20, shards)
    batch = points_shard(20).batch
    update.begin(
        [{name: values[cut] for name, values in batch.items()} for cut in cuts], [cut.stop - cut.start for cut in cuts]
    )
    task.step(state, update)
    assert list(rows.values()) == [list(range(part, 20, 3)) for part in range(3)]
    assert update.weight == 7, "the generator's update counts the examples of one part"


def test_a_part_without_examples_in_a_shard_weighs_nothing() -> None:
    task = Adversarial(gan.Generator, gan.Discriminator, column="point", latent=3)
    state = task.setup(Spec({"point": (2,), "label": ()}, ("a", "b"), {}))
    weights = []
    for part in range(3):
        shard = Shard(points_shard(1).batch, torch.Generator().manual_seed(0), 0, first=7)
        loss, _ = on_part(task.discriminator_loss, part, 3)(state, shard)
        assert loss.isfinite()
        weights.append(shard.weight)
    assert weights == [0, 1, 0], "7 is position 1 of every three"


def test_more_discriminator_updates_than_examples_are_refused() -> None:
    task = Adversarial(gan.Generator, gan.Discriminator, column="point", critic_steps=5)
    with pytest.raises(Refusal, match=r"task.critic_steps: 5 is more than fit.batch: 4; raise fit.batch"):
        task.step(State(), Mock(examples=4))


def test_the_discriminators_loss_gives_the_generator_no_gradient() -> None:
    task = Adversarial(gan.Generator, gan.Discriminator, column="point", latent=3)
    state = task.setup(Spec({"point": (2,), "label": ()}, ("a", "b"), {}))
    task.discriminator_loss(state, points_shard())[0].backward()
    assert all(p.grad is None for p in state.modules["generator"].parameters())
    assert any(p.grad.abs().sum() > 0 for p in state.modules["discriminator"].parameters())


def test_latent_vectors_are_normal_and_depend_on_the_row_alone() -> None:
    z = latents(np.arange(20_000), 8)
    assert np.array_equal(z[100:104], latents(np.arange(100, 104), 8))
    assert stats.kstest(z.reshape(-1), "norm").pvalue > 0.01
    assert np.abs(np.corrcoef(z.T) - np.eye(8)).max() < 0.03
    assert abs(np.corrcoef(z[:-1, 0], z[1:, 0])[0, 1]) < 0.03
    assert np.abs(latents(np.arange(2000), 64)).max() < 6, (
        "only one number in 500 million is larger; this includes those of row 0"
    )


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 32, 48)])
def test_dcgan_generates_and_discriminates_pictures(shape: tuple[int, ...]) -> None:
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
    assert np.linalg.norm(test[:, None] - values, axis=2).min() > 0, "no point may be in both splits"


def test_a_noise_scale_for_two_losses_is_refused(ring: Path) -> None:
    task = Adversarial(gan.Generator, gan.Discriminator, column="point", latent=8)
    store = Store(ring)
    spec = Spec({"point": (2,), "label": ()}, tuple(store.manifest["classes"]), {})
    with pytest.raises(Refusal, match=r"fit.noise_scale: applies to a single loss, and a GAN has two; leave it out"):
        engine.fit(task, spec, Feed(store.split("train")), epochs=1, batch=256, shards=2, noise_scale=True)


@pytest.mark.parametrize(("rate", "ema", "epochs", "verdict"), [(0.5, 0.99, 30, "none"), (5.0, None, 60, "ALARM")])
def test_mode_collapse_raises_the_alarm(ring: Path, rate: float, ema: float | None, epochs: int, verdict: str) -> None:
    """Check that a slower generator (the notes' rule) covers all 8 modes, and that a faster one loses most of them."""
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


def test_the_fid_of_few_examples_is_too_large() -> None:
    """Compare features of one distribution: the error of the FID is about inversely proportional to their number."""
    random = np.random.default_rng(0)
    real, generated = random.standard_normal((2, 2000, 4))
    scores = score_sample_sizes({"real_feature": real, "feature": generated}, [50, 200, 1000, 1001])
    assert scores.keys() == {f"{name}_{size}" for name in ("fid", "real_fid") for size in (50, 200, 1000)}
    for name in ("fid", "real_fid"):
        assert scores[f"{name}_50"] > 2 * scores[f"{name}_200"] > 4 * scores[f"{name}_1000"]
        # The means alone contribute 2 tr(S) / N
        assert scores[f"{name}_50"] > 2 * 4 / 50
    with pytest.raises(Refusal, match=r"task.sizes: needs the features of a judge"):
        Adversarial(gan.Generator, gan.Discriminator, column="point", sizes=[50])
