"""Python's own reference manual, which comes with every interpreter (`help("topics")`): no download."""

from __future__ import annotations

from .text import keep_letters


class Manual:
    """Letters and spaces, about 290,000 characters: a source for `data.text.Text`.

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
