"""Named entities in noisy user text: the shared task of WNUT 2017 (Derczynski et al. 2017), original files."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import Refusal
from ..originals.fetch import Originals, fetch_file
from ..recipes.ranges import Count
from ..storage.store import Column

ADDRESS = "https://raw.githubusercontent.com/leondz/emerging_entities_17/master/"
KINDS = ("corporation", "creative-work", "group", "location", "person", "product")
FILES = {"train": "wnut17train.conll", "validation": "emerging.dev.conll", "test": "emerging.test.annotated"}


class WNUT17:
    """Sentences of social media: "text", words between single spaces, and "tags" [words], numbers of BIO `classes`.

    3,394 sentences to train on, 1,009 for validation, 1,287 for testing, whose entities are mostly new.

    train: number of training sentences to use, from the start of the file (None: all)
    """

    name = "wnut17"
    licence = "CC BY 4.0"
    source = "github.com/leondz/emerging_entities_17"
    classes = ("O", *(f"{prefix}-{kind}" for kind in KINDS for prefix in "BI"))
    columns: ClassVar[dict[str, Column]] = {"text": Column("utf8"), "tags": Column("int32", (None,))}
    originals: ClassVar[Originals] = {
        "wnut17train.conll": (f"{ADDRESS}wnut17train.conll", "c213127d9438fb2c64fe0fabe8644489"),
        "emerging.dev.conll": (f"{ADDRESS}emerging.dev.conll", "29ad3845ac26a060fa3eecce3eb6c0fb"),
        "emerging.test.annotated": (f"{ADDRESS}emerging.test.annotated", "811aac4001facfa08a1b56ee0a9c094a"),
    }

    def __init__(self, raw: str = "data/raw", train: Count | None = None) -> None:
        self.folder = Path(raw) / self.name
        self.train = train

    @cached_property
    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """Return {split: its sentences in the file's order}."""
        rows = {}
        for split, name in FILES.items():
            file = fetch_file(self.folder, name, *self.originals[name])
            rows[split] = list(read_conll(file, self.classes))
        rows["train"] = rows["train"][: self.train]
        return rows

    def parts(self) -> dict[str, int]:
        """Return {split: 1}."""
        return dict.fromkeys(FILES, 1)

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the sentences of a split."""
        yield from self.rows[split]


def read_conll(file: Path, classes: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Yield the sentences of a file with a word, a tab and its tag per line, and empty lines between sentences."""
    words: list[str] = []
    tags: list[int] = []
    for number, line in enumerate([*file.read_text(encoding="utf-8").split("\n"), ""], 1):
        word, _, tag = line.strip().rpartition("\t")
        word = "".join(word.split())
        if word:
            if tag not in classes:
                options = ", ".join(classes)
                raise Refusal(f"{file}: line {number}: {tag!r} is not one of {options}; correct or remove it")
            words.append(word)
            tags.append(classes.index(tag))
        elif line.strip():
            raise Refusal(f"{file}: line {number} has no word, a tab and a tag; correct or remove it")
        elif words:
            yield {"text": " ".join(words), "tags": np.array(tags, dtype=np.int32)}
            words, tags = [], []
