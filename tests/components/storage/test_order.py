"""The order of examples: permutations, batches, shards, balanced and stratified draws, folds."""

from __future__ import annotations

import hashlib
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.errors import Refusal
from components.storage.order import (
    BLOCK_STEPS,
    TABLE_LIMIT,
    Order,
    balanced_rows,
    contiguous_folds,
    derive_key,
    keyed_uniforms,
    permute,
    shard_slices,
    splitmix64,
    stratified_folds,
)

labelled = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array)


@settings(deadline=None)
@given(
    n=st.integers(1, 40) | st.integers(TABLE_LIMIT - 1, 3 * TABLE_LIMIT),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 99),
)
def test_every_key_names_a_permutation(n: int, seed: int, epoch: int) -> None:
    out = permute(np.arange(n), n, seed, epoch)
    assert np.array_equal(np.sort(out), np.arange(n))
    some = np.random.default_rng(seed).integers(0, n, 9)  # computed alone, in any order
    assert np.array_equal(permute(some, n, seed, epoch), out[some])


@pytest.mark.parametrize("n", [1000, 20_000])
def test_seed_and_epoch_both_matter(n: int) -> None:
    outs = [permute(np.arange(n), n, *key) for key in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]]
    for first, second in combinations(outs, 2):
        assert (first == second).mean() < 0.01


