"""Beam search against every sequence there is, and against the same search written out over lists."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from components.decoding.beam import States, beam_search

PAD, BEGIN, END, A, B, C = range(6)
SAID = (END, A, B, C)
ROWS, LENGTH = 5, 4


class Teller:
    """Logits that depend on the row, the place and the last two tokens: random numbers, by `sharpness` far apart."""

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

    def log_p(self, row: int, said: tuple[int, ...]) -> dict[int, float]:
        """Of every token that may follow `said`: neither padding nor the beginning may."""
        before = (PAD, BEGIN, *said)
        logits = self.logits[row, len(said), before[-2], before[-1]]
        total = math.log(sum(math.exp(logits[token].item()) for token in SAID))
        return {token: logits[token].item() - total for token in SAID}

    def score(self, row: int, said: tuple[int, ...], penalty: float) -> float:
        log_p = sum(self.log_p(row, said[:at])[token] for at, token in enumerate(said))
        return log_p / len(said) ** penalty


def searched(teller: Teller, beam: int, penalty: float = 0.75) -> tuple[list[tuple[int, ...]], list[float]]:
    tokens, scores = beam_search(
        teller, teller.start(), begin=BEGIN, end=END, pad=PAD, length=LENGTH, beam=beam, penalty=penalty
    )
    assert tokens.shape == (ROWS, LENGTH)
    rows = [tuple(row) for row in tokens.tolist()]
    assert all(END not in row or set(row[row.index(END) + 1 :]) <= {PAD} for row in rows)
    return [tuple(token for token in row if token != PAD) for row in rows], scores.tolist()


def all_sequences() -> list[tuple[int, ...]]:
    """Those that end, and those of full length that do not."""
    texts = [said for count in range(LENGTH + 1) for said in product((A, B, C), repeat=count)]
    return [(*said, END) for said in texts if len(said) < LENGTH] + [said for said in texts if len(said) == LENGTH]


def by_hand(teller: Teller, row: int, beam: int, penalty: float) -> tuple[int, ...]:
    """The same search over lists: keep the most probable ones, the finished among them; then the best score."""
    kept: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    for _ in range(LENGTH):
        grown = []
        for said, log_p in kept:
            if said and said[-1] == END:
                grown.append((said, log_p))
            else:
                grown += [((*said, token), log_p + more) for token, more in teller.log_p(row, said).items()]
        kept = sorted(grown, key=lambda candidate: -candidate[1])[:beam]
    return max(kept, key=lambda candidate: candidate[1] / len(candidate[0]) ** penalty)[0]


@pytest.mark.parametrize("penalty", [0.0, 0.75, 1.5])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_full_beam_finds_the_best_of_all_sequences(seed: int, penalty: float) -> None:
    teller, sequences = Teller(seed), all_sequences()
    assert len(sequences) == 1 + 3 + 9 + 27 + 81
    said, scores = searched(teller, len(sequences), penalty)
    for row in range(ROWS):
        best = max(sequences, key=lambda sequence: teller.score(row, sequence, penalty))
        assert said[row] == best
        assert scores[row] == pytest.approx(teller.score(row, best, penalty), rel=1e-4)


@pytest.mark.parametrize("beam", [1, 2, 3, 7])
def test_a_beam_is_the_search_written_out(beam: int) -> None:
    for seed in range(6):
        teller = Teller(seed)
        said, scores = searched(teller, beam)
        assert said == [by_hand(teller, row, beam, 0.75) for row in range(ROWS)]
        assert scores == pytest.approx([teller.score(row, said[row], 0.75) for row in range(ROWS)], rel=1e-4)


def test_a_beam_of_one_is_greedy() -> None:
    for seed in range(6):
        teller = Teller(seed)
        said, _ = searched(teller, 1)
        for row in range(ROWS):
            greedy: tuple[int, ...] = ()
            while len(greedy) < LENGTH and greedy[-1:] != (END,):
                log_p = teller.log_p(row, greedy)
                greedy = (*greedy, max(log_p, key=log_p.__getitem__))
            assert said[row] == greedy


def test_a_wider_beam_may_find_what_greedy_search_misses() -> None:
    """Without the penalty, over many rows: never worse in sum, and better somewhere; a penalty prefers longer ones."""
    greedy, wide, long = [], [], []
    for seed in range(6):
        teller = Teller(seed, 1.0)
        greedy += searched(teller, 1, 0.0)[1]
        said, scores = searched(teller, 64, 0.0)
        wide += scores
        long.append(sum(map(len, searched(teller, 64, 1.5)[0])) - sum(map(len, said)))
    assert all(b > a - 1e-5 for a, b in zip(greedy, wide, strict=True))
    assert sum(wide) > sum(greedy) + 1
    assert sum(long) > 0


def test_a_row_is_searched_as_if_it_were_alone() -> None:
    teller = Teller(0)
    together = searched(teller, 3)
    for row in range(ROWS):
        states = {name: state[row : row + 1] for name, state in teller.start().items()}
        tokens, scores = beam_search(teller, states, begin=BEGIN, end=END, pad=PAD, length=LENGTH, beam=3)
        assert tuple(token for token in tokens[0].tolist() if token != PAD) == together[0][row]
        assert scores.item() == pytest.approx(together[1][row])
