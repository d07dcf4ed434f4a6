"""English and French sentence pairs of Tatoeba: the corpus of the notes' chapters on translation."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import ClassVar

from ..errors import Refusal
from ..originals.fetch import Originals, fetch_file
from ..recipes.ranges import Count, Open, Seed
from ..storage.draw import draw_split


class Tatoeba:
    """142,787 pairs, short ones first; a source for `data.parallel.Parallel`.

    Sentences are in lower case with a space before each mark (notes: machine translation data; as in d2l).

    validation, test: approximate shares of the English sentences. A sentence's split is drawn by `seed` from its text
    alone: all its translations are in the same split, whatever `limit` is.
    limit: number of pairs to read from the start of the file (None: all)
    """

    name = "tatoeba-fra-eng"
    licence = "CC BY 2.0"
    source = "tatoeba.org, by manythings.org/anki, version of 2017-09-29; the copy in github.com/genimind/seq2seq"
    originals: ClassVar[Originals] = {
        "fra-eng.zip": (
            "https://raw.githubusercontent.com/genimind/seq2seq/843b8bc40396fbea4ac9171097122aacfc8b9660/fra-eng.zip",
            "c49e6073dca8524c9230ee8f68c3cf32",
        )
    }

    def __init__(
        self,
        raw: str = "data/raw",
        limit: Count | None = None,
        validation: Open = 0.05,
        test: Open = 0.05,
        seed: Seed = 0,
    ) -> None:
        if validation + test >= 1:
            raise Refusal(f"validation: {validation} and test: {test} leave nothing to train on; lower them")
        self.folder = Path(raw) / self.name
        self.limit = limit
        self.validation = validation
        self.test = test
        self.seed = seed

    def pairs(self) -> dict[str, list[tuple[str, str]]]:
        """Return {split: (English, French) pairs in the file's order}, without empty splits."""
        ((name, (address, digest)),) = self.originals.items()
        file = fetch_file(self.folder, name, address, digest)
        with zipfile.ZipFile(file) as archive:
            lines = archive.read("fra.txt").decode("utf-8").splitlines()[: self.limit]
        pairs = [tuple(clean_sentence(text) for text in line.split("\t")[:2]) for line in lines]
        splits: dict[str, list[tuple[str, str]]] = {"train": [], "validation": [], "test": []}
        for source, target in pairs:
            splits[draw_split(source.encode(), self.test, self.validation, self.seed)].append((source, target))
        return {split: split_pairs for split, split_pairs in splits.items() if split_pairs}


def clean_sentence(text: str) -> str:
    """Return the text in lower case, with one space between words and before each of , . ! ?

    Other spaces, such as narrow ones, become plain ones.
    """
    return " ".join(re.sub(r"([,.!?])", r" \1 ", text.lower()).split())
