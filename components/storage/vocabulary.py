"""The marks that every vocabulary begins with, and two vocabularies kept in one list."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import Refusal

UNKNOWN = "<unk>"  # number 0 of the vocabulary of a text
PAD, UNK, BOS, EOS = range(4)
SPECIAL = ("<pad>", UNKNOWN, "<bos>", "<eos>")  # numbers PAD, UNK, BOS, EOS of the vocabularies of a parallel corpus


def split_vocabularies(classes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the source's and the target's vocabulary from a data set's `classes`."""
    begins = [position for position, token in enumerate(classes) if token == SPECIAL[0]]
    if len(begins) != 2 or begins[0] != 0:
        raise Refusal("data: not a parallel corpus, which has two vocabularies; use data.parallel.Parallel")
    return list(classes[: begins[1]]), list(classes[begins[1] :])
