"""Which examples of a labelled set are taken: some of its classes, some of the labels, a validation split.

Shared by the sets that come as files for training and for testing: the test split is the official one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import Refusal
from .order import balanced_rows


class Subset:
    """Of a set whose classes are called `names`, by their original labels 0, 1, ...

    `classes` are relabelled 0, 1, ... in the order given (None: all). `validation` examples are held out of those for
    training; of the rest `labels` are kept (None: all). Both hold as many of each class as of any other, drawn by
    `seed`.
    """

    def __init__(
        self, names: list[str], classes: list[int] | None, labels: int | None, seed: int, validation: int
    ) -> None:
        self.chosen = list(range(len(names))) if classes is None else classes
        if not self.chosen or len({*self.chosen}) < len(self.chosen) or not {*self.chosen} <= {*range(len(names))}:
            raise Refusal(f"classes: {self.chosen} must be different numbers from 0 to {len(names) - 1}")
        if labels is not None and labels < len(self.chosen):
            raise Refusal(f"labels: {labels} are fewer than the {len(self.chosen)} classes; give at least one for each")
        self.labels, self.seed, self.validation = labels, seed, validation
        self.names = [names[number] for number in self.chosen]
        self.splits = ["train", "validation", "test"] if validation else ["train", "test"]
        self.relabel = np.full(len(names), -1)
        self.relabel[self.chosen] = np.arange(len(self.chosen))

    def rows(self, original: np.ndarray, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Rows that make up the split, ascending, and their new labels: int64 [N] each.

        original: the labels of all examples for training, or of all for testing, that the split is drawn from.
        """
        rows = np.flatnonzero(self.relabel[original] >= 0)
        if split != "test":
            if self.validation >= len(rows):
                raise Refusal(f"validation: {self.validation} of {len(rows)} examples leave none to train on; lower it")
            held_out = rows[balanced_rows(original[rows], self.validation, self.seed)]
            rows = held_out if split == "validation" else np.setdiff1d(rows, held_out)
            if split == "train" and self.labels is not None:
                rows = rows[balanced_rows(original[rows], self.labels, self.seed)]
        return rows, self.relabel[original[rows]]

    def parts(self, original: Callable[[str], np.ndarray], most: int) -> dict[str, int]:
        """Split -> parts of at most `most` rows; original: a split -> the labels that it is drawn from."""
        return {split: -(-len(self.rows(original(split), split)[0]) // most) for split in self.splits}

    def part(self, original: np.ndarray, split: str, number: int, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Of `rows`, those of one part."""
        rows, labels = self.rows(original, split)
        mine = slice(number * most, (number + 1) * most)
        return rows[mine], labels[mine]
