"""Style transfer: the picture is the parameter, drawn towards one picture's content and others' style.

Gatys et al. 2016 and the notes' section. Each row of the data is a picture with a role, so that the losses are shared
between workers like any other examples: row 0 asks for the content (and for little noise), every later row for a style.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import Refusal, suggest_name
from ..losses.style import gram_matrix, total_variation
from ..models.pretrained import load_tensors
from ..models.vgg import Convolutions
from ..optimizers import adam
from ..recipes.ranges import NonNegative
from ..training.task import Batch, Shard, Spec, State, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet: what pretrained features expect


class Canvas(nn.Module):
    """A picture as a module with one parameter [1, 3, H, W], normalised."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.picture = nn.Parameter(torch.randn(1, 3, height, width))


class StyleTransfer(Task):
    """features: a body of convolutions with `taps`; content, style: the taps compared (block_place, see models/vgg.py).

    weights: a .safetensors file for the features, torchvision's names or ours; without one they stay random, by the
    seed, which is said in the run's tags. content_weight and the others: of each loss. start: what the canvas shows
    first. Every step needs all the pictures: `fit.batch` is their number.
    """

    monitor: ClassVar[tuple[str, str]] = ("loss", "min")
    inputs: ClassVar[tuple[str, ...]] = ("row",)
    targets: ClassVar[tuple[str, ...]] = ("image", "role")
    album: ClassVar[bool] = True

    def __init__(
        self,
        features: Callable[..., nn.Module] = Convolutions,
        optimizer: Callable = adam,
        weights: str | None = None,
        content: list[str] = ["4_1"],  # noqa: B006  (never written to)
        style: list[str] = ["1_1", "2_1", "3_1", "4_1", "5_1"],  # noqa: B006
        content_weight: NonNegative = 1.0,
        style_weight: NonNegative = 1e4,
        variation_weight: NonNegative = 3.0,
        start: Literal["content", "noise"] = "content",
    ) -> None:
        self.features, self.optimizer, self.weights = features, optimizer, weights
        self.content, self.style, self.start = set(content), set(style), start
        self.content_weight, self.style_weight, self.variation_weight = content_weight, style_weight, variation_weight
        self.rows = 2
        self.wanted: dict[int, dict[str, Tensor]] = {}  # row -> what its picture asks for: follows from the data alone

    def setup(self, spec: Spec) -> State:
        height, width, _ = (int(side) for side in spec.columns["image"] if side is not None)
        self.rows = len(spec.classes)
        body: Any = self.features(channels=3)
        for name in self.content | self.style:
            if name not in body.names():
                raise Refusal(f"task: the features have no tap '{name}'{suggest_name(name, body.names())}")
        if self.weights is not None:
            load(body, Path(self.weights))
        canvas = Canvas(height, width)
        optimizer = self.optimizer(canvas.parameters())
        return State({"canvas": canvas, "features": body.requires_grad_(False)}, optimizers={"canvas": optimizer})

    def step(self, state: State, update: Any) -> dict[str, Tensor]:
        batch = round(len(update.batches[0]["row"]) / update.weights[0])
        if batch != self.rows:
            raise Refusal(f"fit.batch: {batch} of {self.rows} pictures; each step needs all, set it to {self.rows}")
        if state.step == 0 and self.start == "content":
            with torch.no_grad():
                _canvas(state).copy_(update.mean(self.photo)[0] * self.rows)
        return update("canvas", self.loss)

    def photo(self, state: State, shard: Shard) -> list[Tensor]:
        """The content picture where this shard has it, else zeros; averaged over its rows."""
        pictures = normalised(shard.batch["image"])
        return [(pictures * (shard.batch["role"] == 0).view(-1, 1, 1, 1)).mean(0, keepdim=True)]

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean over the rows of `rows` times their terms is the sum of all terms."""
        terms = self.terms(state, shard.batch)
        kinds = {name: self.rows * value.mean() for name, value in terms.items()}
        loss = torch.stack(list(kinds.values())).sum()
        return loss, {f"{name}_loss": value.detach() for name, value in kinds.items()}

    def terms(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """{"content", "style", "variation"}: [B], weighted, zero where a row does not ask for it."""
        canvas, body = _canvas(state), _features(state)
        seen = dict(body.taps(canvas, self.content | self.style))
        nothing = canvas.new_zeros(())
        terms: dict[str, list[Tensor]] = {"content": [], "style": [], "variation": []}
        for row, role, picture in zip(batch["row"].tolist(), batch["role"].tolist(), batch["image"], strict=True):
            wanted = self.asked(state, row, role, picture)
            gaps = [
                ((seen[n] if role == 0 else gram_matrix(seen[n])) - wanted[n]).square().mean() for n in sorted(wanted)
            ]
            gap, noise = torch.stack(gaps).sum(), total_variation(canvas) if role == 0 else nothing
            terms["content"].append(self.content_weight * gap if role == 0 else nothing)
            terms["style"].append(self.style_weight * gap / (self.rows - 1) if role else nothing)
            terms["variation"].append(self.variation_weight * noise)
        return {name: torch.stack(values) for name, values in terms.items()}

    @torch.no_grad()
    def asked(self, state: State, row: int, role: int, picture: Tensor) -> dict[str, Tensor]:
        """Features of the content, Gram matrices of a style, worked out once."""
        if row not in self.wanted:
            taps = _features(state).taps(normalised(picture[None]), self.content if role == 0 else self.style)
            self.wanted[row] = {name: value if role == 0 else gram_matrix(value) for name, value in taps}
        return self.wanted[row]

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """{"image": the canvas uint8 [B, H, W, 3]}; with the pictures in the batch also their rows' terms [B]."""
        mean, std = (torch.tensor(v, device=batch["row"].device).view(1, 3, 1, 1) for v in (MEAN, STD))
        canvas = (_canvas(state).detach() * std + mean).clamp(0, 1).mul(255).round().byte()
        said = {"image": canvas.permute(0, 2, 3, 1).expand(len(batch["row"]), -1, -1, -1).contiguous()}
        return said | self.terms(state, batch) if "image" in batch else said

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """{loss, content_loss, style_loss, variation_loss}, weighted."""
        sums = {f"{name}_loss": float(predictions[name].sum()) for name in ("content", "style", "variation")}
        return {"loss": math.fsum(sums.values()), **sums}

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        from ..drawings.gallery import draw_gallery

        names = ["content", *(f"style {i}" if self.rows > 2 else "style" for i in range(1, self.rows))]
        return {"canvas": draw_gallery([*targets["image"], predictions["image"][0]], [*names, "stylised"])}

    def tags(self, state: State, scores: dict[str, float]) -> dict[str, str]:
        return {"features": self.weights or "random weights, by the seed: no pretrained ones were given"}


