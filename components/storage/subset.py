"""The part of a labelled data set that is prepared: some of its classes, some of its labels, a validation split.

Shared by data sets that come with separate training and test files. The test split is always the official one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import Refusal
from .order import balanced_rows


class Subset:
    """Selected rows of a data set whose original labels 0, 1, ... are called `names`.

    classes: original labels to keep, relabelled 0, 1, ... in this order (None: all)
    validation: number of training examples to hold out as the validation split
    labels: number of the remaining training examples to keep (None: all)

    Both draws are keyed by `seed` and take equally many examples of each class.
    """

    def __init__(
        self, names: list[str], classes: list[int] | None, labels: int | None, seed: int, validation: int
    ) -> None:
        chosen = list(range(len(names))) if classes is None else classes
        if not chosen or len({*chosen}) < len(chosen) or not {*chosen} <= {*range(len(names))}:
            raise Refusal(f"classes: {chosen} must be different numbers from 0 to {len(names) - 1}")
        if labels is not None and labels < len(chosen):
            raise Refusal(f"labels: {labels} are fewer than the {len(chosen)} classes; give at least one for each")
        self.labels = labels
        self.seed = seed
        self.validation = validation
        self.class_names = [names[number] for number in chosen]
        self.splits = ["train", "validation", "test"] if validation else ["train", "test"]
        self.new_labels = np.full(len(names), -1)  # by original label
        self.new_labels[chosen] = np.arange(len(chosen))

    def select_rows(self, original_labels: np.ndarray, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of a split, ascending, and their new labels: int64 [N] each.

        original_labels: of all examples in the files that the split is drawn from, those for training or for testing.
        """
        rows = np.flatnonzero(self.new_labels[original_labels] >= 0)
        if split != "test":
            if self.validation >= len(rows):
                raise Refusal(f"validation: {self.validation} of {len(rows)} examples leave none to train on; lower it")
            held_out = rows[balanced_rows(original_labels[rows], self.validation, self.seed)]
            rows = held_out if split == "validation" else np.setdiff1d(rows, held_out)
            if split == "train" and self.labels is not None:
                rows = rows[balanced_rows(original_labels[rows], self.labels, self.seed)]
        return rows, self.new_labels[original_labels[rows]]

    def select_part(
        self, original_labels: np.ndarray, split: str, part: int, rows_per_part: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows and new labels of one part of a split, as `select_rows` does for the split."""
        rows, labels = self.select_rows(original_labels, split)
        window = slice(part * rows_per_part, (part + 1) * rows_per_part)
        return rows[window], labels[window]

    def count_parts(self, original_labels: Callable[[str], np.ndarray], rows_per_part: int) -> dict[str, int]:
        """Return {split: number of parts}; `original_labels` maps a split to the labels that it is drawn from."""
        rows = {split: len(self.select_rows(original_labels(split), split)[0]) for split in self.splits}
        return {split: -(-count // rows_per_part) for split, count in rows.items()}
