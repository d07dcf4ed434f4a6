"""Read a long text in pieces, and find its characters or words by their numbers, without holding all of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

# What a text is cut between: characters, words, or words with the spaces before them.
Unit = Literal["char", "word", "spaced"]
Units = Sequence[str]  # characters as a string, words as a list


class TextStream:
    """The units of a text, whose pieces `pieces` yields from the start on each call.

    One piece is in memory at a time. Reading forward goes on where the last call ended; reading backward starts again.
    """

    def __init__(self, pieces: Callable[[], Iterator[str]], unit: Unit, limit: int | None = None) -> None:
        self.pieces = pieces
        self.unit = unit
        self.limit = limit
        # The units of the current piece, the number of the first of them, and those of the pieces after it.
        self._units: Units = ""
        self._first = 0
        self._remaining = self._read_units()

    def __len__(self) -> int:
        """Return the number of units, at most `limit`."""
        count = 0
        for units in split_units(self.pieces(), self.unit):
            count += len(units)
            if self.limit is not None and count >= self.limit:
                return self.limit
        return count

    def read(self, start: int, stop: int) -> Iterator[Units]:
        """Yield the units numbered start ... stop - 1 in order, a piece at a time."""
        if start < self._first:
            self._units, self._first, self._remaining = "", 0, self._read_units()
        while start < stop:
            end = self._first + len(self._units)
            if start < end:
                yield self._units[start - self._first : stop - self._first]
                start = min(stop, end)
            else:
                following = next(self._remaining, None)
                if following is None:
                    return
                self._first, self._units = end, following

    def join(self, units: Units) -> str:
        """Return the text of units."""
        return (" " if self.unit == "word" else "").join(units)

    def _read_units(self) -> Iterator[Units]:
        """Yield the units of all pieces; nothing is read before the first is needed."""
        yield from split_units(self.pieces(), self.unit)


def split_units(pieces: Iterable[str], unit: Unit) -> Iterator[Units]:
    """Yield the units of each piece of a text; a word that two pieces share belongs to the later one."""
    if unit == "char":
        yield from filter(None, pieces)
        return
    rest = ""
    for piece in pieces:
        text = rest + piece
        complete = text.rstrip()
        if len(complete) == len(text) and text:  # the last word may go on
            complete = text[: len(text) - len(text.split()[-1])].rstrip()
        rest = text[len(complete) :]
        yield split_words(complete, unit)
    yield split_words(rest, unit)


def split_words(text: str, unit: Unit) -> list[str]:
    """Return the words of a text, "spaced" with the spaces before them."""
    return re.findall(r"\s*\S+", text) if unit == "spaced" else text.split()


def keep_letters(text: str) -> str:
    """Return the Latin letters in lower case, with one space for whatever is between them (as in d2l)."""
    return "".join(keep_letters_of([text]))


def keep_letters_of(pieces: Iterable[str]) -> Iterator[str]:
    """Yield what `keep_letters` keeps of a text in pieces."""
    started = after_gap = False
    for piece in pieces:
        spaced = re.sub("[^A-Za-z]+", " ", piece).lower()
        letters = spaced.strip()
        if letters:
            yield (" " if started and (after_gap or spaced[0] == " ") else "") + letters
            started, after_gap = True, spaced[-1] == " "
        else:
            after_gap = after_gap or bool(spaced)
