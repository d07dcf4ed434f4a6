"""Your own pictures with a label picture each, or one mask file per object, as a folder or a tar archive of it.

Two patterns say where they are:

    pictures: images/{name}.*             masks: labels/{name}.png              one label picture each
    pictures: {split}/{name}.png          masks: {split}annot/{name}.png        with a folder per split
    pictures: all/{name}/images/*.png     masks: all/{name}/masks/*.png         one mask file per object

{name} stands for the name that a picture and its masks share, {split} for train, test, and val, valid or validation,
and * for anything within a name. A * in the last part of `masks` means that every file there is one object.
"""

from __future__ import annotations

import io
import re
from functools import cached_property
from pathlib import PurePosixPath
from typing import Literal

import numpy as np

from ..errors import Refusal
from ..recipes.ranges import Count, Fraction, Natural
from .annotated import AnnotatedPictures, Annotation
from .image_folder import SPLIT_NAMES
from .masks import BACKGROUND, IGNORED
from .picture import SUFFIXES, open_picture
from .voc_folder import read_indices

VALUES = 1 << 15  # that a pixel of a label picture may have


class MaskFolder(AnnotatedPictures):
    """image uint8 [height, width, 1 or 3], mask uint8 [height, width] (masks.py), geometry float32 [6] (letterbox.py).

    With one mask file per object also instances int16 [height, width], boxes float32 [N, 4] and labels int64 [N]; the
    boxes are traced in the letterbox, and every object has the first class.

    classes: names in the order of the labels
    first: value of the first class in a label picture; the others follow it
    values: value of each class, such as [0, 255], where they do not follow each other
    colours: [red, green, blue] of each class in a coloured label picture; further ones stand for pixels not judged
    ignored, background: values of pixels that are not judged, and that show no class; a class's value is neither
    size: height and width of the letterbox
    test, validation: shares to draw where the layout has no such folder
    bad: what happens to faulty annotations (annotated.py); duplicates: to equal pictures of two splits; drop: the
    held-out one stays
    sha256: digest of the content of all files, checked if given
    """

    def __init__(
        self,
        folder: str,
        classes: list[str],
        pictures: str = "images/{name}.*",
        masks: str = "masks/{name}.png",
        first: Natural = 0,
        values: list[Natural] | None = None,
        colours: list[list[Natural]] | None = None,
        ignored: list[Natural] = [255],  # noqa: B006  (never written to)
        background: list[Natural] = [],  # noqa: B006
        size: list[Count] = [256, 256],  # noqa: B006
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
        self.patterns = {"pictures": _compile("pictures", pictures), "masks": _compile("masks", masks)}
        if values is not None and len(set(values)) < len(values):
            raise Refusal(f"values: {values} repeat a value; give each class its own")
        check_values([*ignored, *background, *(values or [first + len(classes) - 1])])
        self.values = (-1 - np.arange(VALUES)).astype(np.int16)
        self.values[ignored] = IGNORED
        self.values[background] = BACKGROUND
        if values is not None and len(values) != len(classes):
            raise Refusal(f"values: {len(values)} for {len(classes)} classes; give each class one")
        if values is not None:
            self.values[values] = 1 + np.arange(len(classes))
        else:
            numbers = first + np.arange(len(classes))
            free = ~np.isin(numbers, [*ignored, *background])
            self.values[numbers[free]] = (1 + np.arange(len(classes)))[free]
        self.colours = None if colours is None else check_colours(colours, len(classes))
        self.mask = True
        self.boxes = self.instances = "*" in masks.rpartition("/")[2].removesuffix(".*")

    @property
    def classes(self) -> list[str]:
        """Return the names of the classes."""
        return self.named_classes

    def list_splits(self) -> dict[str, list[str]]:
        """Return {split: pictures} by the folders of splits, or drawn."""
        for key in sorted(self._masks.keys() - self._pictures.keys()):
            self.report_unpaired(self.tree.place(self._masks[key][0]), "a mask without a picture")
        for key in sorted(self._pictures.keys() - self._masks.keys()):
            self.report_unpaired(self.tree.place(self._pictures[key]), "a picture without a mask")
        splits: dict[str, list[str]] = {}
        for key, file in sorted(self._pictures.items()):
            if key in self._masks:
                splits.setdefault(SPLIT_NAMES[key[0] or "train"], []).append(file)
        if "train" not in splits:
            raise Refusal(f"{self.source}: no training picture; correct the patterns of pictures and masks")
        return self.draw_splits(splits)

    def read_annotation(self, name: str) -> Annotation:
        """Return the label picture of a picture, or its objects."""
        files = self._masks[self._keys[name]]
        if not self.instances:
            place = self.tree.place(files[0])
            if self.colours is not None:
                mask = read_colours(place, self.tree.read(files[0]), self.colours, len(self.classes))
                return Annotation(place, [], size=mask.shape[::-1], mask=mask)
            values = read_indices(place, self.tree.read(files[0]))
            return Annotation(place, [], size=values.shape[::-1], mask=self.values[values])
        instances: np.ndarray | None = None
        for number, file in enumerate(files, 1):
            is_object = self._read_object(file)
            if instances is None:
                instances = np.zeros(is_object.shape, np.int16)
            elif is_object.shape != instances.shape:
                sizes = [" x ".join(str(side) for side in part.shape[::-1]) for part in (is_object, instances)]
                fault = f"the mask has {sizes[0]} pixels, another one of the picture {sizes[1]}"
                raise Refusal(f"{self.tree.place(file)}: {fault}; correct or remove it")
            instances[is_object] = number
        assert instances is not None
        place = self.tree.place(files[0])
        return Annotation(place, self.classes[:1] * len(files), size=instances.shape[::-1], instances=instances)

    @cached_property
    def _pictures(self) -> dict[tuple[str, str], str]:
        """Return {(split, name): picture}; refuses patterns that match no picture, or two for one name."""
        pictures: dict[tuple[str, str], str] = {}
        for key, file in self._match("pictures"):
            if PurePosixPath(file).suffix.lower() not in SUFFIXES:
                continue
            if key in pictures:
                fault = f"has the same name as {self.tree.place(pictures[key])}; rename it, or correct the pattern"
                raise Refusal(f"{self.tree.place(file)}: {fault}")
            pictures[key] = file
        if not pictures:
            raise Refusal(f"{self.source}: no picture matches the pattern of pictures; correct it")
        return pictures

    @cached_property
    def _masks(self) -> dict[tuple[str, str], list[str]]:
        """Return {(split, name): mask files}."""
        masks: dict[tuple[str, str], list[str]] = {}
        for key, file in self._match("masks"):
            masks.setdefault(key, []).append(file)
        return masks

    @cached_property
    def _keys(self) -> dict[str, tuple[str, str]]:
        return {file: key for key, file in self._pictures.items()}

    def _match(self, role: str) -> list[tuple[tuple[str, str], str]]:
        """Return ((split, name), file) for the files that match the pattern of `role`."""
        pattern = self.patterns[role]
        matches = [(match, name) for name in self.tree.names if (match := pattern.fullmatch(name))]
        return [((match.groupdict().get("split") or "", match["name"]), name) for match, name in matches]

    def _read_object(self, file: str) -> np.ndarray:
        """Return whether each pixel belongs to the object of a mask file: bool [H, W]."""
        with open_picture(self.tree.place(file), content=io.BytesIO(self.tree.read(file))) as image:
            return np.asarray(image.convert("L")) > 0


def check_values(values: list[int]) -> None:
    """Refuse a value that a label picture cannot have."""
    if max(values) >= VALUES:
        raise Refusal(f"values: {max(values)} is more than {VALUES - 1}, the greatest one of a label picture; lower it")


def check_colours(colours: list[list[int]], classes: int) -> np.ndarray:
    """Return the colours as numbers [N]; refuses fewer than classes, and others than three levels up to 255."""
    wrong = [colour for colour in colours if len(colour) != 3 or max(colour) > 255]
    if wrong:
        raise Refusal(f"colours: {wrong[0]} must be [red, green, blue], each from 0 to 255")
    numbers = np.array(colours) @ (1 << 16, 1 << 8, 1)
    if len(colours) < classes or len(set(numbers.tolist())) < len(colours):
        raise Refusal(
            f"colours: {len(set(numbers.tolist()))} different ones for {classes} classes; give each class one"
        )
    return numbers


def read_colours(place: str, content: bytes, colours: np.ndarray, classes: int) -> np.ndarray:
    """Return the classes of all pixels of a coloured label picture, int16 [H, W]: see masks.py.

    colours: numbers red * 65536 + green * 256 + blue, of the classes first. Refuses a pixel of another colour.
    """
    with open_picture(place, content=io.BytesIO(content)) as image:
        pixels = np.asarray(image.convert("RGB")).astype(np.int32) @ (1 << 16, 1 << 8, 1)
    order = np.argsort(colours)
    places = np.searchsorted(colours[order], pixels).clip(max=len(colours) - 1)
    numbers = order[places]
    odd = pixels[colours[numbers] != pixels]
    if len(odd):
        colour = [int(odd[0]) >> 16, int(odd[0]) >> 8 & 255, int(odd[0]) & 255]
        raise Refusal(
            f"{place}: the mask has the colour {colour}, which no class has; add it to colours, or correct it"
        )
    return np.where(numbers < classes, 1 + numbers, IGNORED).astype(np.int16)


def _compile(role: str, pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a pattern of files; refuses one without {name}."""
    if "{name}" not in pattern:
        raise Refusal(f"{role}: '{pattern}' must have {{name}}, which pictures and masks share")
    expression = re.escape(pattern)
    for field, group in (("name", r"[^/]+?"), ("split", "|".join(SPLIT_NAMES))):
        escaped = re.escape(f"{{{field}}}")
        expression = expression.replace(escaped, f"(?P<{field}>{group})", 1).replace(escaped, f"(?P={field})")
    return re.compile(r"(?:.*/)?" + expression.replace(r"\*", r"[^/]*"))
