"""Sequences drawn from a known hidden Markov model, with the best possible predictions about them.

Because the model is known, forward-backward (dynamic programming; notes: hidden Markov models, bidirectional RNN) gives
the exact probability of every hidden state, given the tokens so far (filtered) or all tokens (smoothed). No network can
predict the states better from the same tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..errors import Refusal
from ..recipes.ranges import Count, Natural, Open
from ..storage.order import derive_key
from ..storage.store import Column
from ..storage.vocabulary import UNKNOWN

ROWS_PER_PART = 65536


class Chain(NamedTuple):
    """The parameters of a hidden Markov model with S states and K tokens; each row is a distribution."""

    start: np.ndarray  # [S]
    transition: np.ndarray  # [S, S], from row to column
    emission: np.ndarray  # [S, K]


class Posterior(NamedTuple):
    """Hold the probabilities of the states, given tokens [N, T]."""

    filtered: np.ndarray  # [N, T, S], given the tokens up to each
    smoothed: np.ndarray  # [N, T, S], given all tokens
    nll: np.ndarray  # [N, T], in nats, of each token given those before it


class HiddenMarkov:
    """Rows of `length` tokens (1 to `tokens`, 0 is unknown), their hidden states, and both posteriors of these.

    stay: probability that a state follows itself; the others share the rest in random parts. Emissions are random.
    The chain is drawn by `seed`, the sequences of each split by `seed` and the split's name.
    """

    name = "hidden-markov"
    licence = "CC0"
    source = "drawn here"

    def __init__(
        self,
        states: Count = 4,
        tokens: Count = 6,
        length: Count = 24,
        stay: Open = 0.7,
        train: Count = 4096,
        validation: Natural = 512,
        test: Natural = 1024,
        seed: Natural = 0,
    ) -> None:
        if states < 2:
            raise Refusal(f"states: {states} state hides nothing; give at least 2")
        self.length = length
        self.counts = {"train": train, "validation": validation, "test": test}
        self.seed = seed
        self.classes = [UNKNOWN, *(f"t{number}" for number in range(1, tokens + 1))]
        self.chain = draw_chain(states, tokens, stay, seed)
        self.columns = {
            "token": Column("int32", (length,)),
            "state": Column("int32", (length,)),
            "filtered": Column("float32", (length, states)),
            "smoothed": Column("float32", (length, states)),
        }

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}, without empty splits."""
        return {split: -(-count // ROWS_PER_PART) for split, count in self.counts.items() if count}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the sequences of one part."""
        first = part * ROWS_PER_PART
        count = min(ROWS_PER_PART, self.counts[split] - first)
        random = np.random.default_rng(derive_key(self.seed, list(self.counts).index(split), part, 12))
        states, tokens = draw_sequences(self.chain, count, self.length, random)
        posterior = forward_backward(self.chain, tokens)
        for row in range(count):
            yield {
                "token": (tokens[row] + 1).astype(np.int32),
                "state": states[row].astype(np.int32),
                "filtered": posterior.filtered[row].astype(np.float32),
                "smoothed": posterior.smoothed[row].astype(np.float32),
            }


def draw_chain(states: int, tokens: int, stay: float, seed: int) -> Chain:
    """Draw a chain whose states differ in the tokens that they prefer."""
    random = np.random.default_rng(derive_key(seed, 13))
    others = random.dirichlet(np.ones(states - 1), size=states)
    transition = np.full((states, states), stay)
    transition[~np.eye(states, dtype=bool)] = ((1 - stay) * others).ravel()
    return Chain(np.full(states, 1 / states), transition, random.dirichlet(np.full(tokens, 0.7), size=states))


def draw_sequences(chain: Chain, count: int, length: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw (states, tokens), int64 [count, length] each."""
    cumulative = [np.cumsum(table, axis=-1) for table in chain]
    states = np.empty((count, length), dtype=np.int64)
    tokens = np.empty_like(states)
    for at in range(length):
        rows = cumulative[0][None] if at == 0 else cumulative[1][states[:, at - 1]]
        states[:, at] = _draw(np.broadcast_to(rows, (count, rows.shape[1])), random)
        tokens[:, at] = _draw(cumulative[2][states[:, at]], random)
    return states, tokens


def forward_backward(chain: Chain, tokens: np.ndarray) -> Posterior:
    """Return the posteriors of the states for tokens int [N, T], 0-based; messages are scaled at every step."""
    count, length = tokens.shape
    likelihood = chain.emission[:, tokens].transpose(1, 2, 0)  # [N, T, S]
    filtered = np.empty((count, length, len(chain.start)))
    scale = np.empty((count, length))
    predicted = np.broadcast_to(chain.start, (count, len(chain.start)))
    for at in range(length):
        joint = predicted * likelihood[:, at]
        scale[:, at] = joint.sum(1)
        filtered[:, at] = joint / scale[:, at, None]
        predicted = filtered[:, at] @ chain.transition
    smoothed = np.empty_like(filtered)
    backward = np.ones((count, len(chain.start)))
    for at in reversed(range(length)):
        smoothed[:, at] = filtered[:, at] * backward
        backward = (likelihood[:, at] * backward) @ chain.transition.T / scale[:, at, None]
    return Posterior(filtered, smoothed, -np.log(scale))


def _draw(cumulative: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draw one number per row of cumulative distributions [N, K]: int64 [N]."""
    numbers = (random.random(len(cumulative))[:, None] >= cumulative).sum(1)
    return np.minimum(numbers, cumulative.shape[1] - 1)
