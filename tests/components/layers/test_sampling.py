"""Sampled examples are balanced, drawn from the generator, and each picture's own."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.layers.sampling import compact, sample_examples


@given(seed=st.integers(0, 2**31), count=st.integers(1, 12), share=st.sampled_from([0.0, 0.25, 0.5, 1.0]))
@settings(max_examples=60, deadline=None)
def test_counts_are_those_of_the_rule(seed: int, count: int, share: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.randint(0, 3, (4, 10), generator=generator)
    positive, negative = kinds == 0, kinds == 1
    columns, is_real = sample_examples(positive, negative, count, share, generator)
    assert columns.shape == is_real.shape == (4, min(count, 10))
    for row in range(4):
        chosen = columns[row][is_real[row]].tolist()
        positives = min(round(share * count), int(positive[row].sum()))
        assert len(chosen) == len(set(chosen))
        assert int(positive[row][chosen].sum()) == positives
        assert int(negative[row][chosen].sum()) == min(count - positives, int(negative[row].sum()))
        assert len(chosen) == int((positive | negative)[row][chosen].sum())


def test_every_example_has_the_same_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    positive = torch.tensor([True] * 4 + [False] * 6).expand(6000, 10)
    columns, _ = sample_examples(positive, ~positive, 4, 0.5, generator)
    shares = torch.bincount(columns.flatten(), minlength=10) / 6000
    torch.testing.assert_close(shares, torch.tensor([0.5] * 4 + [1 / 3] * 6), atol=0.03, rtol=0)


def test_enough_room_takes_all() -> None:
    positive = torch.tensor([[True, False, False]])
    negative = torch.tensor([[False, False, True]])
    columns, is_real = sample_examples(positive, negative, 10_000, 1.0, torch.Generator())
    assert columns.tolist() == [[0, 2, 1]]
    assert is_real.tolist() == [[True, True, False]]


def test_those_that_remain_come_first_in_their_order() -> None:
    remaining = torch.tensor([[False, True, False, True], [True, True, False, False]])
    assert compact(remaining, 3).tolist() == [[1, 3, 0], [0, 1, 2]]
