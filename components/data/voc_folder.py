"""Your own pictures with boxes in the layout of Pascal VOC, as a folder or a tar archive of it.

    Annotations/NAME.xml  JPEGImages/NAME.jpg       or annotations/ and images/, also below other folders
    NAME.xml  NAME.jpg                              side by side, also in folders train, val and test
    ImageSets/Main/train.txt, val.txt, test.txt     names of each split's pictures
    SegmentationClass/NAME.png, SegmentationObject/NAME.png, ImageSets/Segmentation/*.txt    with `masks`

Without test.txt the names of val.txt are the test split, as usual for VOC 2012. Splits without a list are drawn by
`seed` from the bytes of the training pictures.
"""

from __future__ import annotations

import io
import re
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np

from ..errors import Refusal, first_line
from ..recipes.ranges import Count, Fraction, Natural
from .annotated import AnnotatedPictures, Annotation, use_validation_as_test
from .masks import IGNORED
from .picture import SUFFIXES, open_picture
from .tree import split_of

MAX_XML = 4 << 20  # bytes
ANNOTATION = re.compile(r"((?:.*/)?)([Aa]nnotations)/([^/]+)\.xml")
PICTURES = ("JPEGImages", "images", "Images")
SIDES = ("xmin", "ymin", "xmax", "ymax")


