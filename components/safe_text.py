"""Make texts fit to be printed, stored or shown: without secrets, control characters and foreign markup."""

from __future__ import annotations

import os
import re
from typing import Any, TextIO

# HOST or HOST:PORT, with no user before it.
PLAIN = r"(?:\[[^\]\s]*\]|[^:@/?#\s]*)(?::\d{1,5})?(?=[/?#\s]|$)"
# Everything up to the last @, since a password may hold @ and /.
CREDENTIALS = re.compile(rf"(\w+://)(?!{PLAIN})(\S*)@")
SECRET_WORD = r"(?:pass|pwd|secret|token|key|sig|credential|auth)"
# A value in the query of an address, such as ?password=... or &api_key=..., but not ?orderByKey=...
QUERY_NAME = r"[\w.-]*(?:pass|pwd|secret|token|sig|credential|auth)[\w.-]*|(?:[\w.-]*[._-])?(?:api|access|account)?key"
QUERY_VALUE = re.compile(rf"([?&;](?:{QUERY_NAME})=)[^&;#\s'\"]+", re.IGNORECASE)
# Environment variables that hold a secret; a variable that names a file, a folder or a switch does not.
SECRET_NAME = re.compile(rf"{SECRET_WORD}|WEBHOOK|DATABASE_URL", re.IGNORECASE)
PUBLIC_NAME = re.compile(r"_(?:PATH|FILE|MODE|SOCK|DIR|ID|USERNAME|SECONDS)$|^(?:OLD)?PWD$|^XAUTHORITY$", re.IGNORECASE)
# Terminal sequences and marks that reorder text; a line break and a tab are none.
CONTROLS = re.compile(r"\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
MOVES = re.compile(r"(?:\r|\x1b\[A)*")  # with which a progress bar begins
MARKDOWN = re.compile(r"([\\`*_\[\]<>#!|~])|(?<=:)(//)|(?<=\b[wW]{3})(\.)")
SHORTEST_SECRET = 8  # characters: a shorter value would also hide ordinary words


def hide_credentials(text: str) -> str:
    """Return the text without users and passwords of addresses in it, and without secret values in their queries."""
    return QUERY_VALUE.sub(r"\1...", CREDENTIALS.sub(r"\1", text))


def hide_secrets(text: str) -> str:
    """Return the text without credentials and without the values of this process' secret environment variables."""
    # the longest first: one may contain another
    for name, value in sorted(os.environ.items(), key=lambda item: -len(item[1])):
        if len(value) >= SHORTEST_SECRET and SECRET_NAME.search(name) and not PUBLIC_NAME.search(name):
            text = text.replace(value, f"${name}")
    return hide_credentials(text)


def drop_controls(text: str) -> str:
    """Return the text with `?` for each control character, such as those with which a name could rewrite a terminal."""
    return CONTROLS.sub("?", text)


def escape_markdown(text: str) -> str:
    """Return the text for a place that renders Markdown: on one line, with no markup, link or tag of its own."""
    line = " ".join(drop_controls(text).split())
    return MARKDOWN.sub(lambda match: "".join(f"\\{letter}" for letter in match[0]), line)


class SafeStream:
    """A stream for all that a process prints: without control characters and secrets."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write the text made safe, and return its length; a progress bar may move to the begin of its line."""
        moves = MOVES.match(text)
        start = moves.end() if moves else 0
        self.stream.write(text[:start] + hide_secrets(drop_controls(text[start:])))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
