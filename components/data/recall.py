"""Sequences whose label is a token some steps back: a task that needs a memory of a known length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import Refusal
from ..recipes.ranges import Count, Natural
from ..storage.order import derive_key
from ..storage.store import Column

ROWS_PER_PART = 65536


class Recall:
    """Rows of `length` tokens: noise, but for one of `letters` letters, which is the label.

    The letter is `memory` tokens back from the end (1: the last token); each row draws its memory from 1 to `length`.
    A model that reads fewer tokens can only guess among the letters.
    """

    name = "recall"
    licence = "CC0"
    source = "drawn here"

    def __init__(
        self,
        length: Count = 16,
        letters: Count = 8,
        noise: Count = 8,
        train: Count = 4096,
        validation: Natural = 1024,
        test: Natural = 2048,
        seed: Natural = 0,
    ) -> None:
        if letters < 2:
            raise Refusal(f"letters: with {letters} there is nothing to remember; give at least 2")
        self.length = length
        self.letters = letters
        self.noise = noise
        self.counts = {"train": train, "validation": validation, "test": test}
        self.seed = seed
        self.classes = [*(f"letter {number}" for number in range(letters)), *(f"noise {n}" for n in range(noise))]
        self.columns = {"token": Column("int32", (length,)), "label": Column("int64"), "memory": Column("int32")}

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}, without empty splits."""
        return {split: -(-count // ROWS_PER_PART) for split, count in self.counts.items() if count}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the rows of one part."""
        count = min(ROWS_PER_PART, self.counts[split] - part * ROWS_PER_PART)
        random = np.random.default_rng(derive_key(self.seed, list(self.counts).index(split), part, 15))
        tokens = random.integers(self.letters, self.letters + self.noise, (count, self.length)).astype(np.int32)
        labels, memories = (
            random.integers(low, high, count) for low, high in ((0, self.letters), (1, self.length + 1))
        )
        tokens[np.arange(count), self.length - memories] = labels
        for token, label, memory in zip(tokens, labels, memories, strict=True):
            yield {"token": token, "label": label, "memory": np.int32(memory)}
