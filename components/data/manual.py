"""Python's own manual, which every interpreter brings along: `help("topics")`. No download."""

from __future__ import annotations

from .text import keep_letters


class Manual:
    """Letters and spaces, about 290,000 characters: a source for `data.text.Text`.

    Topics repeat whole sections of each other; each paragraph is kept once, where it comes first, so that none that is
    tested was trained on. Another version of Python brings another text: figures move a little.
    """

    name = "manual"
    licence = "PSF-2.0"
    source = "the reference manual of the running Python, its module pydoc_data.topics"

    def text(self) -> str:
        from pydoc_data.topics import topics

        paragraphs = (keep_letters(part) for name in sorted(topics) for part in topics[name].split("\n\n"))
        return " ".join(filter(None, dict.fromkeys(paragraphs)))
