"""Tiny Shakespeare: 40,000 lines of plays in one file, the usual text for small character-level language models."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ..originals.fetch import Originals, fetch_file


class TinyShakespeare:
    """1,115,394 characters, 65 different ones; a source for `data.text.Text`."""

    name = "tinyshakespeare"
    licence = "public domain"
    source = "W. Shakespeare: plays; the file of github.com/karpathy/char-rnn"
    originals: ClassVar[Originals] = {
        "input.txt": (
            "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
            "6fb458f1232090904fb40fe944165e91",
        )
    }

    def __init__(self, raw: str = "data/raw") -> None:
        self.folder = Path(raw) / self.name

    def text(self) -> str:
        """Return the text of the original file, unchanged."""
        ((name, (address, digest)),) = self.originals.items()
        return fetch_file(self.folder, name, address, digest).read_text(encoding="utf-8")
