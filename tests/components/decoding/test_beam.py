"""Beam search finds the best of all sequences, and matches the same search written over lists."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from components.decoding.beam import States, beam_search

PAD, BEGIN, END, A, B, C = range(6)
POSSIBLE = (END, A, B, C)
ROWS, LENGTH = 5, 4


class RandomModel:
    """Random logits that depend on the row, the position and the last two tokens, scaled by `sharpness`."""

    def __init__(self, seed: int, sharpness: float = 2.0) -> None:
        torch.manual_seed(seed)
        self.logits = sharpness * torch.randn(ROWS, LENGTH, 6, 6, 6)

    def __call__(self, tokens: Tensor, states: States) -> tuple[Tensor, States]:
        row, at, before = states["row"], states["at"], states["before"]
        logits = self.logits[row, at.clamp(max=LENGTH - 1), before, tokens[:, 0]]
        return logits[:, None], {"row": row, "at": at + 1, "before": tokens[:, 0]}

    def start(self) -> States:
        return {
            "row": torch.arange(ROWS),
            "at": torch.zeros(ROWS, dtype=torch.long),
            "before": torch.full((ROWS,), PAD),
        }

    def log_p(self, row: int, tokens: tuple[int, ...]) -> dict[int, float]:
        """Return the log probability of every token that can follow `tokens`; padding and the beginning cannot."""
        before = (PAD, BEGIN, *tokens)
        logits = self.logits[row, len(tokens), before[-2], before[-1]]
        total = math.log(sum(math.exp(logits[token].item()) for token in POSSIBLE))
        return {token: logits[token].item() - total for token in POSSIBLE}

    def score(self, row: int, tokens: tuple[int, ...], penalty: float) -> float:
        log_p = sum(self.log_p(row, tokens[:at])[token] for at, token in enumerate(tokens))
        return log_p / len(tokens) ** penalty


def search(model: RandomModel, beam: int, penalty: float = 0.75) -> tuple[list[tuple[int, ...]], list[float]]:
    tokens, scores = beam_search(
        model, model.start(), begin=BEGIN, end=END, pad=PAD, length=LENGTH, beam=beam, penalty=penalty
    )
    assert tokens.shape == (ROWS, LENGTH)
    rows = [tuple(row) for row in tokens.tolist()]
    assert all(END not in row or set(row[row.index(END) + 1 :]) <= {PAD} for row in rows)
    return [tuple(token for token in row if token != PAD) for row in rows], scores.tolist()


def all_sequences() -> list[tuple[int, ...]]:
    """Return all sequences that end, and those of full length that do not."""
    ended = [(*tokens, END) for count in range(LENGTH) for tokens in product((A, B, C), repeat=count)]
    return ended + list(product((A, B, C), repeat=LENGTH))


def search_lists(model: RandomModel, row: int, beam: int, penalty: float) -> tuple[int, ...]:
    """Search over lists: keep the most probable candidates, ended ones included, and return the one of best score."""
    candidates: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    for _ in range(LENGTH):
        grown = []
        for tokens, log_p in candidates:
            if tokens and tokens[-1] == END:
                grown.append((tokens, log_p))
            else:
                grown += [((*tokens, token), log_p + more) for token, more in model.log_p(row, tokens).items()]
        candidates = sorted(grown, key=lambda candidate: -candidate[1])[:beam]
    return max(candidates, key=lambda candidate: candidate[1] / len(candidate[0]) ** penalty)[0]


@pytest.mark.parametrize("penalty", [0.0, 0.75, 1.5])
@pytest.mark.parametrize("seed", [0, 1])
def test_an_exhaustive_beam_finds_the_best_sequence(seed: int, penalty: float) -> None:
    model, sequences = RandomModel(seed), all_sequences()
    assert len(sequences) == 1 + 3 + 9 + 27 + 81
    tokens, scores = search(model, len(sequences), penalty)
    for row in range(ROWS):
        best = max(sequences, key=lambda sequence: model.score(row, sequence, penalty))
        assert tokens[row] == best
        assert scores[row] == pytest.approx(model.score(row, best, penalty), rel=1e-4)


@pytest.mark.parametrize("beam", [1, 2, 3, 7])
def test_a_beam_matches_the_search_over_lists(beam: int) -> None:
    for seed in range(6):
        model = RandomModel(seed)
        tokens, scores = search(model, beam)
        assert tokens == [search_lists(model, row, beam, 0.75) for row in range(ROWS)]
        assert scores == pytest.approx([model.score(row, tokens[row], 0.75) for row in range(ROWS)], rel=1e-4)


def test_a_beam_of_one_is_greedy() -> None:
    for seed in range(6):
        model = RandomModel(seed)
        tokens, _ = search(model, 1)
        for row in range(ROWS):
            greedy: tuple[int, ...] = ()
            while len(greedy) < LENGTH and greedy[-1:] != (END,):
                log_p = model.log_p(row, greedy)
                greedy = (*greedy, max(log_p, key=log_p.__getitem__))
            assert tokens[row] == greedy


def test_a_wider_beam_can_beat_greedy_search() -> None:
    """The sum of scores rises without a penalty, and no row gets worse; a penalty prefers longer sequences."""
    greedy, wide, long = [], [], []
    for seed in range(6):
        model = RandomModel(seed, 1.0)
        greedy += search(model, 1, 0.0)[1]
        tokens, scores = search(model, 64, 0.0)
        wide += scores
        long.append(sum(map(len, search(model, 64, 1.5)[0])) - sum(map(len, tokens)))
    assert all(b > a - 1e-5 for a, b in zip(greedy, wide, strict=True))
    assert sum(wide) > sum(greedy) + 1
    assert sum(long) > 0


def test_states_that_stay_as_they_are_are_not_moved() -> None:
    """Return the rows' numbers unchanged: the search must not copy them, and find the same sequences."""
    model, inputs = RandomModel(0), set()

    def step(tokens: Tensor, states: States) -> tuple[Tensor, States]:
        inputs.add(states["row"].data_ptr())
        return model(tokens, states)

    beam_search(step, model.start(), begin=BEGIN, end=END, pad=PAD, length=LENGTH, beam=3)
    assert len(inputs) == 1

    def copy(tokens: Tensor, states: States) -> tuple[Tensor, States]:
        logits, grown = model(tokens, states)
        return logits, grown | {"row": grown["row"].clone()}

    options = {"begin": BEGIN, "end": END, "pad": PAD, "length": LENGTH, "beam": 3}
    moved, copied = (beam_search(function, model.start(), **options) for function in (model, copy))
    assert torch.equal(moved[0], copied[0])
    assert torch.equal(moved[1], copied[1])


def test_rows_are_independent() -> None:
    model = RandomModel(0)
    together = search(model, 3)
    for row in range(ROWS):
        states = {name: state[row : row + 1] for name, state in model.start().items()}
        tokens, scores = beam_search(model, states, begin=BEGIN, end=END, pad=PAD, length=LENGTH, beam=3)
        assert tuple(token for token in tokens[0].tolist() if token != PAD) == together[0][row]
        assert scores.item() == pytest.approx(together[1][row])
