"""A trained tokenizer, and the contract of the classes that train one.

Every kind of tokens has the same form: the `tokenizer.json` of the `tokenizers` library. It is written beside prepared
data and beside an exported model, and its SHA-256 is a tag of the run. Characters and words are read without the
library, which is slow on them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import Refusal, first_line

# A word that ends at spaces and before hyphens, for Python's `re` and for the library.
HYPHENS = r"(?<=\S)-[^\s-]+|[^\s-]+|-"
KINDS = {"[\\s\\S]": "char", HYPHENS: "hyphen"}  # pattern of a Split -> kind


class TokenizerTrainer(Protocol):
    """A kind of tokens as recipes name it, such as `tokens.wordpiece.WordPiece`."""

    def train(self, texts: Iterable[str], marks: Sequence[str]) -> Tokenizer:
        """Return a tokenizer whose vocabulary comes from `texts`, which may be read more than once.

        marks: the first tokens of the vocabulary, such as the padding. One of them is UNKNOWN or "[UNK]".
        """


class Tokenizer:
    """Text to numbers and back; `json` is the content of a `tokenizer.json`."""

    def __init__(self, json: str) -> None:
        self.json = json

    @classmethod
    def read(cls, file: str | Path) -> Tokenizer:
        """Return the tokenizer in a `tokenizer.json`; refuses a file that is not one."""
        try:
            tokenizer = cls(Path(file).read_text(encoding="utf-8"))
            tokenizer.library  # noqa: B018, damage must show here
        except Exception as error:  # the library raises a bare Exception
            raise Refusal(f"{file}: not a tokenizer.json ({first_line(error)}); write it again") from None
        return tokenizer

    @property
    def digest(self) -> str:
        """Return the SHA-256 of `json`."""
        return hashlib.sha256(self.json.encode()).hexdigest()

    @cached_property
    def library(self) -> Any:
        """Return the library's own `tokenizers.Tokenizer`."""
        from tokenizers import Tokenizer as Library

        return Library.from_str(self.json)

    @cached_property
    def vocabulary(self) -> list[str]:
        """Return the tokens in the order of their numbers."""
        numbers = self.numbers
        return sorted(numbers, key=numbers.__getitem__)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Return {token: number}."""
        numbers = self._model.get("vocab") if self.kind else None
        return dict(numbers) if isinstance(numbers, dict) else dict(self.library.get_vocab())

    def __len__(self) -> int:
        return len(self.vocabulary)

    def number(self, token: str) -> int:
        """Return the number of a token that must be in the vocabulary, such as "[MASK]"."""
        if token not in self.numbers:
            raise Refusal(f"tokens: the vocabulary of {len(self):,} has no {token}; use another tokenizer")
        return self.numbers[token]

    def encode(self, text: str) -> np.ndarray:
        """Return the numbers of the tokens of a text, without marks around them: int32 [N]."""
        if self.kind:
            pieces = self._split(text)
            unknown = self.numbers[self._model["unk_token"]]
            return np.array([self.numbers.get(piece, unknown) for piece in pieces], dtype=np.int32)
        return np.array(self.library.encode(text, add_special_tokens=False).ids, dtype=np.int32)

    def encode_all(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the numbers of the tokens of each text: int32 [N] each."""
        if self.kind:
            return [self.encode(text) for text in texts]
        encodings = self.library.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]

    def decode(self, numbers: Iterable[int]) -> str:
        """Return the text of token numbers, marks included."""
        if self.kind:
            text = ("" if self.kind == "char" else " ").join(self.vocabulary[number] for number in numbers)
            return re.sub(r" (?=-\S)", "", text) if self.kind == "hyphen" else text
        return str(self.library.decode([int(number) for number in numbers], skip_special_tokens=False))

    @cached_property
    def _model(self) -> dict[str, Any]:
        """Return the section "model" of `json`."""
        return dict(json.loads(self.json)["model"])

    @cached_property
    def kind(self) -> str:
        """Return what a token is: "char", "word" (between spaces), "hyphen" (see HYPHENS), or "" for parts of words."""
        content = json.loads(self.json)
        split = content.get("pre_tokenizer") or {}
        if content["model"].get("type") != "WordLevel" or content.get("normalizer"):
            return ""
        if split.get("type") == "Split":
            return KINDS.get(split["pattern"].get("Regex", ""), "")
        return "word" if split.get("type") == "WhitespaceSplit" else ""

    def _split(self, text: str) -> list[str]:
        """Return the whole tokens of a text."""
        if self.kind == "hyphen":
            return re.findall(HYPHENS, text)
        return list(text) if self.kind == "char" else text.split()


def find_unknown(marks: Sequence[str]) -> str:
    """Return the mark for unknown tokens."""
    return next(mark for mark in marks if mark.lower().strip("<>[]") == "unk")
