"""Search for the most probable sequence among a few candidates per step (notes: greedy, exhaustive, beam search)."""

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
    """Return (tokens int64 [B, length], which end with `end` and are padded with `pad`; their scores float32 [B]).

    step: maps (tokens [N, 1], states [N, ...] by name) to (logits [N, 1, K], new states).
    states: [B, ...] by name, before the first token, `begin`.

    Each step keeps the `beam` most probable continuations of all candidates. A candidate that has ended keeps its place
    and its probability. States that `step` returns as they are, such as an encoded source, are the same for all
    candidates of a row and are not moved. The result is the candidate of the best score, log p / L^penalty (notes),
    where L counts the tokens including `end`. A beam of 1 is greedy search; a beam as large as the number of sequences
    is exhaustive search. `begin` and `pad` are never generated.
    """
    count = len(next(iter(states.values())))
    device = next(iter(states.values())).device
    states = {name: state.repeat_interleave(beam, 0) for name, state in states.items()}
    tokens = torch.full((count, beam, length), pad, device=device)
    log_p = torch.full((count, beam), -math.inf, device=device)
    log_p[:, 0] = 0.0  # the candidates are equal at first, so that only the first may count
    ended = torch.zeros(count, beam, dtype=torch.bool, device=device)
    first = torch.arange(count, device=device)[:, None] * beam
    unchanged = set(states)
    newest = torch.full((count * beam, 1), begin, device=device)
    for at in range(length):
        before = states
        logits, states = step(newest, before)
        unchanged = {name for name in unchanged if states.get(name) is before[name]}
        next_log_p = possible_log_p(logits[:, -1].float(), begin, pad).unflatten(0, (count, beam))
        next_log_p = torch.where(ended[..., None], _only_padding(next_log_p[0, 0], pad), next_log_p)
        log_p, best_next = (log_p[..., None] + next_log_p).flatten(1).topk(beam)
        parent, token = best_next // next_log_p.shape[2], best_next % next_log_p.shape[2]
        rows = (first + parent).flatten()
        states = {name: state if name in unchanged else state[rows] for name, state in states.items()}
        tokens = tokens.flatten(0, 1)[rows].unflatten(0, (count, beam))
        tokens[:, :, at] = token
        ended = ended.gather(1, parent) | (token == end)
        newest = token.reshape(-1, 1)
        if bool(ended.all()):
            break
    scores = log_p / (tokens != pad).sum(2) ** penalty
    best = scores.argmax(1, keepdim=True)
    return tokens.take_along_dim(best[..., None], 1)[:, 0], scores.gather(1, best)[:, 0]


def possible_log_p(logits: Tensor, begin: int, pad: int) -> Tensor:
    """Return the log probabilities [N, K] of logits [N, K], where `begin` and `pad` are impossible."""
    special = torch.zeros(logits.shape[1], dtype=torch.bool, device=logits.device)
    special[[begin, pad]] = True
    return logits.masked_fill(special, -math.inf).log_softmax(1)


def _only_padding(like: Tensor, pad: int) -> Tensor:
    """Return the log probabilities [K] after the end of a sequence, where `pad` is certain."""
    log_p = torch.full_like(like, -math.inf)
    log_p[pad] = 0.0
    return log_p
