"""Python's manual: letters and spaces, and nothing that is tested was trained on."""

from __future__ import annotations

from pydoc_data.topics import topics

from components.data.manual import Manual
from components.data.text import Text, keep_letters

LONG = 60  # characters: no two authors write so many the same by chance


def repeated(train: str, test: str) -> float:
    """Share of the stretches of LONG characters in `test` that stand in `train`, too."""
    known = {train[at : at + LONG] for at in range(len(train) - LONG)}
    return sum(test[at : at + LONG] in known for at in range(len(test) - LONG)) / len(test)


def test_no_long_stretch_is_in_both_training_and_test() -> None:
    data = Text(Manual)
    train, test = ("".join(data.splits[name]) for name in ("train", "test"))
    assert repeated(train, test) < 0.002
    whole = " ".join(keep_letters(topics[name]) for name in sorted(topics))
    cut = int(0.9 * len(whole))
    assert repeated(whole[: cut * 8 // 9], whole[cut:]) > 0.03  # the topics as they are


def test_nothing_but_letters_and_single_spaces() -> None:
    data, whole = Text(Manual, limit=50_000), Manual().text()
    assert data.classes[0] == "<unk>"
    assert sorted(data.classes[1:]) == sorted(" abcdefghijklmnopqrstuvwxyz")
    assert "  " not in whole
    assert sum(map(len, data.splits.values())) == 50_000
    assert 100_000 < len(whole) < len(" ".join(topics.values()))
