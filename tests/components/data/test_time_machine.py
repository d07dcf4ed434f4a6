"""The Time Machine: a small file, and the counts of the original one where it is available."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import pytest

from components.data.text import Text
from components.data.time_machine import TimeMachine
from components.errors import Refusal

REAL = Path(__file__).parents[4] / "shared" / "data"


def test_a_file_is_read_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "timemachine" / "timemachine.txt"
    file.parent.mkdir()
    file.write_text("The Time Machine\n\nI.\n'Upon that machine,' said he\n")
    with pytest.raises(Refusal, match="its digest is"):
        TimeMachine(str(tmp_path)).text()
    monkeypatch.setattr(TimeMachine, "originals", {file.name: ("", hashlib.md5(file.read_bytes()).hexdigest())})
    assert TimeMachine(str(tmp_path)).text() == "the time machine i upon that machine said he"


@pytest.mark.skipif(not (REAL / "timemachine").is_dir(), reason=f"the original file is not in {REAL}")
def test_the_real_file_has_as_many_tokens_as_the_textbook_counts() -> None:
    """Check d2l's counts: 170,580 characters of 28 kinds, including `<unk>`; 32,775 words of 4,580 kinds."""
    source = partial(TimeMachine, str(REAL))
    characters = Text(source, validation=0.0, test=0.0)
    lines = (REAL / "timemachine" / "timemachine.txt").read_text().splitlines()
    breaks = sum(any(letter.isascii() and letter.isalpha() for letter in line) for line in lines) - 1
    assert len(characters.splits["train"]) == 170_580 + breaks  # d2l joins the words at line ends
    assert len(characters.classes) == 28
    words = Text(source, "word", validation=0.0, test=0.0)
    assert (len(words.splits["train"]), len(words.classes)) == (32_775, 4_580)
    assert words.classes[1:11] == ["the", "i", "and", "of", "a", "to", "was", "in", "that", "my"]
    assert {split: len(part) for split, part in Text(source).splits.items()} == {
        "train": 138_742,
        "validation": 17_342,
        "test": 17_343,
    }
