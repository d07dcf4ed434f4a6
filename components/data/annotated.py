"""Read pictures with boxes or masks: what the folder layouts (VOC, COCO, label pictures) have in common.

Pictures of any size are fitted into letterboxes, and their annotations with them (letterbox.py). A picture is turned
upright by its EXIF orientation, unless its annotation states the size of the stored pixels.

Faults are refused, or left out, counted and listed in the manifest (`bad: skip`). A box without area or outside its
picture, and a class that is not named, concern one object; the picture stays without it. A mask of another size than
its picture, and a picture or an annotation without the other, concern the picture.
"""

from __future__ import annotations

import hashlib
import io
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import Refusal
from ..storage.dataset import Fault
from ..storage.draw import draw_split
from ..storage.store import Column
from .letterbox import Letterbox, fit_boxes
from .masks import BACKGROUND, IGNORED, MAX_CLASSES, MAX_OBJECTS, paint_classes, trace_boxes
from .picture import Remarks, convert_to_plain, deep_mode, open_picture, turn_upright
from .tree import FileTree

PART_BYTES = 32 << 20
MAX_ROWS_PER_PART = 64
TOLERANCE = 1.0  # pixels by which a box may stand out of its picture, as rounding does; it is clipped
NAMED = 3  # objects per part whose faults are listed; the others are counted
NOTED = 12  # pictures and annotations without the other that are listed


@dataclass
class Annotation:
    """The annotation of one picture, in the pixels of that picture, before it is checked.

    boxes float64 [N, 4]: corners, ends exclusive; None: traced from `instances`. classes [N]: names. crowd bool [N]:
    objects that are neither learnt nor judged. size: (width, height) that the annotation states. instances [H, W]: 1 +
    the object's place; mask int16 [H, W]: see masks.py, and -1 - v where the value v stands for no class. relative:
    whether boxes are shares of the picture's sides. faults [N]: what reading showed to be wrong with an object.
    """

    place: str  # for error messages
    classes: Sequence[str]
    boxes: np.ndarray | None = None
    crowd: np.ndarray | None = None
    size: tuple[int, int] | None = None
    instances: np.ndarray | None = None
    mask: np.ndarray | None = None
    relative: bool = False
    faults: Sequence[str | None] | None = None


