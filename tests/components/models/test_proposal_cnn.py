"""The network of proposals has the right number of parameters, and its parts form the network."""

from __future__ import annotations

import pytest
import torch

from components.errors import Refusal
from components.models.proposal_cnn import ProposalCNN


def test_parameters_by_hand() -> None:
    net = ProposalCNN(1, (24, 24), 11)
    convolutions = 9 * (1 * 16 + 16 * 32 + 32 * 64)
    norms = 2 * (16 + 32 + 64)
    assert sum(p.numel() for p in net.parameters()) == convolutions + norms + (64 * 9 + 1) * 128 + (128 + 1) * 11


def test_a_side_that_is_too_small_is_refused() -> None:
    assert ProposalCNN(1, (8, 8), 3)(torch.randn(2, 1, 8, 8)).shape == (2, 3)
    with pytest.raises(Refusal, match=r"task.side: 7 cannot be halved 3 times; set it to at least 8"):
        ProposalCNN(1, (7, 7), 3)


@pytest.mark.parametrize(("channels", "size"), [(1, (24, 24)), (3, (32, 16))])
def test_the_parts_form_the_network(channels: int, size: tuple[int, int]) -> None:
    net = ProposalCNN(channels, size, 5, widths=[4, 8], features=6).eval()
    x = torch.randn(3, channels, *size)
    maps = net.body(x)
    assert maps.shape == (3, 8 * size[0] // 4 * size[1] // 4)
    features = net.hidden(maps)
    assert features.shape == (3, 6)
    assert torch.equal(net.head(features), net(x))
    assert net(x[:0]).shape == (0, 5)
