"""Joint changes: a box stays round its object, whose mask follows the picture's pixels, and lost objects vanish."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from components.augment.jitter import ColorJitter
from components.augment.joint import (
    Colours,
    JointTransform,
    RandomCrop,
    RandomFlip,
    RandomScale,
    Scenery,
    Window,
    cut_window,
    vary_batch,
)
from components.data.masks import paint_classes, trace_boxes
from components.errors import Refusal

TRANSFORMS = {
    "flip": RandomFlip(),
    "crop": RandomCrop([40, 30]),
    "crop beyond": RandomCrop([60, 70]),
    "scale": RandomScale([0.5, 2.0]),
    "colours": Colours(partial(ColorJitter, brightness=0.2, contrast=0.2)),
}


def drawn(seed: int = 0, count: int = 16) -> Scenery:
    """Draw pictures 48 x 52 whose objects are filled ellipses, each of its own level; most do not touch an edge."""
    random = np.random.default_rng(seed)
    images, masks, maps, boxes, labels = [], [], [], [], []
    rows, columns = np.mgrid[:48, :52]
    for _ in range(count):
        instances = np.zeros((48, 52), np.int16)
        for number in range(1, 5):
            y, x, height, width = random.uniform([8, 8, 4, 4], [40, 44, 9, 9])
            instances[((rows - y) / height) ** 2 + ((columns - x) / width) ** 2 <= 1] = number
        instances = np.unique(instances, return_inverse=True)[1].reshape(48, 52).astype(np.int16)
        kinds = random.integers(0, 3, instances.max())
        maps.append(torch.from_numpy(instances))
        images.append(torch.from_numpy(0.2 * instances).float()[None])
        masks.append(torch.from_numpy(paint_classes(instances, kinds)))
        boxes.append(torch.from_numpy(trace_boxes(instances, len(kinds))))
        labels.append(torch.from_numpy(kinds))
    return Scenery(torch.stack(images), torch.stack(masks), torch.stack(maps), boxes, labels)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("seed", range(4))
def test_a_box_stays_round_its_object(name: str, seed: int) -> None:
    """Recompute every box from the changed mask: it lies inside the changed box, and nearly fills it if not cut."""
    before = drawn(seed)
    after = TRANSFORMS[name](before, generator(seed))
    height, width = after.images.shape[2:]
    checked = 0
    for boxes, labels, instances, mask in zip(after.boxes, after.labels, after.instances, after.mask, strict=True):
        assert len(boxes) == len(labels)
        traced = torch.from_numpy(trace_boxes(instances.numpy(), len(boxes)))
        assert set(instances.unique().tolist()) - {0} == set(range(1, len(boxes) + 1))
        assert (boxes[:, :2] <= traced[:, :2] + 1).all()
        assert (boxes[:, 2:] >= traced[:, 2:] - 1).all()
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([width, height, width, height])).all()
        inside = ((boxes[:, :2] > 0) & (boxes[:, 2:] < torch.tensor([width, height]))).all(1)
        slack = 1.0 if name in ("flip", "crop", "crop beyond", "colours") else 3.0
        assert ((boxes - traced)[inside].abs() <= slack).all()
        checked += int(inside.sum())
        # Pixels of an object that was removed keep their class in `mask`.
        expected = torch.from_numpy(paint_classes(instances.numpy(), labels.numpy()))
        assert torch.equal(mask[instances > 0], expected[instances > 0])
    assert checked > 10


@pytest.mark.parametrize("name", ["flip", "crop", "crop beyond"])
def test_the_index_map_follows_the_pixels(name: str) -> None:
    """Check that each object's pixels have one level: they moved with its mask, by whole pixels."""
    after = TRANSFORMS[name](drawn(3), generator(3))
    for image, instances in zip(after.images[:, 0], after.instances, strict=True):
        for number in range(1, int(instances.max()) + 1):
            levels = image[instances == number]
            assert (levels.max() - levels.min()) < 1e-4
            assert levels.min() > 0.1


def test_flip_and_crop_match_slicing() -> None:
    before = drawn(1, 4)
    full = torch.tensor([52.0, 48.0]).repeat(4, 1).T
    zero = torch.zeros(4)
    flipped = cut_window(before, Window(zero, zero, *full, torch.tensor([True, False, True, True])), (48, 52), 0.0)
    assert torch.allclose(flipped.images[0], before.images[0].flip(2), atol=1e-5)
    assert torch.equal(flipped.mask[0], before.mask[0].flip(1))
    assert torch.equal(flipped.instances[1], before.instances[1])
    mirrored = before.boxes[0][:, [2, 1, 0, 3]] * torch.tensor([-1, 1, -1, 1]) + torch.tensor([52, 0, 52, 0])
    assert torch.equal(flipped.boxes[0], mirrored)
    sides = torch.full((4,), 20.0)
    cut = cut_window(
        before, Window(torch.tensor([3.0, 0, 9, 32]), torch.tensor([5.0, 0, 7, 28]), sides, sides), (20, 20), 0
    )
    assert torch.allclose(cut.images[2], before.images[2][:, 7:27, 9:29], atol=1e-5)
    assert torch.equal(cut.mask[0], before.mask[0][5:25, 3:23])


