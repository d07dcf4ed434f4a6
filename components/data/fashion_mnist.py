"""Fashion-MNIST and MNIST from the original files: 28x28 grey pictures of 10 classes, 60,000 and 10,000 for testing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..originals import idx
from ..originals.fetch import Originals, fetch_file
from ..recipes.ranges import Count, Natural
from ..storage.store import Column
from ..storage.subset import Subset

ROWS_PER_PART = 65536  # 51 MB


class FashionMNIST:
    """Pictures of clothes; the test split is the official one.

    classes: original labels to keep, relabelled 0, 1, ... in this order (None: all)
    validation: training examples to hold out as the validation split
    labels: number of the remaining training examples to keep (None: all)

    Both draws are keyed by `seed` and take equally many examples of each class.
    """

    name = "fashion-mnist"
    licence = "MIT"
    source = "H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST, arXiv:1708.07747; github.com/zalandoresearch/fashion-mnist"
    names: ClassVar[list[str]] = [  # of all classes, by the original label
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ]
    originals: ClassVar[Originals] = {  # MD5 as published
        "train-images-idx3-ubyte.gz": (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/train-images-idx3-ubyte.gz",
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        ),
        "train-labels-idx1-ubyte.gz": (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/train-labels-idx1-ubyte.gz",
            "25c81989df183df01b3e8a0aad5dffbe",
        ),
        "t10k-images-idx3-ubyte.gz": (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/t10k-images-idx3-ubyte.gz",
            "bef4ecab320f06d8554ea6380940ec79",
        ),
        "t10k-labels-idx1-ubyte.gz": (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/t10k-labels-idx1-ubyte.gz",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
    }

    def __init__(
        self,
        raw: str = "data/raw",
        classes: list[int] | None = None,
        labels: Count | None = None,
        seed: Natural = 0,
        validation: Natural = 0,
    ) -> None:
        self.subset = Subset(self.names, classes, labels, seed, validation)
        self.folder = Path(raw) / self.name
        self.classes = self.subset.class_names
        self.columns = {"image": Column("uint8", (28, 28, 1)), "label": Column("int64")}

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}; downloads missing files, so that workers find all of them."""
        for file in self.originals:
            self._fetch(file)
        return self.subset.count_parts(self._original_labels, ROWS_PER_PART)

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the pictures of one part, in the order of the original file."""
        rows, labels = self.subset.select_part(self._original_labels(split), split, part, ROWS_PER_PART)
        first = 0
        for block in idx.read_blocks(self._fetch(_file_name(split, "images-idx3"))):
            low, high = np.searchsorted(rows, [first, first + len(block)])
            for row, label in zip(rows[low:high], labels[low:high], strict=True):
                yield {"image": block[row - first][..., None], "label": int(label)}
            first += len(block)

    def _original_labels(self, split: str) -> np.ndarray:
        """Return the original labels of the file that the split is drawn from, uint8 [N]."""
        return idx.read_array(self._fetch(_file_name(split, "labels-idx1")))

    def _fetch(self, file: str) -> Path:
        """Return the path of an original file, downloaded if it is missing."""
        return fetch_file(self.folder, file, *self.originals[file])


class MNIST(FashionMNIST):
    """Handwritten digits, with the same arguments."""

    name = "mnist"
    licence = "CC BY-SA 3.0"
    source = "Y. LeCun, C. Cortes, C. Burges: The MNIST database of handwritten digits"
    names: ClassVar[list[str]] = list("0123456789")
    originals: ClassVar[Originals] = {  # MD5 as published
        "train-images-idx3-ubyte.gz": (
            "https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz",
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        ),
        "train-labels-idx1-ubyte.gz": (
            "https://ossci-datasets.s3.amazonaws.com/mnist/train-labels-idx1-ubyte.gz",
            "d53e105ee54ea40749a09fcbcd1e9432",
        ),
        "t10k-images-idx3-ubyte.gz": (
            "https://ossci-datasets.s3.amazonaws.com/mnist/t10k-images-idx3-ubyte.gz",
            "9fb629c4189551a2d022fa330f9573f3",
        ),
        "t10k-labels-idx1-ubyte.gz": (
            "https://ossci-datasets.s3.amazonaws.com/mnist/t10k-labels-idx1-ubyte.gz",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
    }


def _file_name(split: str, kind: str) -> str:
    """Return the name of the original file that holds a split's images or labels."""
    prefix = "t10k" if split == "test" else "train"
    return f"{prefix}-{kind}-ubyte.gz"