def _canvas(state: State) -> Tensor:
    return cast(Canvas, state.modules["canvas"]).picture


def _features(state: State) -> Convolutions:
    return cast(Convolutions, state.modules["features"])


def normalised(images: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] -> [B, 3, H, W] as ImageNet's networks expect it."""
    mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (images.permute(0, 3, 1, 2).float() / 255 - mean) / std


def load(body: nn.Module, file: Path) -> None:
    """Fills the convolutions in their order from a .safetensors file's, whatever they are called there."""
    saved = load_tensors(file, "task.weights")
    if normed := next((name for name in saved if name.endswith("running_mean")), None):
        raise Refusal(f"task.weights: {file} has batch normalisation ('{normed}'), the features none; give it without")
    names = sorted((n for n, t in saved.items() if t.ndim == 4), key=_numbers)
    layers = [layer for layer in body.modules() if isinstance(layer, nn.Conv2d)]
    if len(names) < len(layers):
        raise Refusal(f"task.weights: {file} holds {len(names)} convolutions, the features need {len(layers)}")
    for name, layer in zip(names, layers, strict=False):
        if saved[name].shape != layer.weight.shape:
            shapes = f"{list(saved[name].shape)}, not {list(layer.weight.shape)}"
            raise Refusal(f"task.weights: {file}: '{name}' is {shapes}; give task.features the shape of the weights")
        with torch.no_grad():
            layer.weight.copy_(saved[name])
            layer.bias.copy_(saved[name.removesuffix("weight") + "bias"])  # type: ignore[union-attr]


def _numbers(name: str) -> list[int]:
    return [int(part) for part in name.split(".") if part.isdigit()]
