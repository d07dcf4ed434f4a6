"""Write text between two marked lines of a page, whose other lines belong to people."""

from __future__ import annotations

from pathlib import Path

from components.errors import Refusal

Marks = tuple[str, str]  # the lines before and after the text


def check_marks(page: Path, marks: Marks) -> None:
    """Refuse a page that lacks the marked lines."""
    content = page.read_text(encoding="utf-8") if page.is_file() else ""
    if marks[1] not in content.partition(marks[0])[2]:
        raise Refusal(f"{page}: lacks the line '{marks[0]}', or '{marks[1]}' after it; add them")


def insert_text(page: Path, marks: Marks, text: str) -> None:
    """Replace what is between the marked lines of a page; refuse a page that lacks them."""
    check_marks(page, marks)
    before, _, rest = page.read_text(encoding="utf-8").partition(marks[0])
    after = rest.partition(marks[1])[2]
    page.write_text(f"{before}{marks[0]}\n{text}\n{marks[1]}{after}", encoding="utf-8")
