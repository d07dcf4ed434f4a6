"""Check normalisation, augmentation during training only, and fine-tuning as in the notes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from components import optimizers
from components.errors import Refusal
from components.models.lenet import LeNet
from components.models.resnet import ResNet
from components.models.softmax import Softmax
from components.storage.feed import Feed
from components.storage.store import Store
from components.tasks.classification import Classification
from components.training import engine, exported
from components.training.task import Shard, Spec, State
from pipelines.workers.training import read_spec

STATISTICS = {"mean": [0.5, 0.25, 0.1], "std": [0.2, 0.3, 0.4]}
MODEL = partial(ResNet, widths=[4, 8], blocks=1, stem="cifar")
SECTION = {
    "use": "tasks.classification.Classification",
    "model": {"use": "models.resnet.ResNet", "widths": [4, 8], "blocks": 1, "stem": "cifar"},
}


def spec(classes: int) -> Spec:
    names = tuple(str(number) for number in range(classes))
    return Spec({"image": (16, 16, 3), "label": ()}, names, STATISTICS)


def batch(rows: int, classes: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (rows, 16, 16, 3), dtype=torch.uint8, generator=generator)
    return {"image": images, "label": torch.randint(0, classes, (rows,), generator=generator)}


def shard(columns: dict[str, torch.Tensor]) -> Shard:
    return Shard(columns, torch.Generator().manual_seed(1), 0)


def test_data_without_pictures_are_refused() -> None:
    with pytest.raises(Refusal, match="task: Classification needs a column 'image', but the data have token"):
        Classification(MODEL).setup(Spec({"token": (9,)}, ("a", "b"), {}))


def test_label_smoothing_requires_cross_entropy() -> None:
    with pytest.raises(Refusal, match=r"task.label_smoothing: applies to cross-entropy only; leave it out with"):
        Classification(MODEL, label_smoothing=0.1, criterion="mse")
    Classification(MODEL, criterion="mse")


def black(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return black pictures: an augmentation with an obvious effect."""
    assert 0 <= images.min() <= images.max() <= 1
    return torch.zeros_like(images)


@pytest.mark.parametrize("augment", [None, [lambda: lambda images, generator: images]])
def test_bytes_are_unchanged_without_normalisation(augment) -> None:
    task = Classification(Softmax, augment=augment, normalise=False)
    task.setup(spec(3))
    images = batch(4, 3)["image"]
    for generator in (None, torch.Generator()):
        pixels = task.pixels({"image": images}, generator)
        np.testing.assert_allclose(pixels.permute(0, 2, 3, 1).numpy(), images.numpy(), rtol=1e-5)


@pytest.mark.parametrize("augment", [None, [lambda: lambda images, generator: images]])
def test_pixels_are_normalised_per_channel(augment) -> None:
    task = Classification(Softmax, augment=augment)
    task.setup(spec(3))
    images = batch(4, 3)["image"]
    expected = (images.numpy() / 255 - np.array(STATISTICS["mean"])) / np.array(STATISTICS["std"])
    for generator in (None, torch.Generator()):
        pixels = task.pixels({"image": images}, generator)
        assert pixels.is_contiguous(memory_format=torch.channels_last)
        np.testing.assert_allclose(pixels.permute(0, 2, 3, 1).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_pictures_are_augmented_during_training_only() -> None:
    plain, changed = Classification(Softmax), Classification(Softmax, augment=[lambda: black])
    columns = batch(6, 3)
    torch.manual_seed(0)
    state = plain.setup(spec(3))
    changed.setup(spec(3))
    assert torch.equal(plain.predict(state, columns)["probability"], changed.predict(state, columns)["probability"])
    assert plain.loss(state, shard(columns))[0] != changed.loss(state, shard(columns))[0]


def test_loss_and_accuracy_follow_from_the_logits() -> None:
    task = Classification(Softmax, label_smoothing=0.1)
    columns = batch(8, 3)
    state = task.setup(spec(3))
    loss, metrics = task.loss(state, shard(columns))
    logits = state.modules["net"](task.pixels(columns))
    torch.testing.assert_close(loss, F.cross_entropy(logits, columns["label"], label_smoothing=0.1))
    assert metrics["accuracy"] == (logits.argmax(1) == columns["label"]).float().mean()


@pytest.fixture
def source(tmp_path: Path) -> tuple[Path, State]:
    """Export a model of five classes, as the stage `pretrain` does."""
    torch.manual_seed(5)
    state = Classification(MODEL).setup(spec(5))
    exported.write_model(tmp_path / "source", state, spec(5), SECTION)
    return tmp_path / "source", state


def test_the_body_is_copied_and_learns_at_its_own_rate(source: tuple[Path, State]) -> None:
    folder, pretrained = source
    task = Classification(MODEL, partial(optimizers.sgd, lr=0.5), start=str(folder), body_rate=0.1)
    state = task.setup(spec(3))
    old, new = (s.modules["net"].state_dict() for s in (pretrained, state))
    for name in old:
        if name.startswith("head."):
            assert new[name].shape[0] == 3
        else:
            assert torch.equal(old[name], new[name]), name
    head, body = state.optimizers["net"].param_groups
    assert (head["lr"], body["lr"]) == (0.5, pytest.approx(0.05))
    assert {id(p) for p in head["params"]} == {id(p) for p in state.modules["net"].head.parameters()}
    assert len(head["params"]) + len(body["params"]) == len(list(state.modules["net"].parameters()))


def test_a_body_of_rate_zero_is_frozen(source: tuple[Path, State]) -> None:
    task = Classification(MODEL, start=str(source[0]), body_rate=0.0)
    net = task.setup(spec(3)).modules["net"]
    assert {name for name, p in net.named_parameters() if p.requires_grad} == {"head.weight", "head.bias"}


def test_a_frozen_body_keeps_its_bytes_during_training(digits: Path, tmp_path: Path) -> None:
    """Check weights and batch statistics: frozen at rate 0, changed at a small rate. The head learns at both rates."""
    data = read_spec(str(digits / "prepared"), str(digits / "augmented"))
    feed = Feed(Store(digits / "prepared").split("train"))
    exported.write_model(tmp_path / "source", Classification(MODEL).setup(data), data, SECTION)
    old = load_file(tmp_path / "source" / "weights.safetensors")
    rule = partial(optimizers.sgd, lr=0.1, momentum=0.9, weight_decay=0.01)
    for rate in (0.0, 0.01):
        task = Classification(MODEL, rule, start=str(tmp_path / "source"), body_rate=rate)
        state = engine.fit(task, data, feed, feed, epochs=2, batch=50, shards=2).state
        new = {f"net.{name}": value for name, value in state.modules["net"].state_dict().items()}
        same = {name for name in old if old[name].numpy().tobytes() == new[name].numpy().tobytes()}
        body = {name for name in old if not name.startswith("net.head.")}
        counters = {name for name in body if name.endswith("num_batches_tracked")}
        assert same == body if rate == 0 else same <= counters


def test_another_network_or_a_missing_folder_cannot_start(source: tuple[Path, State], tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"another network \(\S+ differs\); use the same model section"):
        Classification(LeNet, start=str(source[0])).setup(spec(3))
    with pytest.raises(Refusal, match=r"another network \(stem.0.weight differs\)"):
        wider = partial(ResNet, widths=[6, 8], blocks=1, stem="cifar")
        Classification(wider, start=str(source[0])).setup(spec(3))
    with pytest.raises(Refusal, match="run the stage that writes it"):
        Classification(MODEL, start=str(tmp_path / "nothing")).setup(spec(3))
