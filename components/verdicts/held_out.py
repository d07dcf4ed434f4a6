"""Held-out examples that neither model was trained on: the only ones that the gate may compare models on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..storage.content import Digests


@dataclass(frozen=True)
class HeldOut:
    """The held-out examples that remain for a comparison.

    rows: numbers of the remaining rows, int64, ascending. total: rows of the split. trained_on: {role: rows that its
    model was trained on, or None where that is not recorded}.
    """

    rows: np.ndarray
    total: int
    trained_on: dict[str, int | None]

    def describe(self) -> list[str]:
        """Return what was left out, and which model has no record, as sentences."""
        counts = {role: count for role, count in self.trained_on.items() if count is not None}
        left_out = self.total - len(self.rows)
        lines = []
        if counts and not left_out:
            models = " and ".join(f"the {role}" for role in counts)
            lines.append(f"all {self.total:,} held-out examples are new to {models}")
        elif counts:
            detail = ", ".join(f"the {role} was trained on {count:,}" for role, count in counts.items())
            lines.append(f"{left_out:,} of {self.total:,} held-out examples are left out: {detail}")
        for role, count in self.trained_on.items():
            if count is None:
                lines.append(f"not recorded: what the {role} was trained on, so none of its examples are left out")
        return lines


def leave_out_training_examples(contents: Digests | None, rows: int, records: Mapping[str, Digests | None]) -> HeldOut:
    """Return the held-out examples that no model was trained on.

    contents: digests of the held-out rows, None if they are not recorded. rows: number of held-out rows. records:
    {role: digests of the model's training examples, or None}.
    """
    fresh = np.ones(rows, dtype=bool)
    trained_on: dict[str, int | None] = {}
    for role, record in records.items():
        if contents is None or record is None:
            trained_on[role] = None
            continue
        familiar = np.isin(contents, record)
        trained_on[role] = int(familiar.sum())
        fresh &= ~familiar
    return HeldOut(np.flatnonzero(fresh), rows, trained_on)
