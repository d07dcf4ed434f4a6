"""Style transfer: optimise a picture towards the content of one picture and the style of others.

Gatys et al. 2016 and the notes' section. Each row of the data is a picture with a role, so that workers share the
losses like any other examples: row 0 is the content (and limits the noise), every later row is a style.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import Refusal, suggest_name
from ..losses.style import gram_matrix, total_variation
from ..models.pretrained import load_tensors
from ..models.vgg import Convolutions
from ..optimizers import adam
from ..recipes.ranges import NonNegative
from ..training.task import Batch, Shard, Spec, State, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Channel statistics of ImageNet, which pretrained features expect.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Canvas(nn.Module):
    """A normalised picture as a module with one parameter [1, 3, H, W]."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.picture = nn.Parameter(torch.randn(1, 3, height, width))


class StyleTransfer(Task):
    """Optimisation of a canvas, compared with the content and the styles in a feature space.

    features: factory of a body of convolutions with `taps`. content, style: the taps to compare, named block_place
    (models/vgg.py).
    weights: a .safetensors file for the features, with torchvision's names or ours; without one they are random, by the
    seed, and the run's tags say so.
    content_weight, style_weight, variation_weight: weights of the three losses. start: first state of the canvas.

    Every step needs all pictures: `fit.batch: all`.
    """

    monitor: ClassVar[tuple[str, str]] = ("loss", "min")
    inputs: ClassVar[tuple[str, ...]] = ("row",)
    targets: ClassVar[tuple[str, ...]] = ("image", "role")
    full_batch: ClassVar[bool] = True
    album: ClassVar[bool] = True

    def __init__(
        self,
        features: Callable[..., nn.Module] = Convolutions,
        optimizer: Callable[..., Optimizer] = adam,
        weights: str | None = None,
        content: list[str] = ["4_1"],  # noqa: B006  (never modified)
        style: list[str] = ["1_1", "2_1", "3_1", "4_1", "5_1"],  # noqa: B006
        content_weight: NonNegative = 1.0,
        style_weight: NonNegative = 1e4,
        variation_weight: NonNegative = 3.0,
        start: Literal["content", "noise"] = "content",
    ) -> None:
        self.features = features
        self.optimizer = optimizer
        self.weights = weights
        self.content = set(content)
        self.style = set(style)
        self.content_weight = content_weight
        self.style_weight = style_weight
        self.variation_weight = variation_weight
        self.start = start
        self.rows = 2
        # Row -> targets. A cache, not state: it depends on the data and the features alone.
        self._targets: dict[int, dict[str, Tensor]] = {}

    def setup(self, spec: Spec) -> State:
        """Build the canvas and the frozen features."""
        height, width, _ = (int(side) for side in spec.columns["image"] if side is not None)
        self.rows = len(spec.classes)
        body: Any = self.features(channels=3)
        for key, names in (("content", self.content), ("style", self.style)):
            if not names:
                raise Refusal(f"task.{key}: names no tap to compare; name one, such as {body.names()[-1]}")
        for name in self.content | self.style:
            if name not in body.names():
                raise Refusal(f"task: the features have no tap '{name}'{suggest_name(name, body.names())}")
        if self.weights is not None:
            load_convolutions(body, Path(self.weights))
        canvas = Canvas(height, width)
        optimizer = self.optimizer(canvas.parameters())
        return State({"canvas": canvas, "features": body.requires_grad_(False)}, optimizers={"canvas": optimizer})

    def step(self, state: State, update: Any) -> dict[str, Tensor]:
        """Move the canvas by one step."""
        if state.step == 0 and self.start == "content":
            with torch.no_grad():
                _canvas(state).copy_(update.mean(self._content_picture)[0] * self.rows)
        return update("canvas", self.loss)

    def _content_picture(self, state: State, shard: Shard) -> list[Tensor]:
        """Return the content picture divided by the shard's number of rows, or zeros if the shard has only styles."""
        pictures = normalised(shard.batch["image"])
        return [(pictures * (shard.batch["role"] == 0).view(-1, 1, 1, 1)).mean(0, keepdim=True)]

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum of all terms, and the sum per kind.

        The engine averages over rows, so every term is multiplied by the number of rows.
        """
        terms = self.terms(state, shard.batch)
        kinds = {name: self.rows * value.mean() for name, value in terms.items()}
        loss = torch.stack(list(kinds.values())).sum()
        return loss, {f"{name}_loss": value.detach() for name, value in kinds.items()}

    def terms(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return {"content", "style", "variation"}: [B], weighted, and 0 where the term does not apply to a row."""
        canvas, body = _canvas(state), _features(state)
        canvas_taps = dict(body.taps(canvas, self.content | self.style))
        zero = canvas.new_zeros(())
        terms: dict[str, list[Tensor]] = {"content": [], "style": [], "variation": []}
        for row, role, picture in zip(batch["row"].tolist(), batch["role"].tolist(), batch["image"], strict=True):
            targets = self._row_targets(state, row, role, picture)
            errors = []
            for name in sorted(targets):
                value = canvas_taps[name] if role == 0 else gram_matrix(canvas_taps[name])
                errors.append((value - targets[name]).square().mean())
            error = torch.stack(errors).sum()
            if role == 0:
                terms["content"].append(self.content_weight * error)
                terms["style"].append(zero)
                terms["variation"].append(self.variation_weight * total_variation(canvas))
            else:
                terms["content"].append(zero)
                terms["style"].append(self.style_weight * error / (self.rows - 1))
                terms["variation"].append(zero)
        return {name: torch.stack(values) for name, values in terms.items()}

    @torch.no_grad()
    def _row_targets(self, state: State, row: int, role: int, picture: Tensor) -> dict[str, Tensor]:
        """Return the features of the content or the Gram matrices of a style, computed once per row."""
        if row not in self._targets:
            taps = _features(state).taps(normalised(picture[None]), self.content if role == 0 else self.style)
            self._targets[row] = {name: value if role == 0 else gram_matrix(value) for name, value in taps}
        return self._targets[row]

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return {"image": the canvas uint8 [B, H, W, 3]}, and the terms [B] if the batch contains the pictures."""
        mean, std = (torch.tensor(v, device=batch["row"].device).view(1, 3, 1, 1) for v in (MEAN, STD))
        canvas = (_canvas(state).detach() * std + mean).clamp(0, 1).mul(255).round().byte()
        predictions = {"image": canvas.permute(0, 2, 3, 1).expand(len(batch["row"]), -1, -1, -1).contiguous()}
        return predictions | self.terms(state, batch) if "image" in batch else predictions

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return loss, content_loss, style_loss and variation_loss, all weighted."""
        sums = {f"{name}_loss": float(predictions[name].sum()) for name in ("content", "style", "variation")}
        return {"loss": math.fsum(sums.values()), **sums}

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Draw the pictures and the canvas."""
        from ..drawings.gallery import draw_gallery

        names = ["content", *(f"style {i}" if self.rows > 2 else "style" for i in range(1, self.rows))]
        return {"canvas": draw_gallery([*targets["image"], predictions["image"][0]], [*names, "stylised"])}

    def tags(self, state: State, scores: dict[str, float]) -> dict[str, str]:
        """Return where the features come from."""
        return {"features": self.weights or "random weights, by the seed: no pretrained ones were given"}


def _canvas(state: State) -> Tensor:
    return cast(Canvas, state.modules["canvas"]).picture


def _features(state: State) -> Convolutions:
    return cast(Convolutions, state.modules["features"])


def normalised(images: Tensor) -> Tensor:
    """Return uint8 pictures [B, H, W, 3] as [B, 3, H, W] with the normalisation that ImageNet's networks expect."""
    mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (images.permute(0, 3, 1, 2).float() / 255 - mean) / std


