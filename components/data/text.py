"""A text as rows of a language model: tokens, a vocabulary from the training split alone, windows in their order.

The text is cut by time, never shuffled (notes: sequence models, 'never train on the future'): first training, then
validation, then testing. Text that is added at the end moves the cuts forward, so an earlier model was never trained on
what is tested later. A row is a window of `steps` + 1 tokens, and the next row starts with its last token. So every
token but the first of a row is predicted from all before it.

A text is read in pieces, once to count it, once for the vocabulary and once for the rows. A part file holds the rows of
one stretch of it, so workers share the parts, and a longer text needs no more memory. With parts of words, whose number
is known only where they are encoded, the last incomplete window of a stretch is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from ..errors import Refusal, pluralize
from ..recipes.ranges import Count, Fraction
from ..storage.store import Column
from ..storage.vocabulary import UNKNOWN
from ..tokens.characters import Characters
from ..tokens.tokenizer import Tokenizer, TokenizerTrainer
from ..tokens.vocabulary import TokenKind
from ..tokens.words import Words
from .text_stream import TextStream

ROWS_PER_PART = 65536
CAPITALS = "A-ZÀ-ÖØ-ÞΑ-ΩА-ЯЁ"  # Latin, Greek and Cyrillic
BLOCK = 4096  # units that are encoded together


class Source(Protocol):
    """A source of text, such as `data.manual.Manual`.

    A source of long texts has `pieces() -> Iterator[str]` as well, which yields the same text in small pieces.
    """

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
        self.trainer = make_trainer(tokens, min_count)
        # Parts of words keep the spaces between words, which whole words leave out.
        self.has_parts = not isinstance(tokens, str)
        self.stream = TextStream(self._pieces, tokens if isinstance(tokens, str) else "spaced", limit)
        self.steps = steps
        self.shares = {"train": 1 - validation - test, "validation": validation, "test": test}
        self.columns = {"token": Column("int32", (steps + 1,))}

    @cached_property
    def splits(self) -> dict[str, range]:
        """Return {split: numbers of its characters or words in the text}, without splits that have no share."""
        ends = np.rint(np.cumsum([0, *self.shares.values()]) * len(self.stream)).astype(int)
        if ends[1] == 0:
            raise Refusal(f"{self.source}: holds no text to train on; add some, or lower validation and test")
        return {
            name: range(start, end)
            for name, start, end in zip(self.shares, ends[:-1], ends[1:], strict=True)
            if end > start
        }

    @cached_property
    def tokenizers(self) -> dict[str, Tokenizer]:
        """Return {"token": the tokenizer}, trained on the training split alone."""
        return {"token": self.trainer.train(Texts(self.stream, self.splits["train"]), [UNKNOWN])}

    @property
    def classes(self) -> list[str]:
        """Return the vocabulary."""
        return self.tokenizers["token"].vocabulary

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}; refuses a split that is shorter than a window."""
        return {split: len(stretches) for split, stretches in self.stretches.items()}

    @cached_property
    def stretches(self) -> dict[str, list[range]]:
        """Return {split: the characters or words whose windows each part holds}."""
        stretches = {}
        for split, units in self.splits.items():
            count = len(units) if len(units) > self.steps else sum(map(len, self._encode(units)))
            if count <= self.steps:
                raise Refusal(
                    f"steps: split '{split}' has {pluralize(count, 'token')}, too few for a window of {self.steps} + 1;"
                    " lower steps, or give the split more text"
                )
            size = ROWS_PER_PART * self.steps
            if self.has_parts:
                number = max(1, len(units) // size)
                ends = [*(size * part for part in range(1, number)), len(units)]
            else:
                # The last token of a part is the first of the next one.
                last = (len(units) - 1) // self.steps * self.steps
                ends = [min(size * (part + 1), last) + 1 for part in range(-(-last // size))]
            starts = [size * part for part in range(len(ends))]
            stretches[split] = [units[start:end] for start, end in zip(starts, ends, strict=True)]
        return stretches

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the windows of one part in the order of the text."""
        waiting = np.empty(0, dtype=np.int32)
        for numbers in self._encode(self.stretches[split][part]):
            waiting = np.concatenate([waiting, numbers])
            complete = max(0, len(waiting) - 1) // self.steps
            for row in range(complete):
                yield {"token": waiting[row * self.steps : (row + 1) * self.steps + 1]}
            waiting = waiting[complete * self.steps :]

    def _encode(self, units: range) -> Iterator[np.ndarray]:
        """Yield the tokens of characters or words in order, int32 [N], a block at a time."""
        for text in Texts(self.stream, units):
            yield self.tokenizers["token"].encode(text)

    def _pieces(self) -> Iterator[str]:
        """Yield the source's text in pieces."""
        return self.of.pieces() if hasattr(self.of, "pieces") else iter([self._text])

    @cached_property
    def _text(self) -> str:
        """Return the text of a source that holds it as one string."""
        return self.of.text()


class Texts(Iterable[str]):
    """The text of characters or words `units` of a stream, in blocks that may be read more than once."""

    def __init__(self, stream: TextStream, units: range) -> None:
        self.stream = stream
        self.units = units

    def __iter__(self) -> Iterator[str]:
        for units in self.stream.read(self.units.start, self.units.stop):
            for start in range(0, len(units), BLOCK):
                yield self.stream.join(units[start : start + BLOCK])


def make_trainer(tokens: TokenKind | Callable[..., TokenizerTrainer], min_count: int) -> TokenizerTrainer:
    """Return the kind of tokens that a recipe names."""
    if isinstance(tokens, str):
        return Characters(min_count) if tokens == "char" else Words(min_count)
    return tokens()


def cut_sentences(text: str) -> list[str]:
    """Return the sentences of a text: they end with . ! ? or : before a space and a new beginning, or with 。！？.

    What has no letter is left out.
    """
    parts = re.split(rf"""(?<=[.!?:])\s+(?=[{CAPITALS}"'(>])|(?<=[。！？])""", text)
    return [part for part in parts if re.search(r"[^\W\d_]", part)]


def continues_previous(rows: np.ndarray) -> np.ndarray:
    """Return which of the rows numbered `rows` [B] continue the text of the row before them: bool [B]."""
    return np.diff(rows, prepend=rows[:1]) == 1
