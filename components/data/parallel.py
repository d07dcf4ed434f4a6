"""A parallel corpus as rows: token numbers in two languages, each with a vocabulary from the training split alone.

A sentence is its tokens and <eos>, cut or padded to `length` (notes: machine translation data). A sentence that was cut
has no <eos>, because it does not end there. Its length follows from the padding. Cut sentences are counted. If a target
is cut, the column "reference" holds all targets uncut, and translations are scored against these.

The `classes` of the data set are both vocabularies, the source's first. Each begins with SPECIAL, which separates them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from ..errors import Refusal
from ..recipes.ranges import Count
from ..storage.store import Column
from ..storage.vocabulary import EOS, PAD, SPECIAL, UNK
from ..tokens.characters import Characters
from ..tokens.tokenizer import Tokenizer, TokenizerTrainer
from ..tokens.vocabulary import TokenKind
from ..tokens.words import Words

ROWS_PER_PART = 65536
Tokens = TypeVar("Tokens", bound=Any)  # an array or a tensor


class Source(Protocol):
    """A source of sentence pairs, such as `data.number_words.NumberWords`."""

    name: str
    licence: str
    source: str

    def pairs(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """Return {split: (sentence, translation) pairs}, cleaned, with a split "train"."""


class Parallel:
    """The pairs of the source `of`, as columns "source" and "target", int32 [length], and "reference" if one is cut.

    tokens: char, word (words end at spaces and before hyphens; quatre-vingt: `quatre`, `-vingt`), or a section such as
    `{use: tokens.bpe.BPE, size: 4000}`, with which each language has parts of words of its own
    length: tokens per row, including <eos>
    min_count: occurrences in the training split below which a token is unknown
    duplicates: what happens if pairs of two splits have the same rows; drop: the held-out one stays
    """

    def __init__(
        self,
        of: Callable[..., Source],
        tokens: TokenKind | Callable[..., TokenizerTrainer] = "word",
        length: Count = 20,
        min_count: Count = 1,
        duplicates: Literal["refuse", "drop", "allow"] = "allow",
    ) -> None:
        self.of = of()
        self.name = self.of.name
        self.licence = self.of.licence
        self.source = self.of.source
        self.trainer: TokenizerTrainer
        if isinstance(tokens, str):
            self.trainer = Characters(min_count) if tokens == "char" else Words(min_count, hyphens=True)
        else:
            self.trainer = tokens()
        self.length = length
        self.duplicates = duplicates
        self.remarks: Counter[str] = Counter()

    @cached_property
    def columns(self) -> dict[str, Column]:
        """Return the columns; "reference" is as long as the longest target."""
        sides = {"source": self.length, "target": self.length}
        tokenizer = self.tokenizers["target"]
        targets = (target for pairs in self.splits.values() for _, target in pairs)
        longest = max((len(tokenizer.encode(target)) + 1 for target in targets), default=0)
        if longest > self.length:
            sides["reference"] = longest
        return {name: Column("int32", (side,)) for name, side in sides.items()}

    @property
    def notes(self) -> list[str]:
        """Return what is odd about the source."""
        _ = self.splits
        return list(getattr(self.of, "notes", ()))

    @cached_property
    def splits(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """Return {split: its pairs}; refuses a corpus without training pairs."""
        splits = self.of.pairs()
        if not splits.get("train"):
            raise Refusal(f"{self.name}: has no pairs to train on; give its split 'train' some")
        return splits

    @cached_property
    def tokenizers(self) -> dict[str, Tokenizer]:
        """Return the tokenizers of the columns "source" and "target", trained on the training split alone."""
        sides = {name: Side(self.splits["train"], number) for number, name in enumerate(("source", "target"))}
        return {name: self.trainer.train(side, SPECIAL) for name, side in sides.items()}

    @property
    def vocabularies(self) -> tuple[list[str], list[str]]:
        """Return the vocabularies of the source and of the target."""
        return self.tokenizers["source"].vocabulary, self.tokenizers["target"].vocabulary

    @property
    def classes(self) -> list[str]:
        """Return both vocabularies, one after the other."""
        return [*self.vocabularies[0], *self.vocabularies[1]]

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}."""
        return {split: -(-len(pairs) // ROWS_PER_PART) for split, pairs in self.splits.items()}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the pairs of one part in the source's order."""
        for pair in self.splits[split][part * ROWS_PER_PART : (part + 1) * ROWS_PER_PART]:
            source, target = (
                self.tokenizers[name].encode(text) for name, text in zip(("source", "target"), pair, strict=True)
            )
            if len(source) >= self.length:
                self.remarks[f"have a source of more than {self.length} tokens, which is cut (length)"] += 1
            if len(target) >= self.length:
                self.remarks[f"have a target of more than {self.length} tokens, which is cut; it is scored uncut"] += 1
            example = {"source": pad_sentence(source, self.length), "target": pad_sentence(target, self.length)}
            if "reference" in self.columns:
                (longest,) = self.columns["reference"].inner_shape
                example["reference"] = pad_sentence(target, longest)
            yield example


class Side:
    """The sentences of one language, as often as a tokenizer asks for them."""

    def __init__(self, pairs: Sequence[tuple[str, str]], number: int) -> None:
        self.pairs = pairs
        self.number = number

    def __iter__(self) -> Iterator[str]:
        return (pair[self.number] for pair in self.pairs)


def pad_sentence(numbers: np.ndarray, length: int) -> np.ndarray:
    """Return token numbers and EOS, cut or padded: int32 [length]. What looks like a mark in the text is unknown."""
    row = np.full(length, PAD, dtype=np.int32)
    row[: len(numbers) + 1] = [*np.where(numbers < len(SPECIAL), UNK, numbers), EOS][:length]
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
