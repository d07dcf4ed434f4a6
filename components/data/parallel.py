"""A parallel corpus as rows: numbers of tokens in two languages, each with a vocabulary from the training part alone.

A sentence is its tokens and then <eos>, cut or padded to `length` (notes: machine translation data): one cut short has
no <eos>, for it does not end there. How long it is follows from its padding.

Both vocabularies are the set's `classes`, the source's first; each begins with SPECIAL, by which they are told apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from ..errors import Refusal
from ..recipes.ranges import Count
from ..storage.store import Column
from .text import UNKNOWN, build_vocabulary

PAD, UNK, BOS, EOS = range(4)
SPECIAL = ("<pad>", UNKNOWN, "<bos>", "<eos>")  # numbers PAD, UNK, BOS, EOS of every vocabulary
PART = 65536  # rows
Kind = Literal["char", "word"]
Tokens = TypeVar("Tokens", bound=Any)  # an array or a tensor


class Source(Protocol):
    """Where sentences come from."""

    name: str
    licence: str
    source: str

    def pairs(self) -> dict[str, list[tuple[str, str]]]:
        """Split -> (sentence, its translation), cleaned; "train" among the splits."""


class Parallel:
    """The pairs that `of` gives (a data set file's `pairs`, such as `data.number_words.NumberWords`).

    tokens: characters, or words: between spaces, and before a hyphen (quatre-vingt: `quatre`, `-vingt`). length: tokens
    of a row, <eos> among them. min_count: tokens rarer than that in the training part are unknown.
    """

    def __init__(
        self, of: Callable[..., Source], tokens: Kind = "word", length: Count = 20, min_count: Count = 1
    ) -> None:
        self.of = of()
        self.name, self.licence, self.source = self.of.name, self.of.licence, self.of.source
        self.kind, self.length, self.min_count = tokens, length, min_count
        self.columns = {"source": Column("int32", (length,)), "target": Column("int32", (length,))}

    @cached_property
    def splits(self) -> dict[str, list[tuple[list[str], list[str]]]]:
        """Split -> the tokens of its pairs."""
        found = {
            split: [(tokenize(source, self.kind), tokenize(target, self.kind)) for source, target in pairs]
            for split, pairs in self.of.pairs().items()
        }
        if not found.get("train"):
            raise Refusal(f"{self.name}: has no pairs to train on; give its split 'train' some")
        return found

    @cached_property
    def vocabularies(self) -> tuple[list[str], list[str]]:
        """The source's, the target's."""
        source, target = zip(*self.splits["train"], strict=True)
        return self._known(source), self._known(target)

    @property
    def classes(self) -> list[str]:
        return [*self.vocabularies[0], *self.vocabularies[1]]

    def parts(self) -> dict[str, int]:
        return {split: -(-len(pairs) // PART) for split, pairs in self.splits.items()}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        numbers = [{token: n for n, token in enumerate(known) if token not in SPECIAL} for known in self.vocabularies]
        for pair in self.splits[split][part * PART : (part + 1) * PART]:
            rows = (encode_sentence(tokens, known, self.length) for tokens, known in zip(pair, numbers, strict=True))
            yield dict(zip(self.columns, rows, strict=True))

    def _known(self, sentences: Iterable[list[str]]) -> list[str]:
        words = build_vocabulary(
            [token for sentence in sentences for token in sentence if token not in SPECIAL], self.min_count
        )
        return [*SPECIAL, *words[1:]]


def tokenize(text: str, kind: Kind) -> list[str]:
    return list(text) if kind == "char" else re.findall(r"(?<=\S)-[^\s-]+|[^\s-]+|-", text)


def encode_sentence(tokens: Sequence[str], number: dict[str, int], length: int) -> np.ndarray:
    """Tokens and <eos>, cut or padded: int32 [length]."""
    row = np.full(length, PAD, dtype=np.int32)
    known = [*(number.get(token, UNK) for token in tokens), EOS][:length]
    row[: len(known)] = known
    return row


def sentence_lengths(rows: Tokens) -> Tokens:
    """How many tokens of each row [B, length] are no padding, <eos> among them: [B]."""
    return (rows != PAD).sum(1)


def split_vocabularies(classes: Sequence[str]) -> tuple[list[str], list[str]]:
    """The source's and the target's, of a set's `classes`."""
    begins = [at for at, token in enumerate(classes) if token == SPECIAL[0]]
    if len(begins) != 2 or begins[0] != 0:
        raise Refusal("data: no parallel corpus, which has two vocabularies; use data.parallel.Parallel")
    return list(classes[: begins[1]]), list(classes[begins[1] :])


def decode_tokens(row: Iterable[int], vocabulary: Sequence[str]) -> list[str]:
    """The tokens that a row stands for, up to its <eos> or padding."""
    found = []
    for number in row:
        if number in (EOS, PAD):
            break
        found.append(vocabulary[number])
    return found


def decode_text(row: Iterable[int], vocabulary: Sequence[str]) -> str:
    """The text that a row stands for."""
    tokens = decode_tokens(row, vocabulary)
    if all(len(token) == 1 for token in vocabulary if token not in SPECIAL):  # characters
        return "".join(tokens)
    return re.sub(r" (?=-\S)", "", " ".join(tokens))
