"""Segmentation: ignored pixels do not count, crops cut pictures and masks together, and it learns a square's class."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from components.augment.joint import RandomCrop
from components.errors import Refusal
from components.models.fcn import FCN
from components.models.resnet import ResNet
from components.optimizers import adam
from components.tasks.segmentation import Segmentation
from components.training import exported
from components.training.task import Shard, Spec, State

backbone = partial(ResNet, widths=[8, 16], blocks=1, stem="cifar")
SPEC = Spec({"image": (24, 24, 1), "mask": (24, 24)}, ("bright", "dark"), {"mean": [0.5], "std": [0.25], "count": 1})


def batch(count: int = 12, seed: int = 0) -> dict[str, torch.Tensor]:
    """Draw a bright or a dark square per picture; its mask has the value 1 or 2, and the lowest rows are ignored."""
    random = np.random.default_rng(seed)
    images = np.full((count, 24, 24, 1), 128, np.uint8) + random.integers(0, 9, (count, 24, 24, 1), dtype=np.uint8)
    masks = np.zeros((count, 24, 24), np.uint8)
    for row in range(count):
        y, x = random.integers(0, 12, 2)
        images[row, y : y + 10, x : x + 10] = 240 if row % 2 else 10
        masks[row, y : y + 10, x : x + 10] = 1 if row % 2 else 2
    masks[:, 22:] = 255
    return {"image": torch.from_numpy(images), "mask": torch.from_numpy(masks), "row": torch.arange(count)}


def shard(data: dict[str, torch.Tensor]) -> Shard:
    return Shard(data, torch.Generator().manual_seed(0), 0)


def built(**arguments) -> tuple[Segmentation, State]:
    torch.manual_seed(0)
    task = Segmentation(partial(FCN, backbone=backbone, skips=1), partial(adam, lr=0.02), **arguments)
    return task, task.setup(SPEC)


def test_it_learns_every_pixel() -> None:
    task, state = built(augment=[partial(RandomCrop, [20, 20])])
    for seed in range(40):
        state.optimizers["net"].zero_grad()
        loss, _ = task.loss(state, shard(batch(seed=seed)))
        loss.backward()
        state.optimizers["net"].step()
    state.modules["net"].eval()
    test = batch(40, seed=99)
    predictions = {name: values.numpy() for name, values in task.predict(state, test).items()}
    assert predictions["mask"].shape == (40, 24, 24)
    targets = {name: test[name].numpy() for name in ("mask", "image")}
    scores = task.score(predictions, targets)
    assert set(scores) == {"pixel_accuracy", "mean_iou", "iou/background", "iou/bright", "iou/dark"}
    assert scores["mean_iou"] > 0.85
    assert "masks" in task.draw(state, predictions, targets)
    assert task.predict(state, {"image": test["image"][:3, :17, :22]})["mask"].shape == (3, 17, 22)


def test_ignored_pixels_do_not_count() -> None:
    task, state = built()
    state.modules["net"].eval()
    data = batch()
    marked = shard(data)
    loss, metrics = task.loss(state, marked)
    assert marked.weight == 12 * 22 * 24
    logits = state.modules["net"](task._normalise(data["image"].permute(0, 3, 1, 2) / 255))
    picked = logits.log_softmax(1).gather(1, data["mask"].long().clamp(max=2)[:, None])[:, 0]
    assert loss.item() == pytest.approx(-picked[:, :22].mean().item(), abs=1e-5)
    assert 0 <= metrics["accuracy"] <= 1
    nothing = shard(data | {"mask": torch.full_like(data["mask"], 255)})
    loss, metrics = task.loss(state, nothing)
    assert loss == metrics["accuracy"] == nothing.weight == 0


def test_pictures_and_masks_are_cropped_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare the two by value: in these pictures the mask follows from the brightness."""
    task, _ = built(augment=[partial(RandomCrop, [12, 12])])
    inputs = []

    class Recorder(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            inputs.append(x)
            return torch.zeros(len(x), 3, 12, 12)

    labels = []
    monkeypatch.setattr(
        "components.tasks.segmentation.F.cross_entropy",
        lambda logits, target, **_: (labels.append(target), logits.sum())[1],
    )
    task.loss(State({"net": Recorder()}), shard(batch()))
    value = torch.where(inputs[0][:, 0] > 1, 1, torch.where(inputs[0][:, 0] < -1, 2, 0))
    judged = labels[0] != 255
    assert inputs[0].shape == (12, 1, 12, 12)
    assert (value == labels[0])[judged].float().mean() > 0.99


def test_the_backbone_starts_from_another_export(tmp_path: Path) -> None:
    torch.manual_seed(5)
    donor = backbone(channels=1, size=(24, 24), classes=7)
    exported.write_model(tmp_path / "model", State({"net": donor}), SPEC, {"use": "x"})
    task, state = built(start=str(tmp_path / "model"), backbone_rate=0.1)
    own = state.modules["net"].get_submodule("backbone").state_dict()
    assert all(torch.equal(own[name], value) for name, value in donor.state_dict().items() if "head" not in name)
    assert state.optimizers["net"].param_groups[1]["lr"] == pytest.approx(0.002)
    assert task.tags(state, {}) == {"start": f"all but the output layer from {tmp_path / 'model'}"}


def test_data_without_masks_are_refused() -> None:
    spec = Spec({"image": (24, 24, 1), "boxes": (None, 4)}, ("a",), SPEC.statistics)
    with pytest.raises(Refusal, match="needs a column 'mask', but the data have image, boxes; set masks: true"):
        Segmentation(partial(FCN, backbone=backbone)).check_data(spec)
