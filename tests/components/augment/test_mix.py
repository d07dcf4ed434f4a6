"""mixup and CutMix match torchvision's, their shares follow SciPy's Beta distribution, and the loss mixes labels."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch.nn import functional as F
from torchvision.transforms import v2

from components.augment import mix
from components.augment.mix import CutMix, MixUp
from components.models.softmax import Softmax
from components.tasks.classification import Classification
from components.training.task import Shard, Spec


def pictures(count: int = 12) -> torch.Tensor:
    return torch.rand(count, 3, 10, 14, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("seed", range(4))
def test_mixup_matches_torchvision_with_the_same_share(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels, oracle = pictures(), torch.arange(12) % 5, v2.MixUp(alpha=0.4, num_classes=5)
    share = torch.rand(1, generator=torch.Generator().manual_seed(seed))
    monkeypatch.setattr(oracle, "make_params", lambda flat: {"lam": float(share)})
    expected, soft = oracle(images.clone(), labels)
    assert torch.allclose(mix.mix_pairs(images, share.expand(12)), expected, atol=1e-6)
    ours = F.one_hot(labels, 5).float()
    assert torch.allclose(torch.lerp(ours.roll(1, 0), ours, share), soft, atol=1e-6)


@pytest.mark.parametrize("seed", range(12))
def test_cutmix_matches_torchvision_with_the_same_box(seed: int) -> None:
    """Repeat torchvision's draws from its stream: the share, then column and row of the centre."""
    images, labels, oracle = pictures(), torch.arange(12) % 5, v2.CutMix(alpha=1.0, num_classes=5)
    torch.manual_seed(seed)
    expected, soft = oracle(images.clone(), labels)
    torch.manual_seed(seed)
    share = float(oracle._dist.sample(()))
    column, row = int(torch.randint(14, size=(1,))), int(torch.randint(10, size=(1,)))
    area = torch.full((12,), 1 - share)
    pasted, remaining = mix.paste_boxes(
        images, area, torch.full((12,), (row + 0.5) / 10), torch.full((12,), (column + 0.5) / 14)
    )
    assert torch.equal(pasted, expected)
    ours = F.one_hot(labels, 5).float()
    assert torch.allclose(torch.lerp(ours.roll(1, 0), ours, remaining[:, None]), soft, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_shares_follow_the_beta_distribution(alpha: float) -> None:
    drawn = mix.draw_beta(alpha, 4000, torch.Generator().manual_seed(0)).double().numpy()
    assert stats.kstest(drawn.clip(1e-9, 1 - 1e-9), stats.beta(alpha, alpha).cdf).pvalue > 1e-3


@pytest.mark.parametrize("transform", [MixUp(0.4), CutMix()], ids=["mixup", "cutmix"])
def test_the_stream_decides_per_picture(transform) -> None:
    images = pictures(40)
    (first, share), (again, _) = (transform(images, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, transform(images, torch.Generator().manual_seed(6))[0])
    assert len(set(share.tolist())) > 10
    assert torch.equal(images, pictures(40))


@pytest.mark.parametrize("criterion", ["cross_entropy", "mse"])
@pytest.mark.parametrize("use", [MixUp, CutMix])
def test_the_loss_mixes_labels(use: type, criterion: str) -> None:
    task = Classification(Softmax, mix=use, criterion=criterion, label_smoothing=0.1 if criterion != "mse" else 0.0)
    images = torch.randint(0, 256, (16, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    batch = {"image": images, "label": torch.arange(16) % 4}
    torch.manual_seed(0)
    state = task.setup(Spec({"image": (8, 8, 3), "label": ()}, tuple("abcd"), {"mean": [0.5] * 3, "std": [0.2] * 3}))
    loss, metrics = task.loss(state, Shard(batch, torch.Generator().manual_seed(1), 0))
    pixels, share = use()(task.pixels(batch), torch.Generator().manual_seed(1))
    logits = state.modules["net"](pixels)
    others = batch["label"].roll(1)
    if criterion == "mse":
        truth = share[:, None] * F.one_hot(batch["label"], 4) + (1 - share[:, None]) * F.one_hot(others, 4)
        expected = (logits.softmax(1) - truth).square().sum(1).mean()
    else:
        own, other = (
            F.cross_entropy(logits, labels, label_smoothing=0.1, reduction="none")
            for labels in (batch["label"], others)
        )
        expected = (share * own + (1 - share) * other).mean()
    assert math.isclose(loss.item(), expected.item(), rel_tol=1e-5)
    predicted = logits.argmax(1)
    right = share * (predicted == batch["label"]) + (1 - share) * (predicted == others)
    assert metrics["accuracy"].item() == pytest.approx(right.mean().item(), rel=1e-5)


def test_evaluation_does_not_mix() -> None:
    plain, mixing = Classification(Softmax), Classification(Softmax, mix=MixUp)
    spec = Spec({"image": (8, 8, 3), "label": ()}, tuple("abcd"), {"mean": [0.5] * 3, "std": [0.2] * 3})
    torch.manual_seed(0)
    state = plain.setup(spec)
    mixing.setup(spec)
    batch = {"image": torch.randint(0, 256, (6, 8, 8, 3), dtype=torch.uint8)}
    assert torch.equal(plain.predict(state, batch)["probability"], mixing.predict(state, batch)["probability"])
