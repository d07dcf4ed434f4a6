"""Parts of words by byte-pair encoding of bytes: nothing is unknown (Sennrich et al. 2016; Radford et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import Refusal
from ..recipes.ranges import Count
from .tokenizer import Tokenizer

BYTES = 256


class BPE:
    """Byte-pair encoding as in GPT-2: the 256 bytes, then the most frequent pairs, joined one after the other.

    size: of the vocabulary, marks included. min_count: occurrences in the training split below which no pair is joined.
    """

    def __init__(self, size: Count = 4000, min_count: Count = 2) -> None:
        self.size = size
        self.min_count = min_count

    def train(self, texts: Iterable[str], marks: Sequence[str]) -> Tokenizer:
        """Return a tokenizer whose pairs are those of `texts`."""
        from tokenizers import Tokenizer as Library
        from tokenizers import decoders, models, pre_tokenizers, trainers

        if self.size < BYTES + len(marks):
            raise Refusal(
                f"tokens.size: {self.size} is too small for {BYTES} bytes and {len(marks)} marks; raise it to"
                f" {BYTES + len(marks)} or more"
            )
        library = Library(models.BPE())
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        library.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self.size,
            min_frequency=self.min_count,
            special_tokens=list(marks),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        library.train_from_iterator(texts, trainer)
        return Tokenizer(library.to_str())
