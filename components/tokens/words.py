"""One token per word, where words are what is between spaces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..recipes.ranges import Count
from .tokenizer import Tokenizer
from .vocabulary import build_vocabulary, join_vocabulary


class Words:
    """Words; those with fewer than `min_count` occurrences in the training split are unknown (notes: rare words)."""

    def __init__(self, min_count: Count = 1) -> None:
        self.min_count = min_count

    def train(self, texts: Iterable[str], marks: Sequence[str]) -> Tokenizer:
        """Return a tokenizer for the words of `texts`."""
        words = (word for text in texts for word in text.split())
        return join_vocabulary(build_vocabulary(words, self.min_count, marks), "word", marks)