class VocFolder(AnnotatedPictures):
    """image uint8 [height, width, 1 or 3], boxes float32 [N, 4], labels int64 [N], geometry float32 [6].

    Boxes are corners in pixels of the letterbox, ends exclusive. `crowd` [M, 4] and `crowd_labels` [M] hold the objects
    marked as difficult. With `masks`, the pictures that have them come with instances and mask [height, width].

    classes: names in the order of the labels (None: all that occur, sorted)
    size: height and width of the letterbox (letterbox.py)
    test, validation: shares to draw where the layout has no such list
    bad: what happens to faulty annotations (annotated.py); duplicates: to equal pictures of two splits; drop: the
    held-out one stays
    sha256: digest of the content of all files, checked if given
    """

    def __init__(
        self,
        folder: str,
        size: list[Count] = [256, 256],  # noqa: B006  (never written to)
        classes: list[str] | None = None,
        masks: bool = False,
        colour: bool = True,
        test: Fraction = 0.2,
        validation: Fraction = 0.0,
        seed: Natural = 0,
        bad: Literal["refuse", "skip"] = "refuse",
        duplicates: Literal["refuse", "drop", "allow"] = "drop",
        sha256: str | None = None,
    ) -> None:
        super().__init__(folder, size, colour, test, validation, seed, bad, duplicates, sha256)
        self.named_classes = classes
        self.instances = self.mask = masks

    @cached_property
    def classes(self) -> list[str]:
        """Return the names of the classes."""
        if self.named_classes is not None:
            return self.named_classes
        return sorted({_text(item, "name") for name in self._annotations for item in self._parse(name).iter("object")})

    def list_splits(self) -> dict[str, list[str]]:
        """Return {split: pictures} by the lists in ImageSets, or drawn."""
        pictures, annotations = self._pictures, self._annotations
        for name in sorted(annotations.keys() - pictures.keys()):
            self.report_unpaired(self.tree.place(annotations[name]), "an annotation without a picture")
        lists = self._read_lists()
        if not lists:
            for name in sorted(pictures.keys() - annotations.keys()):
                self.report_unpaired(self.tree.place(pictures[name]), "a picture without an annotation")
            lists = self._sort_by_folders(annotations)
        splits: dict[str, list[str]] = {}
        for split, names in use_validation_as_test(lists).items():
            splits[split] = []
            for name in names:
                if name in pictures and name in annotations:
                    splits[split].append(pictures[name])
                else:
                    fault = f"no picture and annotation of the name '{name}', which a list of the split {split} has"
                    self.report_unpaired(self.source, fault)
        if self.mask:
            splits = {split: [file for file in files if self._mask_file(file)] for split, files in splits.items()}
        return self.draw_splits(splits)

    def read_annotation(self, name: str) -> Annotation:
        """Return the objects of a picture's XML file, and its masks if there are any."""
        stem = self._key(name)
        root = self._parse(stem)
        objects = list(root.iter("object"))
        place = self.tree.place(self._annotations[stem])
        boxes = np.array([_read_corners(item) for item in objects], np.float64).reshape(-1, 4)
        annotation = Annotation(
            place,
            [_text(item, "name") for item in objects],
            boxes,
            np.array([_text(item, "difficult") == "1" for item in objects], bool),
            _read_size(root),
        )
        if self.mask:
            annotation.place = self.tree.place(self._mask_file(name) or name)
            annotation.mask = self._read_mask(name)
            annotation.instances = self._read_instances(stem)
        return annotation

    def count_crowd(self) -> int:
        """Return the number of objects marked as difficult."""
        stems = [self._key(name) for names in self.rows.values() for name in names]
        return sum(_text(item, "difficult") == "1" for stem in stems for item in self._parse(stem).iter("object"))

    # ------------------------------------------------------------------------------------ files

    @cached_property
    def _annotations(self) -> dict[str, str]:
        """Return {name: its XML file}; refuses a tree without any."""
        matches = [match for name in self.tree.names if (match := ANNOTATION.fullmatch(name))]
        if not matches:
            files = [name for name in self.tree.names if name.lower().endswith(".xml")]
            if files:
                return {str(PurePosixPath(name).with_suffix("")): name for name in files}
            raise Refusal(f"{self.source}: no Annotations/*.xml or annotations/*.xml in it; name the folder above them")
        folders = {match[1] for match in matches}
        if len(folders) > 1:
            raise Refusal(f"{self.source}: {' and '.join(sorted(folders))} both have annotations; name one of them")
        return {match[3]: match[0] for match in matches}

    @property
    def _root(self) -> str:
        """Return the folder of the layout within the tree, with a slash at its end."""
        match = ANNOTATION.fullmatch(next(iter(self._annotations.values())))
        return match[1] if match else ""

    @cached_property
    def _is_beside(self) -> bool:
        """Return whether annotations lie beside their pictures."""
        return not ANNOTATION.fullmatch(next(iter(self._annotations.values())))

    def _key(self, picture: str) -> str:
        """Return the name of a picture in `_annotations` and `_pictures`."""
        path = PurePosixPath(picture)
        return str(path.with_suffix("")) if self._is_beside else path.stem

    def _sort_by_folders(self, annotations: dict[str, str]) -> dict[str, list[str]]:
        """Return {split: names} by the folders of the annotations; all are for training where none names a split."""
        splits: dict[str, list[str]] = {}
        for name in sorted(annotations):
            splits.setdefault(split_of(annotations[name]) or "train", []).append(name)
        if "train" not in splits:
            return {"train": sorted(annotations)}
        return splits

    @cached_property
    def _pictures(self) -> dict[str, str]:
        """Return {name: its picture}."""
        prefixes = ("",) if self._is_beside else tuple(f"{self._root}{folder}/" for folder in PICTURES)
        files = [file for file in self.tree.names if file.startswith(prefixes)]
        return {self._key(file): file for file in files if PurePosixPath(file).suffix.lower() in SUFFIXES}

    def _read_lists(self) -> dict[str, list[str]]:
        """Return {split: names} of ImageSets; {} without lists."""
        names = set(self.tree.names)
        folder = f"{self._root}ImageSets/Main"
        if self.mask and f"{self._root}ImageSets/Segmentation/train.txt" in names:
            folder = f"{self._root}ImageSets/Segmentation"
        lists = {}
        for split, file in (("train", "train.txt"), ("validation", "val.txt"), ("test", "test.txt")):
            if f"{folder}/{file}" in names:
                lists[split] = self.tree.read(f"{folder}/{file}").decode(errors="replace").split()
        return lists if "train" in lists else {}

    def _parse(self, name: str) -> ElementTree.Element:
        """Return the root of an XML file; refuses a damaged one."""
        file = self._annotations[name]
        content = self.tree.read(file)
        if len(content) > MAX_XML:
            raise Refusal(f"{self.tree.place(file)}: has more than {MAX_XML >> 20} MB; replace or remove it")
        try:
            return ElementTree.fromstring(content)
        except (ElementTree.ParseError, ValueError) as error:
            raise Refusal(f"{self.tree.place(file)}: not valid XML ({first_line(error)}); replace it") from None

    # ------------------------------------------------------------------------------------ masks

    def _mask_file(self, picture: str, folder: str = "SegmentationClass") -> str | None:
        """Return the label picture of a picture, if there is one."""
        file = f"{self._root}{folder}/{PurePosixPath(picture).stem}.png"
        return file if file in self._names else None

    @cached_property
    def _names(self) -> set[str]:
        return set(self.tree.names)

    def _read_mask(self, picture: str) -> np.ndarray:
        """Return the classes of all pixels, int16 [H, W]; VOC's numbers are those of masks.py."""
        values = self._read_indices(f"{self._root}SegmentationClass/{PurePosixPath(picture).stem}.png")
        valid = (values <= len(self.classes)) | (values == IGNORED)
        return np.where(valid, values, -1 - values)

    def _read_instances(self, name: str) -> np.ndarray:
        """Return the objects of all pixels, int16 [H, W]; their outlines belong to none."""
        file = f"{self._root}SegmentationObject/{name}.png"
        if file not in self._names:
            raise Refusal(f"{self.tree.place(file)}: missing; add it, or leave out masks")
        values = self._read_indices(file)
        return np.where(values == IGNORED, 0, values)

    def _read_indices(self, file: str) -> np.ndarray:
        return read_indices(self.tree.place(file), self.tree.read(file))


