"""Numbers spelled out in two languages: a parallel corpus for translation that needs no download."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ..errors import Refusal
from ..recipes.ranges import Count, Natural

Language = Literal["de", "en", "es", "fr", "it", "nl", "pt"]


class NumberWords:
    """Pairs such as ("eighty-one thousand", "quatre-vingt-un mille"): a source for `data.parallel.Parallel`.

    Different numbers below `below`, drawn by `seed`, so many of them for each split: none that is tested was trained
    on. Commas are left out. What to learn: words that move and multiply (quatre-vingt-dix-sept), an s that comes and
    goes (deux cents, deux cent un).
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
        self.languages = source, target
        self.below, self.seed = below, seed
        self.counts = {"train": train, "validation": validation, "test": test}
        if (wanted := sum(self.counts.values())) > below:
            raise Refusal(f"below: there are {below} such numbers, too few for {wanted} examples; raise it")

    def numbers(self) -> dict[str, np.ndarray]:
        """Split -> its numbers, in an order that is none: int64 [N]."""
        drawn = np.random.default_rng(self.seed).permutation(self.below)
        ends = np.cumsum([0, *self.counts.values()])
        return {name: drawn[a:b] for name, a, b in zip(self.counts, ends[:-1], ends[1:], strict=True) if b > a}

    def pairs(self) -> dict[str, list[tuple[str, str]]]:
        from num2words import num2words

        def spelled(number: int, language: str) -> str:
            return str(num2words(number, lang=language)).replace(",", "").replace("\u00ad", "")

        source, target = self.languages
        return {
            split: [(spelled(number, source), spelled(number, target)) for number in numbers.tolist()]
            for split, numbers in self.numbers().items()
        }
