"""Questions about paragraphs whose answer is a part of the paragraph: XQuAD (Artetxe et al. 2020), original files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from ..errors import Refusal
from ..originals.fetch import Originals, fetch_file
from ..recipes.ranges import Open
from ..storage.store import Column

ADDRESS = "https://raw.githubusercontent.com/google-deepmind/xquad/master/"


class XQuAD:
    """1,190 questions on 240 paragraphs of 48 articles, a part of SQuAD v1.1: "question", "context" and "answer".

    "start" is the position of the answer's first character in the context.

    validation, test: shares of the articles, the last ones of the file; a paragraph is in one split with all its
    questions and all of its article.
    """

    licence = "CC BY-SA 4.0"
    source = "github.com/google-deepmind/xquad"
    by_name = True
    classes: ClassVar[list[str]] = []
    columns: ClassVar[dict[str, Column]] = {
        "question": Column("utf8"),
        "context": Column("utf8"),
        "answer": Column("utf8"),
        "start": Column("int64"),
    }
    raw_folder = "xquad"
    originals: ClassVar[Originals] = {
        "xquad.en.json": (f"{ADDRESS}xquad.en.json", "4d2e89c8b72688ab8648d3e581809091"),
        "xquad.de.json": (f"{ADDRESS}xquad.de.json", "c8f1da41f1190031fb53e691df4005c2"),
    }

    def __init__(
        self, language: Literal["en", "de"] = "en", raw: str = "data/raw", validation: Open = 0.125, test: Open = 0.25
    ) -> None:
        if validation + test >= 1:
            raise Refusal(f"validation: {validation} and test: {test} leave nothing to train on; lower them")
        self.name = f"xquad-{language}"
        self.file = f"xquad.{language}.json"
        self.folder = Path(raw) / self.raw_folder
        self.shares = (1 - validation - test, validation, test)

    @cached_property
    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """Return {split: its questions in the file's order}."""
        file = fetch_file(self.folder, self.file, *self.originals[self.file])
        articles = json.loads(file.read_text(encoding="utf-8"))["data"]
        train_end = round(len(articles) * self.shares[0])
        validation_end = train_end + round(len(articles) * self.shares[1])
        cuts = {"train": (0, train_end), "validation": (train_end, validation_end), "test": (validation_end, None)}
        return {
            split: [row for article in articles[start:end] for row in read_article(article, str(file))]
            for split, (start, end) in cuts.items()
        }

    def parts(self) -> dict[str, int]:
        """Return {split: 1}."""
        return dict.fromkeys(self.rows, 1)

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the questions of a split."""
        yield from self.rows[split]


def read_article(article: dict[str, Any], place: str) -> Iterator[dict[str, Any]]:
    """Yield the questions of an article in SQuAD's format; refuses an answer that is not where the file says."""
    for paragraph in article["paragraphs"]:
        context = paragraph["context"]
        for item in paragraph["qas"]:
            answer = item["answers"][0]
            text, start = answer["text"], answer["answer_start"]
            if not text or context[start : start + len(text)] != text:
                raise Refusal(f"{place}: question {item['id']}: its answer is not at {start}; correct or remove it")
            yield {"question": item["question"], "context": context, "answer": text, "start": start}
