"""The encoder of BERT over the patches of a picture (notes: BERT reads other sequences; Dosovitskiy et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import Refusal
from ..layers.encoder import STD, EncoderLayer, init_encoder
from ..recipes.ranges import Count, Fraction


class PatchEncoder(nn.Module):
    """Map images [B, channels, *size] to logits [B, classes], from the mean of the vectors of all patches.

    Each square of `patch` pixels is a token. width, layers, heads, inner, dropout: as in `models.bert.BERT`. Unlike
    BERT's, the tokens come from a dense layer, the mask is a learned vector in place of a patch's own, and there is no
    [CLS], which hidden patches would not train.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        classes: int,
        patch: Count = 4,
        width: Count = 64,
        layers: Count = 2,
        heads: Count = 4,
        inner: Count = 128,
        dropout: Fraction = 0.0,
    ) -> None:
        super().__init__()
        if size[0] % patch or size[1] % patch:
            raise Refusal(f"task.model.patch: {patch} does not divide pictures of {size[0]}x{size[1]}; change it")
        if width % heads:
            raise Refusal(f"task.model.width: {width} must be a multiple of heads: {heads}; change one of them")
        self.patch = patch
        count = size[0] // patch * (size[1] // patch)
        self.embedding = nn.Linear(channels * patch**2, width)
        self.mask = nn.Parameter(torch.randn(width) * STD)
        self.position = nn.Parameter(torch.randn(count, width) * STD)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(EncoderLayer(width, heads, inner, dropout) for _ in range(layers))
        self.head = nn.Linear(width, classes)
        init_encoder(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B, classes] of images [B, channels, *size]."""
        return self.head(self.encode(self.cut_patches(images)).mean(1))

    def cut_patches(self, images: Tensor) -> Tensor:
        """Return the patches [B, N, channels * patch * patch] of images, row by row."""
        return F.unfold(images, self.patch, stride=self.patch).transpose(1, 2)

    def encode(self, patches: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Return vectors [B, N, width] of patches [B, N, values]; hidden, bool [B, N]: those that are masked."""
        vectors = self.embedding(patches)
        if hidden is not None:
            vectors = torch.where(hidden[:, :, None], self.mask.to(vectors.dtype), vectors)
        x = self.dropout(self.norm(vectors + self.position))
        for layer in self.layers:
            x = layer(x, None)
        return x
