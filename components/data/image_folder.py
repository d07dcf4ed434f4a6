"""Your own pictures, one folder per class: PNG, JPEG and the other SUFFIXES, cut to squares of one size.

    pictures/cat/*.jpg  pictures/dog/*.png                      test and validation splits are drawn by `seed`
    pictures/train/cat/*.jpg  ...  pictures/test/cat/*.jpg      splits are folders (also validation/, valid/ or val/)

A drawn split depends on a picture's bytes, or on the name of its group, and on nothing else. A picture therefore keeps
its split when others are added or removed, and when it is renamed.

Other folders whose names look like splits are refused, because they could be mistaken for classes. A damaged picture,
one of too many pixels, or a file that only has the suffix of one, is refused by name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import Refusal
from ..files import open_regular
from ..recipes.ranges import Count, Fraction, Natural, Open
from ..storage.draw import draw_split
from ..storage.store import Column
from .picture import open_picture

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}  # others are ignored
VALIDATION_NAMES = ("validation", "valid", "val")
SPLIT_NAMES = {"train", "training", "test", "testing", *VALIDATION_NAMES}  # hardly meant as classes
PART_BYTES = 64 << 20
MAX_ROWS_PER_PART = 4096
LabelledFiles = list[tuple[Path, int]]


class ImageFolder:
    """The middle square of each picture, resized to `size`; `test` and `validation` are shares of the pictures.

    The two shares apply where the folder does not have these splits itself. They are drawn by `seed` and hold
    approximately.

    group: level of the folders below a class whose pictures belong together, such as those of one patient or one video
    (1: pictures/cat/GROUP/...). A group's pictures are in one split, also where it has folders in several classes.
    None: each picture is drawn alone.
    duplicates: what happens if pictures of two splits are the same at this size; drop: the held-out one stays.
    conflicts: what happens if pictures of two classes are the same at this size; drop: none of them stays.
    """

    licence = "the owner's"

    def __init__(
        self,
        folder: str,
        size: Count = 64,
        colour: bool = True,
        test: Open = 0.2,
        validation: Fraction = 0.0,
        seed: Natural = 0,
        group: Count | None = None,
        duplicates: Literal["refuse", "drop", "allow"] = "drop",
        conflicts: Literal["refuse", "drop", "allow"] = "refuse",
    ) -> None:
        self.folder = Path(folder)
        self.size = size
        self.colour = colour
        self.own = [self.folder]
        self.test = test
        self.validation = validation
        self.seed = seed
        self.group = group
        self.duplicates = duplicates
        self.conflicts = conflicts
        if not self.folder.is_dir():
            raise Refusal(f"folder: {folder} is not a folder; put one sub-folder of pictures per class there")
        self.name = self.folder.name
        self.source = str(folder)
        self.split_folders = _find_split_folders(self.folder)
        self.classes = _list_subfolders(self.split_folders.get("train", self.folder))
        channels = 3 if colour else 1
        self.columns = {"image": Column("uint8", (size, size, channels)), "label": Column("int64")}
        self.rows_per_part = min(MAX_ROWS_PER_PART, max(1, PART_BYTES // (size * size * channels)))

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}."""
        return {split: -(-len(files) // self.rows_per_part) for split, files in self.splits.items()}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the pictures of one part, sorted by class and path."""
        for file, label in self.splits[split][part * self.rows_per_part : (part + 1) * self.rows_per_part]:
            yield {"image": read_picture(file, self.size, self.colour), "label": label}

    def locate(self, split: str, row: int) -> Path:
        """Return the file of an example."""
        return self.splits[split][row][0]

    @cached_property
    def splits(self) -> dict[str, LabelledFiles]:
        """Return {split: its files and their labels}."""
        if self.split_folders:
            splits = {split: self._list_pictures(folder) for split, folder in self.split_folders.items()}
            if self.validation and "validation" not in splits:
                splits |= self._draw(splits["train"], self.split_folders["train"], 0.0)
        else:
            splits = self._draw(self._list_pictures(self.folder), self.folder, self.test)
        return {name: splits[name] for name in ("train", "validation", "test") if name in splits}

    def _list_pictures(self, folder: Path) -> LabelledFiles:
        """Return every picture below the class folders in `folder`, sorted by class and path."""
        unknown = set(_list_subfolders(folder)) - set(self.classes)
        if unknown:
            raise Refusal(f"{folder / min(unknown)}: train/ has no class of that name; add it there or remove this one")
        files: LabelledFiles = []
        for label, name in enumerate(self.classes):
            pictures = [
                file for file in (folder / name).rglob("*") if file.suffix.lower() in SUFFIXES and file.name[0] != "."
            ]
            if not pictures and folder.name not in (*VALIDATION_NAMES, "test"):
                raise Refusal(f"{folder / name}: no picture in this class; add some or remove the folder")
            files += [(file, label) for file in sorted(pictures, key=lambda file: file.relative_to(folder).as_posix())]
        return files

    def _draw(self, files: LabelledFiles, folder: Path, test: float) -> dict[str, LabelledFiles]:
        """Return {split: its files}: `test` and `validation` as shares; refuses a split that remains empty."""
        if test + self.validation >= 1:
            raise Refusal("validation: with it nothing is left to train on; lower test and validation")
        splits: dict[str, LabelledFiles] = {"train": []}
        for name, share in (("validation", self.validation), ("test", test)):
            if share:
                splits[name] = []
        for file, label in files:
            splits[draw_split(self._draw_key(file, folder), test, self.validation, self.seed)].append((file, label))
        drawn = "pictures" if self.group is None else "pictures by their groups"
        for name, members in splits.items():
            if not members:
                share = {"test": test, "validation": self.validation}.get(name, 1 - test - self.validation)
                raise Refusal(
                    f"{name}: {share:g} of {len(files)} {drawn} is none; raise it, add pictures or take another seed"
                )
        return splits

    def _draw_key(self, file: Path, folder: Path) -> bytes:
        """Return the bytes that decide a picture's split: a digest of its content, or the name of its group.

        Refuses a picture that lies above the folders of groups.
        """
        if self.group is None:
            with open_regular(file) as content:
                return hashlib.file_digest(content, "sha256").digest()
        levels = file.relative_to(folder).parts[1:-1]
        if len(levels) < self.group:
            raise Refusal(f"{file}: lies in no folder of level group: {self.group}; move it into its group's folder")
        return "/".join(levels[: self.group]).encode()


def _find_split_folders(folder: Path) -> dict[str, Path]:
    """Return {split: folder}, or {} where the folders are classes. A class may be called "train", the vehicle.

    Refuses a mixture of folders that could be either.
    """
    names = _list_subfolders(folder)
    split_names = [name for name in names if name.lower() in SPLIT_NAMES]
    validation = [name for name in split_names if name in VALIDATION_NAMES]
    if set(split_names) == {"train", "test", *validation} and len(validation) < 2:
        folders = {"train": folder / "train", "test": folder / "test"}
        if validation:
            folders["validation"] = folder / validation[0]
        return folders
    if split_names and (split_names == names or any(name.lower() != "train" for name in split_names)):
        raise Refusal(
            f"{folder}: {', '.join(split_names)}: folders of splits must be train and test, with at most one of"
            f" {', '.join(VALIDATION_NAMES)}; rename or remove them, or put the classes of all into {folder} itself"
        )
    return {}


def _list_subfolders(folder: Path) -> list[str]:
    """Return the names of the visible folders in `folder`, sorted; refuses a folder without any."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    if not names:
        raise Refusal(f"{folder}: contains no folders; put the pictures of each class into a folder of its name")
    return names


def read_picture(file: Path, size: int, colour: bool) -> np.ndarray:
    """Return the middle square of a picture, uint8 [size, size, 3 or 1], on white where it is transparent."""
    from PIL import Image, ImageOps

    mode = "RGB" if colour else "L"
    with open_picture(file, draft=(mode, 2 * size)) as image:
        ImageOps.exif_transpose(image, in_place=True)
        side = min(image.size)
        x = (image.width - side) // 2
        y = (image.height - side) // 2
        square = image.crop((x, y, x + side, y + side))
    del image  # a large picture takes much memory
    plain = _convert_to_plain(square, file).convert(mode)
    return np.asarray(plain.resize((size, size), Image.Resampling.BILINEAR)).reshape(size, size, -1)


def _convert_to_plain(image: Any, file: Path) -> Any:
    """Return the picture with 8 bits per channel and without transparency, so that it converts to RGB or L.

    Refuses floating-point pixels.
    """
    from PIL import Image

    if image.mode == "F":
        raise Refusal(f"{file}: its pixels are floating-point numbers without a range; save it with 8 bits per channel")
    if image.mode.startswith("I"):  # 16 bits, which `convert` would cut off at 255
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image