def test_pixels_from_outside_are_not_judged() -> None:
    after = RandomCrop([60, 70])(drawn(), generator())
    assert (after.mask[:, 48:] == 255).all()
    assert (after.mask[:, :, 52:] == 255).all()
    assert (after.instances[:, 48:] == 0).all()
    assert (after.images[:, :, 49:] == 0).all()


def test_objects_that_are_mostly_cut_off_vanish_with_their_masks() -> None:
    instances = torch.zeros(1, 10, 20, dtype=torch.int16)
    instances[0, 2:6, 2:8] = 1
    instances[0, 5:9, 12:18] = 2
    boxes, labels = [torch.tensor([[2.0, 2, 8, 6], [12, 5, 18, 9]])], [torch.tensor([4, 7])]
    scenery = Scenery(torch.zeros(1, 1, 10, 20), None, instances, boxes, labels)
    right = Window(torch.tensor([6.0]), torch.zeros(1), torch.tensor([14.0]), torch.tensor([10.0]))
    after = cut_window(scenery, right, (10, 14), 0.5)
    assert after.labels[0].tolist() == [7]
    assert after.boxes[0].tolist() == [[6, 5, 12, 9]]
    assert after.instances.unique().tolist() == [0, 1]
    generous = cut_window(scenery, right, (10, 14), 0.3)
    assert generous.labels[0].tolist() == [4, 7]
    assert generous.boxes[0].tolist() == [[0, 2, 2, 6], [6, 5, 12, 9]]
    assert torch.equal(scenery.instances, instances)  # the batch itself stays as it is


def test_pictures_without_annotations_change_as_the_stream_says() -> None:
    plain = Scenery(drawn().images)
    for transform in TRANSFORMS.values():
        first, again = (transform(plain, generator(5)) for _ in range(2))
        assert torch.equal(first.images, again.images)
        assert first.mask is None
        assert first.boxes == []
    assert not torch.equal(RandomScale()(plain, generator(1)).images, RandomScale()(plain, generator(2)).images)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(Refusal, match=r"size: \[3\] must be \[height, width\]"):
        RandomCrop([3])
    with pytest.raises(Refusal, match="scale"):
        RandomScale([2.0, 1.0])
    transforms: list[JointTransform] = list(TRANSFORMS.values())
    assert len(transforms) == 5


def draw_columns() -> dict[str, Any]:
    """Return the columns of a detector's batch."""
    scenery = drawn()
    boxes = [box.numpy() for box in scenery.boxes]
    return {
        "image": (scenery.images * 255).round().to(torch.uint8).permute(0, 2, 3, 1),
        "boxes": boxes,
        "labels": [label.numpy() for label in scenery.labels],
        "instances": scenery.instances,
        "crowd": [box[:1] for box in boxes],
        "proposals": [box[::-1] for box in boxes],
        "row": torch.arange(len(boxes)),
    }


def test_a_detectors_columns_change_together() -> None:
    """Check pictures, boxes, masks, crowds and proposals against the joint change of each transform."""
    batch = draw_columns()
    assert vary_batch(batch, [], generator()) is batch
    for transform in (RandomFlip(1.0), RandomScale([0.5, 2.0], visible=0.0)):
        varied = vary_batch(batch, [transform], generator(3))
        images = batch["image"].permute(0, 3, 1, 2).float() / 255
        tensors = [[torch.from_numpy(np.array(rows)) for rows in batch[name]] for name in ("boxes", "labels")]
        expected = transform(Scenery(images, None, batch["instances"], *tensors), generator(3))
        assert varied["image"].dtype == torch.uint8
        assert varied["image"].shape == batch["image"].shape
        difference = varied["image"].permute(0, 3, 1, 2).float() / 255 - expected.images
        assert difference.abs().max() <= 0.5 / 255 + 1e-6
        assert torch.equal(varied["instances"], expected.instances)
        assert varied["row"] is batch["row"]
        for row in range(len(batch["row"])):
            assert np.array_equal(varied["boxes"][row], expected.boxes[row].numpy())
            assert np.array_equal(varied["labels"][row], expected.labels[row].numpy())
            # Boxes without a visible pixel leave the objects alone, so objects are some of the proposals.
            proposals = {tuple(box) for box in varied["proposals"][row].tolist()}
            assert {tuple(box) for box in varied["boxes"][row].tolist()} <= proposals
            assert len(varied["crowd"][row]) <= 1
    assert len(batch["boxes"][0]) == len(drawn().boxes[0])


def test_a_change_of_size_is_refused_for_detectors() -> None:
    with pytest.raises(Refusal, match=r"task.augment: makes pictures of 40 x 30, but .* 48 x 52; use augment.joint"):
        vary_batch(draw_columns(), [RandomCrop([40, 30])], generator())
