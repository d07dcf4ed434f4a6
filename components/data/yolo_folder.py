"""Your own pictures with boxes in the layout of YOLO, as a folder or a tar archive of it: a text file per picture.

    images/train/NAME.jpg  labels/train/NAME.txt     or train/images/, train/labels/; also val, valid, validation, test
    images/NAME.jpg        labels/NAME.txt           splits are drawn by `seed`
    data/NAME.jpg          data/NAME.txt             side by side; train.txt, val.txt, test.txt list pictures
    data.yaml, classes.txt or obj.names              names of the classes

A line is `class x y width height`, the box's centre and sides as shares of the picture that people see; or
`class x1 y1 x2 y2 x3 y3 ...`, the corners of an outline, of which the box is taken. A picture without a text file, or
with an empty one, shows no object. Without test pictures the validation split is the test split.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np
import yaml

from ..errors import Refusal, first_line
from ..recipes.ranges import Count, Fraction, Natural
from .annotated import AnnotatedPictures, Annotation, use_validation_as_test
from .image_folder import SPLIT_NAMES
from .masks import MAX_CLASSES
from .picture import SUFFIXES
from .tree import READ, FileTree, split_of
from .yolo_lines import Box, read_box

NAME_FILES = {"classes.txt", "obj.names", "_darknet.labels", "predefined_classes.txt"}
DESCRIPTIONS = {".yaml", ".yml"}
MAX_TEXT = 1 << 20  # bytes of a file of names or boxes


class YoloFolder(AnnotatedPictures):
    """image uint8 [height, width, 1 or 3], boxes float32 [N, 4], labels int64 [N], geometry float32 [6].

    Boxes are corners in pixels of the letterbox, ends exclusive.

    classes: names in the order of their numbers (None: those of data.yaml or classes.txt, otherwise the numbers)
    size: height and width of the letterbox (letterbox.py)
    test, validation: shares to draw where the layout has no such split
    bad: what happens to faulty lines and labels without a picture (annotated.py); duplicates: to equal pictures of two
    splits; drop: the held-out one stays
    sha256: digest of the content of all files, checked if given
    """

    def __init__(
        self,
        folder: str,
        size: list[Count] = [256, 256],  # noqa: B006  (never written to)
        classes: list[str] | None = None,
        colour: bool = True,
        test: Fraction = 0.2,
        validation: Fraction = 0.0,
        seed: Natural = 0,
        bad: Literal["refuse", "skip"] = "refuse",
        duplicates: Literal["refuse", "drop", "allow"] = "drop",
        sha256: str | None = None,
    ) -> None:
        super().__init__(folder, size, colour, test, validation, seed, bad, duplicates, sha256)
        self.tree = FileTree(folder, READ | DESCRIPTIONS | {".names", ".labels"})
        self.named_classes = classes

    @cached_property
    def classes(self) -> list[str]:
        """Return the names of the classes by their numbers."""
        names = self.named_classes or self._read_names()
        if names is None:
            numbers = [box.number for boxes in self.boxes_of.values() for box in boxes if not box.fault]
            largest = max(numbers, default=-1)
            if largest >= MAX_CLASSES:
                raise Refusal(f"{self.source}: has the class {largest}; at most {MAX_CLASSES} classes can be stored")
            return [str(number) for number in range(largest + 1)]
        if len(set(names)) < len(names):
            repeated = next(name for name in names if names.count(name) > 1)
            raise Refusal(f"{self.source}: two classes are called '{repeated}'; rename one, or set classes")
        return names

    def list_splits(self) -> dict[str, list[str]]:
        """Return {split: pictures} by lists, by folders, or drawn."""
        for name in sorted(set(self._label_files.values()) - set(self.labels.values())):
            self.report_unpaired(self.tree.place(name), "boxes without a picture")
        splits = self._read_lists()
        if not splits:
            for picture in self.pictures:
                splits.setdefault(split_of(picture) or "train", []).append(picture)
        if "train" not in splits:
            raise Refusal(f"{self.source}: no training picture; add a folder train, or name the folder above it")
        return self.draw_splits(use_validation_as_test(splits))

    def read_annotation(self, name: str) -> Annotation:
        """Return the boxes of a picture's text file, as shares of its sides."""
        if name not in self.labels:
            return Annotation(self.tree.place(name), [], np.zeros((0, 4)), relative=True)
        place = self.tree.place(self.labels[name])
        boxes = list(dict.fromkeys(self.boxes_of[name]))
        if len(boxes) < len(self.boxes_of[name]):
            self.remarks["repeat a box, which counts once"] += 1
        faults = [
            fault and f"{place} line {box.row}: {fault}" for box in boxes for fault in (self._find_box_fault(box),)
        ]
        return Annotation(
            place,
            ["" if fault else self.classes[box.number] for box, fault in zip(boxes, faults, strict=True)],
            np.array([box.corners for box in boxes], np.float64).reshape(-1, 4),
            relative=True,
            faults=faults,
        )

    def _find_box_fault(self, box: Box) -> str | None:
        """Return what is wrong with a line, or None."""
        if box.fault or box.number < len(self.classes):
            return box.fault or None
        return f"class {box.number} is not one of the {len(self.classes)} named ones, 0 to {len(self.classes) - 1}"

    @property
    def notes(self) -> list[str]:
        """Return sentences for the manifest about pictures without boxes, and what is left out."""
        listed = [name for names in self.rows.values() for name in names]
        bare = sum(name not in self.labels for name in listed)
        sentences = super().notes
        if bare:
            verb = "has" if bare == 1 else "have"
            sentences.append(f"{bare:,} of {len(listed):,} pictures {verb} no text file and so no objects")
        return sentences

    # ------------------------------------------------------------------------------------ files

    @cached_property
    def pictures(self) -> list[str]:
        """Return the names of all pictures; refuses a tree without any, or without any text file of boxes."""
        pictures = [name for name in self.tree.names if PurePosixPath(name).suffix.lower() in SUFFIXES]
        if not pictures:
            raise Refusal(f"{self.source}: holds no picture; name the folder above images/ and labels/")
        return pictures

    @cached_property
    def labels(self) -> dict[str, str]:
        """Return {picture: its text file}; refuses two pictures for one text file, and a tree without any."""
        labels: dict[str, str] = {}
        owner: dict[str, str] = {}
        for picture in self.pictures:
            stem = label_stem(picture)
            file = self._label_files.get(stem) or self._label_files.get(str(PurePosixPath(picture).with_suffix("")))
            if file is None:
                continue
            if file in owner:
                places = f"{self.tree.place(owner[file])} and {self.tree.place(picture)}"
                raise Refusal(f"{places}: both have the boxes of {file}; rename one of them")
            owner[file] = picture
            labels[picture] = file
        if not labels:
            raise Refusal(f"{self.source}: no picture has a text file of its name in labels/ or beside it; add them")
        return labels

    @cached_property
    def _label_files(self) -> dict[str, str]:
        """Return {path without suffix: text file}: those in labels/, and those beside pictures of their names."""
        beside = {str(PurePosixPath(name).with_suffix("")) for name in self.pictures}
        files = {}
        for name in self.tree.names:
            path = PurePosixPath(name)
            folders = ["labels" if part.lower() == "labels" else part for part in path.parts[:-1]]
            if path.suffix.lower() != ".txt" or path.name.lower() in NAME_FILES:
                continue
            if "labels" in folders or str(path.with_suffix("")) in beside:
                files["/".join([*folders, path.stem])] = name
        return files

    @cached_property
    def boxes_of(self) -> dict[str, list[Box]]:
        """Return {picture: the lines of its text file}."""
        return {picture: self._read_boxes(file) for picture, file in self.labels.items()}

    def _read_boxes(self, file: str) -> list[Box]:
        """Return the lines of a text file; a file that holds no text is one faulty line."""
        keypoints = bool(self._description.get("kpt_shape"))
        content = self.tree.read(file)
        if len(content) > MAX_TEXT or b"\0" in content:
            return [Box(fault="is not a line of text", row=1)]
        lines = enumerate(content.decode("utf-8-sig", "replace").splitlines(), 1)
        return [read_box(row, words, keypoints) for row, line in lines if (words := line.split())]

    def _read_text(self, name: str) -> str:
        content = self.tree.read(name)
        if len(content) > MAX_TEXT or b"\0" in content:
            raise Refusal(f"{self.tree.place(name)}: not a text file of names; replace or remove it")
        return content.decode("utf-8-sig", "replace")

    def _read_names(self) -> list[str] | None:
        """Return the names of the classes in data.yaml or a list of names; None where there is neither."""
        if "names" in self._description:
            return _list_names(self._description, self.source)
        files = [name for name in self.tree.names if _holds_names(name)]
        if not files:
            return None
        lists = [[line.strip() for line in self._read_text(name).splitlines() if line.strip()] for name in files]
        for other in lists[1:]:
            if other != lists[0]:
                raise Refusal(
                    f"{self.source}: {files[0]} and {files[1]} name other classes; remove one, or set classes"
                )
        return lists[0]

    @cached_property
    def _description(self) -> dict[str, Any]:
        """Return the content of the YAML file that names the classes, {} without one; refuses two that differ."""
        contents: dict[str, dict[str, Any]] = {}
        for name in self.tree.names:
            if PurePosixPath(name).suffix.lower() in DESCRIPTIONS:
                content = _parse_yaml(self._read_text(name), self.tree.place(name))
                if isinstance(content, dict) and "names" in content:
                    contents[name] = content
        names = list(contents)
        for other in names[1:]:
            if contents[other]["names"] != contents[names[0]]["names"]:
                raise Refusal(f"{self.source}: {names[0]} and {other} name other classes; remove one of them")
        return contents[names[0]] if contents else {}

    def _read_lists(self) -> dict[str, list[str]]:
        """Return {split: pictures} of the lists train.txt, val.txt and test.txt; {} without a list for training."""
        by_tail: dict[str, list[str]] = {}
        for picture in self.pictures:
            by_tail.setdefault(PurePosixPath(picture).name, []).append(picture)
        lists: dict[str, list[str]] = {}
        for name in self.tree.names:
            path = PurePosixPath(name)
            split = SPLIT_NAMES.get(path.stem.lower())
            if split is None or path.suffix.lower() != ".txt" or name in self._label_files.values():
                continue
            for line in filter(None, map(str.strip, self._read_text(name).splitlines())):
                parts = line.replace("\\", "/").split("/")
                matches = by_tail.get(parts[-1], [])
                if len(matches) > 1:
                    matches = [match for match in matches if line.replace("\\", "/").endswith(match)] or matches
                if len(matches) == 1:
                    lists.setdefault(split, []).append(matches[0])
                else:
                    fault = f"{'several pictures' if matches else 'no picture'} of the name '{parts[-1]}'"
                    self.report_unpaired(self.tree.place(name), fault)
        return {split: sorted(set(names)) for split, names in lists.items()} if "train" in lists else {}


