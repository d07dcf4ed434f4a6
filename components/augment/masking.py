"""Hide tokens of a text, so that a model learns to predict them (notes: masked language model)."""

from __future__ import annotations

import numpy as np

from ..errors import Refusal
from ..recipes.ranges import Fraction, Proportion


class Masking:
    """The masking of BERT (Devlin et al. 2019).

    rate: share of the tokens to predict. hidden, random: shares of those that are replaced by [MASK], and by a random
    token; the others stay as they are. whole_words: hide all parts of a word or none (as in BERT's later release).
    """

    def __init__(
        self, rate: Proportion = 0.15, hidden: Fraction = 0.8, random: Fraction = 0.1, whole_words: bool = False
    ) -> None:
        if hidden + random > 1 + 1e-9:  # the sum of two shares may be rounded up
            raise Refusal(f"masking: hidden: {hidden} and random: {random} are more than all tokens; lower one of them")
        self.rate = rate
        self.hidden = hidden
        self.random = random
        self.whole_words = whole_words

    def count(self, length: int) -> int:
        """Return how many of `length` tokens, marks included, are predicted."""
        return max(1, round(self.rate * length))

    def __call__(
        self, tokens: np.ndarray, words: np.ndarray, mask: int, ordinary: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return (tokens [T] with some replaced, ascending positions [M] of the tokens to predict).

        words: the number of each token's word [T], -1 for marks, which are never predicted. mask: the number of [MASK].
        ordinary: the numbers of all tokens but marks, from which a random one is drawn.
        """
        positions = np.flatnonzero(words >= 0)
        units = [[position] for position in positions.tolist()]
        if self.whole_words:
            units = [np.flatnonzero(words == word).tolist() for word in np.unique(words[positions])]
        most = min(self.count(len(tokens)), len(positions))
        chosen: list[int] = []
        for unit in random.permutation(len(units)).tolist():
            if len(chosen) + len(units[unit]) <= most:
                chosen += units[unit]
            if len(chosen) == most:
                break
        places = np.array(sorted(chosen), dtype=np.int64)
        draw = random.random(len(places))
        changed = tokens.copy()
        changed[places[draw < self.hidden]] = mask
        is_random = (draw >= self.hidden) & (draw < self.hidden + self.random)
        changed[places[is_random]] = random.choice(ordinary, int(is_random.sum()))
        return changed, places
