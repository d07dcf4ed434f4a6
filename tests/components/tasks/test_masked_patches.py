"""Patches cut and joined again, hidden ones that are not read, the same for all shards, and what is learned."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from components.data.digits import Digits
from components.errors import Refusal
from components.models.patches import PatchEncoder
from components.tasks.masked_patches import MaskedPatches
from components.training.task import Shard, Spec

SPEC = Spec({"image": (8, 8, 1), "label": ()}, tuple("0123456789"), {"mean": [0.3], "std": [0.4]})
SMALL = partial(PatchEncoder, patch=2, width=16, layers=1, heads=2, inner=32)


def pictures(count: int) -> dict:
    digits = Digits(labels=1000, size=8)
    images = np.stack([example["image"] for example, _ in zip(digits.examples("train", 0), range(count), strict=False)])
    return {"image": torch.from_numpy(images), "row": torch.arange(count)}


def test_patches_are_the_squares_of_the_picture() -> None:
    images = torch.arange(2 * 3 * 8 * 8).float().view(2, 3, 8, 8)
    patches = PatchEncoder(3, (8, 8), 5, patch=4).cut_patches(images)
    assert patches.shape == (2, 4, 48)
    assert torch.equal(patches[1, 2], images[1, :, 4:, :4].flatten())


def test_a_hidden_patch_is_not_read_and_equally_many_are_hidden() -> None:
    torch.manual_seed(0)
    task = MaskedPatches(SMALL, rate=0.25)
    hidden = task.hide_patches(list(range(50)), 16, step=3)
    assert (hidden.sum(1) == 4).all()
    assert (hidden.float().mean(0) > 0).all()
    assert torch.equal(task.hide_patches([7], 16, 3)[0], hidden[7])
    assert not torch.equal(task.hide_patches(list(range(50)), 16, step=4), hidden)
    net = SMALL(channels=1, size=(8, 8), classes=3)
    patches = torch.randn(5, 16, 4)
    changed = torch.where(hidden[:5, :, None], torch.randn_like(patches), patches)
    torch.testing.assert_close(net.encode(patches, hidden[:5]), net.encode(changed, hidden[:5]))
    assert not torch.allclose(net.encode(patches), net.encode(changed))


def test_the_loss_is_over_hidden_patches_alone_and_the_rest_is_unchanged() -> None:
    torch.manual_seed(0)
    task, batch = MaskedPatches(SMALL), pictures(6)
    state = task.setup(SPEC)
    with torch.no_grad():
        loss, _ = task.loss(state, Shard(batch, torch.Generator(), 0))
        predictions = task.predict(state, batch)
    assert float(loss) == pytest.approx(float(predictions["error"].mean()), rel=1e-5)
    hidden = task.hide_patches(list(range(6)), 16, 0)
    same = predictions["picture"] == batch["image"]
    squares = same[..., 0].unfold(1, 2, 2).unfold(2, 2, 2).flatten(3).all(3).flatten(1)
    assert squares[~hidden].all()
    assert not squares[hidden].all()


def test_the_pool_of_unlabelled_digits_is_never_tested_on() -> None:
    def contents(data: Digits, split: str) -> set[bytes]:
        return {example["image"].tobytes() for example in data.examples(split, 0)}

    pretraining, few = Digits(labels=1000, size=8), Digits(labels=50, pool=1000, validation=100, size=8)
    assert contents(few, "train") <= contents(pretraining, "train")
    for split in ("validation", "test"):
        assert not contents(few, split) & contents(pretraining, "train")
    with pytest.raises(Refusal, match=r"pool: 40 must be from 50 \(labels\)"):
        Digits(labels=50, pool=40)


def test_patches_that_do_not_fit_are_refused() -> None:
    with pytest.raises(Refusal, match=r"task.model.patch: 3 does not divide pictures of 8x8"):
        PatchEncoder(1, (8, 8), 10, patch=3)
    with pytest.raises(Refusal, match=r"task.model.width: 10 must be a multiple of heads: 4"):
        PatchEncoder(1, (8, 8), 10, width=10)
    with pytest.raises(Refusal, match="MaskedPatches needs a column 'image'"):
        MaskedPatches(SMALL).setup(Spec({"text": ()}, (), {}))
