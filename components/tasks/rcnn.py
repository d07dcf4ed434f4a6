"""R-CNN (notes; Girshick et al. 2014): proposals by selective search, a CNN on each, SVMs, and linear box regression.

The gradient steps fine-tune the CNN to tell the classes and the background apart on warped proposals. After the last
one its features over the training split fit the rest, in closed form or by scikit-learn: `finish`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.proposals import Search
from ..layers.boxes import clip_boxes, crop_boxes, decode_offsets, encode_offsets, iou, nms
from ..metrics.detection import average_precision
from ..optimizers import sgd
from ..recipes.ranges import Count, Fraction, NonNegative, Positive
from ..training.task import Batch, Shard, Spec, State, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AT_ONCE = 2048  # crops in the network at once
OBJECT, NEAR = 0.5, 0.6  # IoU from which a region shows an object, and above which it is regressed to it
RIVALS = 10  # candidates a kept detection, before suppression
SHOWN, SURE = 12, 0.5  # pictures that are drawn, and the least score of what is drawn on them


class RCNN(Task):
    """Finds and labels the objects of a picture.

    model: factory called with (channels, size, classes + 1), with parts `body`, `hidden` and `head` in this order.
    search: proposes boxes where the data bring none (a served model is given pictures alone); it should be the data's.
    side, context: proposals grow by `context` of their sides at each end and are warped to `side` x `side`.
    samples: crops of a picture in a step, of which at most the share `foreground` is of objects (IoU of at least 0.5).
    svm: C of the linear SVMs; their negatives overlap no object of the class by `negative` or more. ridge: penalty of
    the regression, which learns from proposals with an IoU of more than 0.6. suppress: IoU above which the weaker of
    two detections of a class goes. most: detections a picture. Batches bring image uint8 [H, W, 1 or 3], boxes and
    labels of any number a picture, and proposals where they were searched for before.
    """

    monitor: ClassVar[tuple[str, str]] = ("map50", "max")
    targets: ClassVar[tuple[str, ...]] = ("boxes", "labels", "image")
    requires: ClassVar[tuple[str, ...]] = ("opencv-contrib-python-headless",)

    def __init__(
        self,
        model: Callable[..., nn.Module],
        optimizer: Callable = sgd,
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
        self.model, self.optimizer, self.search = model, optimizer, search()
        self.side, self.context, self.samples, self.foreground = side, context, samples, foreground
        self.svm, self.negative, self.ridge = svm, negative, ridge
        self.suppress, self.most = suppress, most

    def setup(self, spec: Spec) -> State:
        channels = spec.columns["image"][2]
        self.classes = spec.classes
        self.mean, self.std = (torch.tensor(spec.statistics[key]).view(-1, 1, 1) for key in ("mean", "std"))
        net = self.model(channels=channels, size=(self.side, self.side), classes=len(spec.classes) + 1)
        return State(modules={"net": net}, optimizers={"net": self.optimizer(net.parameters())})

    # ------------------------------------------------------------------------------------ gradient steps

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy and accuracy over sampled crops of the shard's pictures (0 without one); K is background."""
        chosen = [self._sampled(*found, shard.generator) for found in self._regions(shard.batch)]
        boxes, labels = ([pair[i] for pair in chosen] for i in range(2))
        wanted = torch.cat(labels)
        logits = state.modules["net"](self._crops(shard.batch, boxes)).float()
        if not len(wanted):  # a mean over nothing is no number
            return logits.sum(), {"accuracy": logits.detach().sum()}
        return F.cross_entropy(logits, wanted), {"accuracy": (logits.detach().argmax(1) == wanted).float().mean()}

    def _regions(self, batch: Batch) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Of each picture: proposals with the true boxes before them [N + M, 4], true boxes [M, 4], labels [M]."""
        device = batch["image"].device
        found = []
        for proposals, true, labels in zip(self._proposals(batch), batch["boxes"], batch["labels"], strict=True):
            boxes = torch.as_tensor(true, device=device)
            found.append((torch.cat([boxes, proposals]), boxes, torch.as_tensor(labels, device=device)))
        return found

    def _sampled(
        self, regions: Tensor, true: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Up to `samples` of a picture's regions, and their labels: the best overlapped object's, or the background."""
        wanted = torch.full((len(regions),), len(self.classes), device=regions.device)
        if len(true):
            overlap, best = iou(regions, true).max(1)
            wanted = torch.where(overlap >= OBJECT, labels[best], wanted)
        shuffled = torch.randperm(len(regions), generator=generator, device=regions.device)
        object_first = wanted[shuffled] < len(self.classes)
        objects = shuffled[object_first][: round(self.foreground * self.samples)]
        others = shuffled[~object_first][: self.samples - len(objects)]
        rows = torch.cat([objects, others])
        return regions[rows], wanted[rows]

    # ------------------------------------------------------------------------------------ after the last step

    @torch.no_grad()
    def finish(self, state: State, over: Callable[[Callable[[Batch], Any]], list[Any]]) -> None:
        """tables: svm_weight [K, D], svm_bias [K], box_weight [K, P + 1, 4] (last row: constant), all float32."""
        net = (state.modules | state.averages)["net"].eval()
        found = over(lambda batch: self._described(net, batch))
        joined = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
        state.tables |= self._machines(joined["features"], joined["overlaps"])
        state.tables |= self._lines(joined["maps"], joined["offsets"], joined["labels"])

    def _described(self, net: nn.Module, batch: Batch) -> dict[str, np.ndarray]:
        """Regions as the network sees them: features, overlap with each class; the rest of proposals near an object."""
        regions = self._regions(batch)
        maps, features = self._features(net, batch, [region for region, _, _ in regions])
        overlaps, offsets, labels = [], [], []
        for boxes, true, label in regions:
            found = torch.zeros(len(boxes), len(self.classes), device=boxes.device)
            if len(true):
                pairs = iou(boxes, true)
                overlap, best = pairs.max(1)
                found.scatter_reduce_(1, label.expand(len(boxes), -1), pairs, "amax")
                offsets.append(encode_offsets(true[best], boxes))
                near = (overlap > NEAR) & (torch.arange(len(boxes), device=boxes.device) >= len(true))
                labels.append(torch.where(near, label[best], -1))
            else:
                offsets.append(torch.zeros_like(boxes))
                labels.append(torch.full((len(boxes),), -1, device=boxes.device))
            overlaps.append(found)
        near = torch.cat(labels) >= 0
        whole = {"features": features, "overlaps": torch.cat(overlaps)}
        close = {"maps": maps[near], "offsets": torch.cat(offsets)[near], "labels": torch.cat(labels)[near]}
        return {name: values.cpu().numpy() for name, values in (whole | close).items()}

    def _machines(self, features: np.ndarray, overlaps: np.ndarray) -> dict[str, np.ndarray]:
        """One linear SVM a class, on standardised features: true boxes against what hardly overlaps any."""
        from sklearn.svm import LinearSVC

        mean, std = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64) + 1e-6
        scaled = (features - mean) / std
        weight, bias = np.zeros((len(self.classes), features.shape[1])), -np.ones(len(self.classes))
        for number, overlap in enumerate(overlaps.T):
            own, other = overlap > 0.99, overlap < self.negative
            if own.any() and other.any():
                machine = LinearSVC(C=self.svm, dual=False)
                machine.fit(scaled[own | other], own[own | other])
                weight[number] = machine.coef_[0] / std
                bias[number] = machine.intercept_[0] - weight[number] @ mean
        return {"svm_weight": weight.astype(np.float32), "svm_bias": bias.astype(np.float32)}

    def _lines(self, maps: np.ndarray, offsets: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """One ridge regression a class: maps -> offsets to the true box; a class without an example moves nothing."""
        weight = np.zeros((len(self.classes), maps.shape[1] + 1, 4))
        for number in range(len(self.classes)):
            own = labels == number
            if own.any():
                x, y = maps[own].astype(np.float64), offsets[own].astype(np.float64)
                middle, mean = x.mean(0), y.mean(0)
                gram = (x - middle).T @ (x - middle) + self.ridge * np.eye(x.shape[1])
                weight[number, :-1] = np.linalg.solve(gram, (x - middle).T @ (y - mean))
                weight[number, -1] = mean - middle @ weight[number, :-1]
        return {"box_weight": weight.astype(np.float32)}

    # ------------------------------------------------------------------------------------ detection

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """{"boxes": [B, most, 4], "scores": [B, most] (0: none), "labels": [B, most] (-1: none)}, best first.

        The same with "raw_" before it: without the regression. Before `finish` the network's own head gives the
        scores, and no box is moved.
        """
        net, tables = state.modules["net"], {n: torch.as_tensor(t) for n, t in state.tables.items()}
        height, width = batch["image"].shape[1:3]
        proposals = self._proposals(batch)
        maps, features = self._features(net, batch, proposals)
        counts = [len(boxes) for boxes in proposals]
        found = []
        for boxes, own, seen in zip(proposals, maps.split(counts), features.split(counts), strict=True):
            scores = self._scores(net, tables, seen)
            moved = raw = boxes[:, None].expand(-1, len(self.classes), 4)
            if "box_weight" in tables:
                lines = tables["box_weight"].to(own.device)
                offsets = torch.einsum("np,kpo->nko", own, lines[:, :-1]) + lines[:, -1]
                moved = clip_boxes(decode_offsets(offsets, raw), height, width)
            found.append(self._detected(moved, scores, "") | self._detected(raw, scores, "raw_"))
        return {name: torch.stack([one[name] for one in found]) for name in found[0]}

    def _scores(self, net: nn.Module, tables: dict[str, Tensor], features: Tensor) -> Tensor:
        """[N, D] -> [N, K] from 0 to 1: the logistic function of the SVMs' margins, or the network's softmax."""
        if "svm_weight" in tables:
            weight, bias = (tables[name].to(features.device) for name in ("svm_weight", "svm_bias"))
            return torch.sigmoid(features @ weight.T + bias)
        return net.get_submodule("head")(features).float().softmax(1)[:, :-1]

    def _detected(self, boxes: Tensor, scores: Tensor, prefix: str) -> dict[str, Tensor]:
        """[N, K, 4], [N, K] -> the `most` best detections that stay after suppression within each class, padded."""
        classes = scores.shape[1]
        flat, candidates = scores.reshape(-1), boxes.reshape(-1, 4)
        best = flat.argsort(descending=True, stable=True)[: RIVALS * self.most]
        labels = best % classes
        kept = best[nms(candidates[best], flat[best], self.suppress, labels)[: self.most]]
        short = self.most - len(kept)
        return {
            f"{prefix}boxes": F.pad(candidates[kept], (0, 0, 0, short)),
            f"{prefix}scores": F.pad(flat[kept], (0, short)),
            f"{prefix}labels": F.pad(kept % classes, (0, short), value=-1),
        }

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """map, map50, and both of the boxes as they were proposed (`_unregressed`)."""
        found: dict[str, float] = {}
        for prefix, suffix in (("", ""), ("raw_", "_unregressed")):
            boxes, scores, labels = (predictions[f"{prefix}{name}"] for name in ("boxes", "scores", "labels"))
            values = average_precision(boxes, scores, labels, targets["boxes"], targets["labels"])
            found |= {f"{name}{suffix}": value for name, value in values.items()}
        return found

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        from ..drawings.boxes import Boxes, draw_detections

        pictures = list(targets["image"][:SHOWN])
        true = [Boxes(boxes) for boxes in targets["boxes"][:SHOWN]]
        found = []
        for row in range(len(pictures)):
            sure = predictions["scores"][row] >= SURE
            words = [self.classes[label] for label in predictions["labels"][row][sure]]
            found.append(Boxes(predictions["boxes"][row][sure], words))
        return {"detections": draw_detections(pictures, true, found, "R-CNN")}

    # ------------------------------------------------------------------------------------ pixels and features

    def _proposals(self, batch: Batch) -> list[Tensor]:
        """[N, 4] a picture, from the batch or, where it brings none, by a search now."""
        images = batch["image"]
        found = batch["proposals"] if "proposals" in batch else [self.search(image) for image in images.cpu().numpy()]
        return [torch.as_tensor(boxes, device=images.device) for boxes in found]

    def _crops(self, batch: Batch, boxes: list[Tensor]) -> Tensor:
        """[B, H, W, C] uint8 and boxes a picture -> normalised squares [sum of N, C, side, side]."""
        images = batch["image"].permute(0, 3, 1, 2).float().div_(255)
        mean, std = self.mean.to(images.device), self.std.to(images.device)
        squares = [crop_boxes((i - mean) / std, b, self.side, self.context) for i, b in zip(images, boxes, strict=True)]
        return torch.cat(squares).contiguous(memory_format=torch.channels_last)

    def _features(self, net: nn.Module, batch: Batch, boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Maps [sum of N, P] and features [sum of N, D] of all boxes, AT_ONCE of them at a time."""
        found, first = [], 0
        while first < len(boxes):
            last = first + 1
            while last < len(boxes) and sum(map(len, boxes[first : last + 1])) <= AT_ONCE:
                last += 1
            part = {"image": batch["image"][first:last]}
            maps = net.get_submodule("body")(self._crops(part, boxes[first:last])).float()
            found.append((maps, net.get_submodule("hidden")(maps).float()))
            first = last
        maps, features = (torch.cat(parts) for parts in zip(*found, strict=True))
        return maps, features
