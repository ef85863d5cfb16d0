"""Who keeps a copy of whose part."""

import itertools
from collections import Counter

import pytest

from distgrad.parallel._buddies import holders_of


@pytest.mark.parametrize("copies", [2, 3, 4])
@pytest.mark.parametrize("size", range(2, 7))
def test_copies_are_on_different_ranks_and_on_another_node_where_there_is_one(size: int, copies: int) -> None:
    for nodes in itertools.product(range(3), repeat=size):
        found = holders_of(nodes, copies)
        for rank, ranks in enumerate(found):
            assert ranks[0] == rank and len(set(ranks)) == len(ranks) == min(copies, size), (nodes, found)
            assert len({nodes[other] for other in ranks}) > 1 or len(set(nodes)) == 1, (nodes, found)
        held, largest = Counter(itertools.chain(*found)), max(Counter(nodes).values())
        if 2 * largest <= size or largest == size:
            assert max(held.values()) == min(copies, size), (nodes, found)
        elif copies == 2:  # those of the large node have to go to the few others
            assert max(held.values()) <= 1 + -(-largest // (size - largest)), (nodes, found)


@pytest.mark.parametrize("size", [2, 4, 6, 8])
def test_an_even_number_of_ranks_forms_pairs(size: int) -> None:
    for nodes in ([0] * size, [0, 1] * (size // 2), [0] * (size // 2) + [1] * (size // 2)):
        found = [ranks[1] for ranks in holders_of(nodes, 2)]
        assert all(found[buddy] == rank for rank, buddy in enumerate(found))


def test_alone() -> None:
    assert holders_of([5], 3) == [[0]]
    assert holders_of([0, 0], 1) == [[0], [1]]
