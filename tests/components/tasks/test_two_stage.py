"""Fast and Faster R-CNN sample regions by overlap and predict each row by itself, in the picture's own pixels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision import ops

from components.data.proposals import Search
from components.errors import Refusal
from components.layers.anchors import Objects
from components.layers.boxes import decode_offsets, encode_offsets
from components.models.fast_rcnn import FastRCNN
from components.models.faster_rcnn import FasterRCNN
from components.models.feature_net import FeatureNet
from components.models.mask_rcnn import MaskRCNN
from components.recipes import recipe
from components.tasks.two_stage import TwoStage
from components.training.task import Shard, Spec, State, Task

ROOT = Path(__file__).parents[3]

SPEC = Spec(
    {"image": (48, 64, 3), "instances": (48, 64)}, ("a", "b", "c"), {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.2, 0.3]}
)
NETWORK = partial(FeatureNet, widths=[4, 6, 8])
MODELS: dict[str, Callable[..., Any]] = {
    "fast": partial(FastRCNN, backbone=NETWORK, side=3, hidden=8),
    "faster": partial(FasterRCNN, backbone=NETWORK, side=3, hidden=8),
    "mask": partial(MaskRCNN, backbone=NETWORK, side=3, hidden=8, mask_side=4, width=6),
}
each_model = pytest.mark.parametrize("name", MODELS)


def make_task(name: str, **arguments: Any) -> tuple[TwoStage, State]:
    torch.manual_seed(0)
    task = TwoStage(MODELS[name], search=partial(Search, most=20), most=10, **arguments)
    state = task.setup(SPEC)
    state.modules["net"].eval()
    return task, state


def draw_boxes(random: np.random.Generator, count: int) -> np.ndarray:
    first = random.uniform(0, 30, (count, 2))
    return np.concatenate([first, first + random.uniform(4, 18, (count, 2))], 1).astype(np.float32)


def draw_batch(rows: int) -> dict[str, Any]:
    random = np.random.default_rng(0)
    images = torch.from_numpy(random.integers(0, 256, (rows, 48, 64, 3), dtype=np.uint8))
    boxes = [draw_boxes(random, row % 3) for row in range(rows)]
    proposals = [np.concatenate([box + 1, draw_boxes(random, 5)]) for box in boxes]
    instances = [random.integers(0, len(box) + 1, (48, 64)).astype(np.int16) for box in boxes]
    return {
        "image": images,
        "boxes": boxes,
        "labels": [np.arange(len(box)) for box in boxes],
        "instances": torch.from_numpy(np.stack(instances)),
        "proposals": [proposal[: len(proposal) - row] for row, proposal in enumerate(proposals)],
    }


@each_model
def test_a_rows_detections_do_not_depend_on_other_rows(name: str) -> None:
    task, state = make_task(name)
    batch = draw_batch(5)
    with torch.no_grad():
        together = task.predict(state, batch)
        for row in range(5):
            alone = task.predict(state, {key: values[row : row + 1] for key, values in batch.items()})
            for key, values in alone.items():
                torch.testing.assert_close(values[0], together[key][row], rtol=1e-4, atol=1e-3)
    assert together["boxes"].shape == (5, 10, 4)
    assert (together["labels"] >= 0).any()
    assert (together["scores"][together["labels"] < 0] == 0).all()


@each_model
def test_a_served_model_takes_pictures_of_any_size(name: str) -> None:
    """Check that proposals are searched where none come with the picture, and boxes are in the picture's pixels."""
    task, state = make_task(name)
    with torch.no_grad():
        for height, width in ((48, 64), (200, 90)):
            image = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (2, height, width, 3), dtype=np.uint8))
            detections = task.predict(state, {"image": image})
            assert (detections["boxes"] <= torch.tensor([width, height, width, height])).all()
            assert detections["boxes"].max() > 64 or height == 48


