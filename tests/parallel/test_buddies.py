"""Who keeps a copy of whose part."""

import itertools
from collections import Counter

import pytest

from distgrad.parallel import _buddies
from distgrad.parallel._buddies import buddies


@pytest.mark.parametrize("size", range(2, 7))
def test_a_buddy_is_another_rank_and_on_another_node_where_there_is_one(size: int) -> None:
    for nodes in itertools.product(range(3), repeat=size):
        found = buddies(nodes)
        for rank, buddy in enumerate(found):
            assert buddy != rank, (nodes, found)
            assert nodes[buddy] != nodes[rank] or len(set(nodes)) == 1, (nodes, found)
        wards, largest = Counter(found), max(Counter(nodes).values())
        if 2 * largest <= size or largest == size:
            assert max(wards.values()) == 1, (nodes, found)
        else:  # those of the large node have to go to the few others
            assert max(wards.values()) <= -(-largest // (size - largest)), (nodes, found)


@pytest.mark.parametrize("size", [2, 4, 6, 8])
def test_an_even_number_of_ranks_forms_pairs(size: int) -> None:
    for nodes in ([0] * size, [0, 1] * (size // 2), [0] * (size // 2) + [1] * (size // 2)):
        found = buddies(nodes)
        assert all(found[buddy] == rank for rank, buddy in enumerate(found))


def test_alone() -> None:
    assert buddies([5]) == [0]
    assert _buddies.__doc__
