"""Sentence pairs of Tatoeba, English and French: the corpus of the notes' chapters on translation, from its file."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..errors import Refusal
from ..originals.fetch import Originals, fetch_file
from ..recipes.ranges import Count, Open, Seed


class Tatoeba:
    """142,787 pairs, short ones first; a source for `data.parallel.Parallel`.

    Lower case, a space before each mark (notes: machine translation data; as in d2l). validation, test: shares of the
    English sentences, drawn by `seed`: one that has several translations is with all of them in one split. limit: so
    many pairs from the start are all there is.
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
        self.limit, self.validation, self.test, self.seed = limit, validation, test, seed

    def pairs(self) -> dict[str, list[tuple[str, str]]]:
        ((name, known),) = self.originals.items()
        file = fetch_file(self.folder, name, *known)
        with zipfile.ZipFile(file) as archive:
            lines = archive.read("fra.txt").decode("utf-8").splitlines()[: self.limit]
        both = [tuple(clean_sentence(text) for text in line.split("\t")[:2]) for line in lines]
        sentences = list(dict.fromkeys(source for source, _ in both))
        ends = np.rint(np.cumsum([self.test, self.validation]) * len(sentences)).astype(int)
        order = np.random.default_rng(self.seed).permutation(len(sentences))
        places = np.searchsorted(ends, np.argsort(order), side="right")
        split = dict(zip(sentences, (("test", "validation", "train")[place] for place in places), strict=True))
        found: dict[str, list[tuple[str, str]]] = {"train": [], "validation": [], "test": []}
        for source, target in both:
            found[split[source]].append((source, target))
        return {name: pairs for name, pairs in found.items() if pairs}


def clean_sentence(text: str) -> str:
    """Lower case, one space (also where it is a narrow one) between words and before each of , . ! ?"""
    return " ".join(re.sub(r"([,.!?])", r" \1 ", text.lower()).split())
