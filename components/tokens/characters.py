"""One token per character."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..recipes.ranges import Count
from .tokenizer import Tokenizer
from .vocabulary import build_vocabulary, join_vocabulary


class Characters:
    """Characters; those with fewer than `min_count` occurrences in the training split are unknown."""

    def __init__(self, min_count: Count = 1) -> None:
        self.min_count = min_count

    def train(self, texts: Iterable[str], marks: Sequence[str]) -> Tokenizer:
        """Return a tokenizer for the characters of `texts`."""
        characters = (character for text in texts for character in text)
        return join_vocabulary(build_vocabulary(characters, self.min_count, marks), "char", marks)
