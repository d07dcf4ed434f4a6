"""Sums over shards: their shape depends on the number of shards alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from components.training.tree import Tree, complete_subtrees, owned_shards


def nested(shards: int) -> str:
    tree = Tree(lambda earlier, later: f"({earlier}{later})")
    for shard in range(shards):
        tree.push(shard, 0, str(shard))
    return tree.total()


def test_the_tree_splits_at_powers_of_two() -> None:
    assert nested(1) == "0"
    assert nested(4) == "((01)(23))"
    assert nested(7) == "(((01)(23))((45)6))"


@given(st.integers(1, 9), st.data())
def test_any_number_of_workers_builds_the_same_tree(shards: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, shards))
    complete = Tree(lambda earlier, later: f"({earlier}{later})")
    for rank in range(size):
        local = Tree(lambda earlier, later: f"({earlier}{later})")
        for shard in owned_shards(shards, size, rank):
            local.push(shard, 0, str(shard))
        assert [(start, level) for start, level, _ in local.blocks] == complete_subtrees(
            owned_shards(shards, size, rank)
        )
        for block in local.blocks:
            complete.push(*block)
    assert complete.total() == nested(shards)


@given(st.integers(1, 64), st.integers(1, 8))
def test_every_shard_has_one_owner(shards: int, size: int) -> None:
    shards_of_all = [shard for rank in range(size) for shard in owned_shards(shards, size, rank)]
    assert shards_of_all == list(range(shards))
