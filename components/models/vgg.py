"""VGG by the notes: blocks of 3x3 convolutions that halve the picture, then three dense layers (Simonyan & Zisserman
2015).

The defaults are VGG-11; for one channel, 224x224 and 10 classes: 128,806,154 parameters. VGG-16 (134,300,362) has
`convolutions: [2, 2, 3, 3, 3]`, VGG-19 (139,610,058) `[2, 2, 4, 4, 4]`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor, nn

from ..errors import Refusal
from ..layers.batch_norm import BatchNorm
from ..layers.initial import init_for_relu
from ..recipes.ranges import Count, Fraction


class VGG(nn.Module):
    """Images [B, channels, *size] -> logits [B, classes].

    convolutions, widths: how many in each block, and their channels; hidden: width of both dense layers before the
    output; norm: a layer behind each convolution, such as layers.batch_norm.BatchNorm. Pictures must be at least
    2 ** (number of blocks) a side.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        classes: int,
        convolutions: list[Count] = [1, 1, 2, 2, 2],  # noqa: B006  (never written to)
        widths: list[Count] = [64, 128, 256, 512, 512],  # noqa: B006
        hidden: Count = 4096,
        dropout: Fraction = 0.5,
        norm: Callable[..., nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.body = Convolutions(channels, convolutions, widths, norm)
        height, width = (side // 2 ** len(widths) for side in size)
        if not height * width:
            raise Refusal(f"task.model: {len(widths)} blocks halve pictures of {size} away; give fewer, or larger ones")
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
        return self.head(self.dense(self.body(x)))

    def from_torchvision(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of torchvision's VGG of the same depth by our names, all but the output layer.

        Its features are counted through, activations and pooling too; those with weights follow each other as ours.
        """
        kinds = (nn.Conv2d, nn.BatchNorm2d, BatchNorm)
        ours = [f"body.{name}" for name, layer in self.body.named_modules() if isinstance(layer, kinds)]
        numbers = {int(name.split(".")[1]) for name in weights if name.startswith("features.")}
        places = {f"features.{number}": place for number, place in zip(sorted(numbers), ours, strict=False)}
        places |= {"classifier.0": "dense.1", "classifier.3": "dense.4"}
        parts = {name: name.rpartition(".") for name in weights}
        return {f"{places[p]}.{kind}": weights[name] for name, (p, _, kind) in parts.items() if p in places}


class Convolutions(nn.Module):
    """The body of a VGG by itself: [B, channels, H, W] -> [B, widths[-1], H / 2^blocks, W / 2^blocks]."""

    def __init__(
        self,
        channels: int = 3,
        convolutions: list[Count] = [1, 1, 2, 2, 2],  # noqa: B006
        widths: list[Count] = [64, 128, 256, 512, 512],  # noqa: B006
        norm: Callable[..., nn.Module] | None = None,
    ) -> None:
        super().__init__()
        if len(convolutions) != len(widths):
            raise Refusal(f"convolutions, widths: {len(convolutions)} and {len(widths)} blocks; give both the same")
        self.blocks = nn.ModuleList()
        for count, fan_in, fan_out in zip(convolutions, [channels, *widths], widths, strict=False):
            fans = [fan_in] + [fan_out] * (count - 1)
            layers = [nn.Conv2d(fan, fan_out, kernel_size=3, padding=1) for fan in fans]
            normed = layers if norm is None else [nn.Sequential(layer, norm(fan_out)) for layer in layers]
            self.blocks.append(nn.ModuleList(normed))
        init_for_relu(self)  # 16 and 19 layers don't start to learn from torch's default

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            for layer in block:  # type: ignore[attr-defined]
                x = layer(x).relu_()
            x = nn.functional.max_pool2d(x, kernel_size=2)
        return x

    def names(self) -> list[str]:
        """Of the convolutions in their order: block and place in it, from 1: `1_1`, `2_1`, ..."""
        return [f"{i}_{j}" for i, block in enumerate(self.blocks, 1) for j in range(1, len(block) + 1)]  # type: ignore[arg-type]

    def taps(self, x: Tensor, wanted: set[str]) -> Iterator[tuple[str, Tensor]]:
        """(name, the rectified output) of the wanted convolutions, computed no further than the last of them."""
        last = max(self.names().index(name) for name in wanted)
        names = iter(self.names())
        for block in self.blocks:
            for layer in block:  # type: ignore[attr-defined]
                name, x = next(names), layer(x).relu()
                if name in wanted:
                    yield name, x
                if self.names().index(name) == last:
                    return
            x = nn.functional.max_pool2d(x, kernel_size=2)
