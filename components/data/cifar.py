"""CIFAR-10 and CIFAR-100 from the original files: 32x32 colour photos, 50,000 for training and 10,000 for testing.

Reads the binary version, because the others would have to be unpickled. Each row has one label (CIFAR-100: the
superclass, then the class) and 3 x 32 x 32 bytes. The archive is read as a stream; nothing is unpacked onto the disk.
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
from ..storage.store import Column
from ..storage.subset import Subset

PIXELS = 3 * 32 * 32
BLOCK = 1024  # rows that are read at a time, 3 MB
ROWS_PER_PART = 16384  # 50 MB
MAX_FILE = 160 << 20  # bytes; the largest original file has 154 MB
MAX_TOTAL = 200 << 20  # bytes; the original archives unpack to 185 MB at most


class CIFAR10:
    """Photos of 10 classes; the test split is the official one.

    classes: original labels to keep, relabelled 0, 1, ... in this order (None: all)
    validation: training examples to hold out as the validation split
    labels: number of the remaining training examples to keep (None: all)

    Both draws are keyed by `seed` and take equally many examples of each class.
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
    names: ClassVar[list[str]] = [  # of all classes, by original label
        *("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    ]
    archive_folder = "cifar-10-batches-bin"
    files: ClassVar[dict[str, list[str]]] = {
        "train": [f"data_batch_{number}.bin" for number in range(1, 6)],
        "test": ["test_batch.bin"],
    }
    labels_per_row = 1  # bytes before the pixels
    label_position = 0  # the one of these bytes that is the label

    def __init__(
        self,
        raw: str = "data/raw",
        classes: list[int] | None = None,
        labels: Count | None = None,
        seed: Natural = 0,
        validation: Natural = 0,
    ) -> None:
        self.folder = Path(raw) / self.name
        self.subset = Subset(self.names, classes, labels, seed, validation)
        self.classes = self.subset.class_names
        self.columns = {"image": Column("uint8", (32, 32, 3)), "label": Column("int64")}

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}; downloads the archive if it is missing."""
        return self.subset.count_parts(self._original_labels, ROWS_PER_PART)

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the photos of one part, in the order of the original files."""
        rows, labels = self.subset.select_part(self._original_labels(split), split, part, ROWS_PER_PART)
        first = 0
        for file in self._split_files(split):
            size = len(self.labels_by_file[file])
            low, high = np.searchsorted(rows, [first, first + size])
            if low < high:
                yield from self._read_rows(file, rows[low:high] - first, labels[low:high])
            first += size

    @cached_property
    def archive(self) -> Path:
        """Return the path of the original archive, downloaded if it is missing."""
        ((file, (address, digest)),) = self.originals.items()
        return fetch_file(self.folder, file, address, digest)

    @cached_property
    def labels_by_file(self) -> dict[str, np.ndarray]:
        """Return {file: original labels of its rows, uint8 [N]}, read in one pass over the archive."""
        blocks: dict[str, list[np.ndarray]] = {file: [] for files in self.files.values() for file in files}
        for file, block in self._read_blocks(list(blocks)):
            labels = block[:, self.label_position].copy()
            if labels.max() >= len(self.names):
                row = sum(map(len, blocks[file])) + int(labels.argmax())
                raise Refusal(
                    f"{self.archive}: {file}: row {row} has label {labels.max()}, the last class is"
                    f" {len(self.names) - 1}; take the original archive"
                )
            blocks[file].append(labels)
        for file, labels_of_file in blocks.items():
            if not labels_of_file:
                raise Refusal(f"{self.archive}: contains no {self.archive_folder}/{file}; take the original archive")
        return {file: np.concatenate(labels_of_file) for file, labels_of_file in blocks.items()}

    def _original_labels(self, split: str) -> np.ndarray:
        """Return the original labels of the files that the split is drawn from, one after the other, uint8 [N]."""
        return np.concatenate([self.labels_by_file[file] for file in self._split_files(split)])

    def _split_files(self, split: str) -> list[str]:
        """Return the files that the split is drawn from."""
        return self.files["test" if split == "test" else "train"]

    def _read_rows(self, file: str, rows: np.ndarray, labels: np.ndarray) -> Iterator[dict[str, Any]]:
        """Yield the examples in these rows (ascending) of one file; reads no further than the last of them."""
        first = 0
        for _, block in self._read_blocks([file]):
            low, high = np.searchsorted(rows, [first, first + len(block)])
            images = block[:, self.labels_per_row :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            for row, label in zip(rows[low:high], labels[low:high], strict=True):
                yield {"image": images[row - first], "label": int(label)}
            if high == len(rows):
                return
            first += len(block)

    def _read_blocks(self, files: list[str]) -> Iterator[tuple[str, np.ndarray]]:
        """Yield (file, uint8 [at most BLOCK, bytes per row]) in the archive's order."""
        width = self.labels_per_row + PIXELS
        names = "|".join(map(re.escape, files))
        pattern = re.compile(rf"(?:\./)?{re.escape(self.archive_folder)}/({names})")
        for match, piece in read_pieces(self.archive, pattern, MAX_FILE, MAX_TOTAL, BLOCK * width):
            if len(piece) % width:
                raise Refusal(
                    f"{self.archive}: {match[1]} does not consist of rows of {width} bytes; take the original archive"
                )
            yield match[1], np.frombuffer(piece, np.uint8).reshape(-1, width)


class CIFAR100(CIFAR10):
    """Photos of 100 classes. With `coarse`, labels and `classes` are those of the 20 superclasses instead."""

    name = "cifar100"
    originals: ClassVar[Originals] = {  # MD5 as published
        "cifar-100-binary.tar.gz": (
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            "03b5dce01913d631647c71ecec9e9cb8",
        )
    }
    archive_folder = "cifar-100-binary"
    files: ClassVar[dict[str, list[str]]] = {"train": ["train.bin"], "test": ["test.bin"]}
    labels_per_row = 2

    def __init__(
        self,
        raw: str = "data/raw",
        classes: list[int] | None = None,
        labels: Count | None = None,
        seed: Natural = 0,
        validation: Natural = 0,
        coarse: bool = False,
    ) -> None:
        self.names = COARSE if coarse else FINE  # type: ignore[misc]
        self.label_position = 0 if coarse else 1
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
