"""Pairs of passages for the pretraining of BERT, packed to a length, each with several maskings (notes: BERT).

A row is [CLS] first passage [SEP] second passage [SEP]. Passages are runs of sentences that fill the row; the second
one follows the first in its document or, in half of the rows, comes from another one (Devlin et al. 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..errors import Refusal
from ..recipes.ranges import Count, Fraction, Seed
from ..storage.store import Column
from ..tokens.tokenizer import Tokenizer, TokenizerTrainer
from ..tokens.wordpiece import MARKS, PREFIX

ROWS_PER_PART = 16384
SHORT = 0.1  # share of rows with a random shorter length, so that short inputs are not new later
EXTRA = 3  # tokens of a row beside its passages: [CLS] and twice [SEP]
Document = list[np.ndarray]  # the tokens of each sentence


class Source(Protocol):
    """A source of documents, such as `data.manual.Manual`.

    `data.wikitext2.WikiText2` has splits of its own: a method `splits` that returns {split: documents}.
    """

    name: str
    licence: str
    source: str

    def documents(self) -> list[list[str]]:
        """Return the sentences of each document, in order."""


class TokenMasking(Protocol):
    """A way to hide tokens, such as `augment.masking.Masking`."""

    def count(self, length: int) -> int:
        """Return how many of `length` tokens are predicted."""

    def __call__(
        self, tokens: np.ndarray, words: np.ndarray, mask: int, ordinary: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return (tokens with some replaced, positions of the tokens to predict)."""


class Pair(NamedTuple):
    """Two passages, and whether the second one is unrelated to the first."""

    first: np.ndarray
    second: np.ndarray
    unrelated: bool


class SentencePairs:
    """Rows of the documents of the source `of`.

    "token" [length]: the tokens, some hidden, then padding; "segment" [length]: 0 or 1, the passage of each;
    "position" and "target" [most]: the tokens to predict, 0 where there are fewer; "unrelated": 1 if the second passage
    does not follow.

    tokens: what the vocabulary consists of; it is trained on the training split alone
    masking: what hides tokens
    maskings: how often the training documents are cut into pairs, each time at other places, with other passages that
    do not follow and with other hidden tokens. The other splits have each pair once.
    validation, test: shares of the documents, at least two each; they are the last ones of the source. A source with
    splits of its own keeps them.
    limit: number of documents to use, from the start (None: all)
    """

    def __init__(
        self,
        of: Callable[[], Source],
        tokens: Callable[..., TokenizerTrainer],
        masking: Callable[..., TokenMasking],
        length: Count = 64,
        maskings: Count = 5,
        validation: Fraction = 0.1,
        test: Fraction = 0.1,
        limit: Count | None = None,
        seed: Seed = 0,
    ) -> None:
        self.of: Any = of()
        self.limit = limit
        self.name, self.licence, self.source = self.of.name, self.of.licence, self.of.source
        self.trainer = tokens()
        self.masking = masking()
        self.length = length
        self.maskings = maskings
        self.shares = {"validation": validation, "test": test}
        self.seed = seed
        if length <= EXTRA + 2:
            raise Refusal(f"data.length: {length} leaves no room for two passages; use {EXTRA + 3} or more")
        self.most = self.masking.count(length)
        self.columns = {
            "token": Column("int32", (length,)),
            "segment": Column("uint8", (length,)),
            "position": Column("int32", (self.most,)),
            "target": Column("int32", (self.most,)),
            "unrelated": Column("int64"),
        }

    @cached_property
    def documents(self) -> dict[str, list[list[str]]]:
        """Return {split: its documents}, without splits that have no share."""
        if hasattr(self.of, "splits"):
            splits = {split: part[: self.limit] for split, part in self.of.splits().items()}
        else:
            splits = split_documents(self.of.documents()[: self.limit], self.shares)
        for split, part in splits.items():
            if len(part) < 2:
                raise Refusal(
                    f"{self.name}: split '{split}' has {len(part)} documents, but unrelated passages come from another"
                    " one; add documents or change the shares"
                )
        return splits

    @cached_property
    def tokenizers(self) -> dict[str, Tokenizer]:
        """Return {"token": the tokenizer}."""
        # The trainer would cut the mark into letters; the tokenizer does not.
        sentences = [sentence.replace("[UNK]", " ") for document in self.documents["train"] for sentence in document]
        return {"token": self.trainer.train(sentences, MARKS)}

    @property
    def classes(self) -> list[str]:
        """Return the vocabulary."""
        return self.tokenizers["token"].vocabulary

    @cached_property
    def pairs(self) -> dict[str, list[Pair]]:
        """Return {split: its pairs}; those of the training split are drawn `maskings` times."""
        pairs = {}
        for number, (split, documents) in enumerate(self.documents.items()):
            encoded = [self.tokenizers["token"].encode_all(document) for document in documents]
            cleaned = [[sentence for sentence in document if len(sentence)] for document in encoded]
            usable = [document for document in cleaned if document]
            random = np.random.default_rng([self.seed, number])
            rounds = self.maskings if split == "train" else 1
            pairs[split] = [pair for _ in range(rounds) for pair in build_pairs(usable, self.length - EXTRA, random)]
        return pairs

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}."""
        return {split: -(-len(pairs) // ROWS_PER_PART) for split, pairs in self.pairs.items()}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the rows of one part. Marks and unknown words are never hidden."""
        tokenizer = self.tokenizers["token"]
        begins_word = np.array([not token.startswith(PREFIX) for token in tokenizer.vocabulary])
        ordinary = np.array([n for n, token in enumerate(tokenizer.vocabulary) if token not in MARKS])
        mask, unknown = tokenizer.number("[MASK]"), tokenizer.number("[UNK]")
        pairs = self.pairs[split]
        stream = list(self.documents).index(split)
        for row in range(part * ROWS_PER_PART, min((part + 1) * ROWS_PER_PART, len(pairs))):
            pair = pairs[row]
            tokens, segments, is_mark = join_pair(pair, tokenizer.number("[CLS]"), tokenizer.number("[SEP]"))
            words = np.where(is_mark | (tokens == unknown), -1, np.cumsum(begins_word[tokens] | is_mark))
            random = np.random.default_rng([self.seed, stream, 1, row])
            changed, places = self.masking(tokens, words, mask, ordinary, random)
            yield {
                "token": _fill(changed, self.length, np.int32),
                "segment": _fill(segments, self.length, np.uint8),
                "position": _fill(places, self.most, np.int32),
                "target": _fill(tokens[places], self.most, np.int32),
                "unrelated": int(pair.unrelated),
            }


