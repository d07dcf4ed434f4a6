"""A text as rows of a language model: tokens, a vocabulary from the training part alone, windows in their order.

The text is cut by time, never shuffled (notes: sequence models, 'never train on the future'): its first part is for
training, the next for validation, the last for testing. A row is a window of `steps` + 1 tokens, and the row after it
begins with its last one: each token but a row's first is to be predicted from all before it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np

from ..errors import Refusal
from ..recipes.ranges import Count, Fraction
from ..storage.store import Column

UNKNOWN = "<unk>"  # number 0 of every vocabulary
PART = 65536  # rows


class Source(Protocol):
    """Where a text comes from."""

    name: str
    licence: str
    source: str

    def text(self) -> str:
        """The whole of it, cleaned."""


class Text:
    """Windows of the text that `of` gives (a data set file's `text`, such as `data.manual.Manual`).

    tokens: characters, or words between spaces. min_count: tokens rarer than that in the training part are unknown.
    validation, test: shares of the tokens. limit: so many tokens from the start are all there is.
    """

    def __init__(
        self,
        of: Callable[[], Source],
        tokens: Literal["char", "word"] = "char",
        steps: Count = 32,
        min_count: Count = 1,
        validation: Fraction = 0.1,
        test: Fraction = 0.1,
        limit: Count | None = None,
    ) -> None:
        if test + validation >= 1:
            raise Refusal(f"validation: {validation} and test: {test} leave no text to train on; lower them")
        self.of = of()
        self.name, self.licence, self.source = self.of.name, self.of.licence, self.of.source
        self.kind, self.steps, self.min_count, self.limit = tokens, steps, min_count, limit
        self.shares = {"train": 1 - validation - test, "validation": validation, "test": test}
        self.columns = {"token": Column("int32", (steps + 1,))}

    @cached_property
    def splits(self) -> dict[str, list[str]]:
        """Split -> its tokens; those without a share are left out."""
        tokens = tokenize(self.of.text(), self.kind)[: self.limit]
        ends = np.rint(np.cumsum([0, *self.shares.values()]) * len(tokens)).astype(int)
        found = {name: tokens[a:b] for name, a, b in zip(self.shares, ends[:-1], ends[1:], strict=True) if b > a}
        for name, part in found.items():
            if len(part) <= self.steps:
                raise Refusal(f"steps: split '{name}' has {len(part)} tokens, too few for a window of {self.steps} + 1")
        return found

    @cached_property
    def classes(self) -> list[str]:
        return build_vocabulary(self.splits["train"], self.min_count)

    def parts(self) -> dict[str, int]:
        return {name: -(-self._rows(name) // PART) for name in self.splits}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        numbers = encode_tokens(self.splits[split], self.classes)
        for row in range(part * PART, min((part + 1) * PART, self._rows(split))):
            yield {"token": numbers[row * self.steps : (row + 1) * self.steps + 1]}

    def _rows(self, split: str) -> int:
        return (len(self.splits[split]) - 1) // self.steps


def keep_letters(text: str) -> str:
    """Lower-case Latin letters, whatever stands between them one space (notes: text preprocessing; as in d2l)."""
    return re.sub("[^A-Za-z]+", " ", text).strip().lower()


def tokenize(text: str, kind: Literal["char", "word"]) -> list[str]:
    return list(text) if kind == "char" else text.split()


def build_vocabulary(tokens: Sequence[str], min_count: int = 1) -> list[str]:
    """UNKNOWN, then the tokens by falling frequency, equally frequent ones by the alphabet."""
    counts = Counter(tokens)
    return [UNKNOWN, *sorted((t for t, n in counts.items() if n >= min_count), key=lambda t: (-counts[t], t))]


def encode_tokens(tokens: Sequence[str], vocabulary: Sequence[str]) -> np.ndarray:
    """Numbers in the vocabulary, 0 for what is not in it: int32 [N]."""
    number = {token: n for n, token in enumerate(vocabulary)}
    return np.array([number.get(token, 0) for token in tokens], dtype=np.int32)


def token_kind(vocabulary: Sequence[str]) -> Literal["char", "word"]:
    return "char" if all(len(token) == 1 for token in vocabulary if token != UNKNOWN) else "word"


def decode_text(numbers: Sequence[int], vocabulary: Sequence[str]) -> str:
    """The text that the numbers stand for."""
    return ("" if token_kind(vocabulary) == "char" else " ").join(vocabulary[number] for number in numbers)


def continues_previous(rows: np.ndarray) -> np.ndarray:
    """Whether each of the rows numbered `rows` [B] goes on with the text of the one before it: bool [B]."""
    return np.diff(rows, prepend=rows[:1]) == 1
