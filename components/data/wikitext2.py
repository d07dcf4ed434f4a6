"""WikiText-2: good articles of Wikipedia as tokens, with rare words replaced (Merity et al. 2016), original files."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import ClassVar, Literal

from ..errors import Refusal
from ..originals.fetch import Originals, fetch_file
from .text import cut_sentences

ADDRESS = (
    "https://raw.githubusercontent.com/pytorch/examples/77f55b912142e11fcfdf5b530231fb9c52f181e8/"
    "word_language_model/data/wikitext-2/"
)
TITLE = re.compile(r" = [^=].* = ")  # of an article; sections have more signs
TRAIN_BLOB = "2d84b35af79e411d73ea7cae83c73964c6ac83b4"  # of train.txt: the digest of its content in git
FILES = {"train": "train.txt", "validation": "valid.txt", "test": "test.txt"}


class WikiText2:
    """Articles with their official splits: a source for `data.sentence_pairs.SentencePairs`, and for `data.text.Text`.

    Headings of sections are left out, `<unk>` becomes [UNK], and the marks around the signs within numbers and words
    (`1 @,@ 500`) go.

    train: "train" (10.8 MB), or "valid" to train on the 60 articles of the validation file, tested on the same file
    """

    name = "wikitext-2"
    licence = "CC BY-SA 3.0"
    source = "S. Merity et al.: WikiText-2, the copy in github.com/pytorch/examples"
    originals: ClassVar[Originals] = {
        "train.txt": (f"{ADDRESS}train.txt", ""),
        "valid.txt": (f"{ADDRESS}valid.txt", "d756d22ab2310e7e60c094bea5c5a8eb"),
        "test.txt": (f"{ADDRESS}test.txt", "781c9418ab9414bd09e4aad825aae752"),
    }

    def __init__(self, raw: str = "data/raw", train: Literal["train", "valid"] = "train") -> None:
        self.folder = Path(raw) / self.name
        self.files = dict(FILES) if train == "train" else {"train": FILES["validation"], "test": FILES["test"]}

    def splits(self) -> dict[str, list[list[str]]]:
        """Return {split: the sentences of each of its articles}."""
        return {split: read_articles(self._read(file)) for split, file in self.files.items()}

    def documents(self) -> list[list[str]]:
        """Return the sentences of each article of all files."""
        return [article for articles in self.splits().values() for article in articles]

    def text(self) -> str:
        """Return the text of all files, one after the other."""
        return "\n".join(clean(self._read(file)) for file in self.files.values())

    def _read(self, name: str) -> str:
        """Return the content of a file; refuses a missing train.txt, which is not downloaded, or another one."""
        address, digest = self.originals[name]
        if digest:
            return fetch_file(self.folder, name, address, digest).read_text(encoding="utf-8")
        file = self.folder / name
        if not file.is_file():
            raise Refusal(f"{file}: missing; save {address} under this name, or set train: valid")
        content = file.read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        if blob != TRAIN_BLOB:
            raise Refusal(f"{file}: its digest in git is {blob}, expected {TRAIN_BLOB}; save {address} under this name")
        return content.decode("utf-8")


def read_articles(text: str) -> list[list[str]]:
    """Return the sentences of each article in a file's text."""
    articles: list[list[str]] = []
    for line in text.split("\n"):
        if TITLE.fullmatch(line):
            articles.append([])
        elif articles and line.strip() and not line.startswith(" ="):
            articles[-1] += cut_sentences(clean(line))
    return articles


def clean(text: str) -> str:
    """Return a text without the marks of WikiText's tokens."""
    return re.sub(r" @(.)@ ", r"\1", text).replace("<unk>", "[UNK]").strip()