def read_indices(place: str, content: bytes) -> np.ndarray:
    """Return the values of a label picture, int16 [H, W]: palette indices or grey levels; refuses colours."""
    with open_picture(place, content=io.BytesIO(content)) as image:
        if image.mode in ("RGB", "RGBA"):
            pixels = np.asarray(image.convert("RGB"))
            if (pixels == pixels[..., :1]).all():  # grey levels that were saved as colours
                return pixels[..., 0].astype(np.int16)
        if image.mode in ("LA", "I;16", "I"):
            numbers = np.asarray(image.getchannel(0))
            if numbers.min() >= 0 and numbers.max() < 1 << 15:
                return numbers.astype(np.int16)
        if image.mode not in ("P", "L", "1"):
            raise Refusal(
                f"{place}: a label picture has one number per pixel, but its mode is {image.mode}; convert it"
            )
        return np.asarray(image).astype(np.int16)


def _read_corners(item: ElementTree.Element) -> list[float]:
    """Return x1, y1, x2, y2 of an object; VOC counts pixels from 1 and includes the last one."""
    x1, y1, x2, y2 = (_number(item, f"bndbox/{side}") for side in SIDES)
    # A box without area stays one, so that it is reported.
    return [x1 - (x2 > x1), y1 - (y2 > y1), x2, y2]


def _read_size(root: ElementTree.Element) -> tuple[int, int] | None:
    """Return the (width, height) that an annotation states, or None if it does not state both as numbers."""
    width, height = _number(root, "size/width"), _number(root, "size/height")
    return (int(width), int(height)) if np.isfinite([width, height]).all() else None


def _number(item: ElementTree.Element, path: str) -> float:
    """Return the number at `path`, nan if there is none."""
    try:
        return float(_text(item, path) or "nan")
    except ValueError:
        return float("nan")


def _text(item: ElementTree.Element, path: str) -> str:
    value: Any = item.findtext(path)
    return (value or "").strip()
