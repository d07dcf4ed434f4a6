"""Texts as rows: cleaned as in the notes, cut by time, adjoining windows, a vocabulary from the training split."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.data import text as module
from components.data.text import Text, Texts, continues_previous
from components.data.text_file import TextFile
from components.data.text_stream import TextStream, keep_letters, keep_letters_of
from components.errors import Refusal
from components.files import path_digest
from components.storage.dataset import prepare_dataset
from components.storage.store import Store
from components.tokens.bpe import BPE
from components.tokens.wordpiece import WordPiece

WORDS = "a rose is a rose is a rose said she but the end has other words than the start had"


class Written:
    name, licence, source = "written", "CC0", "written here"

    def __init__(self, text: str) -> None:
        self._text = text

    def text(self) -> str:
        return self._text


def windows(text: str, tokens="word", steps=3, validation=0.0, test=0.5, **options) -> Text:
    return Text(partial(Written, text), tokens, steps, validation=validation, test=test, **options)


def rows(data: Text, split: str) -> np.ndarray:
    return np.stack([e["token"] for part in range(data.parts()[split]) for e in data.examples(split, part)])


def read(data: Text, split: str) -> str:
    return "".join(Texts(data.stream, data.splits[split]))


def test_letters_are_cleaned_as_the_notes_clean_lines() -> None:
    lines = ["  The Time-Machine,", "", "by H. G. Wells [1898]", "naïve: é"]
    letters = ["the time machine", "by h g wells", "na ve"]  # each line without [^A-Za-z]+
    assert keep_letters("\n".join(lines)) == " ".join(letters)


def test_splits_follow_each_other_in_time_and_windows_adjoin() -> None:
    text = "".join(np.random.default_rng(0).choice(list("abc "), 1000))
    data = windows(text, "char", steps=7, validation=0.2, test=0.3)
    assert data.parts() == {"train": 1, "validation": 1, "test": 1}
    start = 0
    for split, share in (("train", 500), ("validation", 200), ("test", 300)):
        encoded = rows(data, split)
        assert encoded.shape == ((share - 1) // 7, 8)
        assert all(a[-1] == b[0] for a, b in pairwise(encoded))
        stretch = [*encoded[:, :-1].reshape(-1), encoded[-1, -1]]
        assert data.tokenizers["token"].decode(stretch) == text[start : start + len(stretch)]
        start += share


def test_what_the_training_part_lacks_is_unknown() -> None:
    data = windows(WORDS)
    words = WORDS.split()
    assert set(data.classes) == {"<unk>", *words[:10]}
    unknown = [word not in words[:10] for word in words[10:]]
    assert (rows(data, "test")[:, 0] == 0).tolist() == [unknown[0], unknown[3], unknown[6]]
    assert Counter(words[:10])["she"] == 1
    assert windows(WORDS, min_count=2).classes == ["<unk>", "a", "rose", "is"]


def test_rows_are_the_same_in_any_number_of_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = windows(WORDS, "char", steps=2)
    expected = rows(data, "train")
    monkeypatch.setattr(module, "ROWS_PER_PART", 5)
    data = windows(WORDS, "char", steps=2)
    assert data.parts()["train"] == -(-len(expected) // 5) > 1
    assert np.array_equal(rows(data, "train"), expected)
    prepare_dataset(data, tmp_path)
    store = Store(tmp_path)
    assert np.array_equal(store.split("train").array("token"), expected)
    assert store.manifest["classes"] == data.classes


def test_only_the_start_is_read_of_a_limited_text() -> None:
    data = windows(WORDS, limit=12, steps=2, test=0.5)
    assert [len(part) for part in data.splits.values()] == [6, 6]


def test_parts_of_words_are_windows_of_the_same_text() -> None:
    text = "the lower the newer, the slower the newest\n" * 40
    data = windows(text, partial(BPE, size=280), steps=4, test=0.25)
    stretch = np.concatenate([rows(data, "test")[:, :-1].reshape(-1), rows(data, "test")[-1, -1:]])
    assert data.tokenizers["token"].decode(stretch) in text
    assert text.endswith(read(data, "test") + "\n")
    assert "Ġthe" in data.classes


def in_pieces(text: str, size: int) -> Iterator[str]:
    return (text[start : start + size] for start in range(0, len(text), size))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_text_in_pieces_has_the_units_of_the_whole(size: int) -> None:
    text = "  The end,\n\n of\tall-that 1 is   written \n"
    expected = {"char": list(text), "word": text.split(), "spaced": re.findall(r"\s*\S+", text)}
    for unit, units in expected.items():
        stream = TextStream(lambda: in_pieces(text, size), unit)
        assert len(stream) == len(units)
        for start, stop in ((0, len(units)), (2, 5), (4, 7), (1, 2), (len(units) - 1, len(units) + 9)):
            assert [piece for block in stream.read(start, stop) for piece in block] == units[start:stop]
    assert "".join(keep_letters_of(in_pieces(text, size))) == keep_letters(text) == "the end of all that is written"


@pytest.mark.parametrize("trainer", ["char", "word", partial(BPE, size=300), partial(WordPiece, size=80)])
def test_a_text_in_pieces_has_the_same_tokens(trainer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "It's  lower,\n\n\tthe newer;   don't slow the newest: naïve ☃ 12.50\n" * 60
    expected = rows(windows(text, trainer, steps=4), "test")
    monkeypatch.setattr(module, "BLOCK", 7)
    monkeypatch.setattr("components.data.encoding.BLOCK", 50)
    (tmp_path / "long.txt").write_text(text, encoding="utf-8")
    data = Text(partial(TextFile, str(tmp_path / "long.txt")), trainer, 4, validation=0.0, test=0.5)
    assert np.array_equal(rows(data, "test"), expected)
    monkeypatch.setattr(module, "ROWS_PER_PART", 40)
    several = Text(partial(TextFile, str(tmp_path / "long.txt")), trainer, 4, validation=0.0, test=0.5)
    assert several.parts()["test"] > 1
    decoded = [several.tokenizers["token"].decode(row) for row in rows(several, "test")]
    assert set(decoded) <= {several.tokenizers["token"].decode(row) for row in sliding(data, "test")}


@pytest.mark.parametrize("kind", ["char", "word", partial(BPE, size=300)])
def test_workers_may_write_the_parts_in_any_order(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read each part from a data set of its own, the last one first, as a worker does that has only this part."""
    monkeypatch.setattr(module, "ROWS_PER_PART", 30)
    (tmp_path / "long.txt").write_text("a longer text, with words of it again and again\n" * 90)
    source = partial(TextFile, str(tmp_path / "long.txt"))

    def read_part(data: Text, part: int) -> list[list[int]]:
        return [example["token"].tolist() for example in data.examples("train", part)]

    together = Text(source, kind, 4)
    count = together.parts()["train"]
    parts = [read_part(together, part) for part in range(count)]
    assert count > 2
    assert [read_part(Text(source, kind, 4), part) for part in reversed(range(count))] == parts[::-1]