class AnnotatedPictures(ABC):
    """Pictures of a FileTree in letterboxes of `size` (height, width), split by lists, folders or a draw.

    A subclass lists the pictures and reads the annotation of one; it sets `boxes` and `masks` to say what it has.
    """

    licence = "the owner's"
    boxes = True
    instances = False
    mask = False

    def __init__(
        self,
        folder: str,
        size: list[int],
        colour: bool,
        test: float,
        validation: float,
        seed: int,
        bad: str,
        duplicates: str,
        sha256: str | None,
    ) -> None:
        if len(size) != 2:
            raise Refusal(f"size: {size} must be [height, width]")
        if test + validation >= 1:
            raise Refusal("validation: leaves nothing to train on; lower test and validation")
        self.tree = FileTree(folder)
        self.own = [Path(folder)]
        self.name = Path(folder).name.split(".")[0]
        self.source = folder
        self.letterbox = Letterbox(*size)
        self.channels = 3 if colour else 1
        self.shares = test, validation
        self.seed = seed
        self.bad = bad
        self.duplicates = duplicates
        self.remarks: Remarks = Counter()
        self.unpaired: list[str] = []
        self.sha256 = sha256
        self.rows_per_part = min(MAX_ROWS_PER_PART, max(1, PART_BYTES // (size[0] * size[1] * self.channels)))

    @abstractmethod
    def list_splits(self) -> dict[str, list[str]]:
        """Return {split: names of pictures in the tree}; reports pictures and annotations without the other."""

    @abstractmethod
    def read_annotation(self, name: str) -> Annotation:
        """Return the annotation of a picture."""

    @property
    @abstractmethod
    def classes(self) -> list[str]:
        """Return the names of the classes, in the order of the labels."""

    @property
    def columns(self) -> dict[str, Column]:
        """Return the columns of the examples."""
        size = (self.letterbox.height, self.letterbox.width)
        columns = {"image": Column("uint8", (*size, self.channels)), "geometry": Column("float32", (6,))}
        if self.boxes:
            columns |= {"boxes": Column("float32", (None, 4)), "labels": Column("int64", (None,))}
            columns |= {"crowd": Column("float32", (None, 4)), "crowd_labels": Column("int64", (None,))}
        if self.instances:
            columns["instances"] = Column("int16", size)
        if self.mask:
            columns["mask"] = Column("uint8", size)
        return columns

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}."""
        return {split: -(-len(names) // self.rows_per_part) for split, names in self.rows.items()}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any] | Fault]:
        """Yield the pictures of one part with their annotations, in the order of the list."""
        listed = 0
        for name in self.rows[split][part * self.rows_per_part : (part + 1) * self.rows_per_part]:
            try:
                example, faults = self._read_example(name)
            except Refusal as refusal:
                yield Fault(str(refusal))
                continue
            if faults and self.bad != "skip":
                yield Fault(f"{faults[0]}; correct it")
                continue
            for fault in faults:
                listed += 1
                self.remarks[f"lose an object, {fault}" if listed <= NAMED else "lose further objects"] += 1
            yield example

    def locate(self, split: str, row: int) -> str:
        """Return the file of an example."""
        return self.tree.place(self.rows[split][row])

    @property
    def notes(self) -> list[str]:
        """Return sentences for the manifest about pictures that are left out, and about objects that are not judged."""
        sentences = []
        if self.rows and self.unpaired:
            more = f"; and {len(self.unpaired) - NOTED:,} more" if len(self.unpaired) > NOTED else ""
            sentences.append(f"{len(self.unpaired):,} left out: {'; '.join(self.unpaired[:NOTED])}{more}")
        if crowds := self.count_crowd():
            sentences.append(f"{crowds:,} crowds or difficult objects are neither learnt nor judged")
        return sentences

    def count_crowd(self) -> int:
        """Return the number of objects that are neither learnt nor judged."""
        return 0

    def report_unpaired(self, place: str, fault: str) -> None:
        """Refuse a picture or an annotation without the other, or list it."""
        if self.bad != "skip":
            raise Refusal(f"{place}: {fault}; correct it, or set bad: skip")
        self.unpaired.append(f"{place}: {fault}")

    @cached_property
    def rows(self) -> dict[str, list[str]]:
        """Return {split: names of its pictures}."""
        if self.sha256 is not None:
            self.tree.check_digest(self.sha256)
        if len(self.classes) > MAX_CLASSES:
            raise Refusal(f"{self.source}: has {len(self.classes)} classes; at most {MAX_CLASSES} can be stored")
        splits = self.list_splits()
        for split, names in splits.items():
            if not names:
                raise Refusal(f"{self.source}: split '{split}' has no picture; add some, or change its share or seed")
        return {split: splits[split] for split in ("train", "validation", "test") if split in splits}

    def draw_splits(self, splits: dict[str, list[str]]) -> dict[str, list[str]]:
        """Return `splits` with the splits that are missing but wanted drawn from "train", by the pictures' bytes."""
        test, validation = (
            0.0 if split in splits else share for split, share in zip(("test", "validation"), self.shares, strict=True)
        )
        drawn: dict[str, list[str]] = {"train": []}
        drawn |= {split: [] for split, share in (("validation", validation), ("test", test)) if share}
        for name in splits["train"]:
            content = hashlib.sha256(self.tree.read(name)).digest()
            drawn[draw_split(content, test, validation, self.seed)].append(name)
        return splits | drawn

    def _read_example(self, name: str) -> tuple[dict[str, Any], list[str]]:
        """Return the example of a picture in its letterbox without faulty objects, and what is wrong with those.

        Refuses a picture that cannot be read, or whose mask does not fit.
        """
        place = self.tree.place(name)
        annotation = self.read_annotation(name)
        with open_picture(place, content=io.BytesIO(self.tree.read(name))) as image:
            deep = deep_mode(image)
            upright = turn_upright(image)
            frame = image if annotation.size == image.size != upright.size else upright
            picture = convert_to_plain(frame, Path(place), deep, None).convert("RGB" if self.channels == 3 else "L")
        if annotation.relative and annotation.boxes is not None:
            annotation.boxes = annotation.boxes * np.tile(picture.size, 2)
        fault = find_mask_fault(annotation, picture.size)
        if fault is not None:
            raise Refusal(f"{annotation.place}: {fault}; correct it")
        faults = [self._find_fault(annotation, number, picture.size) for number in range(len(annotation.classes))]
        valid = np.array([fault is None for fault in faults], bool)
        return self._fit_example(picture, annotation, valid), [fault for fault in faults if fault is not None]

    def _find_fault(self, annotation: Annotation, number: int, size: tuple[int, int]) -> str | None:
        """Return what is wrong with an object, with its place, or None."""
        if annotation.faults is not None and annotation.faults[number] is not None:
            return annotation.faults[number]
        name = annotation.classes[number]
        fault = None if name in self.classes else f"class '{name}' is not one of {', '.join(self.classes)}"
        if fault is None and annotation.boxes is not None:
            fault = find_box_fault(annotation.boxes[number], size)
        return fault and f"{annotation.place}: object {number + 1}: {fault}"

    def _fit_example(self, picture: Any, annotation: Annotation, valid: np.ndarray) -> dict[str, Any]:
        """Return the columns of one picture, with its `valid` objects."""
        image, geometry = self.letterbox.fit_picture(picture)
        example: dict[str, Any] = {"image": image, "geometry": geometry}
        crowd = np.zeros(len(valid), bool) if annotation.crowd is None else annotation.crowd
        judged = valid & ~crowd
        labels = np.array([self.classes.index(n) if v else -1 for n, v in zip(annotation.classes, valid, strict=True)])
        labels = labels.astype(np.int64)
        instances = None
        if annotation.instances is not None:
            instances = self.letterbox.fit_map(_renumber(annotation.instances, judged))
        if annotation.boxes is not None:
            limit = np.tile(picture.size, 2)
            boxes = fit_boxes(np.clip(annotation.boxes, 0, limit), geometry)
            example |= {"boxes": boxes[judged], "labels": labels[judged]}
            example |= {"crowd": boxes[valid & crowd], "crowd_labels": labels[valid & crowd]}
        elif instances is not None:
            boxes = trace_boxes(instances, int(judged.sum()))
            visible = boxes[:, 2] > 0  # the smallest ones may have no pixel in the letterbox
            instances = _renumber(instances, visible)
            example |= {"boxes": boxes[visible], "labels": labels[judged][visible]}
            example |= {"crowd": np.zeros((0, 4), np.float32), "crowd_labels": np.zeros(0, np.int64)}
        if self.instances:
            example["instances"] = instances
        if self.mask and annotation.mask is not None:
            example["mask"] = self.letterbox.fit_map(annotation.mask.astype(np.uint8), IGNORED)
        elif self.mask and instances is not None:
            example["mask"] = self._paint(instances, example["labels"], geometry)
        return example

    def _paint(self, instances: np.ndarray, labels: np.ndarray, geometry: np.ndarray) -> np.ndarray:
        """Return the mask of objects; what lies around the picture is not judged."""
        mask = paint_classes(instances, labels)
        x, y, width, height = geometry[:4].astype(int)
        outside = np.ones(mask.shape, bool)
        outside[y : y + height, x : x + width] = False
        mask[outside] = IGNORED
        return mask


def use_validation_as_test(splits: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return `splits`, in which a validation split without a test split is the test split."""
    if "validation" in splits and "test" not in splits:
        splits["test"] = splits.pop("validation")
    return splits


def find_box_fault(box: np.ndarray, size: tuple[int, int]) -> str | None:
    """Return what is wrong with a box (corners [4]) of a picture of `size` (width, height), or None."""
    x1, y1, x2, y2 = (f"{number:g}" for number in box)
    if not np.isfinite(box).all():
        return f"the box {x1}, {y1}, {x2}, {y2} has a coordinate that is not a number"
    if box[2] <= box[0]:
        return f"the box has x2 <= x1 ({x2} <= {x1})"
    if box[3] <= box[1]:
        return f"the box has y2 <= y1 ({y2} <= {y1})"
    limit = np.array(size)
    stands_out = (box[:2] < -TOLERANCE).any() or (box[2:] > limit + TOLERANCE).any()
    if stands_out or (box[:2] >= limit).any() or (box[2:] <= 0).any():
        return f"the box {x1}, {y1}, {x2}, {y2} is outside the picture of {_by(size)} pixels"
    return None


def find_mask_fault(annotation: Annotation, size: tuple[int, int]) -> str | None:
    """Return what is wrong with the index maps for a picture of `size` (width, height), or None."""
    for index_map in (annotation.instances, annotation.mask):
        if index_map is not None and index_map.shape[::-1] != size:
            return f"the mask has {_by(index_map.shape[::-1])} pixels, the picture {_by(size)}"
    if len(annotation.classes) > MAX_OBJECTS:
        return f"has more than {MAX_OBJECTS:,} objects"
    if annotation.mask is not None and annotation.mask.min() < 0:
        return f"the mask has the label {-1 - int(annotation.mask.min())}, which is outside the classes"
    if annotation.instances is not None and annotation.instances.max() > len(annotation.classes):
        return f"the mask has an object {annotation.instances.max()} of {len(annotation.classes)}"
    return None


def _renumber(instances: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return the index map of the objects that are `valid`, bool [N], renumbered in the same order."""
    numbers = np.concatenate([[BACKGROUND], np.where(valid, np.cumsum(valid), BACKGROUND)])
    return numbers[instances].astype(np.int16)


def _by(size: tuple[int, ...]) -> str:
    return " x ".join(str(side) for side in size)
