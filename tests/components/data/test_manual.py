"""Python's manual: only letters and spaces, and no long stretch is in both training and test split."""

from __future__ import annotations

from pydoc_data.topics import topics

from components.data.manual import Manual
from components.data.text import Text, Texts
from components.data.text_stream import keep_letters

LONG = 60  # characters: hardly the same by chance


def repeated(train: str, test: str) -> float:
    """Return the share of the stretches of LONG characters in `test` that are in `train`, too."""
    stretches = {train[at : at + LONG] for at in range(len(train) - LONG)}
    return sum(test[at : at + LONG] in stretches for at in range(len(test) - LONG)) / len(test)


def test_no_long_stretch_is_in_both_training_and_test() -> None:
    data = Text(Manual)
    train, test = ("".join(Texts(data.stream, data.splits[name])) for name in ("train", "test"))
    assert repeated(train, test) < 0.002
    manual = " ".join(keep_letters(topics[name]) for name in sorted(topics))
    cut = int(0.9 * len(manual))
    assert repeated(manual[: cut * 8 // 9], manual[cut:]) > 0.03  # without removing repetitions


def test_nothing_but_letters_and_single_spaces() -> None:
    data = Text(Manual, limit=50_000)
    text = Manual().text()
    assert data.classes[0] == "<unk>"
    assert sorted(data.classes[1:]) == sorted(" abcdefghijklmnopqrstuvwxyz")
    assert "  " not in text
    assert sum(map(len, data.splits.values())) == 50_000
    assert 100_000 < len(text) < len(" ".join(topics.values()))
