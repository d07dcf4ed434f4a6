"""Your own pictures with boxes and masks in COCO's layout: a JSON file of instances, and a folder of pictures.

    annotations: annotations/instances_{split}.json     pictures: {split}      with a file and a folder per split
    annotations: instances.json                         pictures: images       splits are drawn by `seed`

{split} stands for train, test, and val, valid or validation, also with a year (train2017). Without a test file the
validation split is the test split, as usual for COCO.
"""

from __future__ import annotations

import json
import re
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np

from ..errors import Refusal, first_line, suggest_name
from ..recipes.ranges import Count, Fraction, Natural
from .annotated import AnnotatedPictures, Annotation, use_validation_as_test
from .image_folder import SPLIT_NAMES
from .image_table import clean_path
from .masks import BACKGROUND
from .picture import MAX_PIXELS, SUFFIXES

YEAR = r"(?:\d{4})?"


class CocoFolder(AnnotatedPictures):
    """image uint8 [height, width, 1 or 3], boxes float32 [N, 4], labels int64 [N], geometry float32 [6].

    Boxes are corners in pixels of the letterbox, ends exclusive. `crowd` [M, 4] and `crowd_labels` [M] hold the objects
    marked as crowds. With `masks` also instances int16 and mask uint8 [height, width], from polygons and run lengths;
    where objects overlap, the smaller one is in front.

    classes: names of categories to keep, in the order of the labels (None: all, by their ids)
    size: height and width of the letterbox (letterbox.py)
    test, validation: shares to draw where the layout has no such split
    bad: what happens to faulty annotations (annotated.py); duplicates: to equal pictures of two splits; drop: the
    held-out one stays
    sha256: digest of the content of all files, checked if given
    """

    def __init__(
        self,
        folder: str,
        annotations: str = "annotations/instances_{split}.json",
        pictures: str = "{split}",
        classes: list[str] | None = None,
        masks: bool = False,
        size: list[Count] = [256, 256],  # noqa: B006  (never written to)
        colour: bool = True,
        test: Fraction = 0.2,
        validation: Fraction = 0.0,
        seed: Natural = 0,
        bad: Literal["refuse", "skip"] = "refuse",
        duplicates: Literal["refuse", "drop", "allow"] = "drop",
        sha256: str | None = None,
    ) -> None:
        super().__init__(folder, size, colour, test, validation, seed, bad, duplicates, sha256)
        self.annotations = annotations
        self.pictures = pictures
        self.named_classes = classes
        self.instances = self.mask = masks

    @cached_property
    def classes(self) -> list[str]:
        """Return the names of the categories."""
        names: dict[int, str] = {}
        for content, _ in self._files.values():
            names |= {category["id"]: str(category["name"]) for category in content["categories"]}
        if self.named_classes is not None:
            for name in self.named_classes:
                if name not in names.values():
                    suggestion = suggest_name(name, names.values())
                    raise Refusal(f"classes: '{name}' is not a category of {self.source}{suggestion}; correct it")
            return self.named_classes
        return list(dict.fromkeys(names[number] for number in sorted(names)))

    def list_splits(self) -> dict[str, list[str]]:
        """Return {split: pictures} by the JSON files, or drawn."""
        existing = set(self.tree.names)
        splits: dict[str, list[str]] = {}
        for split, (content, (file, folder)) in self._files.items():
            place = self.tree.place(file)
            listed = {record["id"]: f"{folder}{clean_path(record['file_name'])}" for record in content["images"]}
            for name in sorted(set(listed.values()) - existing):
                self.report_unpaired(place, f"an annotation without a picture: there is no {name}")
            for name in sorted(existing - set(listed.values())):
                if name.startswith(folder) and PurePosixPath(name).suffix.lower() in SUFFIXES:
                    self.report_unpaired(self.tree.place(name), f"a picture without an annotation in {file}")
            for number in sorted({record["image_id"] for record in content["annotations"]} - listed.keys()):
                self.report_unpaired(place, f"an annotation without a picture: image_id {number} is not listed")
            splits[split] = sorted(set(listed.values()) & existing)
        return self.draw_splits(use_validation_as_test(splits))

    def read_annotation(self, name: str) -> Annotation:
        """Return the objects of a picture, without categories that `classes` leaves out."""
        place, record, objects, categories = self._objects[name]
        if self.named_classes is not None:
            objects = [item for item in objects if categories.get(item["category_id"]) in self.classes]
        size = record["width"], record["height"]
        x, y, width, height = np.array([item["bbox"] for item in objects], np.float64).reshape(-1, 4).T
        annotation = Annotation(
            f"{place}: picture {record['id']}",
            [categories.get(item["category_id"], f"{item['category_id']}") for item in objects],
            np.stack([x, y, x + width, y + height], 1),
            np.array([item.get("iscrowd", 0) == 1 for item in objects], bool),
            size,
        )
        if self.instances:
            annotation.instances = self._paint_objects(objects, size, annotation.place)
        return annotation

    def count_crowd(self) -> int:
        """Return the number of objects marked as crowds."""
        return sum(item.get("iscrowd", 0) == 1 for _, _, objects, _ in self._objects.values() for item in objects)

    def _paint_objects(self, objects: list[dict[str, Any]], size: tuple[int, int], place: str) -> np.ndarray:
        """Return the index map of the objects, the largest ones at the back."""
        if min(size) < 1 or size[0] * size[1] > MAX_PIXELS:
            raise Refusal(f"{place}: its record states {size[0]} x {size[1]} pixels; correct it")
        instances = np.full(size[::-1], BACKGROUND, np.int16)
        masks = [decode_segmentation(item.get("segmentation"), size, place) for item in objects]
        for number in sorted(range(len(masks)), key=lambda number: -int(masks[number].sum())):
            instances[masks[number]] = number + 1
        return instances

    @cached_property
    def _objects(self) -> dict[str, tuple[str, dict[str, Any], list[dict[str, Any]], dict[int, str]]]:
        """Return {picture: (file, its record, its objects, names of the categories)}."""
        by_name = {}
        for content, (file, folder) in self._files.values():
            categories = {category["id"]: str(category["name"]) for category in content["categories"]}
            objects: dict[int, list[dict[str, Any]]] = {}
            for item in content["annotations"]:
                objects.setdefault(item["image_id"], []).append(item)
            for record in content["images"]:
                own = objects.get(record["id"], [])
                by_name[f"{folder}{clean_path(record['file_name'])}"] = (self.tree.place(file), record, own, categories)
        return by_name

    @cached_property
    def _files(self) -> dict[str, tuple[dict[str, Any], tuple[str, str]]]:
        """Return {split: (content of its JSON file, (the file, the folder of its pictures))}."""
        expression = re.escape(self.annotations).replace(r"\{split\}", f"(?P<split>(?:{'|'.join(SPLIT_NAMES)}){YEAR})")
        files: dict[str, tuple[dict[str, Any], tuple[str, str]]] = {}
        for name in self.tree.names:
            match = re.fullmatch(f"((?:.*/)?){expression}", name)
            if match is None:
                continue
            word = match.groupdict().get("split", "train")
            folder = self.pictures.replace("{split}", word).strip("/")
            split = SPLIT_NAMES[re.sub(r"\d{4}$", "", word)]
            if split in files:
                raise Refusal(f"{self.tree.place(name)}: {split} has another file, {files[split][1][0]}; remove one")
            content = parse_instances(self.tree.place(name), self.tree.read(name))
            files[split] = content, (name, f"{match[1]}{folder}/" if folder else match[1])
        if "train" not in files:
            raise Refusal(f"{self.source}: no file matches annotations: {self.annotations}; correct it")
        return files


