"""Beam search: the most probable sequence, as far as a few candidates find it (notes: greedy, exhaustive, beam)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

States = dict[str, Tensor]
Step = Callable[[Tensor, States], tuple[Tensor, States]]


def beam_search(
    step: Step, states: States, *, begin: int, end: int, pad: int, length: int, beam: int = 1, penalty: float = 0.75
) -> tuple[Tensor, Tensor]:
    """(tokens int64 [B, length], ended by `end`, then `pad`; their scores float32 [B]).

    step: (tokens [N, 1], states [N, ...] by name) -> (logits [N, 1, K], states); states: of B rows, before `begin`.

    Each step keeps the `beam` most probable of all continuations of the candidates; one that has ended stays as it is
    and holds its place. In the end the best score wins: log p / L^penalty (notes), L tokens with `end`. A beam of 1 is
    greedy search, one as large as there are sequences exhaustive. `begin` and `pad` are never said.
    """
    count = len(next(iter(states.values())))
    device = next(iter(states.values())).device
    states = {name: state.repeat_interleave(beam, 0) for name, state in states.items()}
    said = torch.full((count, beam, length), pad, device=device)
    log_p = torch.full((count, beam), -math.inf, device=device)
    log_p[:, 0] = 0.0  # all candidates are the same one at first: it counts once
    ended = torch.zeros(count, beam, dtype=torch.bool, device=device)
    first = torch.arange(count, device=device)[:, None] * beam
    newest = torch.full((count * beam, 1), begin, device=device)
    for at in range(length):
        logits, states = step(newest, states)
        of_next = _allowed(logits[:, -1].float(), begin, pad).unflatten(0, (count, beam))
        of_next = torch.where(ended[..., None], _stays(of_next[0, 0], pad), of_next)
        log_p, chosen = (log_p[..., None] + of_next).flatten(1).topk(beam)
        parent, token = chosen // of_next.shape[2], chosen % of_next.shape[2]
        rows = (first + parent).flatten()
        states = {name: state[rows] for name, state in states.items()}
        said = said.flatten(0, 1)[rows].unflatten(0, (count, beam))
        said[:, :, at] = token
        ended = ended.gather(1, parent) | (token == end)
        newest = token.reshape(-1, 1)
        if bool(ended.all()):
            break
    scores = log_p / (said != pad).sum(2) ** penalty
    best = scores.argmax(1, keepdim=True)
    return said.take_along_dim(best[..., None], 1)[:, 0], scores.gather(1, best)[:, 0]


def _allowed(logits: Tensor, begin: int, pad: int) -> Tensor:
    """log p [N, K] of what may be said."""
    never = torch.zeros(logits.shape[1], dtype=torch.bool, device=logits.device)
    never[[begin, pad]] = True
    return logits.masked_fill(never, -math.inf).log_softmax(1)


def _stays(like: Tensor, pad: int) -> Tensor:
    """log p [K] after the end: nothing but padding, for certain."""
    stays = torch.full_like(like, -math.inf)
    stays[pad] = 0.0
    return stays
