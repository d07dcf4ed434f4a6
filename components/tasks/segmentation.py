"""Semantic segmentation: a class for every pixel, by cross-entropy over the pixels that are judged (notes: FCN)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from ..augment.joint import Scenery
from ..data.masks import IGNORED
from ..layers.pictures import standardise
from ..metrics.segmentation import segmentation_scores
from ..models import pretrained
from ..optimizers import sgd
from ..recipes.ranges import NonNegative
from ..training.task import Batch, Shard, Spec, State, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..augment.joint import JointTransform

AT_ONCE = 32  # pictures that pass through the network together in an evaluation
PICTURES_DRAWN = 8
BACKGROUND_NAME = "background"


class Segmentation(Task):
    """Segmentation of pictures with a mask each (data/masks.py).

    Batches hold image uint8 [H, W, C] and mask uint8 [H, W]: 0 is the background, 1 + k class k, 255 is not judged.

    model: factory called with (channels, size, classes + 1), with a part `head`, and `backbone` for `start`.
    augment: transforms of augment.joint, during training only; pictures and masks change together.
    start: weights of the backbone: a folder that another recipe exported, or a .safetensors file
    (models/pretrained.py).
    backbone_rate: learning rate of the backbone, as a multiple of that of the other layers.
    """

    monitor: ClassVar[tuple[str, str]] = ("mean_iou", "max")
    targets: ClassVar[tuple[str, ...]] = ("mask", "image")
    any_size: ClassVar[bool] = True

    def __init__(
        self,
        model: Callable[..., nn.Module],
        optimizer: Callable[..., Optimizer] = sgd,
        augment: list[Callable[..., JointTransform]] | None = None,
        start: str | None = None,
        backbone_rate: NonNegative = 1.0,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.augment = [transform() for transform in augment or []]
        self.start = start
        self.backbone_rate = backbone_rate

    def check_data(self, spec: Spec) -> None:
        """Raise Refusal if the data have no pictures or no masks."""
        spec.check_columns("Segmentation", "image", "mask", remedy="set masks: true")

    def setup(self, spec: Spec) -> State:
        """Build the network, with one output for the background and one per class."""
        height, width, channels = spec.columns["image"]
        self.values = [BACKGROUND_NAME, *spec.classes]
        self.mean, self.std = (torch.tensor(spec.statistics[key]).view(-1, 1, 1) for key in ("mean", "std"))
        net = self.model(channels=channels, size=(height, width), classes=len(self.values))
        backbone = net.get_submodule("backbone")
        pretrained.start_body(backbone, self.start, "task.start")
        own = {id(parameter) for parameter in backbone.parameters()}
        optimizer = self.optimizer(
            [
                {"params": [parameter for parameter in net.parameters() if id(parameter) not in own]},
                {"params": list(backbone.parameters())},
            ]
        )
        optimizer.param_groups[1]["lr"] *= self.backbone_rate
        return State(modules={"net": net}, optimizers={"net": optimizer})

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean cross-entropy and accuracy over the shard's judged pixels, both 0 without any."""
        scenery = Scenery(shard.batch["image"].permute(0, 3, 1, 2).float().div_(255), shard.batch["mask"])
        for transform in self.augment:
            scenery = transform(scenery, shard.generator)
        assert scenery.mask is not None
        logits = state.modules["net"](self._normalise(scenery.images)).float()
        labels = scenery.mask.long()
        judged = labels != IGNORED
        shard.weight = judged.sum()
        pixels = judged.sum().clamp(min=1)
        loss = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum") / pixels
        correct = (logits.detach().argmax(1) == labels) & judged
        return loss, {"accuracy": correct.sum() / pixels}

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return {"mask": uint8 [B, H, W]}: the most likely value of every pixel, for pictures of any H and W."""
        masks = []
        for part in batch["image"].split(AT_ONCE):
            images = standardise(part, self.mean, self.std)
            masks.append(state.modules["net"](images).argmax(1).byte())
        return {"mask": torch.cat(masks)}

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return pixel_accuracy, mean_iou and the iou of each class."""
        return segmentation_scores(predictions["mask"], targets["mask"], self.values)

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Draw the first pictures beside their true and predicted masks."""
        from ..drawings.masks import draw_masks

        pictures, true, predicted = (
            list(rows[:PICTURES_DRAWN]) for rows in (targets["image"], targets["mask"], predictions["mask"])
        )
        return {"masks": draw_masks(pictures, true, predicted, self.values, "Segmentation")}

    def tags(self, state: State, scores: dict[str, float]) -> dict[str, str]:
        """Return where the backbone's weights come from."""
        return pretrained.start_tags(state.modules["net"].get_submodule("backbone"), self.start, "task.start")

    def _normalise(self, images: Tensor) -> Tensor:
        """Return network inputs for pictures [B, C, H, W] in 0..1."""
        normalised = (images - self.mean.to(images.device)) / self.std.to(images.device)
        return normalised.contiguous(memory_format=torch.channels_last)
