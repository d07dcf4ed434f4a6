"""pix2pix: a U-Net generator and a discriminator of patches (Isola et al. 2017; notes: image translation).

As in the paper: convolutions of 4x4 with stride 2, leaky ReLU on the way down, ReLU on the way up, batch normalisation
except in the first layer. Smaller than there; the generator has no noise, which the paper found to be ignored.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import Refusal
from ..recipes.ranges import Counts
from .dcgan import half_sides, init_weights


class Generator(nn.Module):
    """Map pictures [B, *source] to pictures [B, *shape] in -1..1, both (C, H, W) with the same sides.

    widths: channels of the convolutions that halve the sides. The layers that double them again also see the features
    of the same size from the way down.
    """

    def __init__(
        self,
        source: tuple[int, ...],
        shape: tuple[int, ...],
        widths: Counts = [32, 64, 128],  # noqa: B006  (never written to)
    ) -> None:
        super().__init__()
        half_sides(shape, len(widths))
        self.down = nn.ModuleList(_halving_layers(source[0], widths))
        self.up = nn.ModuleList()
        fan_in = widths[-1]
        for fan_out in reversed(widths[:-1]):
            layer = nn.ConvTranspose2d(fan_in, fan_out, kernel_size=4, stride=2, padding=1, bias=False)
            self.up.append(nn.Sequential(layer, nn.BatchNorm2d(fan_out), nn.ReLU()))
            fan_in = 2 * fan_out
        self.head = nn.ConvTranspose2d(fan_in, shape[0], kernel_size=4, stride=2, padding=1)
        self.apply(init_weights)

    def forward(self, source: Tensor) -> Tensor:
        """Return pictures [B, *shape] of pictures [B, *source]."""
        features = []
        for layer in self.down:
            source = layer(source)
            features.append(source)
        x = features.pop()
        for layer in self.up:
            x = torch.cat([layer(x), features.pop()], dim=1)
        return self.head(x).tanh()


class Discriminator(nn.Module):
    """Map pictures [B, *shape] and their sources [B, *source] to one logit per patch [B, h, w].

    widths: channels of the convolutions that halve the sides; two of them see patches of 18 pixels, three of 38.
    """

    def __init__(
        self,
        source: tuple[int, ...],
        shape: tuple[int, ...],
        widths: Counts = [32, 64],  # noqa: B006
    ) -> None:
        super().__init__()
        if not min(shape[1:]) >> len(widths):
            raise Refusal(
                f"task.discriminator.widths: pictures of {shape[1]}x{shape[2]} cannot be halved {len(widths)} times;"
                " give fewer widths"
            )
        self.body = nn.Sequential(*_halving_layers(source[0] + shape[0], widths))
        self.head = nn.Conv2d(widths[-1], 1, kernel_size=3, padding=1)
        self.apply(init_weights)

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        """Return logits [B, h, w] of pictures [B, *shape] with their sources [B, *source]."""
        return self.head(self.body(torch.cat([x, source], dim=1))).squeeze(1)


def _halving_layers(channels: int, widths: list[int]) -> list[nn.Module]:
    """Return one layer per width, each of which halves the sides."""
    layers: list[nn.Module] = []
    for index, (fan_in, fan_out) in enumerate(zip([channels, *widths], widths, strict=False)):
        convolution = nn.Conv2d(fan_in, fan_out, kernel_size=4, stride=2, padding=1, bias=index == 0)
        norm = [nn.BatchNorm2d(fan_out)] if index else []
        layers.append(nn.Sequential(convolution, *norm, nn.LeakyReLU(0.2)))
    return layers