@each_model
def test_pictures_without_objects_or_proposals_have_a_finite_loss(name: str) -> None:
    task, state = make_task(name)
    batch = draw_batch(1) | {"proposals": [np.zeros((0, 4), np.float32)]}
    loss, terms = task.loss(state, Shard(batch, torch.Generator(), 0))
    gradients = torch.autograd.grad(loss, list(state.modules["net"].parameters()), allow_unused=True)
    assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)
    assert terms["offset_loss"] == 0


def test_the_loss_of_regions_equals_loops() -> None:
    """Check labels by overlap, the class's own offsets, and means over pictures, when all regions are taken."""
    task, state = make_task("fast", samples=100, foreground=1.0)
    batch = draw_batch(5)
    _, terms = task.loss(state, Shard(batch, torch.Generator(), 0))
    net: Any = state.modules["net"]
    with torch.no_grad():
        maps = net((batch["image"].permute(0, 3, 1, 2) / 255 - task.mean) / task.std)
    classes = offsets = 0.0
    for row in range(5):
        true = torch.from_numpy(batch["boxes"][row])
        regions = torch.cat([true, torch.from_numpy(batch["proposals"][row])])
        logits, moves = (values[0].detach() for values in net.classify(maps[row : row + 1], regions[None]))
        by_region: list[Tensor] = []
        distance = 0.0
        for region, logit, move in zip(regions, logits, moves, strict=True):
            overlap = ops.box_iou(region[None], true)[0]
            label = 3
            if len(true) and overlap.max() >= 0.5:
                label = int(batch["labels"][row][overlap.argmax()])
                target = encode_offsets(true[overlap.argmax()], region)
                distance += torch.nn.functional.smooth_l1_loss(move[label], target, reduction="sum").item()
            by_region.append(-logit.log_softmax(0)[label])
        classes += torch.stack(by_region).mean().item() / 5
        offsets += distance / len(regions) / 5
    assert terms["class_loss"] == pytest.approx(classes, rel=1e-4)
    assert terms["offset_loss"] == pytest.approx(offsets, rel=1e-3)
    assert offsets > 0


def test_the_proposals_are_the_best_anchors_without_near_copies() -> None:
    _, state = make_task("faster")
    net: Any = state.modules["net"]
    generator = torch.Generator().manual_seed(0)
    count = len(net.proposals.anchors)
    logits, offsets = torch.randn(2, count, generator=generator), torch.randn(2, count, 4, generator=generator)
    regions, is_real = net.proposals.select(logits, offsets, 60, 0.5, 12)
    for row in range(2):
        best = logits[row].argsort(descending=True)[:60]
        moved = ops.clip_boxes_to_image(decode_offsets(offsets[row], net.proposals.anchors)[best], (48, 64))
        large = moved[ops.remove_small_boxes(moved, 1.0)]
        expected = large[ops.nms(large, torch.arange(len(large), 0, -1.0), 0.5)][:12]
        assert torch.equal(regions[row][is_real[row]], expected)


def test_anchors_learn_which_of_them_show_objects() -> None:
    """Check both losses of the proposals at outputs that are right, and at outputs that are wrong."""
    task, state = make_task("faster", samples=100_000, foreground=1.0)
    anchors = state.modules["net"].proposals.anchors
    boxes, generator = anchors[None, [40, 200]], torch.Generator()
    objects = Objects(boxes, torch.tensor([[0, 1]]), torch.zeros(1, 0, 4))
    overlap = ops.box_iou(anchors, boxes[0]).max(1).values
    logits = torch.where(overlap > 0.5, 30.0, -30.0)[None]
    offsets = torch.stack([encode_offsets(boxes[0][ops.box_iou(anchors, boxes[0]).argmax(1)], anchors)])
    right = task._proposal_losses(anchors, logits, offsets, objects, generator)
    assert right["objectness_loss"] == pytest.approx(0, abs=1e-6)
    assert right["proposal_loss"] == pytest.approx(0, abs=1e-6)
    wrong = task._proposal_losses(anchors, -logits, offsets + 1, objects, generator)
    counts = int((overlap >= 0.7).sum()), int((overlap < 0.3).sum())
    assert wrong["objectness_loss"] == pytest.approx(30, abs=1e-3)
    assert wrong["proposal_loss"] == pytest.approx(4 * 0.5 * counts[0] / sum(counts), rel=1e-3)