@pytest.mark.parametrize("n", [12, TABLE_LIMIT + 500])
def test_an_example_is_as_likely_early_as_late(n: int) -> None:
    """Test chi-squared over 12 ranges of the place of one example, 1,200 keys; 31.3 is exceeded once in 1,000."""
    counts = np.zeros(12)
    for seed in range(1200):
        counts[permute(np.array([n // 3]), n, seed, 5)[0] * 12 // n] += 1
    assert ((counts - 100) ** 2 / 100).sum() < 31.3


@pytest.mark.parametrize("n", [TABLE_LIMIT, 100_003])
def test_neighbours_are_scattered(n: int) -> None:
    out = permute(np.arange(n), n, 7).astype(float)
    for lag in (1, 2, 3, 64, 317):
        assert abs(np.corrcoef(out[:-lag], out[lag:])[0, 1]) < 4.5 / np.sqrt(n)
    assert abs(np.corrcoef(out, np.arange(n))[0, 1]) < 4.5 / np.sqrt(n)


def test_a_trillion_examples_need_no_table() -> None:
    n = 10**12 + 39
    out = permute(np.arange(n - 500, n), n, 1)
    assert out.min() >= 0
    assert out.max() < n
    assert len(np.unique(out)) == 500


@given(n=st.integers(1, 200), batch=st.integers(1, 200), seed=st.integers(0, 9))
def test_an_epoch_shows_nothing_twice(n: int, batch: int, seed: int) -> None:
    if batch > n:
        with pytest.raises(Refusal, match=r"fit\.batch: \d+ is larger"):
            Order(n, batch, seed)
        return
    order = Order(n, batch, seed)
    assert order.steps_per_epoch == n // batch
    for epoch in (0, 3):
        steps = range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch)
        examples = np.concatenate([order.indices(step) for step in steps])
        assert len(np.unique(examples)) == len(examples) == len(steps) * batch


def test_epochs_differ_and_are_reproducible() -> None:
    order = Order(100, 10, 0)
    assert not np.array_equal(order.indices(0), order.indices(10))
    assert np.array_equal(order.indices(7), Order(100, 10, 0).indices(7))


@pytest.mark.parametrize(("n", "batch"), [(100, 10), (20_000, 32)])
def test_grouped_batches_hold_similar_lengths_in_random_order(n: int, batch: int) -> None:
    """Check one epoch: no example twice, the same block of a random order, little padding, lengths as they come."""
    lengths = np.random.default_rng(0).poisson(15, n)
    grouped, shuffled = Order(n, batch, 3, lengths=lengths), Order(n, batch, 3)
    steps = np.stack([grouped.indices(step) for step in range(grouped.steps_per_epoch)])
    others = np.stack([shuffled.indices(step) for step in range(grouped.steps_per_epoch)])
    for start in range(0, len(steps), BLOCK_STEPS):
        block = slice(start, start + BLOCK_STEPS)
        assert np.array_equal(np.sort(steps[block], axis=None), np.sort(others[block], axis=None))
    padding = [lengths[rows].max(1).sum() * batch / lengths[rows].sum() - 1 for rows in (steps, others)]
    assert padding[0] < padding[1] / 4
    means = lengths[steps].mean(1)
    assert abs(np.corrcoef(means[1:], means[:-1])[0, 1]) < 0.5, "the batches of a block are in order of length"
    assert not np.array_equal(grouped.indices(0), grouped.indices(grouped.steps_per_epoch))
    assert np.array_equal(grouped.indices(7), Order(n, batch, 3, lengths=lengths).indices(7))


@given(batch=st.integers(1, 300), count=st.integers(1, 300))
def test_shards_cut_a_batch_evenly(batch: int, count: int) -> None:
    if count > batch:
        with pytest.raises(Refusal, match="shards"):
            shard_slices(batch, count)
        return
    cut = shard_slices(batch, count)
    sizes = [piece.stop - piece.start for piece in cut]
    assert [i for piece in cut for i in range(piece.start, piece.stop)] == list(range(batch))
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) - min(sizes) <= 1


@given(labels=labelled, seed=st.integers(0, 99), data=st.data())
def test_balanced_rows_draw_equally_from_each_class(labels: np.ndarray, seed: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(labels)))
    rows = balanced_rows(labels, count, seed)
    assert len(np.unique(rows)) == len(rows) == count
    assert np.array_equal(rows, np.sort(rows))
    available = np.bincount(labels, minlength=5)
    drawn = np.bincount(labels[rows], minlength=5)
    unfinished = available > drawn  # a class that is not used up has as many as any other, or one less
    assert not unfinished.any() or drawn[unfinished].min() >= drawn.max() - 1
    assert set(balanced_rows(labels, count // 2, seed)) <= set(rows)


def test_balanced_refuses_more_than_there_are() -> None:
    with pytest.raises(Refusal, match="7 are more than the 6"):
        balanced_rows(np.zeros(6, int), 7, 0)


def test_draws_differ_by_seed() -> None:
    labels = np.arange(1000) % 10
    draws = [balanced_rows(labels, 100, seed) for seed in (0, 0, 1)]
    assert np.array_equal(draws[0], draws[1])
    assert len(set(draws[0]) & set(draws[2])) < 30  # 10 are expected by chance


@given(labels=labelled, k=st.integers(2, 9), seed=st.integers(0, 99))
def test_folds_are_stratified_and_cover_everything_once(labels: np.ndarray, k: int, seed: int) -> None:
    if k > len(labels):
        with pytest.raises(Refusal, match="folds"):
            stratified_folds(labels, k, seed)
        return
    cut = stratified_folds(labels, k, seed)
    assert np.array_equal(np.sort(np.concatenate([held for _, held in cut])), np.arange(len(labels)))
    for train, held in cut:
        assert np.array_equal(np.sort(np.concatenate([train, held])), np.arange(len(labels)))
    for group in ([len(held) for _, held in cut], *([(labels[h] == c).sum() for _, h in cut] for c in range(5))):
        assert max(group) - min(group) <= 1


@pytest.mark.parametrize(("n", "batch"), [(12, 3), (14, 4), (7, 7)])
def test_a_sequential_batch_walks_through_equal_stretches(n: int, batch: int) -> None:
    """Check the notes' sequential partitioning: what follows in the next batch follows in the data."""
    order = Order(n, batch, seed=5, sequential=True)
    steps = np.stack([order.indices(step) for step in range(order.steps_per_epoch)])
    assert np.array_equal(np.diff(steps, axis=0), np.ones((len(steps) - 1, batch)))
    assert len(np.unique(steps)) == steps.size == n // batch * batch
    assert np.array_equal(order.indices(order.steps_per_epoch), order.indices(0)), "every epoch begins at the front"


@pytest.mark.parametrize(("n", "k"), [(10, 3), (7, 7), (100, 2)])
def test_contiguous_folds_are_stretches(n: int, k: int) -> None:
    pairs = contiguous_folds(n, k)
    assert np.array_equal(np.concatenate([held_out for _, held_out in pairs]), np.arange(n))
    for rows, held_out in pairs:
        assert (np.diff(held_out) == 1).all()
        assert np.array_equal(np.sort(np.concatenate([rows, held_out])), np.arange(n))
    with pytest.raises(Refusal, match="folds: 1 for"):
        contiguous_folds(n, 1)


def test_keyed_uniforms_follow_from_row_position_and_key_alone() -> None:
    rows = np.arange(4000)
    draws = keyed_uniforms(rows, 5, 1, 2)
    assert np.array_equal(keyed_uniforms(rows[7:9], 5, 1, 2), draws[7:9])
    assert draws.min() >= 0
    assert draws.max() < 1
    assert draws.mean() == pytest.approx(0.5, abs=0.01)
    other = keyed_uniforms(rows, 5, 2, 2)
    for first, second in ((draws[:, 0], draws[:, 1]), (draws[:-1, 0], draws[1:, 0]), (draws[:, 0], other[:, 0])):
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.06
    assert len(np.unique(draws)) == draws.size


# ------------------------------------------------------------------------------------------------ at the edge


def test_the_words_are_those_of_splitmix64() -> None:
    """The first outputs for the seed 0 in the authors' reference: the finaliser of multiples of the golden ratio."""
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC]
    golden = 0x9E3779B97F4A7C15
    states = np.array([number * golden % 2**64 for number in (1, 2, 3, 4)], np.uint64)
    before = states.copy()
    assert splitmix64(states).tolist() == expected
    assert np.array_equal(states, before), "in a copy"
    assert [derive_key(0), derive_key(golden), derive_key(2 * golden)] == expected[:3]
    assert derive_key() == 0
    assert derive_key(5, 7) == derive_key((derive_key(5) + 7) % 2**64)
    assert derive_key(2**64) == derive_key(0)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("steps", [63, 64, 65, 128, 150])
def test_a_batch_is_its_part_of_the_epochs_permutation(steps: int, batch: int) -> None:
    """Blocks of 64 steps are computed at once; ask across their borders, forward, backward and alone."""
    n = steps * batch + batch - 1
    order = Order(n, batch, seed=3)
    numbers = sorted({0, 1, 62, 63, 64, 65, 127, 128, steps - 2, steps - 1} & set(range(steps)))
    for epoch in (0, 1, 2**33):
        permutation = permute(np.arange(n, dtype=np.uint64), n, 3, epoch)
        for number in [*numbers, *reversed(numbers)]:
            expected = permutation[number * batch : (number + 1) * batch]
            assert np.array_equal(order.indices(epoch * steps + number), expected)
            assert np.array_equal(Order(n, batch, seed=3).indices(epoch * steps + number), expected)


@pytest.mark.parametrize(("n", "batch"), [(0, 1), (5, 0), (5, 6)])
def test_batches_of_none_or_of_more_than_all_are_refused(n: int, batch: int) -> None:
    with pytest.raises(Refusal, match=r"fit\.batch: "):
        Order(n, batch, 0)


def test_the_largest_batch_and_the_most_shards_are_allowed() -> None:
    assert sorted(Order(5, 5, 0).indices(0)) == [0, 1, 2, 3, 4]
    assert shard_slices(3, 3) == [slice(0, 1), slice(1, 2), slice(2, 3)]
    for count in (0, 4):
        with pytest.raises(Refusal, match=r"fit\.shards: "):
            shard_slices(3, count)
    assert len(balanced_rows(np.zeros(6, int), 6, 0)) == 6
    assert balanced_rows(np.zeros(0, int), 0, 0).tolist() == []


def test_folds_of_one_or_of_more_than_all_are_refused() -> None:
    for cut in (lambda k: stratified_folds(np.zeros(4, int), k, 0), lambda k: contiguous_folds(4, k)):
        assert [len(held_out) for _, held_out in cut(4)] == [1] * 4
        for k in (1, 5):
            with pytest.raises(Refusal, match=f"folds: {k} for 4 examples; give 2 to 4"):
                cut(k)


def digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).astype("<f8").tobytes()).hexdigest()[:16]


FROZEN = {
    "table": lambda: permute(np.arange(TABLE_LIMIT), TABLE_LIMIT, 1, 2),
    "network": lambda: permute(np.arange(TABLE_LIMIT + 1), TABLE_LIMIT + 1, 1, 2),
    "large": lambda: permute(np.arange(1000) * 10**9, 10**12 + 39, 1, 2),
    "uniforms": lambda: keyed_uniforms(np.arange(50), 7, 1, 2),
    "balanced": lambda: balanced_rows(np.arange(500) % 7, 100, 1),
    "folds": lambda: np.concatenate([held_out for _, held_out in stratified_folds(np.arange(500) % 7, 4, 1)]),
}


DIGESTS = {
    "table": "25fed7df4295da6f",
    "network": "106709f70c6649e4",
    "large": "09ece07228447eae",
    "uniforms": "50b4d3b022f5948f",
    "balanced": "41ffd5eacfc72f30",
    "folds": "d33a16636d75f3f9",
}


@pytest.mark.parametrize("name", FROZEN)
def test_draws_are_the_same_in_every_version(name: str) -> None:
    """A run that an earlier version began must continue in the same order, and a split must stay the same."""
    assert digest(FROZEN[name]()) == DIGESTS[name]
