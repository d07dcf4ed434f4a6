"""Undo a convolution by a transposed convolution: the shape comes back at once, the values only as far as learnt."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import Tensor
from torch.optim import Optimizer

from ..models.reconstruction import Reconstruction, relative_error
from ..optimizers import adam
from ..training.task import Batch, Shard, Spec, State, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES_DRAWN = 6


class Transposition(Task):
    """Reconstruction of pictures from a fixed convolution (models/reconstruction.py), by the mean squared error.

    `error` is the squared error of the learnt layer as a share of a picture's variance, `error_transposed` that of the
    transposed matrix of the convolution itself, scaled as fits each picture best.
    """

    monitor: ClassVar[tuple[str, str]] = ("error", "min")
    targets: ClassVar[tuple[str, ...]] = ("image",)

    def __init__(
        self, model: Callable[..., Reconstruction] = Reconstruction, optimizer: Callable[..., Optimizer] = adam
    ) -> None:
        self.model = model
        self.optimizer = optimizer

    def setup(self, spec: Spec) -> State:
        """Build both layers; only the transposed convolution is trained."""
        height, width, channels = spec.columns["image"]
        net = self.model(channels=channels, size=(height, width))
        return State(modules={"net": net}, optimizers={"net": self.optimizer(net.parameters())})

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean squared error of the shard's reconstructions."""
        pictures = scale_pixels(shard.batch)
        return (state.modules["net"](pictures) - pictures).square().mean(), {}

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return the maps (mean of their channels), both reconstructions [B, H, W, C], and both errors [B]."""
        net: Any = state.modules["net"]
        pictures = scale_pixels(batch)
        maps = net.convolve(pictures)
        transposed, learnt = net.transpose(maps), net.transposed(maps)
        along = (transposed * pictures).sum((1, 2, 3)) / transposed.square().sum((1, 2, 3)).clamp(min=1e-6)
        transposed = transposed * along.view(-1, 1, 1, 1)
        return {
            "maps": maps.mean(1),
            "transposed": transposed.permute(0, 2, 3, 1),
            "learnt": learnt.permute(0, 2, 3, 1),
            "error": relative_error(pictures, learnt),
            "error_transposed": relative_error(pictures, transposed),
        }

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return the means of both errors."""
        return {name: float(predictions[name].mean()) for name in ("error", "error_transposed")}

    def outcomes(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> np.ndarray:
        """Return the error of each picture: float [N]."""
        return predictions["error"]

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Draw the first pictures, their maps, and both reconstructions."""
        from ..drawings.stages import draw_stages

        stages = {"picture": targets["image"].mean(-1), "convolved": predictions["maps"]}
        stages |= {
            "times the transposed matrix": predictions["transposed"].mean(-1),
            "learnt": predictions["learnt"].mean(-1),
        }
        title = "A transposed convolution restores the shape, not the values"
        return {"reconstruction": draw_stages({name: rows[:PICTURES_DRAWN] for name, rows in stages.items()}, title)}


def scale_pixels(batch: Batch) -> Tensor:
    """Return the pictures of a batch as float [B, C, H, W] in 0..1."""
    return batch["image"].permute(0, 3, 1, 2).float() / 255
