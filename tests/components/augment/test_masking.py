"""Check the statistics of masking against those that BERT's paper states."""

from __future__ import annotations

import numpy as np
import pytest

from components.augment.masking import Masking
from components.errors import Refusal

MASK = 4
ORDINARY = np.arange(5, 1000)


def hide(masking: Masking, rows: int = 400, length: int = 100, words: np.ndarray | None = None):
    """Return tokens [rows, length], the same after masking, and which positions are predicted."""
    random = np.random.default_rng(0)
    before = random.integers(5, 1000, (rows, length)).astype(np.int32)
    if words is None:
        words = np.arange(length)
        words[[0, 50, 99]] = -1
    after, is_chosen = before.copy(), np.zeros(before.shape, dtype=bool)
    for row in range(rows):
        after[row], places = masking(before[row], words, MASK, ORDINARY, random)
        is_chosen[row, places] = True
    return before, after, is_chosen


def test_fifteen_per_cent_are_predicted_and_four_fifths_of_them_hidden() -> None:
    before, after, is_chosen = hide(Masking())
    assert (is_chosen.sum(1) == 15).all()
    chosen_before, chosen_after = before[is_chosen], after[is_chosen]
    assert len(chosen_before) == 6000
    assert (chosen_after == MASK).mean() == pytest.approx(0.8, abs=0.02)
    assert (chosen_after == chosen_before).mean() == pytest.approx(0.1, abs=0.02)
    assert np.array_equal(before[~is_chosen], after[~is_chosen])
    replaced = chosen_after[(chosen_after != MASK) & (chosen_after != chosen_before)]
    assert replaced.min() >= 5
    assert len(np.unique(replaced)) > 300  # random tokens come from the entire vocabulary


def test_every_position_is_predicted_equally_often_but_for_marks() -> None:
    _, _, is_chosen = hide(Masking(), rows=1500)
    share = is_chosen.mean(0)
    assert share[[0, 50, 99]].tolist() == [0, 0, 0]
    rest = np.delete(share, [0, 50, 99])
    assert rest.std() == pytest.approx(np.sqrt(rest.mean() * (1 - rest.mean()) / 1500), rel=0.25)


def test_whole_words_are_hidden_in_all_their_parts() -> None:
    words = np.repeat(np.arange(25), 4)
    _, _, is_chosen = hide(Masking(whole_words=True), words=words)
    per_word = is_chosen.reshape(len(is_chosen), 25, 4).sum(2)
    assert set(np.unique(per_word)) == {0, 4}
    assert (per_word.sum(1) == 12).all()  # as many words as fit into 15
    _, _, is_chosen = hide(Masking(), words=words)
    assert (is_chosen.reshape(-1, 4).sum(1) == 1).mean() > 0


def test_short_rows_have_one_token_to_predict() -> None:
    masking = Masking()
    assert masking.count(64) == 10
    _, places = masking(np.array([2, 7, 3]), np.array([-1, 0, -1]), MASK, ORDINARY, np.random.default_rng(0))
    assert places.tolist() == [1]


def test_shares_of_more_than_all_tokens_are_refused() -> None:
    with pytest.raises(Refusal, match=r"^masking: hidden: 0.9 and random: 0.2 are more than all tokens"):
        Masking(hidden=0.9, random=0.2)
    for hidden in (0.0, 0.7, 0.8, 0.9, 1.0):
        Masking(hidden=hidden, random=1 - hidden)
