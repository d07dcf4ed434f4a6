"""A user's own sentences with a tag per word: columns, splits, faults, and the same rows as the data set of WNUT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.data.tagged_file import TaggedFile
from components.data.wnut17 import read_conll
from components.errors import Refusal
from components.inspection.recognise import inspect_path
from components.recipes import recipe
from components.storage.dataset import Dataset, prepare_dataset
from pipelines.stage.check import check_recipe

TAGS = ("O", "B-place", "I-place")


def write(file: Path, numbers: range, separator: str = "\t") -> Path:
    """Write a sentence per number, of which every other one names a place of two words."""
    sentences = []
    for number in numbers:
        place = (("New", "B-place"), ("York", "I-place")) if number % 2 else (("a", "O"), ("town", "O"))
        words = (("I", "O"), ("saw", "O"), *place, (f"no{number}", "O"))
        sentences.append("\n".join(separator.join(pair) for pair in words))
    file.write_text("\n\n".join(sentences) + "\n")
    return file


def test_sentences_are_those_of_the_reader_of_wnut(tmp_path: Path) -> None:
    file = write(tmp_path / "train.conll", range(40))
    data = TaggedFile(str(file), test_file=str(write(tmp_path / "t.conll", range(40, 50))), limit=20)
    assert data.classes == list(TAGS)
    rows = list(data.examples("train", 0))
    every_other = list(read_conll(file, TAGS))[::2]
    for row, expected in zip(rows, every_other, strict=True):
        assert isinstance(row, dict)
        assert row["text"] == expected["text"]
        assert np.array_equal(row["tags"], expected["tags"])
    assert (len(rows), len(list(data.examples("test", 0)))) == (20, 10)
    assert data.locate("train", 1) == f"{file} line 13"


def test_drawn_splits_depend_on_the_words_alone(tmp_path: Path) -> None:
    first = TaggedFile(str(write(tmp_path / "a.conll", range(60))), validation=0.2)
    later = TaggedFile(str(write(tmp_path / "b.conll", range(90), " POS ")), validation=0.2)
    assert set(first.splits) == {"train", "validation", "test"}
    texts = [{row["text"] for row in data.examples("test", 0)} for data in (first, later)]  # type: ignore[index]
    assert texts[0] < texts[1]


def test_words_without_a_tag_are_named_or_left_out(tmp_path: Path) -> None:
    file = write(tmp_path / "a.conll", range(40))
    file.write_text("-DOCSTART- -X- O\n\n" + file.read_text() + "\nbare\nword O\n")
    with pytest.raises(Refusal, match=r"a\.conll line 243: line 243 has no word and tag"):
        prepare_dataset(TaggedFile(str(file)), tmp_path / "out")
    manifest = prepare_dataset(TaggedFile(str(file), bad="skip"), tmp_path / "out")
    assert sum(split["rows"] for split in manifest["splits"].values()) == 40
    with pytest.raises(Refusal, match="test_file: nowhere is not a file"):
        TaggedFile(str(file), test_file="nowhere")
    (tmp_path / "b").write_text("a O\n\nof O\n")
    with pytest.raises(Refusal, match="has 1 different tags, not 2 to 500"):
        _ = TaggedFile(str(tmp_path / "b")).classes


def test_files_are_recognised_by_their_lines(tmp_path: Path) -> None:
    write(tmp_path / "eng.train", range(40), " NN I-NP ")
    write(tmp_path / "eng.testa", range(40, 52), " NN I-NP ")
    write(tmp_path / "eng.testb", range(52, 70), " NN I-NP ")
    (tmp_path / "README").write_text("Named entities.\n\nSee the paper.\n")
    findings = inspect_path(tmp_path, lambda subject, done, total: None)
    assert findings.recipe is not None
    check_recipe(findings.recipe, "proposed.yaml")
    assert findings.counts["validation file, entities"] == {"place": 6}
    assert findings.odd == ["1 file beside them, such as README: not used"]
    manifest = prepare_dataset(recipe.build(findings.recipe["data"], Dataset), tmp_path / "out")
    assert {name: split["rows"] for name, split in manifest["splits"].items()} == {
        "train": 40,
        "validation": 12,
        "test": 18,
    }
