"""Tatoeba: a small file, cleaned as in the notes, and the original one where it is available."""

from __future__ import annotations

import hashlib
import zipfile
from functools import partial
from pathlib import Path

import pytest

from components.data.parallel import Parallel
from components.data.tatoeba import Tatoeba, clean_sentence
from components.errors import Refusal
from components.storage.vocabulary import SPECIAL

REAL = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    lines = [f"Say {n // 2}!\tDis {n} \u202f!" for n in range(80)]  # each sentence with two translations
    file = tmp_path / "tatoeba-fra-eng" / "fra-eng.zip"
    file.parent.mkdir()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("fra.txt", "\n".join(lines) + "\n")
    with pytest.raises(Refusal, match="its digest is"):
        Tatoeba(str(tmp_path)).pairs()
    originals = {"fra-eng.zip": ("", hashlib.md5(file.read_bytes()).hexdigest())}
    monkeypatch.setattr(Tatoeba, "originals", originals)
    return str(tmp_path)


def test_marks_are_words_and_spaces_are_spaces() -> None:
    assert clean_sentence("Cours\u202f! Va,\xa0Jean.") == "cours ! va , jean ."


def test_a_sentence_is_in_one_split_with_all_its_translations(raw: str) -> None:
    splits = Tatoeba(raw, validation=0.2, test=0.2).pairs()
    assert list(splits) == ["train", "validation", "test"]
    sentences = [{source for source, _ in pairs} for pairs in splits.values()]
    assert [len(pairs) for pairs in splits.values()] == [2 * len(some) for some in sentences]
    assert len(set().union(*sentences)) == sum(map(len, sentences)) == 40
    assert sorted(pair for pairs in splits.values() for pair in pairs) == sorted(
        (f"say {n // 2} !", f"dis {n} !") for n in range(80)
    )
    assert splits == Tatoeba(raw, validation=0.2, test=0.2).pairs()
    assert splits != Tatoeba(raw, validation=0.2, test=0.2, seed=1).pairs()


def test_a_sentence_keeps_its_split_when_more_of_the_file_is_read(raw: str) -> None:
    splits = Tatoeba(raw, validation=0.2, test=0.2).pairs()
    fewer = Tatoeba(raw, limit=50, validation=0.2, test=0.2).pairs()
    assert sum(map(len, fewer.values())) == 50
    for name, pairs in fewer.items():
        assert set(pairs) <= set(splits[name])


def test_shares_that_leave_nothing_are_refused() -> None:
    with pytest.raises(Refusal, match=r"validation: 0.5 and test: 0.5 leave nothing to train on"):
        Tatoeba(validation=0.5, test=0.5)


@pytest.mark.skipif(not (REAL / "tatoeba-fra-eng").is_dir(), reason=f"the original file is not in {REAL}")
def test_the_real_file_holds_as_many_pairs_as_it_should() -> None:
    pairs = Tatoeba(str(REAL)).pairs()
    assert sum(map(len, pairs.values())) == 142_787
    assert not {source for source, _ in pairs["train"]} & {source for source, _ in pairs["test"]}
    data = Parallel(partial(Tatoeba, str(REAL), limit=600, validation=0.01, test=0.01), length=10, min_count=2)
    assert data.classes[:4] == list(SPECIAL)
    assert {".", "!", "?"} <= set(data.vocabularies[0])
