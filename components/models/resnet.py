"""ResNet by the notes: residual blocks with an optional 1x1 shortcut; convolution biases kept (He et al. 2016).

The defaults are the notes' ResNet-18: 11,178,378 parameters for one channel and 10 classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from components.ranges import Count, Fraction


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
        self.shortcut = nn.Conv2d(channels_in, channels_out, kernel_size=1, stride=stride) if reshapes else None

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
        norm = norm or nn.Identity
        first = (
            [nn.Conv2d(channels, widths[0], kernel_size=7, stride=2, padding=3)]
            if stem == "imagenet"
            else [nn.Conv2d(channels, widths[0], kernel_size=3, padding=1)]
        )
        self.stem = nn.Sequential(*first, norm(widths[0]), nn.ReLU(inplace=True))
        if stem == "imagenet":
            self.stem.append(nn.MaxPool2d(kernel_size=3, stride=2, padding=1))
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
