"""Your own plain text: one file, or all text files of a folder; a source for `data.text.Text`."""

from __future__ import annotations

from pathlib import Path

from ..errors import Refusal, printable
from .encoding import read_text
from .folder import list_files
from .text import keep_letters

SUFFIXES = {".txt", ".md", ".text"}


class TextFile:
    """The text of a file, or of a folder's files in the order of their paths, each followed by a line end.

    letters: keep Latin letters alone, in lower case (notes: text preprocessing)
    encoding: of the files (None: detected)
    """

    licence = "the owner's"

    def __init__(self, path: str, letters: bool = False, encoding: str | None = None) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise Refusal(f"path: {printable(path)} is not there; name a text file or a folder of them")
        self.own = [self.path]
        self.name = self.path.stem
        self.source = path
        self.letters = letters
        self.encoding = encoding

    def text(self) -> str:
        """Return the text; refuses a folder without text files."""
        files = list_files(self.path, SUFFIXES).files if self.path.is_dir() else [self.path]
        if not files:
            raise Refusal(f"path: {printable(self.path)} holds no text file ({', '.join(sorted(SUFFIXES))})")
        text = "\n".join(read_text(file, self.encoding)[0] for file in files)
        return keep_letters(text) if self.letters else text
