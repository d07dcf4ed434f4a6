"""H. G. Wells, The Time Machine (1895): the text of the notes' chapters on language models, from the original file."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ..originals.fetch import Originals, fetch_file
from .text_stream import keep_letters


class TimeMachine:
    """Letters and spaces, 173,427 characters or 32,775 words; a source for `data.text.Text`.

    Unlike d2l's reader it leaves a space between the last word of a line and the first of the next.
    """

    name = "timemachine"
    licence = "public domain"
    source = "H. G. Wells: The Time Machine, Project Gutenberg; the file of Dive into Deep Learning, d2l.ai"
    originals: ClassVar[Originals] = {
        "timemachine.txt": (
            "https://d2l-data.s3-accelerate.amazonaws.com/timemachine.txt",
            "7353d136ab308ecd0d4f1c5bf0e23122",
        )
    }

    def __init__(self, raw: str = "data/raw") -> None:
        self.folder = Path(raw) / self.name

    def text(self) -> str:
        """Return the text of the original file, reduced to letters and spaces."""
        ((name, (address, digest)),) = self.originals.items()
        file = fetch_file(self.folder, name, address, digest)
        return keep_letters(file.read_text(encoding="utf-8"))
