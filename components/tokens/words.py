"""One token per word, where words are what is between spaces; hyphens may begin a word, too."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ..recipes.ranges import Count
from .tokenizer import HYPHENS, Tokenizer
from .vocabulary import build_vocabulary, join_vocabulary


class Words:
    """Words; those with fewer than `min_count` occurrences in the training split are unknown (notes: rare words).

    hyphens: whether words end before hyphens as well (quatre-vingt: `quatre`, `-vingt`).
    """

    def __init__(self, min_count: Count = 1, hyphens: bool = False) -> None:
        self.min_count = min_count
        self.hyphens = hyphens

    def train(self, texts: Iterable[str], marks: Sequence[str]) -> Tokenizer:
        """Return a tokenizer for the words of `texts`."""
        words = (word for text in texts for word in (re.findall(HYPHENS, text) if self.hyphens else text.split()))
        vocabulary = build_vocabulary(words, self.min_count, marks)
        return join_vocabulary(vocabulary, "hyphen" if self.hyphens else "word", marks)
