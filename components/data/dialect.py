"""Guess how a table is written from its first lines: the delimiter, whether quotes enclose values, and a header."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

LARGEST = float(np.finfo(np.float32).max)
CANDIDATES = (",", ";", "\t", "|")
PHRASE = 3  # words from which a value is rather a sentence than a name


def guess_delimiter(lines: Sequence[str]) -> str:
    """Return the delimiter that splits most lines into the same number of values, more than one."""
    best, score = ",", 0.0
    for candidate in CANDIDATES:
        counts = Counter(len(re.sub(r'"[^"]*"', "", line).split(candidate)) for line in lines)
        number, frequency = max(counts.items(), key=lambda item: (item[1], item[0]))
        agreement = frequency / len(lines) if number > 1 else 0.0
        if agreement > score:
            best, score = candidate, agreement
    return best


def is_quoted(text: str, delimiter: str) -> bool:
    """Return whether quotes enclose values: each value that begins with one ends with one, too."""
    starts = re.findall(f'(?:^|{re.escape(delimiter)})("[^{re.escape(delimiter)}\n\r]*)', text, re.MULTILINE)
    return bool(starts) and all(len(value) > 1 and value.endswith('"') for value in starts)


def has_header(columns: Sequence[Sequence[str | None]]) -> bool:
    """Return whether the first value of each column looks like a name, and not like the values below it."""
    first = [str(values[0] or "") for values in columns]
    if not any(first) or any(is_number(name) for name in first):
        return False
    if any(len(name) > 60 or name.rstrip().endswith((".", "!", "?")) for name in first):
        return False
    named = [(name, values[1:]) for name, values in zip(first, columns, strict=True) if name]
    if any(name in below for name, below in named):
        return False
    is_phrase = any(len(name.split()) >= PHRASE for name, _ in named)
    return not (is_phrase and all(_repeats_words(name, below) for name, below in named))


def _repeats_words(name: str, below: Sequence[str | None]) -> bool:
    """Return whether all words of a text are in the values below it, as those of a first sentence are."""
    rest = set(name.lower().split())
    for value in below:
        rest -= set((value or "").lower().split())
        if not rest:
            return True
    return False


def is_number(text: str | None) -> bool:
    """Return whether a text is a number."""
    try:
        float(text or "")
    except ValueError:
        return False
    return True


def is_finite_number(text: str | None) -> bool:
    """Return whether a text is a number that float32, in which it is stored, can hold."""
    return is_number(text) and abs(float(text or "")) <= LARGEST
