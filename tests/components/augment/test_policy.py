"""Each change of the policies against torchvision's own policy code, picture by picture, at the same magnitude."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from components.augment import draws, policy
from components.augment.policy import (
    BINS,
    CHANGES,
    MOVES,
    RAND_LEVELS,
    TRIVIAL_LEVELS,
    UNSIGNED,
    RandAugment,
    TrivialAugment,
)
from components.errors import Refusal

NAMES = {kind: "".join(word.title() for word in kind.split("_")) for kind in CHANGES} | {"autocontrast": "AutoContrast"}
ORACLES = {"rand": v2.RandAugment(interpolation=2), "wide": v2.TrivialAugmentWide(interpolation=2)}  # 2: bilinear


def pictures(count: int, channels: int = 3) -> Tensor:
    """Return pictures with whole grey levels, as in training; the first is flat, the second nearly flat."""
    images = torch.randint(0, 256, (count, channels, 14, 11), generator=torch.Generator().manual_seed(0)) / 255
    images[0], images[1] = 0.4, images[1] * 0.1 + 0.3
    return images


def test_the_changes_are_those_of_torchvision() -> None:
    for oracle in ORACLES.values():
        assert set(NAMES.values()) == set(oracle._AUGMENTATION_SPACE)


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("space", ORACLES)
@pytest.mark.parametrize("kind", CHANGES)
def test_each_change_matches_torchvision_at_the_same_magnitude(kind: str, space: str, channels: int) -> None:
    oracle, top = ORACLES[space], {"rand": RAND_LEVELS, "wide": TRIVIAL_LEVELS}[space]
    images = pictures(BINS, channels)
    table, signed = oracle._AUGMENTATION_SPACE[NAMES[kind]]
    magnitudes = table(BINS, 14, 11)
    scale = top.get(kind, 1.0)
    if space == "rand" and kind.startswith("translate"):
        scale *= 11 if kind.endswith("x") else 14
    assert signed == (kind not in UNSIGNED)
    for sign in (1, -1) if signed else (1,):
        amount = sign * torch.arange(BINS) / (BINS - 1) * scale
        changed = policy.apply_change(kind, images, amount)
        for row, image in enumerate(images):
            magnitude = 0.0 if magnitudes is None else sign * float(magnitudes[row])
            expected = oracle._apply_image_or_video_transform(image, NAMES[kind], magnitude, oracle.interpolation, {})
            off = (changed[row] - expected).abs() > 1e-4
            assert off.float().mean() < (5e-3 if kind == "solarize" else 1e-3), (row, magnitude)


def test_each_picture_gets_its_own_change_and_keeps_its_place(monkeypatch) -> None:
    """Every picture of a batch equals the result of its change on it alone."""
    drawn: list[list[str]] = []

    class RecordedRandom(draws.random.Random):
        def choices(self, population, k):  # type: ignore[no-untyped-def]
            drawn.append(super().choices(population, k=k))
            return drawn[-1]

    monkeypatch.setattr(draws.random, "Random", RecordedRandom)
    images = pictures(300)
    changed = RandAugment(changes=1, magnitude=20)(images, torch.Generator().manual_seed(3))
    counts = Counter(drawn[0])
    assert set(counts) == set(CHANGES)
    for row, kind in enumerate(drawn[0]):
        scale = RAND_LEVELS.get(kind, 1.0) * {"translate_x": 11, "translate_y": 14}.get(kind, 1)
        alone = [policy.apply_change(kind, images[row : row + 1], torch.tensor([s * 20 / 30 * scale])) for s in (1, -1)]
        options = alone[:1] if kind in UNSIGNED else alone
        assert any(torch.allclose(changed[row], option[0], atol=1e-5) for option in options), (row, kind)


def test_both_signs_and_all_magnitudes_are_drawn() -> None:
    same = pictures(3)[2:3].expand(6000, -1, -1, -1).contiguous()
    out = TrivialAugment()(same, torch.Generator().manual_seed(0))
    kinds = len({picture.numpy().tobytes() for picture in out})
    signed = len(CHANGES) - len(UNSIGNED)
    assert kinds > 0.5 * (2 * signed * (BINS - 1))
    assert kinds <= 2 * signed * BINS + 2 * BINS + 8 * len(MOVES)


def test_a_magnitude_above_the_scale_is_refused() -> None:
    with pytest.raises(Refusal, match="magnitude: 31 is above 30"):
        RandAugment(magnitude=31)
