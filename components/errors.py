"""Errors that the user can do something about; command lines print them as one line, without a traceback."""

from __future__ import annotations

import difflib
import errno
import os
import textwrap
from collections.abc import Iterable

OS_REMEDIES = {  # error number of a failed write -> fault and remedy
    errno.ENOSPC: "the disk is full; make room (dvc gc --workspace, old runs below .trainyard)",
    errno.EDQUOT: "the quota of this disk is used up; make room (dvc gc --workspace, old runs below .trainyard)",
    errno.EFBIG: "a file may not grow so large here; raise the limit (ulimit -f)",
    errno.EROFS: "the disk is read-only; work in a folder that can be written",
    errno.EACCES: "no permission; work in a folder of your own, or change its owner",
}


class Refusal(Exception):
    """Invalid input or surroundings, with place, fault and remedy in one line; the exit code is 2.

    Errors in this project's own code are not refusals: they keep their traceback.
    """


class Diverged(Refusal):
    """The loss is not finite at `step` (the first is 1); a search counts such a trial as poor."""

    def __init__(self, message: str, step: int = 0) -> None:
        # Both are arguments of the exception, so that it survives pickling on its way from a worker.
        super().__init__(message, step)
        self.message = message
        self.step = step

    def __str__(self) -> str:
        return self.message


class Stopped(Exception):
    """The run was asked to stop and did so after saving; the same command resumes it."""


class PeerLost(Exception):
    """Another worker of the group is gone; the work is started again, which it is not after an error of its own."""


class TryLater(Exception):
    """The input is valid, but the same command can only succeed later; the exit code is 75."""


def explain_os_error(error: BaseException) -> Refusal | None:
    """Return place and remedy for a full or read-only disk and the like, or None for any other error."""
    if not isinstance(error, OSError) or error.errno not in OS_REMEDIES:
        return None
    return Refusal(f"{error.filename or 'writing'}: {OS_REMEDIES[error.errno]}; then repeat the command: it resumes")


def first_line(error: BaseException) -> str:
    """Return the first line of the error's message, or the name of its type if it has none.

    Words are not cut: half an address would hide its password from `safe_text.hide_credentials`.
    """
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return textwrap.shorten(line, 200, placeholder=" ...", break_long_words=False, break_on_hyphens=False)


def printable(path: str | os.PathLike[str]) -> str:
    """Return a path as text that can be printed: bytes that are not UTF-8 become escapes such as `\\xe9`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def pluralize(count: int, singular: str, plural: str = "") -> str:
    """Return a count with its noun, such as "1 row" or "2,000 rows"; plural: unless it is the singular with an s."""
    return f"{count:,} {singular if count == 1 else plural or f'{singular}s'}"


def suggest_name(word: str, names: Iterable[str]) -> str:
    """Return `" (did you mean 'batch'?)"` for the most similar name, or an empty text if none is similar."""
    match = difflib.get_close_matches(str(word), [str(name) for name in names], n=1, cutoff=0.5)
    return f" (did you mean '{match[0]}'?)" if match else ""
