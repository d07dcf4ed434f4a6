"""A bidirectional recurrent network for texts (notes: GRU, bidirectional networks)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ..recipes.ranges import Count, Fraction
from ..storage.vocabulary import PAD


class TextGRU(nn.Module):
    """Map tokens [B, T] to logits [B, classes]: both directions, each feature's maximum over the tokens.

    hidden: units per direction. Padding is not read.
    """

    def __init__(
        self,
        vocabulary: int,
        length: int,
        classes: int,
        embedding: Count = 64,
        hidden: Count = 64,
        dropout: Fraction = 0.3,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding, padding_idx=PAD)
        self.body = nn.GRU(embedding, hidden, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * hidden, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits [B, classes] of tokens [B, T]."""
        valid = tokens != PAD
        lengths = valid.sum(1).clamp(min=1).cpu()
        packed = pack_padded_sequence(
            self.dropout(self.embedding(tokens)), lengths, batch_first=True, enforce_sorted=False
        )
        states, _ = pad_packed_sequence(self.body(packed)[0], batch_first=True, total_length=tokens.shape[1])
        is_read = torch.arange(tokens.shape[1], device=tokens.device) < lengths.to(tokens.device)[:, None]
        features = states.masked_fill(~is_read[..., None], torch.finfo(states.dtype).min).amax(1)
        return self.head(self.dropout(features))
