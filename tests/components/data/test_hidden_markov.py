"""Forward-backward agrees with the sum over all paths, and drawn sequences follow the chain."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from components.data.hidden_markov import Chain, HiddenMarkov, draw_chain, draw_sequences, forward_backward
from components.errors import Refusal

LENGTH = 5


def path_probability(chain: Chain, states: tuple[int, ...], tokens: np.ndarray) -> float:
    p = chain.start[states[0]] * chain.emission[states[0], tokens[0]]
    for before, after, token in zip(states, states[1:], tokens[1:], strict=False):
        p *= chain.transition[before, after] * chain.emission[after, token]
    return p


def test_posteriors_equal_the_sums_over_all_paths() -> None:
    chain = draw_chain(3, 4, 0.6, seed=5)
    _, tokens = draw_sequences(chain, 6, LENGTH, np.random.default_rng(0))
    posterior = forward_backward(chain, tokens)
    for row, sequence in enumerate(tokens):
        smoothed = np.zeros((LENGTH, 3))
        filtered = np.zeros((LENGTH, 3))
        totals = []
        for states in product(range(3), repeat=LENGTH):
            smoothed[range(LENGTH), states] += path_probability(chain, states, sequence)
        for at in range(LENGTH):
            for states in product(range(3), repeat=at + 1):
                filtered[at, states[at]] += path_probability(chain, states, sequence[: at + 1])
            totals.append(filtered[at].sum())
        conditional = np.array(totals) / np.array([1.0, *totals[:-1]])
        assert np.allclose(posterior.smoothed[row], smoothed / smoothed.sum(1, keepdims=True))
        assert np.allclose(posterior.filtered[row], filtered / filtered.sum(1, keepdims=True))
        assert np.allclose(posterior.nll[row], -np.log(conditional))


def test_long_sequences_do_not_underflow() -> None:
    chain = draw_chain(4, 6, 0.7, seed=0)
    _, tokens = draw_sequences(chain, 2, 3000, np.random.default_rng(0))
    assert all(np.isfinite(values).all() for values in forward_backward(chain, tokens))


def test_sequences_follow_the_chain() -> None:
    chain = draw_chain(3, 4, 0.7, seed=1)
    states, tokens = draw_sequences(chain, 4000, 20, np.random.default_rng(1))
    for state in range(3):
        after = np.bincount(states[:, 1:][states[:, :-1] == state], minlength=3)
        assert after / after.sum() == pytest.approx(chain.transition[state], abs=0.02)
        emitted = np.bincount(tokens[states == state], minlength=4)
        assert emitted / emitted.sum() == pytest.approx(chain.emission[state], abs=0.02)
    assert np.bincount(states[:, 0]) / 4000 == pytest.approx(chain.start, abs=0.03)


def test_rows_hold_tokens_states_and_posteriors_of_one_chain() -> None:
    data = HiddenMarkov(train=300, validation=0, test=40, seed=3)
    assert data.parts() == {"train": 1, "test": 1}
    rows = {split: list(data.examples(split, 0)) for split in data.parts()}
    assert [len(rows[split]) for split in rows] == [300, 40]
    tokens = np.stack([row["token"] for row in rows["train"]])
    assert tokens.min() == 1
    assert tokens.max() == 6
    assert not np.array_equal(tokens[:40], np.stack([row["token"] for row in rows["test"]]))
    smoothed, states = (np.stack([row[name] for row in rows["train"]]) for name in ("smoothed", "state"))
    assert np.array_equal(smoothed, forward_backward(data.chain, tokens - 1).smoothed.astype(np.float32))
    # The posterior is calibrated: on average it gives the true states the probability with which it is right.
    chosen = np.take_along_axis(smoothed, states[..., None], 2)[..., 0]
    assert (smoothed.argmax(2) == states).mean() == pytest.approx(smoothed.max(2).mean(), abs=0.02)
    assert chosen.mean() == pytest.approx((smoothed**2).sum(2).mean(), abs=0.02)


def test_a_single_state_is_refused() -> None:
    with pytest.raises(Refusal, match="states: 1 state hides nothing"):
        HiddenMarkov(states=1)
