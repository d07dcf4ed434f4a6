"""A convolutional network for texts (Kim 2014, Convolutional Neural Networks for Sentence Classification)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..recipes.ranges import Count, Counts, Fraction
from ..storage.vocabulary import PAD


class TextCNN(nn.Module):
    """Map tokens [B, T] to logits [B, classes]: convolutions of several widths, each with its maximum over the text.

    widths: tokens per window; the last windows reach into the padding. filters: per width. Unlike Kim's, the
    token vectors are learned from the start, and the weights' norm is not limited.
    """

    def __init__(
        self,
        vocabulary: int,
        length: int,
        classes: int,
        embedding: Count = 64,
        filters: Count = 64,
        widths: Counts = [2, 3, 4],  # noqa: B006  (never written to)
        dropout: Fraction = 0.5,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding, padding_idx=PAD)
        self.reach = max(widths) - 1
        self.convolutions = nn.ModuleList(nn.Conv1d(embedding, filters, width) for width in widths)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(filters * len(widths), classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits [B, classes] of tokens [B, T]."""
        vectors = self.embedding(F.pad(tokens, (0, self.reach), value=PAD)).transpose(1, 2)
        starts = (tokens != PAD)[:, None]  # a window begins at a token, so that the length of a row does not matter
        features = [
            (F.relu(convolution(vectors)[..., : tokens.shape[1]]) * starts).amax(2) for convolution in self.convolutions
        ]
        return self.head(self.dropout(torch.cat(features, 1)))
