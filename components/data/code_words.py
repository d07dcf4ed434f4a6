"""Which words of a sentence are code: the quoted ones of Python's own manual, without their quotes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from ..recipes.ranges import Count, Fraction
from ..storage.store import Column
from .manual import Manual
from .sentence_pairs import split_documents


class CodeWords:
    """Sentences of the manual: "text", words between single spaces, and "tags" [words], numbers of BIO `classes`.

    The manual puts code into double quotes, which are removed: a model must know it by its look and its place.

    validation, test: shares of the documents, as in `data.sentence_pairs`, so that none of them was pretrained on
    limit: number of documents to use (None: all); train: number of training sentences to use (None: all)
    """

    name = "code-words"
    licence = Manual.licence
    source = Manual.source
    classes: ClassVar[list[str]] = ["O", "B-code", "I-code"]
    columns: ClassVar[dict[str, Column]] = {"text": Column("utf8"), "tags": Column("int32", (None,))}

    def __init__(
        self, validation: Fraction = 0.1, test: Fraction = 0.1, limit: Count | None = None, train: Count | None = None
    ) -> None:
        self.shares = {"validation": validation, "test": test}
        self.limit = limit
        self.train = train

    @cached_property
    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """Return {split: its sentences}, those without a quoted word left out."""
        documents = split_documents(Manual().documents()[: self.limit], self.shares)
        rows = {
            split: [row for document in part for sentence in document if (row := read_sentence(sentence)) is not None]
            for split, part in documents.items()
        }
        rows["train"] = rows["train"][: self.train]
        return rows

    def parts(self) -> dict[str, int]:
        """Return {split: 1}."""
        return dict.fromkeys(self.rows, 1)

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the sentences of a split."""
        yield from self.rows[split]


def read_sentence(sentence: str) -> dict[str, Any] | None:
    """Return the words and tags of a sentence, or None if it has no quoted words or a quote without its partner."""
    pieces = re.split(r'"', sentence)
    if len(pieces) < 3 or len(pieces) % 2 == 0:
        return None
    words: list[str] = []
    tags: list[int] = []
    for number, piece in enumerate(pieces):
        for position, word in enumerate(piece.split()):
            words.append(word)
            tags.append(0 if number % 2 == 0 else 1 if position == 0 else 2)
    return {"text": " ".join(words), "tags": np.array(tags, dtype=np.int32)} if any(tags) else None