def split_documents(documents: list[list[str]], shares: Mapping[str, float]) -> dict[str, list[list[str]]]:
    """Return {split: its documents} for {"validation": share, "test": share}; the held-out ones are the last.

    A share above 0 is at least two documents; a share of 0 gives no split. Empty documents are left out.
    """
    documents = [document for document in documents if document]
    sizes = {split: max(2, round(share * len(documents))) if share else 0 for split, share in shares.items()}
    test_start = max(0, len(documents) - sizes["test"])
    validation_start = max(0, test_start - sizes["validation"])
    splits = {
        "train": documents[:validation_start],
        "validation": documents[validation_start:test_start],
        "test": documents[test_start:],
    }
    return {split: part for split, part in splits.items() if part or split == "train"}


def build_pairs(documents: list[Document], most: int, random: np.random.Generator) -> list[Pair]:
    """Return pairs of passages with at most `most` tokens together, in the order of the documents.

    When a second passage comes from another document, the sentences that it replaces begin the next pair.
    """
    pairs = []
    for number, document in enumerate(documents):
        start = 0
        while start < len(document):
            goal = most if random.random() >= SHORT else int(random.integers(2, most + 1))
            end = start + _count_sentences(document[start:], goal)
            cut = start + 1 if end - start == 1 else int(random.integers(start + 1, end))
            first = np.concatenate(document[start:cut])
            unrelated = end - start == 1 or bool(random.random() < 0.5)
            if unrelated:
                second = _draw_passage(documents, number, max(1, goal - len(first)), random)
                end = cut
            else:
                second = np.concatenate(document[cut:end])
            pairs.append(Pair(*_cut_longer(first, second, most, random), unrelated))
            start = end
    return pairs


def join_pair(pair: Pair, cls: int, sep: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the row's tokens with marks, the passage (0 or 1) of each, and which of them are marks: [T] each."""
    tokens = np.concatenate([[cls], pair.first, [sep], pair.second, [sep]]).astype(np.int32)
    segments = np.zeros(len(tokens), dtype=np.uint8)
    segments[len(pair.first) + 2 :] = 1
    is_mark = np.zeros(len(tokens), dtype=bool)
    is_mark[[0, len(pair.first) + 1, len(tokens) - 1]] = True
    return tokens, segments, is_mark


def _count_sentences(sentences: Document, goal: int) -> int:
    """Return how many sentences from the start have `goal` tokens or more together; all if there are fewer."""
    ends = np.cumsum([len(sentence) for sentence in sentences])
    return min(int(np.searchsorted(ends, goal)) + 1, len(sentences))


def _draw_passage(documents: list[Document], other_than: int, goal: int, random: np.random.Generator) -> np.ndarray:
    """Return about `goal` tokens from a random place of a random other document."""
    number = int(random.integers(len(documents) - 1))
    document = documents[number + (number >= other_than)]
    start = int(random.integers(len(document)))
    return np.concatenate(document[start : start + _count_sentences(document[start:], goal)])


def _cut_longer(
    first: np.ndarray, second: np.ndarray, most: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Shorten the longer passage, at a random end each time, until both have `most` tokens together."""
    passages = [first, second]
    while len(passages[0]) + len(passages[1]) > most:
        longer = int(len(passages[1]) > len(passages[0]))
        passages[longer] = passages[longer][1:] if random.random() < 0.5 else passages[longer][:-1]
    return passages[0], passages[1]


def _fill(values: np.ndarray, length: int, dtype: Any) -> np.ndarray:
    """Return the values followed by zeros: [length]."""
    row = np.zeros(length, dtype=dtype)
    row[: len(values)] = values
    return row
