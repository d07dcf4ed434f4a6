"""Two-stage detection (notes: Fast, Faster and Mask R-CNN): first regions, then the class and the box of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..augment.joint import JointTransform, vary_batch
from ..data.proposals import Search
from ..decoding.detections import select_detections
from ..errors import Refusal
from ..layers.anchors import BACKGROUND, Objects, assign_anchors, pad_boxes, pad_objects
from ..layers.boxes import clip_boxes, decode_offsets, encode_offsets, iou, lies_in_crowd
from ..layers.masks import crop_masks, paste_masks
from ..layers.pictures import Letterbox, standardise
from ..layers.sampling import compact, sample_examples
from ..losses.regions import classification_loss, mask_loss, objectness_loss, offset_loss
from ..metrics.detection import detector_scores
from ..models import pretrained
from ..optimizers import sgd
from ..recipes.ranges import Count, Fraction
from ..training.task import Batch, Shard, Spec, State, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# An anchor shows an object from the first IoU on, and the background below the second one.
ANCHOR_IOU = 0.7
ANCHOR_BACKGROUND_IOU = 0.3
# A region shows an object from this IoU on.
OBJECT_IOU = 0.5
# A bin or a pixel belongs to a mask from this share or probability on.
MASK_SHARE = 0.5


class TwoStage(Task):
    """Detection and classification of the objects in a picture by way of regions.

    Batches hold image uint8 [H, W, C], and any number of boxes and labels per picture. A model without region proposals
    of its own (Fast R-CNN) needs a column of proposals, one with masks (Mask R-CNN) a column of instances (data/masks).

    model: factory called with (channels, size, classes), with the methods of models.fast_rcnn.FastRCNN and, for the
    parts that it has, of models.mask_rcnn.MaskRCNN.
    augment: transforms of augment.joint, during training only; boxes, crowds, proposals and masks change
    with the pictures.
    start: an exported classifier or a .safetensors file whose weights the backbone starts from (models/pretrained.py).
    search: proposes boxes if neither the data nor the model do, as for a served Fast R-CNN; use the search of the data.
    samples: anchors, and then regions, per picture and step. foreground: largest fraction of them that shows objects.
    regions: that the model proposes per picture, out of the best `candidates`; suppress_regions: IoU above which the
    weaker of two is dropped.
    suppress: IoU above which the weaker of two detections of a class is removed. most: detections per picture.
    """

    monitor: ClassVar[tuple[str, str]] = ("map50", "max")
    targets: ClassVar[tuple[str, ...]] = ("boxes", "labels", "image")
    extras: ClassVar[tuple[str, ...]] = ("crowd", "crowd_labels")
    any_size: ClassVar[bool] = True

    def __init__(
        self,
        model: Callable[..., nn.Module],
        optimizer: Callable[..., Optimizer] = sgd,
        augment: list[Callable[..., JointTransform]] | None = None,
        start: str | None = None,
        search: Callable[[], Search] = Search,
        samples: Count = 32,
        foreground: Fraction = 0.5,
        candidates: Count = 128,
        regions: Count = 32,
        suppress_regions: Fraction = 0.7,
        suppress: Fraction = 0.3,
        most: Count = 20,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.augment = [transform() for transform in augment or []]
        self.start = start
        self.search = search()
        self.samples = samples
        self.foreground = foreground
        self.candidates = candidates
        self.regions = regions
        self.suppress_regions = suppress_regions
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
        if hasattr(net, "segment"):
            if "instances" not in spec.columns:
                raise Refusal("task.model: masks need a column 'instances', which the data lack; set data.masks: true")
            self.targets = (*TwoStage.targets, "instances")  # type: ignore[misc]  # of this task alone
        return State(modules={"net": net}, optimizers={"net": self.optimizer(net.parameters())})

    # ------------------------------------------------------------------------------------ gradient steps

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum of the losses of both stages, and each of them; all are means over pictures."""
        net = cast(Any, state.modules["net"])
        shard = replace(shard, batch=vary_batch(shard.batch, self.augment, shard.generator))
        objects = pad_objects(shard.batch)
        maps = net(standardise(shard.batch["image"], self.mean, self.std))
        terms: dict[str, Tensor] = {}
        if hasattr(net, "proposals"):
            logits, offsets = net.proposals(maps)
            terms |= self._proposal_losses(net.proposals.anchors, logits, offsets, objects, shard.generator)
            proposals, is_real = self._select_regions(net, logits, offsets)
        else:
            proposals, is_real = self._padded_proposals(shard.batch)
        terms |= self._region_losses(net, maps, proposals, is_real, objects, shard)
        loss = torch.stack(list(terms.values())).sum()
        return loss, {name: term.detach() for name, term in terms.items()}

    def _proposal_losses(
        self, anchors: Tensor, logits: Tensor, offsets: Tensor, objects: Objects, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the losses of sampled anchors: whether they show an object, and the offsets to its box."""
        anchors = anchors.to(logits.device)
        assigned = assign_anchors(anchors, objects.boxes, objects.labels, ANCHOR_IOU, ANCHOR_BACKGROUND_IOU)
        is_background = (assigned == BACKGROUND) & ~lies_in_crowd(anchors, objects.crowd)
        rows, is_real = sample_examples(assigned >= 0, is_background, self.samples, self.foreground, generator)
        assigned = assigned.gather(1, rows)
        targets = encode_offsets(_boxes_at(objects.boxes, assigned), anchors[rows])
        return {
            "objectness_loss": objectness_loss(logits.gather(1, rows), assigned >= 0, is_real),
            "proposal_loss": offset_loss(_boxes_at(offsets, rows), targets, assigned >= 0, is_real),
        }

    def _region_losses(
        self,
        net: Any,
        maps: Tensor,
        proposals: Tensor,
        is_real: Tensor,
        objects: Objects,
        shard: Shard,
    ) -> dict[str, Tensor]:
        """Return the losses of regions sampled from the true boxes and the proposals, without background in crowds."""
        boxes, labels, crowd = objects
        regions = torch.cat([boxes, proposals], 1)
        is_real = torch.cat([labels >= 0, is_real], 1)
        overlaps = iou(regions, boxes).masked_fill((labels < 0)[:, None], -1.0)
        background = len(self.classes)
        if labels.shape[1]:
            overlap, best = overlaps.max(2)
            targets = torch.where(overlap >= OBJECT_IOU, labels.gather(1, best), background)
        else:
            best = targets = labels.new_full(regions.shape[:2], background)
        is_object = targets < background
        is_background = ~is_object & ~lies_in_crowd(regions, crowd)
        rows, is_sampled = sample_examples(
            is_object & is_real, is_background & is_real, self.samples, self.foreground, shard.generator
        )
        regions, targets, best = _boxes_at(regions, rows), targets.gather(1, rows), best.gather(1, rows)
        logits, offsets = net.classify(maps, regions)
        is_object = (targets < background) & is_sampled
        own = offsets.gather(2, targets.clamp(max=background - 1)[..., None, None].expand(-1, -1, 1, 4))[:, :, 0]
        true = encode_offsets(_boxes_at(boxes, best), regions)
        terms = {
            "class_loss": classification_loss(logits, targets, is_sampled),
            "offset_loss": offset_loss(own, true, is_object, is_sampled),
        }
        if hasattr(net, "segment"):
            rows = compact(is_object, round(self.foreground * self.samples))
            labels, places, is_object = (values.gather(1, rows) for values in (targets, best, is_object))
            regions, instances = _boxes_at(regions, rows), shard.batch["instances"]
            terms["mask_loss"] = self._mask_loss(net, maps, regions, labels, places, is_object, instances)
        return terms

    def _mask_loss(
        self,
        net: Any,
        maps: Tensor,
        regions: Tensor,
        labels: Tensor,
        objects: Tensor,
        is_object: Tensor,
        instances: Tensor,
    ) -> Tensor:
        """Return the mean binary cross-entropy of the masks of regions [B, R, 4] with objects, as a mean over pictures.

        labels, objects: [B, R], the class and the place of the region's object. instances: index maps [B, H, W].
        """
        logits = net.segment(maps, regions, labels.clamp(max=len(self.classes) - 1))
        targets = (crop_masks(instances, objects, regions, logits.shape[-1]) >= MASK_SHARE).to(logits.dtype)
        return mask_loss(logits, targets, is_object)

    # ------------------------------------------------------------------------------------ regions

    def _select_regions(self, net: Any, logits: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the regions [B, R, 4] that the model proposes, and which are real: bool [B, R]."""
        selected: tuple[Tensor, Tensor] = net.proposals.select(
            logits, offsets, self.candidates, self.suppress_regions, self.regions
        )
        return selected

    def _padded_proposals(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the proposals [B, R, 4] of the batch or of a new search, and which are real: bool [B, R]."""
        proposals = self.search.propose(batch)
        boxes, labels = pad_boxes(proposals, [np.zeros(len(rows)) for rows in proposals], batch["image"].device)
        return boxes, labels >= 0

    # ------------------------------------------------------------------------------------ detection

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return {"boxes": [B, most, 4], "scores": [B, most], "labels": [B, most]} in the pictures' own pixels.

        The best come first; empty places have score 0 and label -1. Pictures of another size are scaled. A model with
        masks adds {"masks": uint8 [B, most, H, W]}, 1 where a pixel shows the object.
        """
        net = cast(Any, state.modules["net"])
        letterbox = Letterbox(tuple(batch["image"].shape[1:3]), self.size)
        images = letterbox.fit(batch["image"])
        maps = net(standardise(images, self.mean, self.std))
        if hasattr(net, "proposals"):
            regions, is_real = self._select_regions(net, *net.proposals(maps))
        else:
            regions, is_real = self._padded_proposals({**batch, "image": images})
        logits, offsets = net.classify(maps, regions)
        scores = logits.softmax(2)[..., :-1] * is_real[..., None]
        moved = decode_offsets(offsets, regions[:, :, None].expand(offsets.shape))
        detections = select_detections(clip_boxes(moved, *self.size), scores, self.suppress, self.most)
        boxes = letterbox.restore_boxes(detections["boxes"])
        if hasattr(net, "segment"):
            masks = net.segment(maps, detections["boxes"], detections["labels"]).sigmoid()
            pasted = paste_masks(masks, boxes, *letterbox.source) >= MASK_SHARE
            detections["masks"] = (pasted & (detections["labels"] >= 0)[..., None, None]).to(torch.uint8)
        return detections | {"boxes": boxes}

    def tags(self, state: State, scores: dict[str, float]) -> dict[str, str]:
        """Return where the backbone's weights come from."""
        return pretrained.start_tags(state.modules["net"].get_submodule("backbone"), self.start, "task.start")

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return map, map50 and not_judged, and those of the masks, if there are any, with the prefix "mask_".

        Detections in crowds are ignored; not_judged is the number of crowds and of objects without a pixel.
        """
        metrics = detector_scores(predictions, targets)
        if "masks" in predictions:
            of_masks = detector_scores(predictions, targets, of_masks=True)
            metrics |= {f"mask_{name}": value for name, value in of_masks.items()}
        return metrics

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Draw the first pictures with their true boxes and the confident detections."""
        from ..drawings.boxes import draw_confident

        return {"detections": draw_confident(targets, predictions, self.classes, "Detections")}


def _boxes_at(boxes: Tensor, rows: Tensor) -> Tensor:
    """Return the boxes [B, S, 4] at rows [B, S] of boxes [B, N, 4]; negative rows and those of no box give zeros."""
    if not boxes.shape[1]:
        return boxes.new_zeros(*rows.shape, 4)
    return boxes.gather(1, rows.clamp(min=0)[..., None].expand(-1, -1, 4))
