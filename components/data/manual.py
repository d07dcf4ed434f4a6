"""Python's own manual, which every interpreter brings along: `help("topics")`. No download."""

from __future__ import annotations

from typing import Literal

from components.data.text import Text, letters
from components.ranges import Count, Fraction


class Manual(Text):
    """Letters and spaces, about 290,000 characters; arguments as in `components.data.text.Text`.

    Topics repeat whole sections of each other; each paragraph is kept once, where it comes first, so that none that is
    tested was trained on. Another version of Python brings another text: figures move a little.
    """

    name = "manual"
    licence = "PSF-2.0"
    source = "the reference manual of the running Python, its module pydoc_data.topics"

    def __init__(
        self,
        tokens: Literal["char", "word"] = "char",
        steps: Count = 32,
        min_count: Count = 1,
        validation: Fraction = 0.1,
        test: Fraction = 0.1,
        limit: Count | None = None,
    ) -> None:
        super().__init__(tokens, steps, min_count, validation, test, limit)

    def text(self) -> str:
        from pydoc_data.topics import topics

        paragraphs = (letters(part) for name in sorted(topics) for part in topics[name].split("\n\n"))
        return " ".join(filter(None, dict.fromkeys(paragraphs)))
