"""Multi30k: small files that the test writes, and the counts of the original ones where they are available."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest

from components.data.multi30k import Multi30k
from components.errors import Refusal

REAL = Path(__file__).parents[4] / "shared" / "data"
LINES = {
    "train": ["A man runs.", "Two dogs.", "A cat,  black."],
    "val": ["Two dogs.", "A bird."],
    "test_2016_flickr": ["A man sleeps.", "A bird."],
}


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the files in two languages; the German line is the English one, reversed."""
    originals = {}
    folder = tmp_path / "multi30k"
    folder.mkdir()
    for name, lines in LINES.items():
        for language, texts in (("en", lines), ("de", [line[::-1] for line in lines])):
            file = folder / f"{name}.{language}.gz"
            file.write_bytes(gzip.compress("\n".join(texts).encode(), mtime=0))
            originals[file.name] = ("", hashlib.md5(file.read_bytes()).hexdigest())
    monkeypatch.setattr(Multi30k, "originals", originals)
    return tmp_path


def test_pairs_are_cleaned_and_a_caption_is_in_one_split(raw: Path) -> None:
    splits = Multi30k(raw=str(raw)).pairs()
    assert {split: [source for source, _ in pairs] for split, pairs in splits.items()} == {
        "train": ["a man runs .", "a cat , black ."],
        "validation": ["two dogs ."],
        "test": ["a man sleeps .", "a bird ."],
    }
    assert splits["train"][0][1] == ". snur nam a"
    assert len(Multi30k(raw=str(raw), limit=1).pairs()["train"]) == 1
    assert Multi30k("de", "en", str(raw)).pairs()["test"][1] == (". drib a", "a bird .")


def test_equal_languages_are_refused() -> None:
    with pytest.raises(Refusal, match="target: en is the source's language, too"):
        Multi30k("en", "en")


@pytest.mark.skipif(not (REAL / "multi30k").is_dir(), reason=f"the original files are not in {REAL}")
def test_the_real_files_hold_as_many_pairs_as_published() -> None:
    splits = Multi30k(raw=str(REAL)).pairs()
    assert len(splits["test"]) == 1000
    assert 1000 <= len(splits["validation"]) <= 1014
    assert 28_500 < len(splits["train"]) <= 29_000
    sources = [{source for source, _ in pairs} for pairs in splits.values()]
    assert not sources[0] & sources[1] | sources[0] & sources[2] | sources[1] & sources[2]
