"""FCN: shapes for any picture, the bilinear start, skips, and its parameters."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.nn import functional as F

from components.errors import Refusal
from components.models.fcn import FCN
from components.models.resnet import ResNet

small = partial(ResNet, widths=[8, 16, 24], blocks=1, stem="cifar")


@pytest.mark.parametrize("skips", [0, 1, 2])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 47), (8, 4)])
def test_every_pixel_has_logits(skips: int, height: int, width: int) -> None:
    net = FCN(3, (32, 32), 5, backbone=small, skips=skips).eval()
    assert net(torch.randn(2, 3, height, width)).shape == (2, 5, height, width)


def test_it_starts_as_interpolated_scores() -> None:
    """Compare with torch's interpolation of the 1x1 convolution's scores, away from the edges."""
    net = FCN(3, (64, 64), 5, backbone=small).eval()
    x = torch.randn(2, 3, 64, 64)
    features = net.backbone.body(net.backbone.stem(x))
    expected = F.interpolate(net.head(features), scale_factor=4, mode="bilinear", align_corners=False)
    assert torch.allclose(net(x)[..., 4:-4, 4:-4], expected[..., 4:-4, 4:-4], atol=1e-5)
    skipping = FCN(3, (64, 64), 5, backbone=small, skips=2).eval()
    weights = {name: tensor for name, tensor in net.state_dict().items() if not name.startswith("upsampling")}
    skipping.load_state_dict(weights, strict=False)
    twice = F.interpolate(net.head(features), scale_factor=2, mode="bilinear", align_corners=False)
    twice = F.interpolate(twice, scale_factor=2, mode="bilinear", align_corners=False)
    # The details start with a weight of 0, so that only their biases are added, and those are the same everywhere.
    difference = skipping(x)[..., 8:-8, 8:-8] - twice[..., 8:-8, 8:-8]
    assert difference.std((2, 3)).max() < 1e-5


def test_the_size_of_the_notes() -> None:
    """Count the parameters of the ResNet-18 of the notes without its output layer, and of both new layers."""
    net = FCN(3, (64, 64), 21)
    resnet = sum(p.numel() for p in ResNet(3, (64, 64), 21).parameters()) - (512 * 21 + 21)
    assert net.stride == 32
    assert sum(p.numel() for p in net.parameters()) == resnet + 512 * 21 + 21 + 21 * 21 * 64 * 64
    with pytest.raises(Refusal, match="skips: 4 of 4 stages"):
        FCN(3, (64, 64), 21, skips=4)
