"""Captions of pictures in English, German and French: the usual small corpus of translation research."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import ClassVar, Literal

from ..errors import Refusal
from ..originals.fetch import Originals, fetch_file
from ..recipes.ranges import Count
from .tatoeba import clean_sentence

Language = Literal["de", "en", "fr"]
FILES = {"train": "train", "validation": "val", "test": "test_2016_flickr"}


class Multi30k:
    """29,000 training, 1,014 validation and 1,000 test pairs (test_2016_flickr); a source for `data.parallel.Parallel`.

    Sentences are in lower case with a space before each mark, as in `data/tatoeba.py`. A caption that occurs in two
    splits stays in the later one alone, in the order training, validation, test.

    limit: number of training pairs to use from the start of the file (None: all)
    """

    name = "multi30k"
    licence = "research use (no licence file; usually quoted as CC BY-NC-SA 4.0)"
    source = "github.com/multi30k/dataset, task 1"
    originals: ClassVar[Originals] = {
        "train.de.gz": (
            "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/train.de.gz",
            "81ff90b99829c0cd4b1b587d394afd39",
        ),
        "train.en.gz": (
            "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/train.en.gz",
            "0065d13af80720a55ca8153d126e6627",
        ),
        "train.fr.gz": (
            "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/train.fr.gz",
            "6cb767741dcad3931f966fefbc05203f",
        ),
        "val.de.gz": (
            "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/val.de.gz",
            "6e0e229eb049e3fc99a1ef02fb2d5f91",
        ),
        "val.en.gz": (
            "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/val.en.gz",
            "2b69aa9253948ac9f67e94917272dd40",
        ),
        "val.fr.gz": (
            "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/val.fr.gz",
            "93fc564584b7e5ba410c761ea5a1c682",
        ),
        "test_2016_flickr.de.gz": (
            "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/test_2016_flickr.de.gz",
            "efd67d314d98489b716b145475101932",
        ),
        "test_2016_flickr.en.gz": (
            "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/test_2016_flickr.en.gz",
            "ff2c0fcb4893a13bd73414306bc250ae",
        ),
        "test_2016_flickr.fr.gz": (
            "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/test_2016_flickr.fr.gz",
            "08dc7cd4a662f31718412de95ca9bfe3",
        ),
    }

    def __init__(
        self, source: Language = "en", target: Language = "de", raw: str = "data/raw", limit: Count | None = None
    ) -> None:
        if source == target:
            raise Refusal(f"target: {target} is the source's language, too; choose another one")
        self.languages = (source, target)
        self.folder = Path(raw) / self.name
        self.limit = limit

    def pairs(self) -> dict[str, list[tuple[str, str]]]:
        """Return {split: (sentence, translation) pairs in the order of the files}."""
        splits: dict[str, list[tuple[str, str]]] = {}
        later: set[str] = set()
        for split in reversed(FILES):
            sources, targets = (self._sentences(split, language) for language in self.languages)
            pairs = list(zip(sources, targets, strict=True))
            splits[split] = [pair for pair in pairs if pair[0] not in later]
            later.update(sources)
        splits["train"] = splits["train"][: self.limit]
        return {split: splits[split] for split in FILES}

    def _sentences(self, split: str, language: Language) -> list[str]:
        """Return the sentences of one file, one per line."""
        name = f"{FILES[split]}.{language}.gz"
        file = fetch_file(self.folder, name, *self.originals[name])
        return [clean_sentence(line) for line in gzip.decompress(file.read_bytes()).decode("utf-8").splitlines()]
