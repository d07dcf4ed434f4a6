"""A user's own sentence pairs: aligned files, packed or not, and tables."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from components.data.parallel import Parallel
from components.data.parallel_text import ParallelText
from components.errors import Refusal
from components.storage.dataset import prepare_dataset

ENGLISH = [f"Sentence {i} is here." for i in range(60)]
FRENCH = [f"La phrase {i} est ici." for i in range(60)]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    (tmp_path / "a.en").write_text("\r\n".join(ENGLISH))
    (tmp_path / "a.fr.gz").write_bytes(gzip.compress(("\n".join(FRENCH) + "\n").encode()))
    return [str(tmp_path / "a.en"), str(tmp_path / "a.fr.gz")]


def test_aligned_files_are_read_whatever_their_line_ends(files: list[str]) -> None:
    splits = ParallelText(files, clean=False, test=0.2, validation=0.2).pairs()
    assert set(splits) == {"train", "validation", "test"}
    assert sorted(pair for pairs in splits.values() for pair in pairs) == sorted(zip(ENGLISH, FRENCH, strict=True))
    assert ParallelText(files).pairs()["train"][0][0].startswith("sentence ")


def test_a_table_holds_the_same_pairs(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("en;fr\n" + "\n".join(f"{e};{f}" for e, f in zip(ENGLISH, FRENCH, strict=True)))
    table = ParallelText(file=str(tmp_path / "a.csv"), source="en", target="fr")
    expected = ParallelText(files).pairs()
    assert {name: list(pairs) for name, pairs in table.pairs().items()} == {n: list(p) for n, p in expected.items()}


def test_a_first_line_that_is_a_pair_is_not_a_header(tmp_path: Path) -> None:
    pairs = [f"the {a} saw a {b}\tle {a} vit un {b}" for a in ("cat", "dog", "ox") for b in ("cat", "dog", "ox")]
    (tmp_path / "a.tsv").write_text("\n".join(pairs))
    rows = ParallelText(file=str(tmp_path / "a.tsv"), source="1", target="2", test=0, validation=0).pairs()["train"]
    assert len(rows) == 9
    assert rows[0] == ("the cat saw a cat", "le cat vit un cat")
    (tmp_path / "a.tsv").write_text("\n".join(["the only words like these\trien de tel", *pairs]))
    data = ParallelText(file=str(tmp_path / "a.tsv"), source="1", target="2", header=False, test=0, validation=0)
    assert len(data.pairs()["train"]) == 10
    (tmp_path / "a.tsv").write_text("\n".join(["text of the cat\tFrench", *pairs]))
    assert ParallelText(file=str(tmp_path / "a.tsv"), source="text of the cat", target="French").pairs()


def test_further_files_are_splits(files: list[str], tmp_path: Path) -> None:
    for name in ("v.en", "v.fr"):
        (tmp_path / name).write_text(f"held out {name}\n{ENGLISH[7]}\n")
    data = ParallelText(files, validation_files=[str(tmp_path / "v.en"), str(tmp_path / "v.fr")], test=0.0)
    splits = data.pairs()
    assert splits["validation"][0] == ("held out v . en", "held out v . fr")
    assert len(splits["validation"]) == 2
    assert len(splits["train"]) == 59  # what is held out is not learnt
    assert data.notes == ["1 training pairs have a source of a held-out file and are left out"]


def test_faults_are_named(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "short.fr").write_text("\n".join(FRENCH[:50]))
    with pytest.raises(Refusal, match=r"a\.en has 60 lines and .*short\.fr 50; aligned files have equally many"):
        ParallelText([files[0], str(tmp_path / "short.fr")]).pairs()
    (tmp_path / "holes.fr").write_text("\n".join(["", *FRENCH[1:30], " ", *FRENCH[31:]]))
    holes = [files[0], str(tmp_path / "holes.fr")]
    with pytest.raises(Refusal, match=r"2 pairs lack a side: 1, 31; correct them, or set bad: skip"):
        ParallelText(holes).pairs()
    data = ParallelText(holes, bad="skip")
    assert sum(map(len, data.pairs().values())) == 58
    assert data.notes == [f"{files[0]}: 2 pairs without a side are left out"]
    (tmp_path / "bad.gz").write_bytes(b"\x1f\x8bgarbage")
    with pytest.raises(Refusal, match=r"bad\.gz: damaged"):
        ParallelText([files[0], str(tmp_path / "bad.gz")]).pairs()
    for arguments in ({}, {"files": files, "file": files[0]}, {"file": files[0]}, {"files": files[:1]}):
        with pytest.raises(Refusal, match=r"files: |source: "):
            ParallelText(**arguments)


def test_cut_sentences_are_counted_and_references_stay_whole(files: list[str], tmp_path: Path) -> None:
    """Cut each French sentence of 6 tokens and <eos> to 4: the reference has 7, and is said to be cut."""
    from functools import partial

    manifest = prepare_dataset(Parallel(partial(ParallelText, files), length=4), tmp_path / "out")
    assert manifest["columns"]["reference"]["shape"] == [7]
    assert "60 examples have a source of more than 4 tokens, which is cut (length)" in manifest["review"]
    assert "60 examples have a target of more than 4 tokens, which is cut; it is scored uncut" in manifest["review"]
    uncut = prepare_dataset(Parallel(partial(ParallelText, files), length=7), tmp_path / "whole")
    assert set(uncut["columns"]) == {"source", "target"}
    assert not any("cut" in sentence for sentence in uncut["review"])
