"""BCCD: blood cells under the microscope, with a box around each red cell, white cell and platelet.

364 JPEG pictures of 640 x 480 pixels with Pascal VOC annotations, from github.com/Shenggan/BCCD_Dataset. Its archive
holds more than one folder, and GitHub packs it anew, so it is not downloaded here, and its *content* is what is
checked. To get it:

    curl -L https://github.com/Shenggan/BCCD_Dataset/archive/refs/heads/master.tar.gz -o data/raw/bccd/BCCD.tar.gz

The folder BCCD packed by oneself does as well: `tar czf BCCD.tar.gz BCCD`.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import numpy as np

from ..errors import Refusal
from ..originals.archive import combined_digest, read_members
from ..originals.fetch import Originals
from ..recipes.ranges import Count
from ..storage.store import Column

WIDTH, HEIGHT = 640, 480
PART = 16  # pictures of a part file: few, for what is derived from them may be slow
LARGEST, WHOLE = 4 << 20, 128 << 20  # bytes of a file, and of all: the originals have at most 35 kB, and 8 MB in all
WANTED = re.compile(r"(?:.*/)?BCCD/(Annotations/\w+\.xml|JPEGImages/\w+\.jpg|ImageSets/Main/\w+\.txt)")


class BCCD:
    """205 pictures to train on, 87 for validation, 72 to test, as ImageSets/Main says.

    image uint8 [H, W, 3]; boxes float32 [cells, 4] (x1, y1, x2, y2 in pixels, the end exclusive); labels int64 [cells].
    size: the longer side that pictures, and their boxes, are scaled to (None: 640). count: pictures of a split that are
    kept, the first ones (None: all). Of 4,888 boxes, two of no area are dropped: red cells of BloodImage_00338 and
    BloodImage_00343.
    """

    name = "bccd"
    licence = "MIT"
    source = "Shenggan, N. Cosmo: BCCD dataset; github.com/Shenggan/BCCD_Dataset"
    originals: ClassVar[Originals] = {
        "BCCD.tar.gz": ("https://github.com/Shenggan/BCCD_Dataset/archive/refs/heads/master.tar.gz", "")
    }
    sha256 = "59eb0d826c422ae58c4c46f2dac8de1af80c371950dbf0593d8aeb0c8f74f265"  # of the content
    splits: ClassVar[dict[str, str]] = {"train": "train", "validation": "val", "test": "test"}

    def __init__(self, raw: str = "data/raw", size: Count | None = None, count: Count | None = None) -> None:
        if size is not None and size > WIDTH:
            raise Refusal(f"size: {size} is more than the pictures' {WIDTH} pixels; give at most that")
        ((name, (self.address, _)),) = self.originals.items()
        self.file = Path(raw) / self.name / name
        self.count = count
        self.classes = ["RBC", "WBC", "Platelets"]
        self.width = size or WIDTH
        self.height = max(1, round(HEIGHT * self.width / WIDTH))
        self.columns = {
            "image": Column("uint8", (self.height, self.width, 3)),
            "boxes": Column("float32", (None, 4)),
            "labels": Column("int64", (None,)),
        }

    def parts(self) -> dict[str, int]:
        return {split: -(-len(self._names(split)) // PART) for split in self.splits}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        for name in self._names(split)[part * PART : (part + 1) * PART]:
            boxes, labels = self._annotated(f"Annotations/{name}.xml")
            yield {"image": self._picture(f"JPEGImages/{name}.jpg"), "boxes": boxes, "labels": labels}

    @cached_property
    def files(self) -> dict[str, bytes]:
        """The archive's files by their path below BCCD/, 7 MB; nothing is unpacked onto the disk."""
        if not self.file.is_file():
            raise Refusal(f"{self.file}: missing; save {self.address} under this name")
        found = {match[1]: content for match, content in read_members(self.file, WANTED, LARGEST, WHOLE)}
        if (digest := content_digest(found)) != self.sha256:
            raise Refusal(
                f"{self.file}: the digest of its {len(found)} files is {digest}, expected {self.sha256};"
                f" save {self.address} under this name"
            )
        return found

    def _names(self, split: str) -> list[str]:
        return self.files[f"ImageSets/Main/{self.splits[split]}.txt"].decode().split()[: self.count]

    def _picture(self, file: str) -> np.ndarray:
        from PIL import Image

        with Image.open(io.BytesIO(self.files[file])) as image:
            if image.size != (WIDTH, HEIGHT):
                raise Refusal(f"{self.file}: {file} is {image.size}, not {(WIDTH, HEIGHT)}; take the original archive")
            scaled = image.convert("RGB").resize((self.width, self.height), Image.Resampling.BILINEAR)
            return np.asarray(scaled)

    def _annotated(self, file: str) -> tuple[np.ndarray, np.ndarray]:
        """Boxes float32 [N, 4] and labels int64 [N]; VOC counts pixels from 1 and means the last one included."""
        found, labels = [], []
        for item in ElementTree.fromstring(self.files[file]).iter("object"):
            x1, y1, x2, y2 = (
                float(item.findtext(f"bndbox/{side}", "nan")) for side in ("xmin", "ymin", "xmax", "ymax")
            )
            if x2 > x1 and y2 > y1:
                found.append([x1 - 1, y1 - 1, x2, y2])
                labels.append(self.classes.index(item.findtext("name", "")))
        scale = np.tile([self.width / WIDTH, self.height / HEIGHT], 2)
        return (np.array(found).reshape(-1, 4) * scale).astype(np.float32), np.array(labels, dtype=np.int64)


def content_digest(files: dict[str, bytes]) -> str:
    """SHA-256 over names and contents, in the order of the names: however they were packed."""
    return combined_digest({name: hashlib.sha256(content).hexdigest() for name, content in files.items()})
