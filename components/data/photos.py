"""A photo and the pictures whose style it should take on, one row each, all of one size (notes: style transfer)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import Refusal
from ..originals.fetch import Originals, fetch_file
from ..recipes.ranges import Count
from ..storage.store import Column
from .picture import open_picture

EMBEDDED = ("china.jpg", "flower.jpg")  # scikit-learn's


class Photos:
    """Row 0 is `content`, and each later row one of `styles`.

    Both name scikit-learn's photos or files in the folder `raw`/photos; missing `originals` are downloaded. The largest
    middle part of each picture with the proportions of `size` (height, width) is resized to it.
    """

    name = "photos"
    licence = "china.jpg, flower.jpg: CC BY 2.0 (danielbuechele, vultilion); a file of your own: yours"
    source = "scikit-learn's sample images, or the folder of raw data"
    originals: ClassVar[Originals] = {  # two paintings in the public domain, and two photos
        "starry_night.jpg": (
            "https://raw.githubusercontent.com/jcjohnson/neural-style/master/examples/inputs/starry_night.jpg",
            "ff217acb6db32785b8651a0e316aeab3",
        ),
        "the_scream.jpg": (
            "https://raw.githubusercontent.com/jcjohnson/neural-style/master/examples/inputs/the_scream.jpg",
            "619b4f42c84d2b62d3518fb20fa619c2",
        ),
        "tubingen.jpg": (
            "https://raw.githubusercontent.com/jcjohnson/neural-style/master/examples/inputs/tubingen.jpg",
            "dc9ad203263f34352e18bc29b03e1066",
        ),
        "rainier.jpg": (
            "https://raw.githubusercontent.com/d2l-ai/d2l-zh/master/img/rainier.jpg",
            "b79654ea1abf9b40b2b2d6d60f443ae4",
        ),
    }
    by_name = True  # a recipe needs only the originals that it names

    def __init__(
        self,
        content: str = "china.jpg",
        styles: list[str] = ["flower.jpg"],  # noqa: B006  (never written to)
        size: list[Count] = [160, 240],  # noqa: B006
        raw: str = "data/raw",
    ) -> None:
        if len(size) != 2:
            raise Refusal(f"size: {size} must be [height, width]")
        if not styles:
            raise Refusal("styles: name at least one picture")
        self.pictures = [content, *styles]
        self.size = tuple(size)
        self.raw = Path(raw) / self.name
        files = [self.raw / name for name in self.pictures if name not in self.originals]
        self.own = [file for file in files if file.is_file()]  # scikit-learn's photos are in its own folder
        self.classes = ["content", *(f"style: {Path(name).stem}" for name in styles)]
        self.columns = {"image": Column("uint8", (*self.size, 3)), "role": Column("int64")}

    def parts(self) -> dict[str, int]:
        """Return one part of the only split, "train"."""
        return {"train": 1}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the content, then each style."""
        for role, name in enumerate(self.pictures):
            yield {"image": crop_to_fit(self._open_picture(name), self.size), "role": role}

    def _open_picture(self, name: str) -> Any:
        """Return the picture in Pillow's form, upright and in RGB; refuses one that is missing or damaged."""
        from PIL import ImageOps

        path = self.raw / name
        if not path.is_file() and name in EMBEDDED:
            from importlib.resources import files

            path = Path(str(files("sklearn.datasets") / "images" / name))
        if name in self.originals:
            fetch_file(self.raw, name, *self.originals[name])
        if not path.is_file():
            raise Refusal(
                f"{path}: no such picture; put it there, or name one of {', '.join((*EMBEDDED, *self.originals))}"
            )
        with open_picture(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")


def crop_to_fit(picture: Any, size: tuple[int, ...]) -> np.ndarray:
    """Return the largest middle part with the proportions of `size` (height, width), resized to it: uint8 [H, W, 3]."""
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.fit(picture, (size[1], size[0]), Image.Resampling.BICUBIC))
