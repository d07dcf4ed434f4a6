"""One-stage detection (notes: SSD, YOLO): the network scores and moves all boxes of a picture in one pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..augment.joint import JointTransform, vary_batch
from ..decoding.detections import select_detections
from ..layers.anchors import pad_objects
from ..layers.pictures import Letterbox, standardise
from ..metrics.detection import detector_scores
from ..models import pretrained
from ..optimizers import sgd
from ..recipes.ranges import Count, Fraction
from ..training.task import Batch, Shard, Spec, State, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class OneStage(Task):
    """Detection and classification of the objects in a picture by one pass of a network.

    Batches hold image uint8 [H, W, C], and any number of boxes and labels per picture.

    model: factory called with (channels, size, classes); `decode` turns its output into boxes and scores.
    criterion: called with the model's output, the true boxes and the crowds; gives a loss per object or picture.
    augment: transforms of augment.joint, during training only; boxes, crowds change with the pictures.
    start: an exported classifier or a .safetensors file whose weights the backbone starts from (models/pretrained.py).
    suppress: IoU above which the weaker of two detections of a class is removed. most: detections per picture.
    """

    monitor: ClassVar[tuple[str, str]] = ("map50", "max")
    targets: ClassVar[tuple[str, ...]] = ("boxes", "labels", "image")
    extras: ClassVar[tuple[str, ...]] = ("crowd", "crowd_labels")
    any_size: ClassVar[bool] = True

    def __init__(
        self,
        model: Callable[..., nn.Module],
        criterion: Callable[..., nn.Module],
        optimizer: Callable[..., Optimizer] = sgd,
        augment: list[Callable[..., JointTransform]] | None = None,
        start: str | None = None,
        suppress: Fraction = 0.45,
        most: Count = 20,
    ) -> None:
        self.model = model
        self.criterion = criterion()
        self.optimizer = optimizer
        self.augment = [transform() for transform in augment or []]
        self.start = start
        self.suppress = suppress
        self.most = most

    def setup(self, spec: Spec) -> State:
        """Build the network for pictures of the data's size."""
        *size, channels = spec.columns["image"]
        self.classes = spec.classes
        self.size = cast(tuple[int, int], tuple(size))
        self.mean, self.std = (torch.tensor(spec.statistics[key]).view(-1, 1, 1) for key in ("mean", "std"))
        net = self.model(channels=channels, size=self.size, classes=len(spec.classes))
        pretrained.start_body(net.get_submodule("backbone"), self.start, "task.start")
        return State(modules={"net": net}, optimizers={"net": self.optimizer(net.parameters())})

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the criterion's loss and its terms."""
        batch = vary_batch(shard.batch, self.augment, shard.generator)
        output = state.modules["net"](standardise(batch["image"], self.mean, self.std))
        loss, shard.weight, terms = self.criterion(output, *pad_objects(batch))
        return loss, terms

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return {"boxes": [B, most, 4], "scores": [B, most], "labels": [B, most]} in the pictures' own pixels.

        The best come first; empty places have score 0 and label -1. Pictures of another size are scaled.
        """
        net = cast(Any, state.modules["net"])
        letterbox = Letterbox(tuple(batch["image"].shape[1:3]), self.size)
        output = net(standardise(letterbox.fit(batch["image"]), self.mean, self.std))
        boxes, scores = net.decode(output)
        detections = select_detections(boxes, scores, self.suppress, self.most)
        return detections | {"boxes": letterbox.restore_boxes(detections["boxes"])}

    def tags(self, state: State, scores: dict[str, float]) -> dict[str, str]:
        """Return where the backbone's weights come from."""
        return pretrained.start_tags(state.modules["net"].get_submodule("backbone"), self.start, "task.start")

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return map, map50 and the number of crowds, in which detections are ignored, as not_judged."""
        return detector_scores(predictions, targets)

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Draw the first pictures with their true boxes and the confident detections."""
        from ..drawings.boxes import draw_confident

        return {"detections": draw_confident(targets, predictions, self.classes, "Detections")}
