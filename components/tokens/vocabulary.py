"""A vocabulary of whole tokens, characters or words, by their frequency."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from ..errors import Refusal
from ..storage.vocabulary import UNKNOWN
from .tokenizer import HYPHENS, Tokenizer, find_unknown

TokenKind = Literal["char", "word"]


def build_vocabulary(tokens: Iterable[str], min_count: int = 1, marks: Sequence[str] = (UNKNOWN,)) -> list[str]:
    """Return the marks, then the tokens with `min_count` or more occurrences.

    They are in the order of falling frequency, equally frequent ones in that of the alphabet.
    """
    counts = Counter(tokens)
    frequent = [token for token, count in counts.items() if count >= min_count and token not in marks]
    return [*marks, *sorted(frequent, key=lambda token: (-counts[token], token))]


def join_vocabulary(
    vocabulary: Sequence[str], kind: TokenKind | Literal["hyphen"], marks: Sequence[str] = (UNKNOWN,)
) -> Tokenizer:
    """Return the tokenizer of a vocabulary that begins with `marks`; kind: that of `Tokenizer.kind`."""
    from tokenizers import Regex, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Library

    if len(vocabulary) == len(marks):
        raise Refusal("tokens.min_count: no token is that frequent in the training text; lower it")
    numbers = {token: number for number, token in enumerate(vocabulary)}
    library: Any = Library(models.WordLevel(numbers, unk_token=find_unknown(marks)))
    if kind == "char":
        library.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        library.decoder = decoders.Fuse()
    elif kind == "hyphen":
        library.pre_tokenizer = pre_tokenizers.Split(Regex(HYPHENS), "removed", invert=True)
    else:
        library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return Tokenizer(library.to_str())


def token_kind(vocabulary: Sequence[str]) -> TokenKind:
    """Return "char" for a vocabulary of single characters, otherwise "word"."""
    return "char" if all(len(token) == 1 for token in vocabulary if token != UNKNOWN) else "word"


def open_tokenizer(tokenizers: Mapping[str, str], column: str, vocabulary: Sequence[str]) -> Tokenizer:
    """Return the tokenizer of a column; a model exported before there were tokenizers has only its vocabulary."""
    if column in tokenizers:
        return Tokenizer(tokenizers[column])
    return join_vocabulary(vocabulary, token_kind(vocabulary))
