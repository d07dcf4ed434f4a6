"""ResNet by the notes: residual blocks with an optional 1x1 shortcut; convolution biases kept (He et al. 2016).

The defaults are the notes' ResNet-18: 11,178,378 parameters for one channel and 10 classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import Refusal
from ..recipes.ranges import Count, Fraction

SAFE_CHANNELS = 16  # input channels


class Shortcut(nn.Conv2d):
    """A convolution of 1x1 at every `stride`-th place: [B, C_in, H, W] -> [B, C_out, H/stride, W/stride].

    For fewer than 16 input channels the places are picked before the convolution. On a processor oneDNN's gradient of
    a strided 1x1 convolution of channels-last pictures writes behind its memory there (its issue 6035, open in
    September 2026; torch 2.11 to 2.15 have it): the process aborts, at once or much later.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__(channels_in, channels_out, kernel_size=1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        step = self.stride[0]
        if step == 1 or self.in_channels >= SAFE_CHANNELS:
            return super().forward(x)
        return F.conv2d(x[:, :, ::step, ::step], self.weight, self.bias)


class Residual(nn.Module):
    """f(x) = relu(x + g(x)): [B, C_in, H, W] -> [B, C_out, H/stride, W/stride]."""

    def __init__(
        self, channels_in: int, channels_out: int, stride: int = 1, norm: Callable[..., nn.Module] = nn.BatchNorm2d
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, stride=stride)
        self.conv2 = nn.Conv2d(channels_out, channels_out, kernel_size=3, padding=1)
        self.bn1, self.bn2 = norm(channels_out), norm(channels_out)
        reshapes = stride != 1 or channels_in != channels_out
        self.shortcut = Shortcut(channels_in, channels_out, stride) if reshapes else None

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)), inplace=True)


class ResNet(nn.Module):
    """Images [B, channels, H, W] -> logits [B, classes].

    widths: channels of each stage; blocks: residual blocks in each stage; the first stage keeps the size, each later
    one halves it. stem: "imagenet" is the notes' 7x7 stride 2 and 3x3 max pooling; "cifar" a 3x3 convolution that
    keeps small pictures whole. dropout acts before the output layer. norm: the layer behind each convolution (None: no
    such thing; layers.batch_norm.BatchNorm: by its equations).
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        classes: int,
        widths: list[Count] = [64, 128, 256, 512],  # noqa: B006  (never written to)
        blocks: Count = 2,
        stem: Literal["imagenet", "cifar"] = "imagenet",
        dropout: Fraction = 0.0,
        norm: Callable[..., nn.Module] | None = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        if not widths:
            raise Refusal("model.widths: names no stage; give at least one width")
        norm = norm or nn.Identity
        first = (
            [nn.Conv2d(channels, widths[0], kernel_size=7, stride=2, padding=3)]
            if stem == "imagenet"
            else [nn.Conv2d(channels, widths[0], kernel_size=3, padding=1)]
        )
        self.stem = nn.Sequential(*first, norm(widths[0]), nn.ReLU(inplace=True))
        if stem == "imagenet":
            self.stem.append(nn.MaxPool2d(kernel_size=3, stride=2, padding=1))
        self.stages, self.blocks = len(widths), blocks
        stages = zip([widths[0], *widths], widths, strict=False)
        self.body = nn.Sequential(
            *(
                Residual(fan_in if block == 0 else width, width, 2 if stage and block == 0 else 1, norm)
                for stage, (fan_in, width) in enumerate(stages)
                for block in range(blocks)
            )
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.stem(x))
        return self.head(self.dropout(x.mean((2, 3))))

    def from_torchvision(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of torchvision's ResNet-18 by our names, all but the output layer.

        Its convolutions have no bias: zero. Batch normalisation behind its shortcuts, which the notes' lack, is folded
        into them, so that in evaluation both networks give the same.
        """
        places = {"conv1": "stem.0", "bn1": "stem.1"}
        for index in range(self.stages * self.blocks):
            theirs, ours = f"layer{index // self.blocks + 1}.{index % self.blocks}", f"body.{index}"
            places |= {f"{theirs}.{layer}": f"{ours}.{layer}" for layer in ("conv1", "bn1", "conv2", "bn2")}
            places[f"{theirs}.downsample.0"] = f"{ours}.shortcut"
        found: dict[str, Tensor] = {}
        for theirs, ours in places.items():
            layer = _layer(weights, theirs)
            if theirs.endswith("downsample.0") and layer:
                layer = fold_batch_norm(layer["weight"], _layer(weights, f"{theirs[:-1]}1"))
            elif "conv" in theirs and layer:
                layer["bias"] = torch.zeros(len(layer["weight"]))
            found |= {f"{ours}.{name}": tensor for name, tensor in layer.items()}
        return found


def fold_batch_norm(weight: Tensor, norm: dict[str, Tensor], eps: float = 1e-5) -> dict[str, Tensor]:
    """{weight, bias} of one convolution that does what one without a bias and its batch normalisation do."""
    scale = norm["weight"] / (norm["running_var"] + eps).sqrt()
    return {"weight": weight * scale.view(-1, 1, 1, 1), "bias": norm["bias"] - norm["running_mean"] * scale}


def _layer(weights: dict[str, Tensor], place: str) -> dict[str, Tensor]:
    return {name.rpartition(".")[2]: tensor for name, tensor in weights.items() if name.rpartition(".")[0] == place}
