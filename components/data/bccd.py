"""BCCD: blood cells under the microscope, with a box around each red cell, white cell and platelet.

364 JPEG pictures of 640 x 480 pixels with Pascal VOC annotations, from github.com/Shenggan/BCCD_Dataset. GitHub packs
the archive again for each download, so it is not downloaded here, and the digest is that of its content. To get it:

    curl -L https://github.com/Shenggan/BCCD_Dataset/archive/refs/heads/master.tar.gz -o data/raw/bccd/BCCD.tar.gz

An archive of the folder BCCD alone does as well: `tar czf BCCD.tar.gz BCCD`.
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
from .picture import open_picture

WIDTH = 640
HEIGHT = 480
ROWS_PER_PART = 16  # few, because what is derived from pictures may be slow
MAX_FILE = 4 << 20  # bytes; the original files have 35 kB at most
MAX_TOTAL = 128 << 20  # bytes; the original files have 8 MB in all
FILES = re.compile(r"(?:.*/)?BCCD/(Annotations/\w+\.xml|JPEGImages/\w+\.jpg|ImageSets/Main/\w+\.txt)")


class BCCD:
    """205 training, 87 validation and 72 test pictures, as listed in ImageSets/Main.

    image uint8 [H, W, 3]; boxes float32 [cells, 4] (x1, y1, x2, y2 in pixels, the end exclusive); labels int64 [cells].

    size: the longer side to which pictures and boxes are scaled (None: 640)
    count: number of pictures to keep from the start of each split (None: all)

    Of 4,888 boxes, two without area are dropped and counted: red cells of BloodImage_00338 and BloodImage_00343.
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

    @property
    def notes(self) -> list[str]:
        """Return a sentence for the manifest about boxes without area."""
        files = [f"Annotations/{name}.xml" for split in self.splits for name in self._picture_names(split)]
        boxes = sum(len(list(ElementTree.fromstring(self.files[file]).iter("object"))) for file in files)
        dropped = boxes - sum(len(self._read_annotation(file)[0]) for file in files)
        return [f"{dropped:,} of {boxes:,} boxes have no area and are left out"] if dropped else []

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}."""
        return {split: -(-len(self._picture_names(split)) // ROWS_PER_PART) for split in self.splits}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the pictures of one part with their boxes, in the order of the list."""
        for name in self._picture_names(split)[part * ROWS_PER_PART : (part + 1) * ROWS_PER_PART]:
            boxes, labels = self._read_annotation(f"Annotations/{name}.xml")
            yield {"image": self._read_picture(f"JPEGImages/{name}.jpg"), "boxes": boxes, "labels": labels}

    @cached_property
    def files(self) -> dict[str, bytes]:
        """Return {path below BCCD/: content} of the archive, 7 MB; refuses another content than the original's."""
        if not self.file.is_file():
            raise Refusal(f"{self.file}: missing; save {self.address} under this name")
        files = {match[1]: content for match, content in read_members(self.file, FILES, MAX_FILE, MAX_TOTAL)}
        digest = content_digest(files)
        if digest != self.sha256:
            raise Refusal(
                f"{self.file}: the digest of its {len(files)} files is {digest}, expected {self.sha256};"
                f" save {self.address} under this name"
            )
        return files

    def _picture_names(self, split: str) -> list[str]:
        """Return the names of a split's pictures, without suffix."""
        return self.files[f"ImageSets/Main/{self.splits[split]}.txt"].decode().split()[: self.count]

    def _read_picture(self, file: str) -> np.ndarray:
        """Return a picture, scaled: uint8 [height, width, 3]; refuses one of another size than the original's."""
        from PIL import Image

        with open_picture(f"{self.file}: {file}", content=io.BytesIO(self.files[file])) as image:
            if image.size != (WIDTH, HEIGHT):
                raise Refusal(f"{self.file}: {file} is {image.size}, not {(WIDTH, HEIGHT)}; take the original archive")
            scaled = image.convert("RGB").resize((self.width, self.height), Image.Resampling.BILINEAR)
            return np.asarray(scaled)

    def _read_annotation(self, file: str) -> tuple[np.ndarray, np.ndarray]:
        """Return scaled boxes float32 [N, 4] and labels int64 [N]; boxes without area are left out."""
        boxes = []
        labels = []
        for item in ElementTree.fromstring(self.files[file]).iter("object"):
            x1, y1, x2, y2 = (
                float(item.findtext(f"bndbox/{side}", "nan")) for side in ("xmin", "ymin", "xmax", "ymax")
            )
            if x2 > x1 and y2 > y1:
                boxes.append([x1 - 1, y1 - 1, x2, y2])  # VOC counts pixels from 1 and includes the last one
                labels.append(self.classes.index(item.findtext("name", "")))
        scale = np.tile([self.width / WIDTH, self.height / HEIGHT], 2)
        return (np.array(boxes).reshape(-1, 4) * scale).astype(np.float32), np.array(labels, dtype=np.int64)


def content_digest(files: dict[str, bytes]) -> str:
    """Return the SHA-256 over names and contents, sorted by name: the same however they were packed."""
    return combined_digest({name: hashlib.sha256(content).hexdigest() for name, content in files.items()})
