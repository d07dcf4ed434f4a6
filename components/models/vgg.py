"""VGG: blocks of 3x3 convolutions, then three dense layers (Simonyan & Zisserman 2015; notes: VGGNet).

The defaults are VGG-11. For one channel, 224x224 pixels and 10 classes it has 128,806,154 parameters. VGG-16
(134,300,362) has `convolutions: [2, 2, 3, 3, 3]`, VGG-19 (139,610,058) `[2, 2, 4, 4, 4]`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor, nn

from ..errors import Refusal
from ..layers.batch_norm import BatchNorm
from ..layers.initial import init_for_relu
from ..recipes.ranges import Count, Counts, Fraction


class VGG(nn.Module):
    """Map images [B, channels, *size] to logits [B, classes].

    convolutions, widths: number of convolutions in each block, and their channels. Each block halves the sides, which
    must be at least 2 ** (number of blocks). hidden: units of both dense layers before the output. norm: makes the
    layer behind each convolution from its number of channels, such as layers.batch_norm.BatchNorm.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        classes: int,
        convolutions: Counts = [1, 1, 2, 2, 2],  # noqa: B006  (never written to)
        widths: Counts = [64, 128, 256, 512, 512],  # noqa: B006
        hidden: Count = 4096,
        dropout: Fraction = 0.5,
        norm: Callable[..., nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.body = Convolutions(channels, convolutions, widths, norm)
        height, width = (side // 2 ** len(widths) for side in size)
        if not height * width:
            raise Refusal(
                f"task.model: pictures of {size} are too small for {len(widths)} blocks that halve the sides;"
                " use fewer blocks or larger pictures"
            )
        self.dense = nn.Sequential(
            nn.Flatten(),
            nn.Linear(widths[-1] * height * width, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
        )
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, classes] of images [B, channels, *size]."""
        return self.head(self.dense(self.body(x)))

    def from_torchvision(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of torchvision's VGG of the same depth by the names of this network, without the output.

        torchvision numbers all layers of its features, including activations and poolings. The layers with weights
        have the same order in both networks.
        """
        kinds = (nn.Conv2d, nn.BatchNorm2d, BatchNorm)
        targets = [f"body.{name}" for name, layer in self.body.named_modules() if isinstance(layer, kinds)]
        numbers = {int(name.split(".")[1]) for name in weights if name.startswith("features.")}
        places = {f"features.{number}": target for number, target in zip(sorted(numbers), targets, strict=False)}
        places |= {"classifier.0": "dense.1", "classifier.3": "dense.4"}
        tensors = {}
        for name, tensor in weights.items():
            layer, _, kind = name.rpartition(".")
            if layer in places:
                tensors[f"{places[layer]}.{kind}"] = tensor
        return tensors


class Convolutions(nn.Module):
    """The convolutions of a VGG: [B, channels, H, W] -> [B, widths[-1], H / 2^blocks, W / 2^blocks]."""

    def __init__(
        self,
        channels: int = 3,
        convolutions: Counts = [1, 1, 2, 2, 2],  # noqa: B006
        widths: Counts = [64, 128, 256, 512, 512],  # noqa: B006
        norm: Callable[..., nn.Module] | None = None,
    ) -> None:
        super().__init__()
        if len(convolutions) != len(widths):
            raise Refusal(
                f"convolutions, widths: have {len(convolutions)} and {len(widths)} blocks; list the same number in both"
            )
        self.blocks = nn.ModuleList()
        for count, fan_in, fan_out in zip(convolutions, [channels, *widths], widths, strict=False):
            fans = [fan_in] + [fan_out] * (count - 1)
            layers = [nn.Conv2d(fan, fan_out, kernel_size=3, padding=1) for fan in fans]
            if norm is None:
                self.blocks.append(nn.ModuleList(layers))
            else:
                self.blocks.append(nn.ModuleList(nn.Sequential(layer, norm(fan_out)) for layer in layers))
        # With torch's default, networks of 16 and 19 layers do not start to learn.
        init_for_relu(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps [B, widths[-1], H / 2^blocks, W / 2^blocks] of x [B, channels, H, W]."""
        for block in self.blocks:
            for layer in block:  # type: ignore[attr-defined]
                x = layer(x).relu_()
            x = nn.functional.max_pool2d(x, kernel_size=2)
        return x

    def names(self) -> list[str]:
        """Return the names of the convolutions in order, by block and place in it from 1: `1_1`, `2_1`, ..."""
        sizes: list[int] = [len(block) for block in self.blocks]  # type: ignore[arg-type]
        return [f"{block}_{place}" for block, size in enumerate(sizes, 1) for place in range(1, size + 1)]

    def taps(self, x: Tensor, selected: set[str]) -> Iterator[tuple[str, Tensor]]:
        """Yield (name, output after the ReLU) of the selected convolutions, and compute no later ones."""
        remaining = set(selected)
        names = iter(self.names())
        for block in self.blocks:
            for layer in block:  # type: ignore[attr-defined]
                name = next(names)
                x = layer(x).relu()
                if name in remaining:
                    yield name, x
                    remaining.remove(name)
                if not remaining:
                    return
            x = nn.functional.max_pool2d(x, kernel_size=2)
