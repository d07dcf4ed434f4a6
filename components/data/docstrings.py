"""The documentation inside Python's standard library: what `pydoc` shows of every module, without a download."""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from ..recipes.ranges import Count
from .text import cut_sentences

SKIPPED = {"site-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo", "__pycache__"}


class Docstrings:
    """About 1.6 million characters, a document per module: a source for `data.sentence_pairs.SentencePairs`.

    The sources are parsed, not imported. A docstring that appears more than once is kept where it comes first. The
    modules are in an order that mixes subjects, the same in every run. The text differs a little between versions of
    Python.

    limit: number of modules to read (None: all)
    """

    name = "docstrings"
    licence = "PSF-2.0"
    source = "the docstrings in the standard library of the running Python"

    def __init__(self, limit: Count | None = None) -> None:
        self.limit = limit

    def documents(self) -> list[list[str]]:
        """Return the sentences of each module's docstrings."""
        root = Path(sysconfig.get_path("stdlib"))
        files = [file for file in root.rglob("*.py") if not SKIPPED & set(file.relative_to(root).parts)]
        # Ordered by the names read backwards, modules of one package are not all next to each other.
        files.sort(key=lambda file: str(file.relative_to(root))[::-1])
        texts: set[str] = set()
        documents = []
        for file in files[: self.limit]:
            fresh = [text for text in _read_docstrings(file) if text not in texts]
            texts |= set(fresh)
            document = [" ".join(part.split()) for text in fresh for part in cut_sentences(text)]
            if document:
                documents.append(document)
        return documents


def _read_docstrings(file: Path) -> Iterator[str]:
    """Yield the docstrings of a source file; nothing from one that this Python cannot parse."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""
