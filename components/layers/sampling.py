"""Sample a balanced number of examples per picture from many anchors or regions."""

from __future__ import annotations

import torch
from torch import Tensor


def sample_examples(
    positive: Tensor, negative: Tensor, count: int, share: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the columns [B, S] of up to `count` examples per picture, and which of them are real: bool [B, S].

    positive, negative: bool [B, N], disjoint. At most `share` of `count` are positive; negative ones fill the rest.
    """
    draw = torch.rand(positive.shape, generator=generator, device=positive.device)
    most = round(share * count)
    positives = positive & (_rank(draw, positive) < most)
    room = count - positives.sum(1, keepdim=True)
    chosen = positives | (negative & (_rank(draw, negative) < room))
    columns = compact(chosen, count)
    return columns, chosen.gather(1, columns)


def _rank(draw: Tensor, among: Tensor) -> Tensor:
    """Return each column's place in the order of `draw` [B, N] among the columns in `among` [B, N]."""
    return draw.masked_fill(~among, 2.0).argsort(dim=1, stable=True).argsort(dim=1)


def compact(remaining: Tensor, most: int) -> Tensor:
    """Return the columns of bool [B, N] in an order that puts those that remain first: int64 [B, min(N, most)]."""
    return (~remaining).to(torch.int8).argsort(dim=1, stable=True)[:, :most]
