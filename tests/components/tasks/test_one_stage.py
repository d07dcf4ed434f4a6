"""SSD and YOLO predict each row by itself, in the picture's own pixels, and start from another recipe's backbone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18

from components.drawings.boxes import SCORE_DRAWN
from components.errors import Refusal
from components.layers.boxes import encode_offsets
from components.layers.grid import locate_boxes
from components.losses.grid import Grid
from components.losses.multi_box import MultiBox
from components.models.feature_net import FeatureNet
from components.models.proposal_cnn import ProposalCNN
from components.models.resnet import ResNet
from components.models.ssd import SSD
from components.models.yolo import YOLO
from components.tasks.classification import Classification
from components.tasks.one_stage import OneStage
from components.training import exported
from components.training.task import Shard, Spec, State

SPEC = Spec({"image": (48, 64, 3)}, ("a", "b", "c"), {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.2, 0.3]})
NETWORK = partial(FeatureNet, widths=[4, 6, 8])
MODELS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "ssd": (partial(SSD, backbone=NETWORK, width=8), MultiBox),
    "yolo": (partial(YOLO, backbone=NETWORK, cells=4, width=8), Grid),
}
each_model = pytest.mark.parametrize("name", MODELS)


def make_task(name: str, **arguments: Any) -> tuple[OneStage, State]:
    torch.manual_seed(0)
    task = OneStage(*MODELS[name], most=10, **arguments)
    state = task.setup(SPEC)
    state.modules["net"].eval()
    return task, state


def draw_batch(rows: int, height: int = 48, width: int = 64) -> dict[str, Any]:
    random = np.random.default_rng(0)
    images = torch.from_numpy(random.integers(0, 256, (rows, height, width, 3), dtype=np.uint8))
    boxes = [np.array([[3, 4, 20, 30], [30, 10, 60, 40]], np.float32)[: row % 3] for row in range(rows)]
    return {"image": images, "boxes": boxes, "labels": [np.arange(len(box)) for box in boxes]}


@torch.no_grad()
def predict(task: OneStage, state: State, images: torch.Tensor) -> dict[str, torch.Tensor]:
    return task.predict(state, {"image": images})


@each_model
def test_a_rows_detections_do_not_depend_on_other_rows(name: str) -> None:
    task, state = make_task(name)
    images = draw_batch(5)["image"]
    together = predict(task, state, images)
    assert {key: tuple(values.shape) for key, values in together.items()} == {
        "boxes": (5, 10, 4),
        "scores": (5, 10),
        "labels": (5, 10),
    }
    for row in range(5):
        alone = predict(task, state, images[row : row + 1])
        for key, values in alone.items():
            torch.testing.assert_close(values[0], together[key][row], rtol=1e-4, atol=1e-3)
    assert (together["scores"].diff(dim=1) <= 0).all()


@each_model
def test_pictures_of_any_size_get_boxes_in_their_own_pixels(name: str) -> None:
    """Check that an enlarged picture has the same detections, enlarged."""
    task, state = make_task(name)
    images = draw_batch(2)["image"].float().permute(0, 3, 1, 2)
    smooth = torch.nn.functional.interpolate(images[:, :, :6, :8], (480, 640), mode="bilinear").to(torch.uint8)
    small = torch.nn.functional.interpolate(smooth.float(), (48, 64), mode="bilinear", antialias=True).round()
    large_boxes = predict(task, state, smooth.permute(0, 2, 3, 1))
    small_boxes = predict(task, state, small.to(torch.uint8).permute(0, 2, 3, 1))
    assert torch.equal(large_boxes["labels"], small_boxes["labels"])
    torch.testing.assert_close(large_boxes["boxes"], small_boxes["boxes"] * 10, rtol=1e-3, atol=0.5)
    tall = predict(task, state, torch.zeros(1, 300, 20, 3, dtype=torch.uint8))
    assert (tall["boxes"] <= torch.tensor([20, 300, 20, 300])).all()


@each_model
def test_the_loss_is_the_criterions_and_pictures_may_be_empty(name: str) -> None:
    task, state = make_task(name)
    loss, terms = task.loss(state, Shard(draw_batch(4), torch.Generator(), 0))
    assert loss > 0
    assert all(term.isfinite() for term in terms.values())
    batch = draw_batch(1)
    loss, _ = task.loss(state, Shard(batch, torch.Generator(), 0))
    gradients = torch.autograd.grad(loss, list(state.modules["net"].parameters()), allow_unused=True)
    assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)


def test_perfect_outputs_are_perfect_detections() -> None:
    """Check that both models decode what their losses ask for."""
    true, labels = torch.tensor([[3.0, 4, 20, 30], [30, 10, 60, 40]]), torch.tensor([2, 0])
    ssd = SSD(3, (48, 64), 3, backbone=NETWORK, width=8)
    with torch.no_grad():
        output = ssd(torch.zeros(1, 3, 48, 64))
        logits, offsets = torch.zeros_like(output.logits), torch.zeros_like(output.offsets)
        logits[..., 3] = 20
        for row, anchor in enumerate((5, 40)):
            logits[0, anchor, labels[row]] = 40
            offsets[0, anchor] = encode_offsets(true[row], output.anchors[anchor])
        boxes, scores = ssd.decode(output._replace(logits=logits, offsets=offsets))
        torch.testing.assert_close(boxes[0, [5, 40]], true, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(scores[0, [5, 40]], torch.eye(3)[labels])
        yolo = YOLO(3, (48, 64), 3, backbone=NETWORK, cells=4, width=8)
        grid = yolo(torch.zeros(1, 3, 48, 64))
        cell, place = locate_boxes(true[None], 4, (48, 64))
        grid.boxes[0, cell[0], 1] = place[0]
        grid.confidence[0, cell[0], 1] = 1.0
        grid.logits[0, cell[0]] = 50 * torch.eye(3)[labels]
        boxes, scores = yolo.decode(grid)
    rows = cell[0] * 2 + 1
    torch.testing.assert_close(boxes[0, rows], true, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(scores[0, rows], torch.eye(3)[labels])


def test_the_backbone_starts_from_another_recipes_export(tmp_path: Path) -> None:
    torch.manual_seed(5)
    state = Classification(NETWORK).setup(SPEC)
    exported.write_model(tmp_path / "classifier", state, SPEC, {"use": "x"})
    task, detector = make_task("yolo", start=str(tmp_path / "classifier"))
    source, target = state.modules["net"].state_dict(), detector.modules["net"].state_dict()
    names = [name for name in source if name.startswith("body.")]
    assert len(names) > 10
    assert all(torch.equal(source[name], target[f"backbone.{name}"]) for name in names)
    assert "all but the output layer from" in task.tags(detector, {})["start"]
    with pytest.raises(Refusal, match=r"task.start: .* holds another network"):
        OneStage(partial(YOLO, backbone=FeatureNet), Grid, start=str(tmp_path / "classifier")).setup(SPEC)


def test_the_backbone_starts_from_torchvisions_file(tmp_path: Path) -> None:
    """Check that the maps are those of torchvision's ResNet-18 with the same weights."""
    torch.manual_seed(3)
    original = resnet18(num_classes=7).eval()
    save_file(original.state_dict(), tmp_path / "resnet18.safetensors")
    task = OneStage(partial(YOLO, backbone=ResNet, cells=2), Grid, start=str(tmp_path / "resnet18.safetensors"))
    state = task.setup(SPEC)
    backbone = state.modules["net"].get_submodule("backbone").eval()
    pictures = torch.randn(1, 3, 48, 64)
    x = original.maxpool(original.relu(original.bn1(original.conv1(pictures))))
    for stage in (original.layer1, original.layer2, original.layer3, original.layer4):
        x = stage(x)
    with torch.no_grad():
        torch.testing.assert_close(backbone(pictures), x, rtol=1e-3, atol=1e-3)
    tag = task.tags(state, {})["start"]
    assert "tensors of the body from resnet18.safetensors" in tag
    assert "as they were" not in tag


def test_a_network_without_maps_is_refused() -> None:
    with pytest.raises(Refusal, match="ProposalCNN has no part 'body' that gives maps"):
        SSD(3, (48, 64), 3, backbone=ProposalCNN)


def test_too_many_scales_are_refused() -> None:
    with pytest.raises(Refusal, match=r"a map of \(12, 16\) cells cannot be halved 4 times; give at most 4 lists"):
        SSD(3, (48, 64), 3, backbone=NETWORK, sizes=[[0.1]] * 5)
    with pytest.raises(Refusal, match=r"model\.sizes: is empty"):
        SSD(3, (48, 64), 3, backbone=NETWORK, sizes=[])


def test_confident_detections_are_drawn() -> None:
    task, state = make_task("ssd")
    batch = draw_batch(3)
    predictions = {key: values.numpy() for key, values in predict(task, state, batch["image"]).items()}
    predictions["scores"][0, :2] = SCORE_DRAWN
    figure = task.draw(state, predictions, batch)["detections"]
    assert [len(axes.texts) for axes in figure.axes] == [2, 0, 0]
