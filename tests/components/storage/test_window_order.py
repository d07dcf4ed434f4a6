"""The order over parts and windows: every example once per epoch, few parts at a time, the same from any step."""

from __future__ import annotations

import numpy as np
import pytest

from components.storage.window_order import AHEAD, WindowOrder

CASES = [  # examples per part, batch, shards, window
    ([40] * 30, 16, 1, 4),
    ([40] * 30, 16, 4, 4),
    ([7, 0, 300, 1, 55, 55, 0, 90] * 5, 10, 3, 5),  # uneven and empty parts
    ([5], 2, 2, 8),  # one part
    ([3] * 50, 64, 2, 6),  # a step spans many windows
    ([5000, 4000, 6000], 128, 2, 2),  # parts beyond the table of permutations
]


@pytest.mark.parametrize(("counts", "batch", "shards", "window"), CASES)
def test_an_epoch_has_each_example_once(counts: list[int], batch: int, shards: int, window: int) -> None:
    order = WindowOrder(np.array(counts), batch, 3, shards, window)
    epochs = []
    for epoch in range(2):
        steps = range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch)
        examples = np.concatenate([order.indices(step) for step in steps])
        assert len(examples) == len(set(examples.tolist())) == order.steps_per_epoch * batch
        assert examples.min() >= 0
        assert examples.max() < order.n
        epochs.append(examples)
    assert not np.array_equal(*epochs)


@pytest.mark.parametrize(("counts", "batch", "shards", "window"), CASES)
def test_any_step_follows_from_its_number_alone(counts: list[int], batch: int, shards: int, window: int) -> None:
    order = WindowOrder(np.array(counts), batch, 3, shards, window)
    expected = [order.indices(step) for step in range(2 * order.steps_per_epoch)]
    for step in reversed(range(0, len(expected), 3)):
        again = WindowOrder(np.array(counts), batch, 3, shards, window)
        assert np.array_equal(again.indices(step), expected[step])
        pieces = [again.shard_indices(step, range(shard, shard + 1)) for shard in range(shards)]
        assert np.array_equal(np.concatenate(pieces), expected[step]), "a worker computes its own shards alone"


@pytest.mark.parametrize(("counts", "batch", "shards", "window"), CASES)
def test_a_step_reads_the_parts_that_were_announced(counts: list[int], batch: int, shards: int, window: int) -> None:
    order = WindowOrder(np.array(counts), batch, 3, shards, window)
    ends = np.cumsum(counts)
    before: set[int] = set()
    surprises = 0
    for step in range(2 * order.steps_per_epoch):
        for shard in range(shards):
            own = range(shard, shard + 1)
            needed, _ = order.parts(step, own)
            spans = order.windows(step, own)[0]
            assert len(needed) <= window + spans[2] - spans[1]
            used = np.searchsorted(ends, order.shard_indices(step, own), side="right")
            assert set(used.tolist()) <= set(needed)
        needed, upcoming = order.parts(step, range(shards))
        assert not set(needed) & set(upcoming)
        if before and batch / shards < min(filter(None, counts)):
            surprises += len(set(needed) - before)
        before = {*needed, *upcoming}
    assert surprises == 0, "parts are fetched before the step that needs them"


def test_a_window_mixes_all_its_parts() -> None:
    order = WindowOrder(np.full(60, 100), 20, 0, 1, 10)
    parts = [np.unique(order.indices(step) // 100) for step in range(order.steps_per_epoch)]
    assert np.mean([len(numbers) for numbers in parts]) > 7, "20 draws from 10 parts hit about 8.8 of them"
    following = [len(set(b.tolist()) - set(a.tolist())) for a, b in zip(parts, parts[5:], strict=False)]
    assert 0 < np.mean(following) < 4, "one part per window is new"
    assert AHEAD >= 1


def test_workers_read_the_parts_of_their_own_shards() -> None:
    order = WindowOrder(np.full(64, 50), 32, 1, 4, 4)
    used = []
    for shard in range(4):
        rows = [order.shard_indices(step, range(shard, shard + 1)) for step in range(order.steps_per_epoch)]
        used.append(set((np.concatenate(rows) // 50).tolist()))
    assert sum(map(len, used)) <= 64 + 3, "a part at the border of two stretches is read by both"
