"""Draw the split of an example from its content alone, so that it keeps its split whatever joins or leaves the data.

A keyed hash turns the content into a number from 0 to 1. The lowest numbers are the test split, the highest ones the
validation split. A larger share therefore only adds to a split, and neither share moves the other split's examples.
The sizes of splits drawn in this way are the shares only approximately.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from ..recipes.ranges import Fraction, Natural
from .order import derive_key

SplitName = Literal["train", "validation", "test"]


def draw_split(content: bytes, test: Fraction, validation: Fraction, seed: Natural) -> SplitName:
    """Return the split of an example with this content, or of all examples of a group with this name."""
    key = derive_key(seed, 6).to_bytes(8, "little")
    word = int.from_bytes(hashlib.blake2b(content, digest_size=8, key=key).digest(), "little")
    position = word / 2**64
    if position < test:
        return "test"
    return "validation" if position >= 1 - validation else "train"


def draw_order(content: bytes, seed: Natural) -> int:
    """Return a number that puts an example into a random order, which does not depend on the other examples."""
    key = derive_key(seed, 7).to_bytes(8, "little")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8, key=key).digest(), "little")
