"""A parallel corpus as rows: token numbers in two languages, each with a vocabulary from the training split alone.

A sentence is its tokens and <eos>, cut or padded to `length` (notes: machine translation data). A sentence that was cut
has no <eos>, because it does not end there. Its length follows from the padding. Cut sentences are counted. If a target
is cut, the column "reference" holds all targets uncut, and translations are scored against these.

The `classes` of the data set are both vocabularies, the source's first. Each begins with SPECIAL, which separates them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from ..errors import Refusal
from ..recipes.ranges import Count
from ..storage.store import Column
from ..storage.vocabulary import EOS, PAD, SPECIAL, UNK
from ..tokens.vocabulary import TokenKind, build_vocabulary

ROWS_PER_PART = 65536
Tokens = TypeVar("Tokens", bound=Any)  # an array or a tensor


class Source(Protocol):
    """A source of sentence pairs, such as `data.number_words.NumberWords`."""

    name: str
    licence: str
    source: str

    def pairs(self) -> dict[str, list[tuple[str, str]]]:
        """Return {split: (sentence, translation) pairs}, cleaned, with a split "train"."""


class Parallel:
    """The pairs of the source `of`, as columns "source" and "target", int32 [length], and "reference" if one is cut.

    tokens: characters, or words, which end at spaces and before hyphens (quatre-vingt: `quatre`, `-vingt`)
    length: tokens per row, including <eos>
    min_count: occurrences in the training split below which a token is unknown
    duplicates: what happens if pairs of two splits have the same rows; drop: the held-out one stays
    """

    def __init__(
        self,
        of: Callable[..., Source],
        tokens: TokenKind = "word",
        length: Count = 20,
        min_count: Count = 1,
        duplicates: Literal["refuse", "drop", "allow"] = "allow",
    ) -> None:
        self.of = of()
        self.name = self.of.name
        self.licence = self.of.licence
        self.source = self.of.source
        self.kind = tokens
        self.length = length
        self.min_count = min_count
        self.duplicates = duplicates
        self.remarks: Counter[str] = Counter()

    @cached_property
    def columns(self) -> dict[str, Column]:
        """Return the columns; "reference" is as long as the longest target."""
        sides = {"source": self.length, "target": self.length}
        longest = max((len(target) + 1 for pairs in self.splits.values() for _, target in pairs), default=0)
        if longest > self.length:
            sides["reference"] = longest
        return {name: Column("int32", (side,)) for name, side in sides.items()}

    @property
    def notes(self) -> list[str]:
        """Return what is odd about the source."""
        _ = self.splits
        return list(getattr(self.of, "notes", ()))

    @cached_property
    def splits(self) -> dict[str, list[tuple[list[str], list[str]]]]:
        """Return {split: the tokens of its pairs}; refuses a corpus without training pairs."""
        splits = {
            split: [(tokenize(source, self.kind), tokenize(target, self.kind)) for source, target in pairs]
            for split, pairs in self.of.pairs().items()
        }
        if not splits.get("train"):
            raise Refusal(f"{self.name}: has no pairs to train on; give its split 'train' some")
        return splits

    @cached_property
    def vocabularies(self) -> tuple[list[str], list[str]]:
        """Return the vocabularies of the source and of the target."""
        source, target = zip(*self.splits["train"], strict=True)
        return self._build_vocabulary(source), self._build_vocabulary(target)

    @property
    def classes(self) -> list[str]:
        """Return both vocabularies, one after the other."""
        return [*self.vocabularies[0], *self.vocabularies[1]]

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}."""
        return {split: -(-len(pairs) // ROWS_PER_PART) for split, pairs in self.splits.items()}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the pairs of one part in the source's order."""
        source_numbers, target_numbers = (
            {token: number for number, token in enumerate(vocabulary) if token not in SPECIAL}
            for vocabulary in self.vocabularies
        )
        for source, target in self.splits[split][part * ROWS_PER_PART : (part + 1) * ROWS_PER_PART]:
            if len(source) >= self.length:
                self.remarks[f"have a source of more than {self.length} tokens, which is cut (length)"] += 1
            if len(target) >= self.length:
                self.remarks[f"have a target of more than {self.length} tokens, which is cut; it is scored uncut"] += 1
            example = {
                "source": encode_sentence(source, source_numbers, self.length),
                "target": encode_sentence(target, target_numbers, self.length),
            }
            if "reference" in self.columns:
                (longest,) = self.columns["reference"].inner_shape
                example["reference"] = encode_sentence(target, target_numbers, longest)
            yield example

    def _build_vocabulary(self, sentences: Iterable[list[str]]) -> list[str]:
        """Return SPECIAL, then the tokens of the sentences by falling frequency."""
        tokens = [token for sentence in sentences for token in sentence if token not in SPECIAL]
        words = build_vocabulary(tokens, self.min_count)
        return [*SPECIAL, *words[1:]]


def tokenize(text: str, kind: TokenKind) -> list[str]:
    """Split a sentence into characters, or into words that end at spaces and before hyphens."""
    return list(text) if kind == "char" else re.findall(r"(?<=\S)-[^\s-]+|[^\s-]+|-", text)


def encode_sentence(tokens: Sequence[str], numbers: dict[str, int], length: int) -> np.ndarray:
    """Return the numbers of the tokens and <eos>, cut or padded: int32 [length]."""
    sentence = [*(numbers.get(token, UNK) for token in tokens), EOS][:length]
    row = np.full(length, PAD, dtype=np.int32)
    row[: len(sentence)] = sentence
    return row


def sentence_lengths(rows: Tokens) -> Tokens:
    """Return the number of tokens of each row [B, length] before the padding, including <eos>: [B]."""
    return (rows != PAD).sum(1)


def decode_tokens(row: Iterable[int], vocabulary: Sequence[str]) -> list[str]:
    """Return the tokens of a row, up to its <eos> or padding."""
    tokens = []
    for number in row:
        if number in (EOS, PAD):
            break
        tokens.append(vocabulary[number])
    return tokens


def decode_text(row: Iterable[int], vocabulary: Sequence[str]) -> str:
    """Return the text of a row."""
    tokens = decode_tokens(row, vocabulary)
    has_characters = all(len(token) == 1 for token in vocabulary if token not in SPECIAL)
    if has_characters:
        return "".join(tokens)
    return re.sub(r" (?=-\S)", "", " ".join(tokens))