def test_masks_learn_the_pixels_of_their_objects() -> None:
    """Check the loss of masks against a loop over the regions with objects."""
    task, state = make_task("mask", samples=100, foreground=1.0)
    net: Any = state.modules["net"]
    maps = torch.randn(2, 8, *net.backbone.grid, generator=torch.Generator().manual_seed(0))
    instances = torch.zeros(2, 48, 64, dtype=torch.int16)
    instances[0, 8:24, 16:32], instances[1, 0:16, 0:8] = 1, 2
    regions = torch.tensor([[[16.0, 8, 32, 24], [8, 0, 40, 32]], [[0, 0, 16, 16], [0, 0, 8, 8]]])
    labels, objects = torch.tensor([[2, 0], [1, 1]]), torch.tensor([[0, 0], [1, 0]])
    is_object = torch.tensor([[True, True], [True, False]])
    loss = task._mask_loss(net, maps, regions, labels, objects, is_object, instances)
    means = []
    for picture in range(2):
        values = []
        for row in range(2):
            if not is_object[picture, row]:
                continue
            x1, y1, x2, y2 = regions[picture, row].int().tolist()
            shows = (instances[picture, y1:y2, x1:x2] == objects[picture, row] + 1).float()
            target = torch.nn.functional.adaptive_avg_pool2d(shows[None], 8)[0] >= 0.5
            aligned = ops.roi_align(maps[picture : picture + 1], [regions[picture, row : row + 1]], 4, 0.25, 2, True)
            logits = net.masks(aligned)[0, labels[picture, row]]
            values.append(torch.nn.functional.binary_cross_entropy_with_logits(logits, target.float()))
        means.append(torch.stack(values).mean())
    torch.testing.assert_close(loss, torch.stack(means).mean())


def test_masks_lie_in_their_boxes_and_padding_has_none() -> None:
    task, state = make_task("mask")
    with torch.no_grad():
        detections = task.predict(state, {"image": torch.randint(0, 256, (2, 150, 90, 3), dtype=torch.uint8)})
    masks = detections["masks"]
    assert masks.dtype == torch.uint8
    assert masks.shape == (2, 10, 150, 90)
    y, x = torch.arange(150)[:, None] + 0.5, torch.arange(90) + 0.5
    x1, y1, x2, y2 = (side[..., None, None] for side in detections["boxes"].unbind(-1))
    is_inside = (x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)
    assert not (masks.bool() & ~is_inside).any()
    assert not masks[detections["labels"] < 0].any()


def test_neither_anchors_nor_regions_in_a_crowd_are_background() -> None:
    """Check that what lies in a crowd adds nothing to a loss, and that the rest does as before."""
    task, state = make_task("faster", samples=100_000, foreground=1.0)
    net: Any = state.modules["net"]
    anchors, generator = net.proposals.anchors, torch.Generator()
    boxes, labels = torch.zeros(1, 0, 4), torch.zeros(1, 0, dtype=torch.int64)
    crowd = torch.tensor([[[0.0, 0, 32, 48]]])
    inside = ops.box_area(ops.clip_boxes_to_image(anchors, (48, 32))) >= 0.5 * ops.box_area(anchors)
    assert 0 < inside.sum() < len(anchors)
    logits = torch.where(inside, 50.0, 0.5)[None]
    offsets = torch.zeros(1, len(anchors), 4)
    losses = task._proposal_losses(anchors, logits, offsets, Objects(boxes, labels, crowd), generator)
    assert losses["objectness_loss"] == pytest.approx(np.log1p(np.exp(0.5)), rel=1e-5)
    fast, state = make_task("fast", samples=100, foreground=1.0)
    batch = draw_batch(4)
    everywhere = np.array([[0, 0, 64, 48]], np.float32)
    _, terms = fast.loss(state, Shard(batch | {"crowd": [everywhere] * 4}, torch.Generator(), 0))
    objects = []
    for proposals, true in zip(batch["proposals"], batch["boxes"], strict=True):
        overlaps = ops.box_iou(torch.from_numpy(proposals), torch.from_numpy(true))
        objects.append(proposals[(overlaps >= 0.5).any(1).numpy()])
    _, expected = fast.loss(state, Shard(batch | {"proposals": objects}, torch.Generator(), 0))
    assert terms["class_loss"] == pytest.approx(expected["class_loss"].item(), rel=1e-5)
    _, others = fast.loss(state, Shard(batch, torch.Generator(), 0))
    assert others["class_loss"] != pytest.approx(expected["class_loss"].item(), rel=1e-3)


