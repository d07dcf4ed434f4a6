"""A text as rows of a language model: tokens, a vocabulary from the training split alone, windows in their order.

The text is cut by time, never shuffled (notes: sequence models, 'never train on the future'): first training, then
validation, then testing. Text that is added at the end moves the cuts forward, so an earlier model was never trained on
what is tested later. A row is a window of `steps` + 1 tokens, and the next row starts with its last token. So every
token but the first of a row is predicted from all before it.
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
from ..storage.vocabulary import UNKNOWN

ROWS_PER_PART = 65536
TokenKind = Literal["char", "word"]


class Source(Protocol):
    """A source of text, such as `data.manual.Manual`."""

    name: str
    licence: str
    source: str

    def text(self) -> str:
        """Return the full text, cleaned."""


class Text:
    """Windows of the text of the source `of`.

    tokens: characters, or words between spaces
    steps: tokens to predict per row
    min_count: occurrences in the training split below which a token is unknown
    validation, test: shares of the tokens
    limit: number of tokens to use from the start of the text (None: all)
    """

    def __init__(
        self,
        of: Callable[[], Source],
        tokens: TokenKind = "char",
        steps: Count = 32,
        min_count: Count = 1,
        validation: Fraction = 0.1,
        test: Fraction = 0.1,
        limit: Count | None = None,
    ) -> None:
        if test + validation >= 1:
            raise Refusal(f"validation: {validation} and test: {test} leave no text to train on; lower them")
        self.of = of()
        self.name = self.of.name
        self.licence = self.of.licence
        self.source = self.of.source
        self.kind = tokens
        self.steps = steps
        self.min_count = min_count
        self.limit = limit
        self.shares = {"train": 1 - validation - test, "validation": validation, "test": test}
        self.columns = {"token": Column("int32", (steps + 1,))}

    @cached_property
    def splits(self) -> dict[str, list[str]]:
        """Return {split: its tokens}, without splits that have no share; refuses one that is shorter than a window."""
        tokens = tokenize(self.of.text(), self.kind)[: self.limit]
        ends = np.rint(np.cumsum([0, *self.shares.values()]) * len(tokens)).astype(int)
        splits = {
            name: tokens[start:end]
            for name, start, end in zip(self.shares, ends[:-1], ends[1:], strict=True)
            if end > start
        }
        for name, part in splits.items():
            if len(part) <= self.steps:
                raise Refusal(f"steps: split '{name}' has {len(part)} tokens, too few for a window of {self.steps} + 1")
        return splits

    @cached_property
    def classes(self) -> list[str]:
        """Return the vocabulary."""
        return build_vocabulary(self.splits["train"], self.min_count)

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}."""
        return {name: -(-self._count_rows(name) // ROWS_PER_PART) for name in self.splits}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the windows of one part in the order of the text."""
        numbers = encode_tokens(self.splits[split], self.classes)
        for row in range(part * ROWS_PER_PART, min((part + 1) * ROWS_PER_PART, self._count_rows(split))):
            yield {"token": numbers[row * self.steps : (row + 1) * self.steps + 1]}

    def _count_rows(self, split: str) -> int:
        """Return the number of complete windows in a split."""
        return (len(self.splits[split]) - 1) // self.steps


def keep_letters(text: str) -> str:
    """Return the Latin letters in lower case, with one space for whatever is between them (as in d2l)."""
    return re.sub("[^A-Za-z]+", " ", text).strip().lower()


def tokenize(text: str, kind: TokenKind) -> list[str]:
    """Split a text into characters, or into words between spaces."""
    return list(text) if kind == "char" else text.split()


def build_vocabulary(tokens: Sequence[str], min_count: int = 1) -> list[str]:
    """Return UNKNOWN, then the tokens with `min_count` or more occurrences, by falling frequency, then by alphabet."""
    counts = Counter(tokens)
    frequent = [token for token, count in counts.items() if count >= min_count]
    return [UNKNOWN, *sorted(frequent, key=lambda token: (-counts[token], token))]


def encode_tokens(tokens: Sequence[str], vocabulary: Sequence[str]) -> np.ndarray:
    """Return the tokens' numbers in the vocabulary, 0 for unknown ones: int32 [N]."""
    numbers = {token: number for number, token in enumerate(vocabulary)}
    return np.array([numbers.get(token, 0) for token in tokens], dtype=np.int32)


def token_kind(vocabulary: Sequence[str]) -> TokenKind:
    """Return "char" for a vocabulary of single characters, otherwise "word"."""
    return "char" if all(len(token) == 1 for token in vocabulary if token != UNKNOWN) else "word"


def decode_text(numbers: Sequence[int], vocabulary: Sequence[str]) -> str:
    """Return the text of token numbers."""
    separator = "" if token_kind(vocabulary) == "char" else " "
    return separator.join(vocabulary[number] for number in numbers)


def continues_previous(rows: np.ndarray) -> np.ndarray:
    """Return which of the rows numbered `rows` [B] continue the text of the row before them: bool [B]."""
    return np.diff(rows, prepend=rows[:1]) == 1