def label_stem(picture: str) -> str:
    """Return the path of a picture's text file without its suffix: the last folder `images` becomes `labels`."""
    parts = list(PurePosixPath(picture).with_suffix("").parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place].lower() == "images":
            parts[place] = "labels"
            break
    return "/".join(parts)


def _holds_names(name: str) -> bool:
    path = PurePosixPath(name)
    return path.name.lower() in NAME_FILES or path.suffix.lower() == ".names"


def _parse_yaml(text: str, place: str) -> Any:
    """Return the value of YAML text, in which all plain values are texts."""
    try:
        return yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise Refusal(f"{place}: not valid YAML ({first_line(error)}); correct or remove it") from None


def _list_names(description: dict[str, Any], place: str) -> list[str]:
    """Return the names of a YAML file, a list or {number: name}; refuses gaps, and another number than `nc`."""
    names = description["names"]
    if isinstance(names, dict):
        try:
            numbers = {int(key): value for key, value in names.items()}
        except ValueError:
            raise Refusal(f"{place}: names: a key is not a number; correct the YAML file, or set classes") from None
        names = [numbers.get(number) for number in range(len(numbers))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise Refusal(f"{place}: names: not a list of texts, or one per number from 0; correct it, or set classes")
    if str(description.get("nc", len(names))) != str(len(names)):
        fault = f"nc: {description['nc']}, but {len(names)} names; correct the YAML file, or set classes"
        raise Refusal(f"{place}: {fault}")
    return names
