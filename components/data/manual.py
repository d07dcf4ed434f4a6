"""Python's own reference manual, which comes with every interpreter (`help("topics")`): no download."""

from __future__ import annotations

import re

from .text import cut_sentences
from .text_stream import keep_letters


class Manual:
    """A source of about 290,000 letters and spaces for `data.text.Text`, of documents for `data.sentence_pairs`.

    Topics repeat sections of each other. Each paragraph is kept once, where it comes first, so that no tested paragraph
    was trained on. The text, and with it the results, differs a little between versions of Python.
    """

    name = "manual"
    licence = "PSF-2.0"
    source = "the reference manual of the running Python, its module pydoc_data.topics"

    def text(self) -> str:
        """Return the paragraphs of all topics, sorted by topic."""
        from pydoc_data.topics import topics

        paragraphs = (keep_letters(part) for name in sorted(topics) for part in topics[name].split("\n\n"))
        return " ".join(filter(None, dict.fromkeys(paragraphs)))

    def documents(self) -> list[list[str]]:
        """Return the sentences of each topic, sorted by topic, with their case and marks."""
        from pydoc_data.topics import topics

        paragraphs: set[str] = set()
        documents = []
        for name in sorted(topics):
            fresh = [part for part in map(_join_lines, topics[name].split("\n\n")) if part not in paragraphs]
            paragraphs |= set(fresh)
            documents.append([sentence for part in fresh for sentence in cut_sentences(part)])
        return documents


def _join_lines(paragraph: str) -> str:
    """Return a paragraph on one line, without underlines of headings."""
    return " ".join(re.sub(r"[*=~-]{4,}", " ", paragraph).split())
