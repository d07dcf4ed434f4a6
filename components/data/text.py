"""A text as rows of a language model: tokens, a vocabulary from the training split alone, windows in their order.

The text is cut by time, never shuffled (notes: sequence models, 'never train on the future'): first training, then
validation, then testing. Text that is added at the end moves the cuts forward, so an earlier model was never trained on
what is tested later. A row is a window of `steps` + 1 tokens, and the next row starts with its last token. So every
token but the first of a row is predicted from all before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from ..errors import Refusal
from ..recipes.ranges import Count, Fraction
from ..storage.store import Column
from ..storage.vocabulary import UNKNOWN
from ..tokens.characters import Characters
from ..tokens.tokenizer import Tokenizer, TokenizerTrainer
from ..tokens.vocabulary import TokenKind
from ..tokens.words import Words

ROWS_PER_PART = 65536
CAPITALS = "A-ZÀ-ÖØ-ÞΑ-ΩА-ЯЁ"  # Latin, Greek and Cyrillic


class Source(Protocol):
    """A source of text, such as `data.manual.Manual`."""

    name: str
    licence: str
    source: str

    def text(self) -> str:
        """Return the full text, cleaned."""


class Text:
    """Windows of the text of the source `of`.

    tokens: char, word (what is between spaces), or a section such as `{use: tokens.bpe.BPE, size: 4000}`
    steps: tokens to predict per row
    min_count: occurrences in the training split below which a character or a word is unknown
    validation, test: shares of the text, which is cut between characters (char) or between words
    limit: number of characters (char) or words to use from the start of the text (None: all)
    """

    def __init__(
        self,
        of: Callable[[], Source],
        tokens: TokenKind | Callable[..., TokenizerTrainer] = "char",
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
        self.unit: TokenKind = "char" if tokens == "char" else "word"
        self.trainer = make_trainer(tokens, min_count)
        # Parts of words keep the spaces between words, which whole words leave out.
        self.keeps_spaces = tokens not in ("char", "word")
        self.steps = steps
        self.limit = limit
        self.shares = {"train": 1 - validation - test, "validation": validation, "test": test}
        self.columns = {"token": Column("int32", (steps + 1,))}

    @cached_property
    def splits(self) -> dict[str, list[str]]:
        """Return {split: its characters or words}, without splits that have no share."""
        text = self.of.text()
        if self.unit == "char":
            units = list(text)
        else:
            units = re.findall(r"\s*\S+", text) if self.keeps_spaces else text.split()
        units = units[: self.limit]
        ends = np.rint(np.cumsum([0, *self.shares.values()]) * len(units)).astype(int)
        return {
            name: units[start:end]
            for name, start, end in zip(self.shares, ends[:-1], ends[1:], strict=True)
            if end > start
        }

    def _join(self, split: str) -> str:
        """Return the text of a split."""
        return ("" if self.unit == "char" or self.keeps_spaces else " ").join(self.splits[split])

    @cached_property
    def tokenizers(self) -> dict[str, Tokenizer]:
        """Return {"token": the tokenizer}, trained on the training split alone."""
        return {"token": self.trainer.train([self._join("train")], [UNKNOWN])}

    @property
    def classes(self) -> list[str]:
        """Return the vocabulary."""
        return self.tokenizers["token"].vocabulary

    @cached_property
    def numbers(self) -> dict[str, np.ndarray]:
        """Return {split: its tokens, int32 [N]}; refuses a split that is shorter than a window."""
        numbers = {name: self.tokenizers["token"].encode(self._join(name)) for name in self.splits}
        for name, part in numbers.items():
            if len(part) <= self.steps:
                raise Refusal(f"steps: split '{name}' has {len(part)} tokens, too few for a window of {self.steps} + 1")
        return numbers

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}."""
        return {name: -(-self._count_rows(name) // ROWS_PER_PART) for name in self.numbers}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the windows of one part in the order of the text."""
        numbers = self.numbers[split]
        for row in range(part * ROWS_PER_PART, min((part + 1) * ROWS_PER_PART, self._count_rows(split))):
            yield {"token": numbers[row * self.steps : (row + 1) * self.steps + 1]}

    def _count_rows(self, split: str) -> int:
        """Return the number of complete windows in a split."""
        return (len(self.numbers[split]) - 1) // self.steps


def make_trainer(tokens: TokenKind | Callable[..., TokenizerTrainer], min_count: int) -> TokenizerTrainer:
    """Return the kind of tokens that a recipe names."""
    if isinstance(tokens, str):
        return Characters(min_count) if tokens == "char" else Words(min_count)
    return tokens()


def keep_letters(text: str) -> str:
    """Return the Latin letters in lower case, with one space for whatever is between them (as in d2l)."""
    return re.sub("[^A-Za-z]+", " ", text).strip().lower()


def cut_sentences(text: str) -> list[str]:
    """Return the sentences of a text: they end with . ! ? or : before a space and a new beginning, or with 。！？.

    What has no letter is left out.
    """
    parts = re.split(rf"""(?<=[.!?:])\s+(?=[{CAPITALS}"'(>])|(?<=[。！？])""", text)
    return [part for part in parts if re.search(r"[^\W\d_]", part)]


def continues_previous(rows: np.ndarray) -> np.ndarray:
    """Return which of the rows numbered `rows` [B] continue the text of the row before them: bool [B]."""
    return np.diff(rows, prepend=rows[:1]) == 1