def test_detections_in_a_crowd_are_ignored_and_the_crowds_counted() -> None:
    task, _ = make_task("mask")
    boxes = np.array([[[0, 0, 10, 10], [30, 20, 40, 30], [0, 0, 0, 0]]], np.float32)
    predictions = {"boxes": boxes, "scores": np.array([[0.5, 0.9, 0]], np.float32), "labels": np.array([[1, 1, -1]])}
    instances = np.zeros((1, 48, 64), np.int16)
    instances[0, :10, :10] = 1
    masks = np.zeros((1, 3, 48, 64), np.uint8)
    masks[0, 0, :10, :10] = masks[0, 1, 20:30, 30:40] = 1
    targets = {"boxes": [boxes[0, :1]], "labels": [np.array([1])], "instances": instances}
    without = task.score(predictions | {"masks": masks}, targets)
    assert without["map50"] == without["mask_map50"] == pytest.approx(0.5)
    crowd = {"crowd": [np.array([[20, 10, 64, 48]], np.float32)], "crowd_labels": [np.array([1])]}
    scores = task.score(predictions | {"masks": masks}, targets | crowd)
    assert scores["map50"] == scores["mask_map50"] == pytest.approx(1)
    assert scores["not_judged"] == scores["mask_not_judged"] == 1


def test_masks_need_index_maps() -> None:
    task = TwoStage(MODELS["mask"])
    with pytest.raises(Refusal, match="masks need a column 'instances', which the data lack"):
        task.setup(Spec({"image": (48, 64, 3)}, SPEC.classes, SPEC.statistics))
    task.setup(SPEC)
    assert "instances" in task.targets
    assert "instances" not in TwoStage.targets


@pytest.mark.parametrize("system", ["ssd-bccd", "fast-rcnn-bccd", "faster-rcnn-raccoon", "mask-rcnn-nuclei"])
def test_recipes_change_pictures_with_their_boxes_in_training_alone(system: str) -> None:
    """Check that a recipe's transforms act in the loss, draw from the shard's stream, and not in predictions."""
    section = recipe.load(ROOT / "pipelines" / "detection" / f"{system}.yaml")["task"]
    task, plain = (recipe.build(section | changes, Task) for changes in ({}, {"augment": []}))
    torch.manual_seed(0)
    state = task.setup(SPEC)
    plain.setup(SPEC)
    batch = draw_batch(4)
    losses = [
        changed.loss(state, Shard(batch, torch.Generator().manual_seed(seed), 0))[0].item()
        for changed, seed in ((task, 1), (task, 1), (task, 2), (plain, 1))
    ]
    assert losses[0] == losses[1]
    assert len({round(loss, 6) for loss in losses[1:]}) == 3
    state.modules["net"].eval()
    with torch.no_grad():
        predictions = [changed.predict(state, batch) for changed in (task, plain)]
    assert all(torch.equal(values, predictions[1][name]) for name, values in predictions[0].items())
