"""DataLoader: what is in its batches, in which order, on which rank."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import distgrad
from distgrad import Tensor
from distgrad.comm import run_threads
from distgrad.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
    random_split,
)


def numbered(n: int) -> TensorDataset:
    """Sample i is (row i of ones times i, i)."""
    values = distgrad.arange(n)
    return TensorDataset(values.to(distgrad.float32).unsqueeze(1) * distgrad.ones(1, 3), values)


def numbers(loader: DataLoader[Any]) -> list[list[int]]:
    """The sample numbers in each batch."""
    return [y.tolist() for _, y in loader]


class Slow(Dataset[Any]):
    """The same samples one by one."""

    def __init__(self, data: TensorDataset) -> None:
        self.data = data

    def __getitem__(self, index: int) -> Any:
        return self.data[index]

    def __len__(self) -> int:
        return len(self.data)


class Row(IterableDataset[int]):
    def __init__(self, n: int) -> None:
        self.n = n

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.n))

    def __len__(self) -> int:
        return self.n


# ---- batches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_one_piece_and_one_by_one_are_the_same(shuffle: bool, drop_last: bool) -> None:
    data = numbered(11)
    results = []
    for dataset in (data, Slow(data), Subset(data, list(range(11))), ConcatDataset([data])):
        distgrad.manual_seed(4)
        loader: DataLoader[Any] = DataLoader(dataset, 4, shuffle=shuffle, drop_last=drop_last)
        results.append([(x.tolist(), y.tolist()) for x, y in loader])
        assert len(loader) == len(results[-1]) == (2 if drop_last else 3)
    assert all(result == results[0] for result in results)


def test_batches_have_memory_of_their_own() -> None:
    data = numbered(4)
    for x, _ in DataLoader(data, 2):
        x.zero_()
    assert data.tensors[0].sum().item() == 18.0


def test_gradients_flow_through_a_batch() -> None:
    table = distgrad.ones(4, 2, requires_grad=True)
    for (x,) in DataLoader(TensorDataset(table), 2):
        x.sum().backward()
    assert table.grad is not None and table.grad.tolist() == [[1, 1]] * 4


def test_an_overridden_item_is_respected() -> None:
    class Scaled(TensorDataset):
        def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
            x, y = super().__getitem__(index)
            return x * 10, y

    assert next(iter(DataLoader(Scaled(*numbered(3).tensors), 3)))[0][:, 0].tolist() == [0, 10, 20]
    outer = Subset(Scaled(*numbered(3).tensors), [2, 1])
    assert next(iter(DataLoader(outer, 2)))[0][:, 0].tolist() == [20, 10]


def test_each_epoch_has_another_order_that_follows_the_seed() -> None:
    loader: DataLoader[Any] = DataLoader(numbered(30), 30, shuffle=True)
    distgrad.manual_seed(1)
    first, second = numbers(loader), numbers(loader)
    distgrad.manual_seed(1)
    assert numbers(loader) == first != second
    assert sorted(first[0]) == list(range(30))
    own = [DataLoader(numbered(30), 30, shuffle=True, generator=distgrad.Generator().manual_seed(9)) for _ in range(2)]
    assert numbers(own[0]) == numbers(own[1])


def test_sampler_and_batch_sampler() -> None:
    data = numbered(6)
    assert numbers(DataLoader(data, 4, sampler=[5, 0, 2, 2, 1])) == [[5, 0, 2, 2], [1]]
    batches = [[0, 5], [3]]
    loader: DataLoader[Any] = DataLoader(data, batch_sampler=batches)
    assert numbers(loader) == batches and len(loader) == 2
    weighted = WeightedRandomSampler([0, 0, 0, 0, 0, 1], 3)
    assert numbers(DataLoader(data, 3, sampler=weighted)) == [[5, 5, 5]]
    assert isinstance(DataLoader(data).sampler, SequentialSampler)
    assert isinstance(DataLoader(data, shuffle=True).sampler, RandomSampler)


def test_a_sampler_of_ones_own_that_derives_from_ours() -> None:
    class Backwards(SequentialSampler):
        def __iter__(self) -> Iterator[int]:
            return reversed(range(len(self)))

    assert numbers(DataLoader(numbered(3), 2, sampler=Backwards(range(3)))) == [[2, 1], [0]]


def test_single_samples() -> None:
    loader: DataLoader[Any] = DataLoader([np.ones(2), np.zeros(2)], batch_size=None)
    samples = list(loader)
    assert len(loader) == 2 and isinstance(samples[0], Tensor) and samples[0].shape == (2,)


def test_collate_function_gets_the_samples() -> None:
    loader: DataLoader[Any] = DataLoader(numbered(3), 2, collate_fn=lambda samples: [int(y) for _, y in samples])
    assert list(loader) == [[0, 1], [2]]


def test_a_data_set_that_fetches_many() -> None:
    class Many:
        def __getitems__(self, indices: list[int]) -> list[int]:
            return [i * 100 for i in indices]

        def __getitem__(self, index: int) -> int:
            raise AssertionError

        def __len__(self) -> int:
            return 3

    assert [b.tolist() for b in DataLoader(Many(), 2)] == [[0, 100], [200]]


def test_an_error_in_the_data_set_is_not_hidden() -> None:
    class Broken(Dataset[Any]):
        def __getitem__(self, index: int) -> Any:
            raise ZeroDivisionError(f"sample {index}")

        def __len__(self) -> int:
            return 2

    with pytest.raises(ZeroDivisionError, match="sample 0"):
        list(DataLoader(Broken()))
    with pytest.raises(NotImplementedError, match="Dataset does not define __getitem__"):
        Dataset()[0]


# ---- iterable data sets ----------------------------------------------------------------------------------------------


def test_iterable_data_set() -> None:
    loader: DataLoader[Any] = DataLoader(Row(5), 2)
    assert [b.tolist() for b in loader] == [[0, 1], [2, 3], [4]] and len(loader) == 3
    assert [b.tolist() for b in DataLoader(Row(5), 2, drop_last=True)] == [[0, 1], [2, 3]]
    assert list(DataLoader(Row(3), None)) == [0, 1, 2]
    assert [b.tolist() for b in DataLoader(Row(2) + Row(3), 4)] == [[0, 1, 0, 1], [2]]


# ---- shards ----------------------------------------------------------------------------------------------------------


def on_ranks(world: int, make: Any, epochs: int = 1) -> list[list[list[list[int]]]]:
    """[rank][epoch][batch] -> sample numbers."""

    def body() -> list[list[list[int]]]:
        loader = make()
        found = []
        for _ in range(epochs):
            batches = [(b[1] if isinstance(b, list) else b).tolist() for b in loader]
            assert len(batches) == len(loader)
            found.append(batches)
        return found

    return run_threads(world, body)  # type: ignore[no-any-return]


@settings(max_examples=25)
@given(st.integers(1, 30), st.integers(1, 4), st.integers(1, 5))
def test_evaluation_sees_each_sample_once(n: int, world: int, batch: int) -> None:
    found = on_ranks(world, lambda: DataLoader(numbered(n), batch, sharded=True))
    assert sorted(i for rank in found for b in rank[0] for i in b) == list(range(n))


@settings(max_examples=25)
@given(st.integers(1, 30), st.integers(1, 4), st.integers(1, 5), st.booleans())
def test_training_takes_the_same_steps_on_all_ranks(n: int, world: int, batch: int, drop_last: bool) -> None:
    found = on_ranks(world, lambda: DataLoader(numbered(n), batch, shuffle=True, sharded=True, drop_last=drop_last))
    assert len({tuple(len(b) for b in rank[0]) for rank in found}) == 1
    counts = Counter(i for rank in found for b in rank[0] for i in b)
    if drop_last:
        assert not counts or max(counts.values()) == 1
    else:
        assert set(counts) == set(range(n))


def test_sharded_loader_counts_epochs_and_can_resume() -> None:
    def make() -> DataLoader[Any]:
        return DataLoader(numbered(24), 4, shuffle=True, sharded=True)

    found = on_ranks(2, make, epochs=3)
    orders = [sorted(i for b in epoch for i in b) for epoch in found[0]]
    assert len({tuple(order) for order in orders}) == 3

    def resumed() -> DataLoader[Any]:
        loader = make()
        loader.set_epoch(2)
        return loader

    assert [rank[0] for rank in on_ranks(2, resumed)] == [rank[2] for rank in found]


def test_order_of_shards_does_not_depend_on_other_random_numbers() -> None:
    def make() -> DataLoader[Any]:
        distgrad.rand(5)
        return DataLoader(numbered(24), 4, shuffle=True, sharded=True)

    assert on_ranks(2, make) == on_ranks(2, make)


def test_seed_of_the_generator_decides_the_order_of_shards() -> None:
    def make(seed: int) -> Any:
        generator = distgrad.Generator().manual_seed(seed)
        return lambda: DataLoader(numbered(24), 4, shuffle=True, sharded=True, generator=generator)

    assert on_ranks(2, make(1)) == on_ranks(2, make(1)) != on_ranks(2, make(2))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_sharded_iterable_data_set(world: int) -> None:
    found = on_ranks(world, lambda: DataLoader(Row(7), 2, sharded=True))
    flat = [[i for b in rank[0] for i in b] for rank in found]
    assert flat == [list(range(rank, 7, world)) for rank in range(world)]
    cut = on_ranks(world, lambda: DataLoader(Row(7), 1, sharded=True, drop_last=True))
    assert {len(rank[0]) for rank in cut} == {7 // world}


# ---- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_workers": 2}, "num_workers=2 is not supported yet; use num_workers=0"),
        ({"num_workers": -1}, "must not be negative"),
        ({"prefetch_factor": 2}, "need num_workers > 0"),
        ({"batch_size": 0}, "batch_size should be a positive integer"),
        ({"batch_size": None, "drop_last": True}, "disables auto-batching"),
        ({"sampler": [0], "shuffle": True}, "mutually exclusive with shuffle"),
        ({"batch_sampler": [[0]], "batch_size": 2}, "mutually exclusive with batch_size"),
        ({"sampler": [0], "sharded": True}, "makes its own sampler"),
        ({"sharded": True, "exact": True, "drop_last": True}, "contradicts"),
    ],
)
def test_arguments_that_exclude_each_other(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataLoader(numbered(3), **options)


def test_iterable_data_set_has_no_order_to_choose() -> None:
    with pytest.raises(ValueError, match="the data set decides the order"):
        DataLoader(Row(3), shuffle=True)


def test_torchs_other_arguments_are_accepted() -> None:
    loader: DataLoader[Any] = DataLoader(numbered(2), pin_memory=True, timeout=0, worker_init_fn=None, in_order=True)
    assert len(list(loader)) == 2


# ---- data sets -------------------------------------------------------------------------------------------------------


def test_random_split() -> None:
    parts = random_split(range(10), [3, 7], generator=distgrad.Generator().manual_seed(0))
    assert [len(p) for p in parts] == [3, 7]
    assert sorted(i for p in parts for i in p) == list(range(10))  # type: ignore[attr-defined]
    assert [len(p) for p in random_split(range(11), [0.5, 0.3, 0.2])] == [6, 3, 2]
    assert [len(p) for p in random_split(range(1), [1])] == [1]
    with pytest.raises(ValueError, match="does not equal the length"):
        random_split(range(10), [3, 3])


def test_tensor_dataset_needs_one_size() -> None:
    with pytest.raises(RuntimeError, match=r"Size mismatch.*\[3\], \[2\]"):
        TensorDataset(distgrad.ones(3), distgrad.ones(2))


def test_concatenation() -> None:
    both = numbered(3) + numbered(2)
    assert len(both) == 5 and [int(both[i][1]) for i in (-1, 0, 3)] == [1, 0, 0]
    with pytest.raises(IndexError, match="out of range for 5"):
        both[5]
