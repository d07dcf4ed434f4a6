"""Check the pairs that a conditional discriminator sees, its losses, and captions, sounds and classes as conditions."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from components.errors import Refusal
from components.layers.levels import to_signed
from components.models import condition_encoders, conditional
from components.tasks.conditional import Conditional
from components.training.peers import Peers
from components.training.task import Shard, Spec, State
from components.training.update import ShardedUpdate

SHAPES: dict[str, tuple[int, ...]] = {"label": (), "caption": (40,), "sound": (31, 32)}
ENCODERS: dict[str, Any] = {
    "label": condition_encoders.LabelEncoder,
    "caption": condition_encoders.CaptionEncoder,
    "sound": condition_encoders.SoundEncoder,
}
SPEC = Spec({"image": (16, 16, 1), **SHAPES}, ("a", "b", "c"), {})


def make_task(condition: str, mismatch: float = 0.5) -> Conditional:
    encoder = ENCODERS[condition]
    return Conditional(
        partial(conditional.Generator, encoder=encoder),
        partial(conditional.Discriminator, encoder=encoder),
        judge="results/none",
        condition=condition,
        latent=5,
        mismatch=mismatch,
    )


def make_shard(labels: list[int]) -> Shard:
    random = torch.Generator().manual_seed(0)
    count = len(labels)
    batch = {
        "row": torch.arange(count),
        "label": torch.tensor(labels),
        "image": torch.randint(256, (count, 16, 16, 1), generator=random, dtype=torch.uint8),
        "caption": torch.randint(97, 122, (count, 40), generator=random, dtype=torch.uint8),
        "sound": torch.randn(count, 31, 32, generator=random),
    }
    return Shard(batch, torch.Generator().manual_seed(1), 0)


@pytest.mark.parametrize("condition", SHAPES)
def test_generated_pictures_depend_on_the_condition_and_on_the_row(condition: str) -> None:
    task = make_task(condition)
    state = task.setup(SPEC)
    batch = {name: make_shard([0, 1, 2, 0]).batch[name] for name in ("row", condition)}
    for module in state.modules.values():
        module.eval()
    with torch.no_grad():
        for parameter in state.modules["generator"].parameters():
            parameter.normal_(0, 0.3)  # the initial weights are too small for differences in bytes
        first = task.predict(state, batch)["image"]
        assert first.shape == (4, 16, 16, 1)
        assert torch.equal(first, task.predict(state, batch)["image"])
        other = task.predict(state, batch | {condition: batch[condition].roll(1, 0)})["image"]
        assert not torch.equal(first, other)
        assert not torch.equal(first, task.predict(state, batch | {"row": batch["row"] + 9})["image"])


def test_a_mismatched_pair_is_the_real_picture_with_the_condition_of_its_neighbour() -> None:
    """Compare with the loss written out for three separate passes; pairs of the same label are left out."""
    task = make_task("label")
    state = task.setup(SPEC)
    for module in state.modules.values():
        module.eval()
    shard = make_shard([0, 0, 1, 2])
    loss, metrics = task.discriminator_loss(state, shard)
    generator, discriminator = state.modules["generator"], state.modules["discriminator"]
    label = shard.batch["label"]
    pictures = shard.batch["image"].permute(0, 3, 1, 2) / 127.5 - 1
    z = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    fake = F.softplus(discriminator(generator(z, label), label))
    wrong = F.softplus(discriminator(pictures, torch.tensor([2, 0, 0, 1])))
    negatives = torch.stack([(fake[0] + wrong[0]) / 2, fake[1], (fake[2] + wrong[2]) / 2, (fake[3] + wrong[3]) / 2])
    expected = F.softplus(-discriminator(pictures, label)).mean() + negatives.mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert set(metrics) == {"real", "fake", "mismatched", "differs"}


def test_the_output_for_mismatched_pairs_leaves_out_those_of_the_same_label() -> None:
    """Compare with the mean over the pairs of both shards, of which the first has one and the second has three."""
    task = make_task("label")
    state = task.setup(SPEC)
    discriminator = state.modules["discriminator"]
    for layer in discriminator.modules():
        if isinstance(layer, nn.BatchNorm2d):  # its statistics would be those of each shard
            layer.eval()
    batches = [make_shard(labels).batch for labels in ([0, 1, 1, 0], [0, 1, 2])]
    outputs = []
    with torch.no_grad():
        for parameter in discriminator.parameters():
            parameter.mul_(3)  # the first outputs are nearly equal
        for batch in batches:
            logits = discriminator(to_signed(batch["image"]), batch["label"].roll(1, 0))
            outputs.append(logits.sigmoid()[batch["label"] != batch["label"].roll(1, 0)])
    update = ShardedUpdate(state, Peers(), shards=2)
    update.begin(batches, [4, 3])
    metrics = task.step(state, update)
    assert metrics["mismatched"].item() == pytest.approx(torch.cat(outputs).mean().item(), rel=1e-5)
    assert "differs" not in metrics


def test_without_mismatched_pairs_there_are_two_kinds() -> None:
    task = make_task("label", mismatch=0.0)
    state = task.setup(SPEC)
    with torch.no_grad():
        for parameter in state.modules["discriminator"].parameters():
            parameter.zero_()
    loss, metrics = task.discriminator_loss(state, make_shard([0, 1]))
    assert loss.item() == pytest.approx(2 * math.log(2))
    assert set(metrics) == {"real", "fake"}


def test_the_agreement_is_the_share_of_generated_pictures_with_the_label_that_was_asked_for() -> None:
    random = np.random.default_rng(0)
    predictions = {
        "probability": np.eye(3)[[0, 1, 2, 2, 1]],
        "real_probability": np.eye(3)[[0, 1, 2, 0, 0]],
        "feature": random.normal(size=(5, 2)),
        "real_feature": random.normal(size=(5, 2)),
    }
    scores = make_task("label").score(predictions, {"label": np.array([0, 1, 2, 0, 0])})
    assert scores["agreement"] == pytest.approx(3 / 5)
    assert scores["coverage"] == 1


class Parity:
    """A judge of two classes: whether a picture's first pixel is odd."""

    def compare(self, generated: torch.Tensor, real: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return what `Judge.compare` returns; a picture's first pixel is its feature."""
        pixels = {"": generated[:, 0, 0, :1].long(), "real_": real[:, 0, 0, :1].long()}
        probabilities = {f"{name}probability": F.one_hot(pixel[:, 0] % 2, 2) for name, pixel in pixels.items()}
        return {f"{name}feature": pixel.float() for name, pixel in pixels.items()} | probabilities


class Echo(torch.nn.Module):
    """A generator that paints a picture in the grey level of its condition."""

    def forward(self, z: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return (condition.float() / 127.5 - 1).view(-1, 1, 1, 1).expand(-1, 1, 16, 16)


def test_the_judge_sees_the_generated_pictures() -> None:
    task = make_task("label")
    task.judge = Parity()  # type: ignore[assignment]
    batch = make_shard([0, 1, 1, 0]).batch | {"image": torch.zeros(4, 16, 16, 1, dtype=torch.uint8)}
    tensors = task.predict(State({"generator": Echo()}), batch)
    predictions = {name: values.numpy() for name, values in tensors.items()}
    assert predictions["image"][:, 0, 0, 0].tolist() == [0, 1, 1, 0]
    assert task.score(predictions, {"label": np.array([0, 1, 1, 1])})["agreement"] == 0.75


def test_a_condition_that_the_data_lack_is_refused() -> None:
    with pytest.raises(Refusal, match=r"^task: Conditional needs a column 'caption', but the data have image, label;"):
        make_task("caption").setup(Spec({"image": (16, 16, 1), "label": ()}, ("a",), {}))


def test_the_caption_encoder_sees_words_wherever_they_stand() -> None:
    encoder = condition_encoders.CaptionEncoder((40,), 3)

    def encode(text: str) -> torch.Tensor:
        codes = torch.zeros(1, 40, dtype=torch.uint8)
        codes[0, : len(text)] = torch.tensor(list(text.encode()), dtype=torch.uint8)
        return encoder(codes)

    assert torch.allclose(encode(" " * 8 + "seven" + " " * 27), encode(" " * 20 + "seven" + " " * 15), atol=1e-6)
    assert not torch.allclose(encode("a thick seven"), encode("a thick three"))
