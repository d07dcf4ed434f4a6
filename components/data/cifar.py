"""CIFAR-10 and CIFAR-100 from the original files: 32x32 colour photos, 50,000 to train and 10,000 to test.

The binary version is read, of which nothing has to be unpickled: rows of one label (CIFAR-100: the superclass, then the
class) and 3 x 32 x 32 bytes. Its archive is read as a stream; nothing is unpacked onto the disk.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import Refusal
from ..originals.archive import read_pieces
from ..originals.fetch import Originals, fetch_file
from ..recipes.ranges import Count, Natural
from ..storage.choice import Subset
from ..storage.store import Column

PIXELS = 3 * 32 * 32
BLOCK = 1024  # rows that are read at a time, 3 MB
ROWS_PER_PART = 16384  # 50 MB
LARGEST, WHOLE = 160 << 20, 200 << 20  # bytes of a file, and of all: the originals have 154 MB, and 185


class CIFAR10:
    """`classes` are relabelled 0, 1, ... in the order given.

    `validation` examples are held out of the training files; of the rest `labels` are kept (None: all). Both hold as
    many of each class as of any other, drawn by `seed`.
    """

    name = "cifar10"
    licence = "none stated; cite the source"
    source = "A. Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009; www.cs.toronto.edu/~kriz"
    originals: ClassVar[Originals] = {  # MD5 as published
        "cifar-10-binary.tar.gz": (
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            "c32a1d4ab5d03f1284b67883e8d87530",
        )
    }
    names: ClassVar[list[str]] = [  # of all classes, by the original label
        *("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    ]
    inside = "cifar-10-batches-bin"  # the archive's folder
    files: ClassVar[dict[str, list[str]]] = {
        "train": [f"data_batch_{number}.bin" for number in range(1, 6)],
        "test": ["test_batch.bin"],
    }
    labels_a_row, label_at = 1, 0  # bytes before the pixels, and which of them is the label

    def __init__(
        self,
        raw: str = "data/raw",
        classes: list[int] | None = None,
        labels: Count | None = None,
        seed: Natural = 0,
        validation: Natural = 0,
    ) -> None:
        self.folder = Path(raw) / self.name
        self.choice = Subset(self.names, classes, labels, seed, validation)
        self.classes = self.choice.names
        self.columns = {"image": Column("uint8", (32, 32, 3)), "label": Column("int64")}

    def parts(self) -> dict[str, int]:
        return self.choice.parts(self._labels, ROWS_PER_PART)

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        rows, labels = self.choice.part(self._labels(split), split, part, ROWS_PER_PART)
        first = 0
        for file in self._files(split):
            low, high = np.searchsorted(rows, [first, first + len(self.labels[file])])
            if low < high:
                yield from self._from(file, rows[low:high] - first, labels[low:high])
            first += len(self.labels[file])

    @cached_property
    def archive(self) -> Path:
        ((file, known),) = self.originals.items()
        return fetch_file(self.folder, file, *known)

    @cached_property
    def labels(self) -> dict[str, np.ndarray]:
        """File -> the original labels of its rows, uint8 [N]: one pass over the archive."""
        found: dict[str, list[np.ndarray]] = {file: [] for files in self.files.values() for file in files}
        for file, block in self._blocks(list(found)):
            labels = block[:, self.label_at].copy()
            if labels.max() >= len(self.names):
                row = sum(map(len, found[file])) + int(labels.argmax())
                raise Refusal(
                    f"{self.archive}: {file}: row {row} has label {labels.max()}, the last class is"
                    f" {len(self.names) - 1}; take the original archive"
                )
            found[file].append(labels)
        if missing := [file for file, blocks in found.items() if not blocks]:
            raise Refusal(f"{self.archive}: holds no {self.inside}/{missing[0]}; take the original archive")
        return {file: np.concatenate(blocks) for file, blocks in found.items()}

    def _labels(self, split: str) -> np.ndarray:
        """The original labels of the files that the split is drawn from, one behind the other, uint8 [N]."""
        return np.concatenate([self.labels[file] for file in self._files(split)])

    def _files(self, split: str) -> list[str]:
        return self.files["test" if split == "test" else "train"]

    def _from(self, file: str, rows: np.ndarray, labels: np.ndarray) -> Iterator[dict[str, Any]]:
        """The examples in these rows (ascending) of one file; read no further than the last of them."""
        first = 0
        for _, block in self._blocks([file]):
            low, high = np.searchsorted(rows, [first, first + len(block)])
            images = block[:, self.labels_a_row :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            for row, label in zip(rows[low:high], labels[low:high], strict=True):
                yield {"image": images[row - first], "label": int(label)}
            if high == len(rows):
                return
            first += len(block)

    def _blocks(self, files: list[str]) -> Iterator[tuple[str, np.ndarray]]:
        """(file, uint8 [at most BLOCK, bytes a row]) in the archive's order."""
        width = self.labels_a_row + PIXELS
        wanted = re.compile(rf"(?:\./)?{re.escape(self.inside)}/({'|'.join(map(re.escape, files))})")
        for match, piece in read_pieces(self.archive, wanted, LARGEST, WHOLE, BLOCK * width):
            if len(piece) % width:
                raise Refusal(
                    f"{self.archive}: {match[1]} is no whole number of rows of {width} bytes; take the original archive"
                )
            yield match[1], np.frombuffer(piece, np.uint8).reshape(-1, width)


class CIFAR100(CIFAR10):
    """100 classes; coarse: their 20 superclasses instead, and `classes` are numbers of these then."""

    name = "cifar100"
    originals: ClassVar[Originals] = {  # MD5 as published
        "cifar-100-binary.tar.gz": (
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            "03b5dce01913d631647c71ecec9e9cb8",
        )
    }
    inside = "cifar-100-binary"
    files: ClassVar[dict[str, list[str]]] = {"train": ["train.bin"], "test": ["test.bin"]}
    labels_a_row = 2

    def __init__(
        self,
        raw: str = "data/raw",
        classes: list[int] | None = None,
        labels: Count | None = None,
        seed: Natural = 0,
        validation: Natural = 0,
        coarse: bool = False,
    ) -> None:
        self.names, self.label_at = (COARSE, 0) if coarse else (FINE, 1)  # type: ignore[misc]
        super().__init__(raw, classes, labels, seed, validation)


COARSE = [
    *("aquatic_mammals", "fish", "flowers", "food_containers", "fruit_and_vegetables"),
    *("household_electrical_devices", "household_furniture", "insects", "large_carnivores"),
    *("large_man-made_outdoor_things", "large_natural_outdoor_scenes", "large_omnivores_and_herbivores"),
    *("medium_mammals", "non-insect_invertebrates", "people", "reptiles", "small_mammals", "trees"),
    *("vehicles_1", "vehicles_2"),
]
FINE = [
    *("apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle"),
    *("bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle"),
    *("chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur"),
    *("dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard"),
    *("lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain"),
    *("mouse", "mushroom", "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree"),
    *("plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket"),
    *("rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider"),
    *("squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger"),
    *("tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm"),
]
