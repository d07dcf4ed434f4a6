"""Test that a fold held out is no part of what training learns: statistics, vocabulary, early stopping."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.data.parallel import EOS, PAD, UNK, Parallel
from components.data.text import Text
from components.storage.column import Column
from components.storage.dataset import prepare_dataset
from components.storage.order import contiguous_folds
from components.storage.store import Store
from components.training.peers import Peers
from pipelines.workers.augmentation import write_statistics
from pipelines.workers.folds import Feeds, open_fold
from pipelines.workers.records import TrialSetup

CPU = torch.device("cpu")
FOLDS = 4


class Pictures:
    """40 pictures of random pixels with random labels; those in `bright` are brighter."""

    name, licence, source = "pictures", "CC0", "drawn here"
    classes = ("a", "b")
    columns = {"image": Column("uint8", (2, 2, 1)), "label": Column("int64")}  # noqa: RUF012

    def __init__(self, bright: np.ndarray, splits: tuple[str, ...] = ("train", "test")) -> None:
        self.bright = bright
        self.splits = splits

    def parts(self) -> dict[str, int]:
        return dict.fromkeys(self.splits, 1)

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        random = np.random.default_rng(0)
        for row in range(40):
            image = random.integers(0, 100, (2, 2, 1)) + 100 * np.isin(row, self.bright)
            yield {"image": image.astype(np.uint8), "label": row % 2}


class Corpus:
    """A text, or pairs of its words, of which the last quarter has words of its own."""

    name, licence, source = "corpus", "CC0", "written here"
    words = ("one",) + ("one", "two", "six", "ten") * 30 + ("new", "odd", "one", "two") * 10

    def text(self) -> str:
        return " ".join(self.words)

    def pairs(self) -> dict[str, list[tuple[str, str]]]:
        return {"train": [(word, f"{word} {word}") for word in self.words]}


def prepare(dataset: Any, folder: Path) -> TrialSetup:
    prepare_dataset(dataset, folder / "prepared")
    write_statistics(Peers(), Store(folder / "prepared"), folder / "augmented")
    return TrialSetup({}, f"{folder}/prepared", f"{folder}/augmented", seed=0)


def fold_rows(setup: TrialSetup, steered: bool = False) -> Feeds:
    return open_fold(setup, 1, FOLDS, steered, CPU)[0]


def test_statistics_do_not_change_with_the_pictures_held_out(tmp_path: Path) -> None:
    plain = prepare(Pictures(np.array([])), tmp_path / "plain")
    held_out = fold_rows(plain).held_out.rows
    changed = prepare(Pictures(held_out), tmp_path / "changed")
    one_more = prepare(Pictures(np.append(held_out, fold_rows(plain).train.rows[0])), tmp_path / "more")
    statistics, same, other = (open_fold(s, 1, FOLDS, False, CPU)[1].statistics for s in (plain, changed, one_more))
    assert statistics == same
    assert statistics["mean"] != other["mean"]
    assert statistics["count"] == 30


@pytest.mark.parametrize("splits", [("train",), ("train", "test"), ("train", "validation", "test")])
def test_early_stopping_never_watches_the_fold_held_out(splits: tuple[str, ...], tmp_path: Path) -> None:
    setup = prepare(Pictures(np.array([]), splits), tmp_path)
    unwatched = fold_rows(setup)
    assert unwatched.watched is unwatched.held_out
    feeds = fold_rows(setup, steered=True)
    assert np.array_equal(feeds.held_out.rows, unwatched.held_out.rows)
    if "validation" in splits:
        assert feeds.watched.split.paths == Store(setup.prepared).split("validation").paths
        assert np.array_equal(feeds.train.rows, unwatched.train.rows)
        return
    parts = [feeds.train.rows, feeds.watched.rows, feeds.held_out.rows]
    assert sorted(np.concatenate(parts)) == list(range(40)), "disjoint"
    assert [len(rows) for rows in parts] == [23, 7, 10]
    assert set(feeds.watched.column("label")) == {0, 1}, "stratified"
    assert open_fold(setup, 1, FOLDS, True, CPU)[1].statistics["count"] == 23


def test_words_that_only_the_fold_held_out_has_are_unknown_in_it(tmp_path: Path) -> None:
    setup = prepare(Text(Corpus, tokens="word", steps=4, validation=0, test=0), tmp_path)
    feeds, spec = open_fold(setup, FOLDS - 1, FOLDS, False, CPU)
    assert len(spec.classes) == 7, "the vocabulary keeps its size"
    words = [[spec.classes[number] for number in row] for row in feeds.held_out.column("token")[:, :-1]]
    assert words[0] == ["ten", "<unk>", "<unk>", "one"]
    assert set(np.concatenate([part["token"].flatten() for part in feeds.held_out.batches(4)])) == {0, 1, 2, 4}
    assert 0 not in feeds.train.column("token")
    first = open_fold(setup, 0, FOLDS, False, CPU)[0].held_out
    assert np.array_equal(first.column("token"), Store(setup.prepared).split("train").array("token")[first.rows])


def test_sentences_keep_their_marks_where_words_are_unknown(tmp_path: Path) -> None:
    setup = prepare(Parallel(Corpus, length=4), tmp_path)
    feeds, spec = open_fold(setup, FOLDS - 1, FOLDS, False, CPU)
    assert np.array_equal(feeds.held_out.rows, contiguous_folds(161, FOLDS)[-1][1])
    row = feeds.held_out.gather(np.array([0]))
    assert row["source"].tolist() == [[UNK, EOS, PAD, PAD]]
    assert row["target"].tolist() == [[UNK, UNK, EOS, PAD]]
    assert len(spec.classes) == 2 * (4 + 6)
