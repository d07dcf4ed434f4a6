"""Numbers spelled out in two languages: a parallel corpus for translation that needs no download."""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np

from ..errors import Refusal
from ..recipes.ranges import Count, Natural

Language = Literal["de", "en", "es", "fr", "it", "nl", "pt"]


class NumberWords:
    """Pairs such as ("eighty-one thousand", "quatre-vingt-un mille"): a source for `data.parallel.Parallel`.

    train, validation, test: how many different numbers below `below` each split has, drawn by `seed`. No number is in
    two splits. Commas are left out. The model has to learn words that move and multiply (quatre-vingt-dix-sept), and a
    final s that depends on what follows (deux cents, deux cent un).
    """

    name = "number-words"
    licence = "CC0"
    source = "written here, by the library num2words"

    def __init__(
        self,
        source: Language = "en",
        target: Language = "fr",
        below: Count = 100_000,
        train: Count = 3000,
        validation: Natural = 500,
        test: Natural = 1000,
        seed: Natural = 0,
    ) -> None:
        self.languages = (source, target)
        self.below = below
        self.seed = seed
        self.counts = {"train": train, "validation": validation, "test": test}
        total = sum(self.counts.values())
        if total > below:
            raise Refusal(f"below: there are {below} such numbers, too few for {total} examples; raise it")

    def numbers(self) -> dict[str, np.ndarray]:
        """Return {split: its numbers in random order, int64 [N]}, without empty splits."""
        numbers = np.random.default_rng(self.seed).permutation(self.below)
        ends = np.cumsum([0, *self.counts.values()])
        return {
            split: numbers[start:end]
            for split, start, end in zip(self.counts, ends[:-1], ends[1:], strict=True)
            if end > start
        }

    def pairs(self) -> dict[str, list[tuple[str, str]]]:
        """Return {split: (number in the source language, number in the target language) pairs}."""
        source, target = self.languages
        return {
            split: [(spell_number(number, source), spell_number(number, target)) for number in numbers.tolist()]
            for split, numbers in self.numbers().items()
        }


def spell_number(number: int, language: str) -> str:
    """Return the number in words, without commas and soft hyphens."""
    from num2words import num2words

    return str(num2words(number, lang=language)).replace(",", "").replace("\u00ad", "")


class EnglishNumbers:
    """The grammar of the English numbers below a million, as `NumberWords` spells them."""

    def is_valid(self, text: str) -> bool:
        """Return whether a text spells a number: read word by word, it has a value that is spelled like this.

        Units and tens add up; hundred and thousand multiply what stands before them.
        """
        total = 0
        group = 0  # below 1000, since the last "thousand"
        for word in text.replace("-", " ").split():
            if word == "thousand":
                total, group = total + 1000 * group, 0
            elif word == "hundred":
                group *= 100
            elif word != "and":
                group += _word_values().get(word, 0)
        return total + group < 1_000_000 and spell_number(total + group, "en") == text


@cache
def _word_values() -> dict[str, int]:
    """Return {word: value} of the English numbers that are one word."""
    return {spell_number(number, "en"): number for number in (*range(20), *range(20, 100, 10))}
