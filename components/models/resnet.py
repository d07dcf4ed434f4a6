"""ResNet: residual blocks with an optional 1x1 convolution as shortcut (He et al. 2016; notes: ResNet).

The defaults are the ResNet-18 of the notes, whose convolutions have biases. For one channel and 10 classes it has
11,178,378 parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import Refusal
from ..recipes.ranges import Count, Counts, Fraction

SAFE_CHANNELS = 16  # input channels from which on torch's strided 1x1 convolution is safe (see Shortcut)


class Shortcut(nn.Conv2d):
    """A 1x1 convolution of every `stride`-th position: [B, C_in, H, W] -> [B, C_out, H/stride, W/stride].

    With fewer than 16 input channels the positions are selected before the convolution. Otherwise oneDNN's gradient
    of a strided 1x1 convolution of channels-last pictures writes beyond its memory on a CPU, and the process aborts,
    at once or much later (oneDNN issue 6035, open in September 2026; torch 2.11 to 2.15 are affected).
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__(channels_in, channels_out, kernel_size=1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps [B, C_out, H/stride, W/stride] of x [B, C_in, H, W]."""
        step = self.stride[0]
        if step == 1 or self.in_channels >= SAFE_CHANNELS:
            return super().forward(x)
        return F.conv2d(x[:, :, ::step, ::step], self.weight, self.bias)


class Residual(nn.Module):
    """A residual block, f(x) = relu(x + g(x)): [B, C_in, H, W] -> [B, C_out, H/stride, W/stride]."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        stride: int = 1,
        norm: Callable[..., nn.Module] = nn.BatchNorm2d,
        shortcuts: bool = True,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, stride=stride)
        self.conv2 = nn.Conv2d(channels_out, channels_out, kernel_size=3, padding=1)
        self.bn1, self.bn2 = norm(channels_out), norm(channels_out)
        self.shortcuts = shortcuts
        reshapes = shortcuts and (stride != 1 or channels_in != channels_out)
        self.shortcut = Shortcut(channels_in, channels_out, stride) if reshapes else None

    def forward(self, x: Tensor) -> Tensor:
        """Return maps [B, C_out, H/stride, W/stride] of x [B, C_in, H, W]."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        if not self.shortcuts:
            return F.relu(y, inplace=True)
        if self.shortcut is not None:
            x = self.shortcut(x)
        return F.relu(y + x, inplace=True)


class ResNet(nn.Module):
    """Map images [B, channels, H, W] to logits [B, classes].

    widths: channels of each stage. blocks: residual blocks per stage; the first stage keeps the sides, each later one
    halves them. stem: "imagenet" is a 7x7 convolution of stride 2 and a 3x3 max pooling, as in the notes; "cifar" is a
    3x3 convolution that keeps the sides of small pictures. dropout: before the output layer. norm: makes the layer
    behind each convolution from its number of channels (None: no such layer; layers.batch_norm.BatchNorm: by the
    equations of the notes). shortcuts: false makes the plain network of the same depth, for comparison.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        classes: int,
        widths: Counts = [64, 128, 256, 512],  # noqa: B006  (never written to)
        blocks: Count = 2,
        stem: Literal["imagenet", "cifar"] = "imagenet",
        dropout: Fraction = 0.0,
        norm: Callable[..., nn.Module] | None = nn.BatchNorm2d,
        shortcuts: bool = True,
    ) -> None:
        super().__init__()
        if not widths:
            raise Refusal("model.widths: is empty, but a ResNet needs at least one stage; add a width")
        norm = norm or nn.Identity
        if stem == "imagenet":
            first = nn.Conv2d(channels, widths[0], kernel_size=7, stride=2, padding=3)
        else:
            first = nn.Conv2d(channels, widths[0], kernel_size=3, padding=1)
        self.stem = nn.Sequential(first, norm(widths[0]), nn.ReLU(inplace=True))
        if stem == "imagenet":
            self.stem.append(nn.MaxPool2d(kernel_size=3, stride=2, padding=1))
        self.stages, self.blocks = len(widths), blocks
        self.body = nn.Sequential()
        for stage, (fan_in, width) in enumerate(zip([widths[0], *widths], widths, strict=False)):
            for block in range(blocks):
                first_of_stage = block == 0
                stride = 2 if stage > 0 and first_of_stage else 1
                self.body.append(Residual(fan_in if first_of_stage else width, width, stride, norm, shortcuts))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, classes] of images [B, channels, H, W]."""
        x = self.body(self.stem(x))
        return self.head(self.dropout(x.mean((2, 3))))

    def from_torchvision(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of torchvision's ResNet-18 by the names of this network, without the output layer.

        torchvision's convolutions have no biases, which become 0. Its shortcuts have batch normalisation, which is
        folded into the convolution, so that in evaluation both networks compute the same.
        """
        places = {"conv1": "stem.0", "bn1": "stem.1"}
        for index in range(self.stages * self.blocks):
            source, target = f"layer{index // self.blocks + 1}.{index % self.blocks}", f"body.{index}"
            places |= {f"{source}.{layer}": f"{target}.{layer}" for layer in ("conv1", "bn1", "conv2", "bn2")}
            places[f"{source}.downsample.0"] = f"{target}.shortcut"
        tensors: dict[str, Tensor] = {}
        for source, target in places.items():
            layer = _tensors_of_layer(weights, source)
            if source.endswith("downsample.0") and layer:
                norm = _tensors_of_layer(weights, source.replace("downsample.0", "downsample.1"))
                layer = fold_batch_norm(layer["weight"], norm)
            elif "conv" in source and layer:
                layer["bias"] = torch.zeros(len(layer["weight"]))
            tensors |= {f"{target}.{name}": tensor for name, tensor in layer.items()}
        return tensors


def fold_batch_norm(weight: Tensor, norm: dict[str, Tensor], eps: float = 1e-5) -> dict[str, Tensor]:
    """Return {weight, bias} of a convolution that equals one without a bias, followed by batch normalisation."""
    scale = norm["weight"] / (norm["running_var"] + eps).sqrt()
    return {"weight": weight * scale.view(-1, 1, 1, 1), "bias": norm["bias"] - norm["running_mean"] * scale}


def _tensors_of_layer(weights: dict[str, Tensor], layer: str) -> dict[str, Tensor]:
    """Return {name within the layer: tensor} of the tensors that belong to `layer`."""
    return {name.rpartition(".")[2]: tensor for name, tensor in weights.items() if name.rpartition(".")[0] == layer}
