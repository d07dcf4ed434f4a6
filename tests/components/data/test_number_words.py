"""Numbers in words: correct spelling in both languages, and disjoint splits."""

from __future__ import annotations

import pytest

from components.data.number_words import NumberWords
from components.errors import Refusal

FRENCH = {
    0: "zéro",
    21: "vingt et un",
    71: "soixante et onze",
    80: "quatre-vingts",
    99: "quatre-vingt-dix-neuf",
    200: "deux cents",
    201: "deux cent un",
    1000: "mille",
}


def test_each_number_is_spelled_in_both_languages() -> None:
    every = NumberWords(below=1001, train=1001, validation=0, test=0)
    assert set(every.pairs()) == {"train"}
    french = dict(zip(every.numbers()["train"].tolist(), every.pairs()["train"], strict=True))
    assert french[99] == ("ninety-nine", "quatre-vingt-dix-neuf")
    assert {number: french[number][1] for number in FRENCH} == FRENCH
    thousands = NumberWords(below=300_000, train=300, validation=5, test=5).pairs()
    assert not any("," in text for pairs in thousands.values() for pair in pairs for text in pair)


def test_splits_are_disjoint_reproducible_and_of_the_requested_size() -> None:
    data = NumberWords(below=5000, train=300, validation=40, test=60)
    splits = {name: set(numbers.tolist()) for name, numbers in data.numbers().items()}
    assert {name: len(numbers) for name, numbers in splits.items()} == {"train": 300, "validation": 40, "test": 60}
    assert len(set().union(*splits.values())) == 400
    assert max(max(numbers) for numbers in splits.values()) < 5000
    assert data.pairs() == NumberWords(below=5000, train=300, validation=40, test=60).pairs()
    other = NumberWords(below=5000, train=300, validation=40, test=60, seed=1)
    assert set(other.numbers()["test"].tolist()) != splits["test"]
    sources = [pair[0] for pairs in data.pairs().values() for pair in pairs]
    assert len(set(sources)) == 400


def test_more_numbers_than_there_are_are_refused() -> None:
    with pytest.raises(Refusal, match="below: there are 100 such numbers, too few for 120 examples"):
        NumberWords(below=100, train=100, validation=10, test=10)
