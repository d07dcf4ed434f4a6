"""Bad input: one line that says what is wrong, where, and what to do. Front doors print it and exit with code 2."""

from __future__ import annotations

import difflib
import errno
import textwrap
from collections.abc import Iterable

OS_REMEDIES = {  # what a machine may say to a write, and what its owner can do
    errno.ENOSPC: "the disk is full; make room (dvc gc --workspace, old runs below .trainyard)",
    errno.EDQUOT: "the quota of this disk is used up; make room (dvc gc --workspace, old runs below .trainyard)",
    errno.EFBIG: "a file may not grow so large here; raise the limit (ulimit -f)",
    errno.EROFS: "the disk is read-only; work in a folder that can be written",
    errno.EACCES: "no permission; work in a folder of your own, or change its owner",
}


class Refusal(Exception):
    """Raised for anything the user can put right; never for our own mistakes (those keep their traceback)."""


def explain_os_error(error: BaseException) -> Refusal | None:
    """For a full disk, a read-only folder and their like: where, and what to do; None for any other error."""
    if not isinstance(error, OSError) or error.errno not in OS_REMEDIES:
        return None
    return Refusal(f"{error.filename or 'writing'}: {OS_REMEDIES[error.errno]}; then repeat the command, it goes on")


class Diverged(Refusal):
    """The loss is no number any more at `step` (the first is 1): settings that a search may try and find poor."""

    def __init__(self, told: str, step: int = 0) -> None:
        super().__init__(told, step)  # both, for it travels pickled from a worker
        self.told, self.step = told, step

    def __str__(self) -> str:
        return self.told


def first_line(error: BaseException) -> str:
    """What it says first, or else its type. Words stay whole: half an address would hide its password from
    `tracker.shown`."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return textwrap.shorten(line, 200, placeholder=" ...", break_long_words=False, break_on_hyphens=False)


def suggest_name(word: str, known: Iterable[str]) -> str:
    """`" (did you mean 'batch'?)"`, or an empty string when nothing known resembles `word`."""
    match = difflib.get_close_matches(str(word), [str(name) for name in known], n=1, cutoff=0.5)
    return f" (did you mean '{match[0]}'?)" if match else ""


class Stopped(Exception):
    """The run was asked to stop, and did after saving; the same command goes on from there."""


class PeerLost(Exception):
    """On a worker whose neighbour is gone: a reason to try again, unlike an error of our own."""


class TryLater(Exception):
    """Nothing is wrong with the input, but not now: the same command may succeed later (front doors exit with 75)."""
