"""Your own plain text: one file, or all text files of a folder; for `data.text.Text` and `data.sentence_pairs`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ..errors import Refusal, printable
from .encoding import decode_file, read_text
from .folder import list_files
from .text import cut_sentences
from .text_stream import keep_letters, keep_letters_of

SUFFIXES = {".txt", ".md", ".text"}
PARAGRAPHS = r"\n\s*\n"  # what is between them


class TextFile:
    """The text of a file, or of a folder's files in the order of their paths, each followed by a line end.

    As documents, these are the files of a folder, or the paragraphs of a single file, with empty lines between them.

    letters: keep Latin letters alone, in lower case (notes: text preprocessing)
    encoding: of the files (None: detected)
    """

    licence = "the owner's"

    def __init__(self, path: str, letters: bool = False, encoding: str | None = None) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise Refusal(f"path: {printable(path)} does not exist; name a text file or a folder of them")
        self.own = [self.path]
        self.name = self.path.stem
        self.source = path
        self.letters = letters
        self.encoding = encoding

    def text(self) -> str:
        """Return the text; refuses a folder without text files."""
        return "".join(self.pieces())

    def pieces(self) -> Iterator[str]:
        """Yield the text in pieces; refuses a folder without text files."""
        pieces = self._decode(self._list_files())
        return keep_letters_of(pieces) if self.letters else pieces

    def _decode(self, files: list[Path]) -> Iterator[str]:
        """Yield the files in pieces, with a line end between two files."""
        for number, file in enumerate(files):
            if number:
                yield "\n"
            yield from decode_file(file, self.encoding)

    def documents(self) -> list[list[str]]:
        """Return the sentences of each document; refuses a folder without text files."""
        texts = self._read()
        if self.path.is_dir():
            return [self._cut(re.split(PARAGRAPHS, text)) for text in texts]
        return [self._cut([paragraph]) for paragraph in re.split(PARAGRAPHS, texts[0])]

    def _cut(self, paragraphs: list[str]) -> list[str]:
        """Return the sentences of paragraphs, in which a line end is a space."""
        return [self._clean(" ".join(part.split())) for text in paragraphs for part in cut_sentences(text)]

    def _read(self) -> list[str]:
        """Return the text of each file."""
        return [read_text(file, self.encoding)[0] for file in self._list_files()]

    def _list_files(self) -> list[Path]:
        """Return the text files; refuses a folder without any."""
        files = list_files(self.path, SUFFIXES).files if self.path.is_dir() else [self.path]
        if not files:
            raise Refusal(f"path: {printable(self.path)} holds no text file ({', '.join(sorted(SUFFIXES))})")
        return files

    def _clean(self, text: str) -> str:
        return keep_letters(text) if self.letters else text
