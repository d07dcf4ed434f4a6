"""R-CNN (notes; Girshick et al. 2014): selective-search proposals, a CNN on each, SVMs, and linear box regression.

The gradient steps fine-tune the CNN to classify warped proposals as one of the classes or as background. After the
last step, `finish` fits the SVMs (scikit-learn) and the regression (closed form) on features of the training split.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from ..augment.joint import JointTransform, vary_batch
from ..data.proposals import Search
from ..decoding.detections import select_detections
from ..layers.boxes import clip_boxes, crop_boxes, decode_offsets, encode_offsets, iou, lies_in_crowd
from ..layers.pictures import Letterbox, standardise
from ..metrics.detection import detector_scores
from ..models import pretrained
from ..optimizers import sgd
from ..recipes.ranges import Count, Fraction, NonNegative, Positive
from ..training.task import Batch, Shard, Spec, State, Task
from .region_fits import box_offsets, fit_box_regression, fit_svms, svm_margins

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Crops that pass through the network together.
AT_ONCE = 2048
# A region shows an object from this IoU on; above the second one it is an example for the box regression.
OBJECT_IOU = 0.5
REGRESSION_IOU = 0.6


class RCNN(Task):
    """Detection and classification of the objects in a picture.

    Batches hold image uint8 [H, W, 1 or 3], any number of boxes and labels per picture, and precomputed proposals, if
    there are any.

    model: factory called with (channels, size, classes + 1), with parts `body`, `hidden` and `head` in this order.
    augment: transforms of augment.joint, during training only; boxes, crowds and proposals change with the pictures.
    start: an exported classifier or a .safetensors file whose weights the model's backbone, or all of it but the head,
    starts from (models/pretrained.py).
    search: proposes boxes if the data have no proposals, as for a served model; use the same search as the data.
    side, context: proposals are enlarged by `context` of their sides at each end and warped to `side` x `side`.
    samples: crops per picture and step. foreground: largest fraction of them that shows objects (IoU of at least 0.5).
    svm: C of the linear SVMs. negative: a negative example of a class overlaps its objects by less than this IoU.
    ridge: penalty of the regression, which is fitted on proposals with an IoU above 0.6.
    suppress: IoU above which the weaker of two detections of a class is removed. most: detections per picture.
    """

    monitor: ClassVar[tuple[str, str]] = ("map50", "max")
    targets: ClassVar[tuple[str, ...]] = ("boxes", "labels", "image")
    extras: ClassVar[tuple[str, ...]] = ("crowd", "crowd_labels")
    any_size: ClassVar[bool] = True
    requires: ClassVar[tuple[str, ...]] = ("opencv-contrib-python-headless",)

    def __init__(
        self,
        model: Callable[..., nn.Module],
        optimizer: Callable[..., Optimizer] = sgd,
        augment: list[Callable[..., JointTransform]] | None = None,
        start: str | None = None,
        search: Callable[[], Search] = Search,
        side: Count = 24,
        context: NonNegative = 0.1,
        samples: Count = 24,
        foreground: Fraction = 0.5,
        svm: Positive = 0.1,
        negative: Fraction = 0.3,
        ridge: Positive = 1000.0,
        suppress: Fraction = 0.3,
        most: Count = 20,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.augment = [transform() for transform in augment or []]
        self.start = start
        self.search = search()
        self.side = side
        self.context = context
        self.samples = samples
        self.foreground = foreground
        self.svm = svm
        self.negative = negative
        self.ridge = ridge
        self.suppress = suppress
        self.most = most

    def setup(self, spec: Spec) -> State:
        """Build the network, with one output per class and one for the background."""
        *size, channels = spec.columns["image"]
        self.size = cast(tuple[int, int], tuple(size))
        self.classes = spec.classes
        self.mean, self.std = (torch.tensor(spec.statistics[key]).view(-1, 1, 1) for key in ("mean", "std"))
        net = self.model(channels=channels, size=(self.side, self.side), classes=len(spec.classes) + 1)
        pretrained.start_body(_startable(net), self.start, "task.start")
        return State(modules={"net": net}, optimizers={"net": self.optimizer(net.parameters())})

    # ------------------------------------------------------------------------------------ gradient steps

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return cross-entropy and accuracy over sampled crops of the shard's pictures, both 0 without a crop.

        Label K stands for the background.
        """
        batch = vary_batch(shard.batch, self.augment, shard.generator)
        samples = [self._sample_regions(*regions, shard.generator) for regions in self._regions(batch)]
        boxes = [regions for regions, _ in samples]
        labels = torch.cat([region_labels for _, region_labels in samples])
        shard.weight = len(labels)
        logits = state.modules["net"](self._crop(batch, boxes)).float()
        if not len(labels):
            # A mean over no crops would be nan.
            return logits.sum(), {"accuracy": logits.detach().sum()}
        return F.cross_entropy(logits, labels), {"accuracy": (logits.detach().argmax(1) == labels).float().mean()}

    def _regions(self, batch: Batch) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return (true boxes followed by proposals [M + N, 4], true boxes [M, 4], labels [M]) per picture.

        Proposals that show no object and lie in a crowd are left out: they are not examples of the background.
        """
        device = batch["image"].device
        pictures = []
        crowds = batch.get("crowd", [np.zeros((0, 4), np.float32)] * len(batch["boxes"]))
        columns = (self._proposals(batch), batch["boxes"], batch["labels"], crowds)
        for proposals, true, labels, crowd in zip(*columns, strict=True):
            boxes = torch.as_tensor(true, device=device)
            shows_object = (iou(proposals, boxes) >= OBJECT_IOU).any(1)
            proposals = proposals[shows_object | ~lies_in_crowd(proposals, torch.as_tensor(crowd, device=device))]
            pictures.append((torch.cat([boxes, proposals]), boxes, torch.as_tensor(labels, device=device)))
        return pictures

    def _sample_regions(
        self, regions: Tensor, true: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return up to `samples` of a picture's regions, and a label for each.

        The label is that of the object with the largest IoU, or the background's if that is below OBJECT_IOU.
        """
        background = len(self.classes)
        region_labels = torch.full((len(regions),), background, device=regions.device)
        if len(true):
            overlap, best = iou(regions, true).max(1)
            region_labels = torch.where(overlap >= OBJECT_IOU, labels[best], region_labels)
        shuffled = torch.randperm(len(regions), generator=generator, device=regions.device)
        shows_object = region_labels[shuffled] < background
        objects = shuffled[shows_object][: round(self.foreground * self.samples)]
        others = shuffled[~shows_object][: self.samples - len(objects)]
        rows = torch.cat([objects, others])
        return regions[rows], region_labels[rows]

    # ------------------------------------------------------------------------------------ after the last step

    @torch.no_grad()
    def finish(self, state: State, over: Callable[[Callable[[Batch], Any]], list[Any]]) -> None:
        """Fit the SVMs and the box regression of region_fits.py on the training split, and add them to the tables."""
        net = (state.modules | state.averages)["net"].eval()
        parts = over(lambda batch: self._describe_regions(net, batch))
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        state.tables |= fit_svms(joined["features"], joined["overlaps"], self.svm, self.negative)
        classes = len(self.classes)
        state.tables |= fit_box_regression(joined["maps"], joined["offsets"], joined["labels"], classes, self.ridge)

    def _describe_regions(self, net: nn.Module, batch: Batch) -> dict[str, np.ndarray]:
        """Return the examples for the SVMs and the box regression.

        All regions: features [R, D], overlaps [R, K] (IoU with the nearest object of each class). Proposals with an IoU
        above REGRESSION_IOU: maps [S, P], offsets [S, 4] to the true box, labels [S].
        """
        pictures = self._regions(batch)
        maps, features = self._features(net, batch, [regions for regions, _, _ in pictures])
        targets = [self._region_targets(*picture) for picture in pictures]
        overlaps, offsets, labels = (torch.cat(parts) for parts in zip(*targets, strict=True))
        near = labels >= 0
        described = {
            "features": features,
            "overlaps": overlaps,
            "maps": maps[near],
            "offsets": offsets[near],
            "labels": labels[near],
        }
        return {name: values.cpu().numpy() for name, values in described.items()}

    def _region_targets(self, regions: Tensor, true: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return overlaps [R, K], offsets [R, 4] and the labels [R] of one picture's regions.

        The label is -1 unless the region is a proposal with an IoU above REGRESSION_IOU.
        """
        device = regions.device
        overlaps = torch.zeros(len(regions), len(self.classes), device=device)
        if not len(true):
            return overlaps, torch.zeros_like(regions), torch.full((len(regions),), -1, device=device)
        pairs = iou(regions, true)
        overlap, best = pairs.max(1)
        overlaps.scatter_reduce_(1, labels.expand(len(regions), -1), pairs, "amax")
        is_proposal = torch.arange(len(regions), device=device) >= len(true)
        near = (overlap > REGRESSION_IOU) & is_proposal
        return overlaps, encode_offsets(true[best], regions), torch.where(near, labels[best], -1)

    # ------------------------------------------------------------------------------------ detection

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return {"boxes": [B, most, 4], "scores": [B, most], "labels": [B, most]} in the pictures' own pixels.

        The best come first; empty places have score 0 and label -1. The keys with the prefix "raw_" hold the detections
        without regression. Pictures of another size are scaled. Before `finish`, the scores come from the network's own
        head, and no box is moved.
        """
        net = state.modules["net"]
        tables = {name: torch.as_tensor(table) for name, table in state.tables.items()}
        letterbox = Letterbox(tuple(batch["image"].shape[1:3]), self.size)
        batch = {**batch, "image": letterbox.fit(batch["image"])}
        proposals = self._proposals(batch)
        maps, features = self._features(net, batch, proposals)
        counts = [len(boxes) for boxes in proposals]
        detections: list[dict[str, Tensor]] = []
        for boxes, map_, feature in zip(proposals, maps.split(counts), features.split(counts), strict=True):
            scores = self._class_scores(net, tables, feature)
            moved = raw = boxes[:, None].expand(-1, len(self.classes), 4)
            if "box_weight" in tables:
                moved = clip_boxes(decode_offsets(box_offsets(tables, map_), raw), *self.size)
            detections.append({})
            for prefix, candidates in (("", moved), ("raw_", raw)):
                selected = select_detections(candidates[None], scores[None], self.suppress, self.most)
                selected["boxes"] = letterbox.restore_boxes(selected["boxes"])
                detections[-1] |= {f"{prefix}{name}": values for name, values in selected.items()}
        return {name: torch.cat([picture[name] for picture in detections]) for name in detections[0]}

    def _class_scores(self, net: nn.Module, tables: dict[str, Tensor], features: Tensor) -> Tensor:
        """Return scores [N, K] from 0 to 1 for features [N, D].

        They are the logistic function of the SVMs' margins or, before `finish`, the network's softmax.
        """
        if "svm_weight" in tables:
            return torch.sigmoid(svm_margins(tables, features))
        return net.get_submodule("head")(features).float().softmax(1)[:, :-1]

    def tags(self, state: State, scores: dict[str, float]) -> dict[str, str]:
        """Return where the network's weights come from."""
        return pretrained.start_tags(_startable(state.modules["net"]), self.start, "task.start")

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return map and map50, and both for the proposed boxes without regression (suffix `_unregressed`).

        Detections in a crowd of their class are ignored; the crowds are counted as not_judged, if there are any.
        """
        raw = detector_scores(predictions, targets, prefix="raw_")
        unregressed = {f"{name}_unregressed": raw[name] for name in ("map", "map50")}
        return detector_scores(predictions, targets) | unregressed

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Draw the first pictures with their true boxes and the confident detections."""
        from ..drawings.boxes import draw_confident

        return {"detections": draw_confident(targets, predictions, self.classes, "R-CNN")}

    # ------------------------------------------------------------------------------------ pixels and features

    def _proposals(self, batch: Batch) -> list[Tensor]:
        """Return the proposals [N, 4] per picture: those of the batch or, if it has none, those of a new search."""
        return [torch.as_tensor(boxes, device=batch["image"].device) for boxes in self.search.propose(batch)]

    def _crop(self, batch: Batch, boxes: list[Tensor]) -> Tensor:
        """Return the normalised squares [sum of N, C, side, side] of boxes [N, 4] per picture."""
        images = standardise(batch["image"], self.mean, self.std)
        squares = [
            crop_boxes(image, picture_boxes, self.side, self.context)
            for image, picture_boxes in zip(images, boxes, strict=True)
        ]
        return torch.cat(squares).contiguous(memory_format=torch.channels_last)

    def _features(self, net: nn.Module, batch: Batch, boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return maps [sum of N, P] and features [sum of N, D] of all boxes, about AT_ONCE of them at a time."""
        parts = []
        first = 0
        while first < len(boxes):
            last = first + 1
            while last < len(boxes) and sum(map(len, boxes[first : last + 1])) <= AT_ONCE:
                last += 1
            pictures = {"image": batch["image"][first:last]}
            maps = net.get_submodule("body")(self._crop(pictures, boxes[first:last])).float()
            parts.append((maps, net.get_submodule("hidden")(maps).float()))
            first = last
        maps, features = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return maps, features


def _startable(net: nn.Module) -> nn.Module:
    """Return the part of the network that takes other weights."""
    part: nn.Module = getattr(net, "backbone", net)
    return part
