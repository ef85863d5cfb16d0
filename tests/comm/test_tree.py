"""Logical shards: who owns which, and sums along one tree."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distgrad.comm import get_default
from distgrad.comm._threads import run_threads
from distgrad.comm._tree import Block, Tree, add_along, handed_over, leaves, owned, tree_of
from distgrad.errors import CommError


def whole(start: int, stop: int) -> Tree:
    """The tree over single leaves."""
    middle = (start + stop) // 2
    return start if stop - start == 1 else (whole(start, middle), whole(middle, stop))


def total(tree: Tree, values: list[np.ndarray]) -> np.ndarray:
    if isinstance(tree, int):
        return values[tree]
    return total(tree[0], values) + total(tree[1], values)


@given(st.integers(1, 70), st.data())
def test_blocks_are_subtrees(shards: int, data: st.DataObject) -> None:
    ranks = data.draw(st.integers(1, shards))
    blocks = owned(shards, ranks)
    assert len(blocks) == ranks
    assert list(itertools.chain(*blocks)) == list(range(leaves(shards)))
    for block in blocks:
        assert len(block) & (len(block) - 1) == 0
        assert block.start % len(block) == 0
    assert max(map(len, blocks)) <= 2 * min(map(len, blocks)) or ranks == 1


@given(st.integers(1, 20), st.data())
def test_blocks_of_the_dead_are_handed_over(shards: int, data: st.DataObject) -> None:
    workers = data.draw(st.integers(1, shards))
    living = list(range(workers + data.draw(st.integers(0, 2))))  # also spares
    blocks = [Block(*pair) for pair in zip(owned(shards, workers), living, strict=False)]
    while len(living) > 1:
        living.remove(data.draw(st.sampled_from(living)))
        before, blocks = blocks, handed_over(blocks, living)
        assert [block for block in before if block.rank in living] == [b for b in blocks if b in before]
        assert list(itertools.chain(*(block.leaves for block in blocks))) == list(range(leaves(shards)))
        assert {block.rank for block in blocks} <= set(living)
        assert all(len(b.leaves) & (len(b.leaves) - 1) == 0 == b.leaves.start % len(b.leaves) for b in blocks)
        more = [sum(len(b.leaves) for b in blocks if b.rank == rank and b not in before) for rank in living]
        missing = [len(b.leaves) for b in before if b.rank not in living]
        assert sum(more) == sum(missing) and max(more) - min(more) <= max([1, *missing])


def test_three_ranks() -> None:
    assert [len(block) for block in owned(8, 3)] == [4, 2, 2]
    assert tree_of(owned(8, 3)) == (0, (1, 2))


def test_too_many_ranks() -> None:
    with pytest.raises(CommError, match=r"got 4 shards for 5 ranks; .*logical_shards=8"):
        owned(4, 5)


@given(st.sampled_from([1, 2, 4, 8, 16]), st.data())
def test_grouping_is_that_of_single_leaves(shards: int, data: st.DataObject) -> None:
    ranks = data.draw(st.integers(1, shards))
    values = list(np.random.default_rng(shards * 100 + ranks).standard_normal((shards, 70)).astype(np.float32))
    blocks = owned(shards, ranks)
    sums = [total(whole(block.start, block.stop), values) for block in blocks]
    expected = total(whole(0, shards), values)
    assert np.array_equal(total(tree_of(blocks), sums), expected)
    in_rank_order = np.add.reduce(np.stack(values))  # the checker can fail: another grouping has other bits
    assert shards < 4 or not np.array_equal(in_rank_order, expected)


@pytest.mark.parametrize("n", [0, 1, 5, 100_003])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_add_along(n: int, dtype: str) -> None:
    values = list(np.random.default_rng(0).standard_normal((5, n)).astype(dtype))
    tree: Tree = ((0, 3), (1, (4, 2)))
    expected = total(tree, values)
    outputs = [values[2], np.empty(n, dtype)]  # an output may be an input
    add_along(tree, values, outputs)
    for output in outputs:
        assert np.array_equal(output, expected)


@pytest.mark.parametrize("ranks", [2, 3, 5])
@pytest.mark.parametrize("n", [1, 4, 1001])
def test_tree_sum_over_ranks(ranks: int, n: int) -> None:
    values = list(np.random.default_rng(1).standard_normal((ranks, n)).astype(np.float32))
    tree = tree_of(owned(8, ranks))

    def body() -> np.ndarray:
        group = get_default()
        buffer = values[group.rank].copy()
        group.tree_sum(buffer, tree)
        return buffer

    for result in run_threads(ranks, body):
        assert np.array_equal(result, total(tree, values))
