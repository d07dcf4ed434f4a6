"""Splits drawn from content alone: approximate shares, independent seeds, and examples that never change sides."""

from __future__ import annotations

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from components.storage.draw import draw_order, draw_split
from components.storage.order import derive_key

shares = st.floats(0, 0.5)
CONTENTS = [str(number).encode() for number in range(4000)]


def test_shares_hold_approximately() -> None:
    """A share of 4,000 independent draws lies within four standard deviations."""
    names = [draw_split(content, 0.2, 0.1, 0) for content in CONTENTS]
    for name, share in (("test", 0.2), ("validation", 0.1), ("train", 0.7)):
        assert abs(names.count(name) - share * 4000) < 4 * np.sqrt(4000 * share * (1 - share))


def test_seeds_are_independent() -> None:
    both = sum(draw_split(content, 0.2, 0, 0) == draw_split(content, 0.2, 0, 1) == "test" for content in CONTENTS)
    assert abs(both - 0.04 * 4000) < 4 * np.sqrt(4000 * 0.04 * 0.96)


@given(content=st.binary(max_size=9), test=shares, validation=shares, seed=st.integers(0, 2**70))
def test_a_share_moves_no_example_of_the_other_split(content: bytes, test: float, validation: float, seed: int) -> None:
    name = draw_split(content, test, validation, seed)
    assert (name == "test") == (draw_split(content, test, 0, seed) == "test")
    assert (name == "validation") == (draw_split(content, 0, validation, seed) == "validation")
    larger = draw_split(content, test + 0.2, 0, seed)
    assert name != "test" or larger == "test"


def test_the_draw_is_the_hash_of_this_definition() -> None:
    """Recompute one draw, so that no later version moves examples that a champion was trained on."""
    key = derive_key(3, 6).to_bytes(8, "little")
    word = int.from_bytes(hashlib.blake2b(b"a picture", digest_size=8, key=key).digest(), "little")
    assert word == 0x4AFAE557FD3E1824
    position = word / 2**64
    assert draw_split(b"a picture", position, 0, 3) == "train"
    assert draw_split(b"a picture", np.nextafter(position, 1), 0, 3) == "test"


def test_the_order_is_the_hash_of_this_definition() -> None:
    """Compare one number: where data are limited, the order decides which examples remain."""
    assert draw_order(b"a picture", 3) == 0x175C3F70D4D767AD
    assert draw_order(b"a picture", 4) != draw_order(b"a picture", 3)
