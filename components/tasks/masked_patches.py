"""Pretraining on pictures without labels: predict hidden patches from the others (notes: self-supervised learning)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..optimizers import adamw
from ..recipes.ranges import Proportion
from ..training.task import Batch, Shard, Spec, State, Task

SHOWN = 6  # pictures drawn
GREY = 128  # of a hidden patch in the drawing


class MaskedPatches(Task):
    """Prediction of the pixels of hidden patches, by the mean squared error of normalised pixels.

    model: factory called with (channels, size, classes), such as `models.patches.PatchEncoder`; its output layer `head`
    has one output per pixel and channel of a patch. `tasks.classification.Classification` starts from the result.
    rate: share of the patches that are hidden. Which ones follows from the row and the step, so that it does not depend
    on the shards; in an evaluation from the row alone.
    """

    monitor: ClassVar[tuple[str, str]] = ("loss", "min")
    targets: ClassVar[tuple[str, ...]] = ("image",)

    def __init__(
        self, model: Callable[..., Any], optimizer: Callable[..., Optimizer] = adamw, rate: Proportion = 0.5
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.rate = rate
        self.mean = torch.zeros(1)
        self.std = torch.ones(1)

    def setup(self, spec: Spec) -> State:
        """Build the network for the patches of the data."""
        spec.check_columns("MaskedPatches", "image")
        height, width, channels = spec.columns["image"]
        self.mean, self.std = (torch.tensor(spec.statistics[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
        net = self.model(channels=channels, size=(height, width), classes=1)
        net.head = nn.Linear(net.head.in_features, channels * net.patch**2)
        return State({"net": net}, optimizers={"net": self.optimizer(net.parameters())})

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean squared error over the values of hidden patches of pictures uint8 [B, H, W, C]."""
        predicted, patches, hidden = self._predict_patches(state, shard.batch, state.step)
        return (predicted - patches)[hidden].square().mean(), {}

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return {"error" [B], "picture": uint8 [B, H, W, C]}: hidden patches are filled by the model's prediction."""
        predicted, patches, hidden = self._predict_patches(state, batch, 0)
        errors = (predicted - patches).square().mean(2)
        error = (errors * hidden).sum(1) / hidden.sum(1)
        filled = torch.where(hidden[:, :, None], predicted, patches)
        return {"error": error, "picture": self._to_pictures(state, filled, batch["image"])}

    def _predict_patches(self, state: State, batch: Batch, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return predicted and true patches [B, N, values], and which ones were hidden: bool [B, N]."""
        images = batch["image"]
        net: Any = state.modules["net"]
        pixels = images.permute(0, 3, 1, 2).float() / 255
        patches = net.cut_patches((pixels - self.mean.to(pixels.device)) / self.std.to(pixels.device))
        rows = batch["row"].tolist() if "row" in batch else [0] * len(images)
        hidden = self.hide_patches(rows, patches.shape[1], step).to(images.device)
        return net.head(net.encode(patches, hidden)).float(), patches, hidden

    def hide_patches(self, rows: list[int], count: int, step: int) -> Tensor:
        """Return which of `count` patches of each row are hidden: bool [B, count], equally many per row."""
        most = min(count, max(1, round(self.rate * count)))
        hidden = np.zeros((len(rows), count), dtype=bool)
        for number, row in enumerate(rows):
            hidden[number, np.random.default_rng([row, step]).permutation(count)[:most]] = True
        return torch.from_numpy(hidden)

    def _to_pictures(self, state: State, patches: Tensor, images: Tensor) -> Tensor:
        """Return patches [B, N, values] as pictures uint8 [B, H, W, C] of the shape of `images`."""
        size, side = images.shape[1:3], state.modules["net"].patch
        pixels = nn.functional.fold(patches.transpose(1, 2).float(), size, side, stride=side)  # type: ignore[arg-type]
        pixels = pixels * self.std.to(pixels.device) + self.mean.to(pixels.device)
        return (pixels * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1)

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return the mean error as loss; 1 is the error of always predicting the mean picture value."""
        return {"loss": float(predictions["error"].mean(dtype=np.float64))}

    def draw(self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, Any]:
        """Draw pictures, what the model saw of them, and what it made of that."""
        from ..drawings import figures

        images = targets["image"][:SHOWN]
        net: Any = state.modules["net"]
        patches = net.cut_patches(torch.from_numpy(images.copy()).permute(0, 3, 1, 2).float())
        hidden = self.hide_patches(list(range(len(images))), patches.shape[1], 0)
        visible = torch.where(hidden[:, :, None], torch.tensor(float(GREY)), patches)
        masked = nn.functional.fold(visible.transpose(1, 2), images.shape[1:3], net.patch, stride=net.patch).permute(
            0, 2, 3, 1
        )
        rows = [images, masked.byte().numpy(), predictions["picture"][: len(images)]]
        captions = [name for name in ("original", "masked", "filled") for _ in images]
        return {"patches": figures.draw_grid(list(np.concatenate(rows)), captions)}
