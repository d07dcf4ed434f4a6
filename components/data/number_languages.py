"""Numbers spelled out in seven languages, by language: a text classification that needs no download."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import Refusal
from ..recipes.ranges import Count, Natural
from ..storage.store import Column
from ..tokens.characters import Characters
from ..tokens.tokenizer import Tokenizer
from .number_words import spell_number
from .text_table import MARKS, pad_tokens

LANGUAGES = ["de", "en", "es", "fr", "it", "nl", "pt"]


class NumberLanguages:
    """Texts such as "achtzig" and their languages: column "token", int32 [length], by character, and "label".

    train, validation, test: how many different numbers below `below` each split has, drawn by `seed`, each spelled in
    one language, the languages in turn. No number is in two splits. A longer text is cut.
    """

    name = "number-languages"
    licence = "CC0"
    source = "written here, by the library num2words"

    def __init__(
        self,
        below: Count = 100_000,
        train: Count = 2100,
        validation: Natural = 350,
        test: Count = 700,
        length: Count = 32,
        seed: Natural = 0,
    ) -> None:
        self.counts = {"train": train, "validation": validation, "test": test}
        if sum(self.counts.values()) > below:
            raise Refusal(f"below: there are {below} such numbers, too few for {sum(self.counts.values())}; raise it")
        self.below = below
        self.length = length
        self.seed = seed
        self.classes = list(LANGUAGES)
        self.columns = {"token": Column("int32", (length,)), "label": Column("int64")}

    @cached_property
    def splits(self) -> dict[str, list[tuple[str, int]]]:
        """Return {split: (text, label) pairs}, without empty splits."""
        numbers = np.random.default_rng(self.seed).permutation(self.below).tolist()
        splits = {}
        for name, count in self.counts.items():
            chosen, numbers = numbers[:count], numbers[count:]
            pairs = [(number, position % len(LANGUAGES)) for position, number in enumerate(chosen)]
            if pairs:
                splits[name] = [(spell_number(number, LANGUAGES[label]), label) for number, label in pairs]
        return splits

    @cached_property
    def tokenizers(self) -> dict[str, Tokenizer]:
        """Return {"token": the tokenizer of the training split's characters}."""
        return {"token": Characters().train([text for text, _ in self.splits["train"]], MARKS)}

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}: one each."""
        return dict.fromkeys(self.splits, 1)

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the texts of a split."""
        for text, label in self.splits[split]:
            yield {"token": pad_tokens(self.tokenizers["token"].encode(text), self.length), "label": label}
