"""What a sharded loader says about its batches."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.comm import get_rank, run_threads
from distgrad.data import DataLoader, IterableDataset, TensorDataset, current_share


class Stream(IterableDataset[Any]):
    """Numbers from 0 to n - 1."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.n))


def shares_seen(loader: Any) -> list[tuple[int, int, int, int]]:
    """For each batch: its rows, and what was published."""
    seen = []
    for batch in loader:
        share = current_share()
        assert share is not None
        rows = batch[0] if isinstance(batch, (list, tuple)) else batch
        seen.append((1 if rows.ndim == 0 else len(rows), *share))
    assert current_share() is None
    return seen


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 7, 12, 13])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("kind", ["map", "stream"])
def test_shares_are_the_batches(n: int, ranks: int, drop_last: bool, kind: str) -> None:
    def on_rank() -> Any:
        data: Any = TensorDataset(dg.tensor(np.arange(n))) if kind == "map" else Stream(n)
        return shares_seen(DataLoader(data, batch_size=2, sharded=True, drop_last=drop_last))

    by_rank = run_threads(ranks, on_rank)
    for step in range(max(map(len, by_rank))):
        here = [seen[step] for seen in by_rank if step < len(seen)]
        assert {entry[2] for entry in here} == {sum(entry[0] for entry in here)}
        assert all(entry[0] == entry[1] and entry[3] == ranks for entry in here)


def test_equal_counts_have_factor_one() -> None:
    def on_rank() -> list[float]:
        loader = DataLoader(TensorDataset(dg.zeros(8, 1)), batch_size=2, sharded=True)
        factors = []
        for _ in loader:
            share = current_share()
            assert share is not None
            factors.append(share.factor)
        return factors

    assert run_threads(2, on_rank) == [[1.0, 1.0]] * 2


def test_streams_are_split_as_before() -> None:
    def on_rank() -> Any:
        return [batch.tolist() for batch in DataLoader(Stream(7), batch_size=2, sharded=True)]

    assert run_threads(2, on_rank) == [[[0, 2], [4, 6]], [[1, 3], [5]]]


def test_nothing_is_published_outside_of_the_loop() -> None:
    for _ in DataLoader(TensorDataset(dg.zeros(4, 1)), batch_size=2):
        assert current_share() is None
    for _ in DataLoader(TensorDataset(dg.zeros(4, 1)), batch_size=2, sharded=True):
        break
    assert current_share() is None
    assert get_rank() == 0