def parse_instances(place: str, content: bytes) -> dict[str, Any]:
    """Return the value in the text of a JSON file of instances; refuses what `check_instances` does."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Refusal(f"{place}: not a file of COCO instances ({first_line(error)}); correct it") from None
    return check_instances(place, value)


def check_instances(place: str, value: Any) -> dict[str, Any]:
    """Return the value of a JSON file of instances; refuses one without the fields that are read here."""
    try:
        for name, fields in (
            ("images", {"id": int, "file_name": str, "width": int, "height": int}),
            ("annotations", {"image_id": int, "category_id": int, "bbox": list}),
            ("categories", {"id": int, "name": str}),
        ):
            for number, record in enumerate(value[name]):
                _check_record(record, fields, f"{name}[{number}]")
        _check_unique(value["images"], "images", "id", "file_name")
        _check_unique(value["images"], "images", "file_name", "id")
        _check_unique(value["categories"], "categories", "id", "name")
        return dict(value)
    except (ValueError, LookupError, TypeError) as error:
        raise Refusal(f"{place}: not a file of COCO instances ({first_line(error)}); correct it") from None


def _is_coordinate(number: Any) -> bool:
    """Return whether a value fits into a float: JSON holds integers of any length."""
    return isinstance(number, float) or (isinstance(number, int) and abs(number) < 1 << 53)


def _check_record(record: Any, fields: dict[str, type], place: str) -> None:
    """Raise ValueError for anything but an object with all fields of these types."""
    if not isinstance(record, dict):
        raise ValueError(f"{place} is not an object")
    for field, kind in fields.items():
        if not isinstance(record.get(field), kind):
            raise ValueError(f"{place}: '{field}' is missing or not of type {kind.__name__}")
    box = record.get("bbox")
    if box is not None and (len(box) != 4 or not all(_is_coordinate(number) for number in box)):
        raise ValueError(f"{place}: 'bbox' does not have four numbers")


def _check_unique(records: list[dict[str, Any]], place: str, key: str, field: str) -> None:
    """Raise ValueError if records of the same key have different fields: one would hide the other."""
    fields: dict[Any, Any] = {}
    for record in records:
        first = fields.setdefault(record[key], record[field])
        if first != record[field]:
            raise ValueError(f"{place}: {key} {record[key]!r} has {field} {first!r} and {record[field]!r}")


def decode_segmentation(segmentation: Any, size: tuple[int, int], place: str) -> np.ndarray:
    """Return the mask bool [H, W] of polygons or run lengths, for a picture of `size` (width, height)."""
    from pycocotools import mask as coco

    width, height = size
    try:
        if isinstance(segmentation, list) and segmentation:
            for polygon in segmentation:
                _check_polygon(polygon, size)
            runs = coco.merge(coco.frPyObjects(segmentation, height, width))
            return np.asarray(coco.decode(runs)).astype(bool)
        if isinstance(segmentation, dict):
            return decode_runs(segmentation["counts"], segmentation["size"], size)
        raise ValueError("an object without polygons or run lengths")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Refusal(f"{place}: invalid segmentation ({first_line(error)}); correct it, or leave out masks") from None


def decode_runs(counts: Any, stated: list[int], size: tuple[int, int]) -> np.ndarray:
    """Return the mask bool [H, W] of run lengths, plain or as COCO's text; raise ValueError for other than `size`.

    Not pycocotools' function: it leaves the pixels after the last run undefined.
    """
    width, height = size
    if list(stated) != [height, width]:
        sides = " x ".join(str(side) for side in stated[::-1])
        raise ValueError(f"a mask of {sides} pixels for a picture of {width} x {height}")
    lengths = _read_counts(counts) if isinstance(counts, str) else [int(count) for count in counts]
    if min(lengths, default=-1) < 0 or sum(lengths) != height * width:
        raise ValueError(f"run lengths of {sum(lengths)} pixels for {height * width}")
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return flat.reshape(width, height).T


def _read_counts(text: str) -> list[int]:
    """Return the run lengths in COCO's text: 5 bits a character, from the third on as differences two places apart."""
    counts: list[int] = []
    position = 0
    while position < len(text):
        value = shift = 0
        more = True
        while more:
            bits = ord(text[position]) - 48
            if not 0 <= bits < 64:
                raise ValueError(f"run lengths with the character {text[position]!r}")
            value |= (bits & 31) << shift
            shift += 5
            position += 1
            more = bool(bits & 32)
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return counts


def _check_polygon(polygon: Any, size: tuple[int, int]) -> None:
    """Raise ValueError unless `polygon` has three corners or more, none far from a picture of `size`.

    Memory for a polygon grows with the lengths of its sides.
    """
    numbers = np.asarray(polygon, np.float64)
    if numbers.ndim != 1 or len(numbers) < 6 or len(numbers) % 2:
        raise ValueError("a polygon needs x and y of at least three corners")
    corners = numbers.reshape(-1, 2)
    if not np.isfinite(corners).all() or (corners < -max(size)).any() or (corners > 2 * max(size)).any():
        raise ValueError("a polygon has a corner far outside the picture")
