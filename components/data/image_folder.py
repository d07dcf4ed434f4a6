"""Your own pictures, a folder a class: PNG, JPEG and whatever else Pillow reads, cut to squares of one size.

    pictures/cat/*.jpg  pictures/dog/*.png                      test and validation splits are drawn by `seed`
    pictures/train/cat/*.jpg  ...  pictures/test/cat/*.jpg      they are given (validation/, valid/ or val/ may be, too)

Other folders with names of splits are refused, lest they be taken for classes. A file with the suffix of a picture that
is none, or not whole, is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import Refusal
from ..recipes.ranges import Count, Fraction, Natural, Open
from ..storage.order import stratified_rows
from ..storage.store import Column

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}  # others are passed over
VALIDATION = ("validation", "valid", "val")
SPLITS = {"train", "training", "test", "testing", *VALIDATION}  # names that are hardly meant as classes
PART_BYTES, PART_ROWS = 64 << 20, 4096
Files = list[tuple[Path, int]]  # file, label


class ImageFolder:
    """Each picture's middle square, resized to `size`; `test` and `validation` are shares of each class."""

    licence = "the owner's"

    def __init__(
        self,
        folder: str,
        size: Count = 64,
        colour: bool = True,
        test: Open = 0.2,
        validation: Fraction = 0.0,
        seed: Natural = 0,
    ) -> None:
        self.folder, self.size, self.colour = Path(folder), size, colour
        self.own = [self.folder]
        self.test, self.validation, self.seed = test, validation, seed
        if not self.folder.is_dir():
            raise Refusal(f"folder: {folder} is no folder; put one sub-folder of pictures a class there")
        self.name, self.source = self.folder.name, str(folder)
        self.given = _given(self.folder)
        self.classes = _subfolders(self.given.get("train", self.folder))
        self.columns = {"image": Column("uint8", (size, size, 3 if colour else 1)), "label": Column("int64")}
        self.part_rows = min(PART_ROWS, max(1, PART_BYTES // (size * size * (3 if colour else 1))))

    def parts(self) -> dict[str, int]:
        return {split: -(-len(files) // self.part_rows) for split, files in self.splits.items()}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        for file, label in self.splits[split][part * self.part_rows : (part + 1) * self.part_rows]:
            yield {"image": read_picture(file, self.size, self.colour), "label": label}

    @cached_property
    def splits(self) -> dict[str, Files]:
        if self.given:
            found = {split: self._listed(folder) for split, folder in self.given.items()}
        else:
            found = {"train": self._listed(self.folder)}
            found["train"], found["test"] = self._divided(found["train"], self.test, "test")
        if self.validation and "validation" not in found:
            share = self.validation if self.given else self.validation / (1 - self.test)  # of what test has left
            found["train"], found["validation"] = self._divided(found["train"], share, "validation")
        return {name: found[name] for name in ("train", "validation", "test") if name in found}

    def _listed(self, folder: Path) -> Files:
        """Every picture below the folders of the classes, in the order of their names."""
        if strange := set(_subfolders(folder)) - set(self.classes):
            raise Refusal(f"{folder / min(strange)}: train/ has no class of that name; add it there or remove this one")
        files: Files = []
        for label, name in enumerate(self.classes):
            found = [f for f in (folder / name).rglob("*") if f.suffix.lower() in SUFFIXES and f.name[0] != "."]
            if not found and folder.name not in (*VALIDATION, "test"):
                raise Refusal(f"{folder / name}: no picture in this class; add some or remove the folder")
            files += [(file, label) for file in sorted(found, key=lambda f: f.relative_to(folder).as_posix())]
        return files

    def _divided(self, files: Files, share: float, name: str) -> tuple[Files, Files]:
        """What stays, and `share` of each class."""
        if share >= 1:
            raise Refusal(f"{name}: with it nothing is left to train on; lower test and validation")
        chosen = set(stratified_rows(np.array([label for _, label in files]), share, self.seed).tolist())
        if not chosen:
            raise Refusal(f"{name}: {share:g} of {len(files)} pictures is none; raise it or add pictures")
        stays = [file for row, file in enumerate(files) if row not in chosen]
        return stays, [file for row, file in enumerate(files) if row in chosen]


def _given(folder: Path) -> dict[str, Path]:
    """The splits that are folders; none where the folders are classes. "train" may be one, beside other vehicles."""
    names = _subfolders(folder)
    like = [name for name in names if name.lower() in SPLITS]
    validation = [name for name in like if name in VALIDATION]
    if set(like) == {"train", "test", *validation} and len(validation) < 2:
        found = zip(("train", "test", "validation"), ("train", "test", *validation), strict=False)
        return {split: folder / name for split, name in found}
    if like and (like == names or any(name.lower() != "train" for name in like)):
        raise Refusal(
            f"{folder}: {', '.join(like)}: folders of splits must be train and test, with at most one of"
            f" {', '.join(VALIDATION)}; rename or remove them, or put the classes of all into {folder} itself"
        )
    return {}


def _subfolders(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    if not names:
        raise Refusal(f"{folder}: holds no folders; put the pictures of each class into a folder of its name")
    return names


def read_picture(file: Path, size: int, colour: bool) -> np.ndarray:
    """The middle square of the picture in `file`: uint8 [size, size, 3 or 1], on white where it is transparent."""
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            image.draft("RGB" if colour else "L", (2 * size, 2 * size))  # JPEG: decodes no more pixels than needed
            upright = _plain(ImageOps.exif_transpose(image), file)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Refusal(f"{file}: is no whole picture ({error}); replace or remove it") from None
    side = min(upright.size)
    left, top = (upright.width - side) // 2, (upright.height - side) // 2
    square = upright.convert("RGB" if colour else "L").crop((left, top, left + side, top + side))
    return np.asarray(square.resize((size, size), Image.Resampling.BILINEAR)).reshape(size, size, -1)


def _plain(image: Any, file: Path) -> Any:
    """The picture in a mode that converts to RGB or L as one expects: without transparency, 8 bits a channel."""
    from PIL import Image

    if image.mode == "F":
        raise Refusal(f"{file}: its pixels are floating-point numbers without a range; save it with 8 bits a channel")
    if image.mode.startswith("I"):  # 16 bits, which `convert` would cut off at 255
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    image.load()
    return image