def sliding(data: Text, split: str) -> np.ndarray:
    """Return all windows of a split, at every position."""
    numbers = np.concatenate(list(data._encode(data.splits[split])))
    return np.lib.stride_tricks.sliding_window_view(numbers, data.steps + 1)


PEAK = """
import sys
from functools import partial
from pathlib import Path
from components.data import text
from components.data.text_file import TextFile
from components.storage.dataset import prepare_dataset
text.ROWS_PER_PART = 100
data = text.Text(partial(TextFile, sys.argv[1]), sys.argv[3], 256)
prepare_dataset(data, sys.argv[2])
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


@pytest.mark.parametrize("kind", ["char", "word"])
def test_ten_times_the_text_needs_the_same_memory(kind: str, tmp_path: Path) -> None:
    """Compare the peaks of two processes; reading all of the longer text, 4 MB, takes more."""
    line = "".join(f"word{number % 97} and more {number % 13},\n" for number in range(4000))
    peaks = []
    for count in (4, 40):
        file = tmp_path / f"{count}.txt"
        file.write_text(line * count)
        command = [sys.executable, "-c", PEAK, str(file), str(tmp_path / f"out-{count}"), kind]
        peaks.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    assert (tmp_path / "40.txt").stat().st_size > 5 << 19
    assert peaks[1] - peaks[0] < 6 << 10, f"{peaks} KiB"


def test_the_tokenizer_comes_from_the_training_split_alone_and_lies_beside_the_data(tmp_path: Path) -> None:
    text = "one two three " * 20
    data = windows(text + "unseen words " * 30, partial(BPE, size=270), steps=4)
    only = windows(text, partial(BPE, size=270), steps=4, test=0.0)
    assert data.tokenizers["token"].json == only.tokenizers["token"].json
    prepare_dataset(data, tmp_path)
    assert Store(tmp_path).tokenizers() == {"token": data.tokenizers["token"].json}
    assert path_digest(tmp_path) == Store(tmp_path).manifest["digest"]
    (tmp_path / "tokenizer-token.json").write_text("{}")
    with pytest.raises(Refusal, match="SHA-256 is not the recorded"):
        Store(tmp_path).tokenizers()


def test_which_rows_continue_the_previous_one() -> None:
    assert continues_previous(np.array([4, 5, 6, 8, 9, 3, 3])).tolist() == [
        False,
        True,
        True,
        False,
        True,
        False,
        False,
    ]
    assert continues_previous(np.array([], dtype=np.int64)).tolist() == []


def test_impossible_windows_are_refused() -> None:
    with pytest.raises(Refusal, match="leave no text to train on"):
        windows(WORDS, validation=0.5, test=0.5)
    with pytest.raises(Refusal, match="split 'train' has 10 tokens, too few for a window of 10 "):
        windows(WORDS, steps=10).parts()


def test_a_text_that_grows_at_its_end_never_tests_on_what_was_trained_on() -> None:
    """Compare the splits of a text with those of its beginning: a cut by time only moves forward."""
    words = [str(number) for number in range(400)]
    older = windows(" ".join(words[:300]), validation=0.1, test=0.1)
    newer = windows(" ".join(words), validation=0.1, test=0.1)
    for split in ("validation", "test"):
        assert min(map(int, read(newer, split).split())) > max(map(int, read(older, "train").split()))


@pytest.mark.parametrize(("text", "shares"), [("", {}), ("a", {"validation": 0.45, "test": 0.5})])
def test_a_text_without_a_character_to_train_on_is_refused(tmp_path: Path, text: str, shares: dict[str, float]) -> None:
    (tmp_path / "a.txt").write_text(text)
    data = Text(partial(TextFile, str(tmp_path / "a.txt")), steps=1, **shares)
    for read in (data.parts, lambda: data.classes):
        with pytest.raises(Refusal, match=r"a\.txt: holds no text to train on; add some, or lower validation and test"):
            read()
