"""The losses equal the formulas of Goodfellow et al. 2014, in probabilities."""

from __future__ import annotations

import pytest
import torch

from components.losses.adversarial import discriminator_loss, generator_loss


def test_losses_equal_the_formulas_in_probabilities() -> None:
    real, fake, mismatched = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    d_real, d_fake, d_mismatched = (part.sigmoid() for part in (real, fake, mismatched))
    expected = -d_real.log().mean() - (1 - d_fake).log().mean()
    assert discriminator_loss(real, fake).item() == pytest.approx(expected.item(), rel=1e-5)
    expected = -d_real.log().mean() - ((1 - d_fake).log().mean() + (1 - d_mismatched).log().mean()) / 2
    assert discriminator_loss(real, fake, mismatched).item() == pytest.approx(expected.item(), rel=1e-5)
    assert generator_loss(fake).item() == pytest.approx(-d_fake.log().mean().item(), rel=1e-5)


def test_the_generators_gradient_does_not_vanish_when_it_is_found_out() -> None:
    logits = torch.full((4,), -20.0, requires_grad=True)
    generator_loss(logits).backward()
    assert logits.grad is not None
    assert logits.grad.abs().sum().item() == pytest.approx(1, rel=1e-4)
