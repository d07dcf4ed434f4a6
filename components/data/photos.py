"""A photo and the pictures whose style it is to take: one row each, all of one size (notes: style transfer)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import Refusal
from ..originals.fetch import Originals, fetch_file
from ..recipes.ranges import Count
from ..storage.store import Column

EMBEDDED = ("china.jpg", "flower.jpg")  # scikit-learn's


class Photos:
    """Row 0 is `content`, each later row one of `styles`: scikit-learn's photos, or files in the folder `raw`/photos.

    `originals` are fetched from their public address where they are missing.

    Every picture is cut to the shape of `size` (height, width), its middle kept, after shrinking it to fit.
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
    by_name = True  # of these, the ones that a recipe names

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
        self.pictures, self.size, self.raw = [content, *styles], tuple(size), Path(raw) / self.name
        files = [self.raw / name for name in self.pictures if name not in self.originals]
        self.own = [file for file in files if file.is_file()]  # scikit-learn's lie elsewhere
        self.classes = ["content", *(f"style: {Path(name).stem}" for name in styles)]
        self.columns = {"image": Column("uint8", (*self.size, 3)), "role": Column("int64")}

    def parts(self) -> dict[str, int]:
        return {"train": 1}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        for role, name in enumerate(self.pictures):
            yield {"image": crop_to_fit(self.open(name), self.size), "role": role}

    def open(self, name: str) -> Any:
        """The picture as Pillow opens it, upright, in three colours."""
        from PIL import Image, ImageOps, UnidentifiedImageError

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
        try:
            return ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        except (UnidentifiedImageError, OSError) as error:
            raise Refusal(f"{path}: is no picture that can be read ({error}); replace it") from None


def crop_to_fit(picture: Any, size: tuple[int, ...]) -> np.ndarray:
    """uint8 [H, W, 3]: the largest middle part with the proportions of `size` (height, width), resized to it."""
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.fit(picture, (size[1], size[0]), Image.Resampling.BICUBIC))
