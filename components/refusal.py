"""Bad input: one line that says what is wrong, where, and what to do. Front doors print it and exit with code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class Refusal(Exception):
    """Raised for anything the user can put right; never for our own mistakes (those keep their traceback)."""


class Diverged(Refusal):
    """The loss is no number any more: settings that a search may try and find poor."""


def closest(word: str, known: Iterable[str]) -> str:
    """`" (did you mean 'batch'?)"`, or an empty string when nothing known resembles `word`."""
    match = difflib.get_close_matches(str(word), [str(name) for name in known], n=1, cutoff=0.5)
    return f" (did you mean '{match[0]}'?)" if match else ""


class Stopped(Exception):
    """The run was asked to stop, and did after saving; the same command goes on from there."""


class Later(Exception):
    """Nothing is wrong with the input, but not now: the same command may succeed later (front doors exit with 75)."""
