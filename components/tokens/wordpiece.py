"""Parts of words as BERT has them (Schuster & Nakajima 2012; Devlin et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import Refusal
from ..recipes.ranges import Count
from .tokenizer import Tokenizer, find_unknown

MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # of BERT; the padding is number 0
PREFIX = "##"  # of a part that does not begin a word


class WordPiece:
    """WordPiece: characters, then the parts that the most frequent pairs make; a word's longest part comes first.

    size: of the vocabulary, marks included. lower: whether upper case and accents are dropped, as in BERT's uncased
    models. min_count: occurrences in the training split below which no pair is joined.
    """

    def __init__(self, size: Count = 4000, lower: bool = True, min_count: Count = 2) -> None:
        self.size = size
        self.lower = lower
        self.min_count = min_count

    def train(self, texts: Iterable[str], marks: Sequence[str]) -> Tokenizer:
        """Return a tokenizer whose parts are those of `texts`; the texts are read twice."""
        alphabet = sorted(set(self._train_parts(texts, [], 1)))
        if self.size < len(alphabet) + len(marks):
            raise Refusal(
                f"tokens.size: {self.size} is too small for {len(alphabet)} characters of the text and {len(marks)}"
                f" marks; raise it to {len(alphabet) + len(marks)} or more"
            )
        # The library numbers the characters in no fixed order, and decides ties by these numbers. Named as marks, they
        # have a fixed order.
        parts = self._train_parts(texts, [*marks, *alphabet], self.size)
        return build_tokenizer(parts, self.lower, marks)

    def _train_parts(self, texts: Iterable[str], first: list[str], size: int) -> list[str]:
        """Return the parts in the order of their numbers, those of `first` before all others."""
        from tokenizers import Tokenizer as Library
        from tokenizers import models, trainers

        library = Library(models.WordPiece())
        _set_words(library, self.lower)
        trainer = trainers.WordPieceTrainer(
            vocab_size=size,
            min_frequency=self.min_count,
            special_tokens=first,
            continuing_subword_prefix=PREFIX,
            show_progress=False,
        )
        library.train_from_iterator(texts, trainer)
        numbers = library.get_vocab()
        return sorted(numbers, key=numbers.__getitem__)


def build_tokenizer(vocabulary: Sequence[str], lower: bool, marks: Sequence[str]) -> Tokenizer:
    """Return the tokenizer of a vocabulary, such as the lines of BERT's vocab.txt; refuses a token that is there twice.

    marks: tokens that are never cut, and recognised in a text.
    """
    from tokenizers import AddedToken, decoders, models
    from tokenizers import Tokenizer as Library

    numbers = {token: number for number, token in enumerate(vocabulary)}
    if len(numbers) < len(vocabulary):
        twice = next(token for number, token in enumerate(vocabulary) if numbers[token] != number)
        raise Refusal(f"tokens: {twice!r} is in the vocabulary twice; remove one of the two lines")
    absent = next((mark for mark in marks if mark not in numbers), None)
    if absent:
        raise Refusal(f"tokens: the vocabulary of {len(numbers):,} has no {absent}; use another tokenizer")
    unknown = find_unknown(marks)
    library = Library(models.WordPiece(numbers, unk_token=unknown, continuing_subword_prefix=PREFIX))
    _set_words(library, lower)
    library.decoder = decoders.WordPiece(prefix=PREFIX)
    library.add_special_tokens([AddedToken(mark, normalized=False, special=True) for mark in marks])
    return Tokenizer(library.to_str())


def _set_words(library: object, lower: bool) -> None:
    """Let the tokenizer cut words as BERT does: at spaces, around punctuation and around Chinese characters."""
    from tokenizers import normalizers, pre_tokenizers

    library.normalizer = normalizers.BertNormalizer(lowercase=lower)  # type: ignore[attr-defined]
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[attr-defined]