def load_convolutions(body: nn.Module, file: Path) -> None:
    """Copy the convolutions of a .safetensors file into those of `body`, in order and whatever their names are.

    Refusal if the file has batch normalisation, too few convolutions, other shapes or no biases.
    """
    saved = load_tensors(file, "task.weights")
    batch_norm = next((name for name in saved if name.endswith("running_mean")), None)
    if batch_norm is not None:
        raise Refusal(
            f"task.weights: {file} has batch normalisation ('{batch_norm}'), but the features have none; "
            "name a file without it"
        )
    names = sorted((name for name, tensor in saved.items() if tensor.ndim == 4), key=_numbers_in)
    layers = [layer for layer in body.modules() if isinstance(layer, nn.Conv2d)]
    if len(names) < len(layers):
        raise Refusal(f"task.weights: {file} holds {len(names)} convolutions, but the features need {len(layers)}")
    for name, layer in zip(names, layers, strict=False):
        if saved[name].shape != layer.weight.shape:
            shapes = f"{list(saved[name].shape)}, not {list(layer.weight.shape)}"
            raise Refusal(
                f"task.weights: {file}: '{name}' has shape {shapes}; give task.features the shape of the weights"
            )
        bias = saved.get(name.removesuffix("weight") + "bias")
        if bias is None:
            raise Refusal(f"task.weights: {file}: '{name}' has no bias, but the features have one; name another file")
        with torch.no_grad():
            layer.weight.copy_(saved[name])
            layer.bias.copy_(bias)  # type: ignore[union-attr]


def _numbers_in(name: str) -> list[int]:
    """Return the numbers in a dotted name, so that layer 10 is sorted after layer 9."""
    return [int(part) for part in name.split(".") if part.isdigit()]
