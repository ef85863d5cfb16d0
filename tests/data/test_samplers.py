"""Samplers: every sample as often as promised, on any number of ranks."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import distgrad
from distgrad.comm import get_rank, run_threads
from distgrad.data import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

sizes = st.integers(0, 60)
ranks = st.integers(1, 9)


def shares(n: int, world: int, epoch: int = 0, **options: bool) -> list[list[int]]:
    """The samples of each rank."""
    result = []
    for rank in range(world):
        sampler = DistributedSampler(range(n), world, rank, **options)
        sampler.set_epoch(epoch)
        result.append(list(sampler))
        assert len(result[-1]) == len(sampler)
    return result


@given(sizes, ranks, st.booleans(), st.integers(0, 3))
def test_exact_shares_are_a_partition(n: int, world: int, shuffle: bool, epoch: int) -> None:
    parts = shares(n, world, epoch, shuffle=shuffle, exact=True)
    assert sorted(i for part in parts for i in part) == list(range(n))
    lengths = [len(part) for part in parts]
    assert max(lengths) - min(lengths) <= 1


@given(st.integers(1, 60), ranks, st.booleans(), st.integers(0, 3))
def test_padded_shares_have_one_length_and_all_samples(n: int, world: int, shuffle: bool, epoch: int) -> None:
    parts = shares(n, world, epoch, shuffle=shuffle)
    assert {len(part) for part in parts} == {-(-n // world)}
    counts = Counter(i for part in parts for i in part)
    assert set(counts) == set(range(n))
    assert max(counts.values()) - min(counts.values()) <= 1


@given(sizes, ranks, st.booleans(), st.integers(0, 3))
def test_cut_shares_have_one_length_and_no_sample_twice(n: int, world: int, shuffle: bool, epoch: int) -> None:
    parts = shares(n, world, epoch, shuffle=shuffle, drop_last=True)
    assert {len(part) for part in parts} == {n // world}
    together = [i for part in parts for i in part]
    assert len(set(together)) == len(together) == n // world * world


@given(st.integers(1, 60), st.sampled_from([1, 2, 3, 4, 6]), st.integers(1, 5), st.integers(0, 3))
def test_global_batches_do_not_depend_on_the_number_of_ranks(n: int, world: int, batch: int, epoch: int) -> None:
    order = shares(n, 1, epoch)[0]
    parts = shares(n, world, epoch, exact=True)
    for step in range(n // (batch * world)):
        together = [i for part in parts for i in part[step * batch : (step + 1) * batch]]
        assert sorted(together) == sorted(order[step * batch * world : (step + 1) * batch * world])


def test_epoch_and_seed_decide_the_order() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = DistributedSampler(range(50), 1, 0, seed=seed)
        sampler.set_epoch(epoch)
        distgrad.rand(3)
        return list(sampler)

    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_unshuffled_shares_are_torchs() -> None:
    assert shares(5, 2, shuffle=False) == [[0, 2, 4], [1, 3, 0]]
    assert shares(1, 3, shuffle=False) == [[0], [0], [0]]


def test_rank_and_world_come_from_the_group() -> None:
    def body() -> tuple[int, list[int]]:
        return get_rank(), list(DistributedSampler(range(6), shuffle=False))

    assert run_threads(3, body) == [(0, [0, 3]), (1, [1, 4]), (2, [2, 5])]


def test_distributed_sampler_refuses() -> None:
    with pytest.raises(ValueError, match=r"Invalid rank 2, rank should be in the interval \[0, 1\]"):
        DistributedSampler(range(3), 2, 2)
    with pytest.raises(ValueError, match="contradicts"):
        DistributedSampler(range(3), 2, 0, drop_last=True, exact=True)


# ---- of one process --------------------------------------------------------------------------------------------------


def test_sequential() -> None:
    assert list(SequentialSampler("abc")) == [0, 1, 2]


@given(sizes)
def test_random_is_a_permutation(n: int) -> None:
    sampler = RandomSampler(range(n))
    assert sorted(sampler) == list(range(n)) and len(sampler) == n


def test_random_follows_the_seed_and_changes_each_epoch() -> None:
    sampler = RandomSampler(range(100))
    distgrad.manual_seed(3)
    first, second = list(sampler), list(sampler)
    distgrad.manual_seed(3)
    assert list(sampler) == first != second


def test_random_takes_one_number_of_the_default_generator() -> None:
    distgrad.manual_seed(0)
    list(RandomSampler(range(10)))
    after_short = distgrad.rand(1).item()
    distgrad.manual_seed(0)
    list(RandomSampler(range(10_000)))
    assert distgrad.rand(1).item() == after_short


def test_random_with_its_own_generator() -> None:
    first = list(RandomSampler(range(20), generator=distgrad.Generator().manual_seed(5)))
    distgrad.rand(7)
    assert list(RandomSampler(range(20), generator=distgrad.Generator().manual_seed(5))) == first


def test_random_with_replacement_and_other_lengths() -> None:
    distgrad.manual_seed(0)
    drawn = list(RandomSampler(range(4), replacement=True, num_samples=4000))
    counts = np.bincount(drawn, minlength=4)
    assert len(drawn) == 4000 and counts.min() > 850
    assert Counter(RandomSampler(range(4), num_samples=10)).most_common()[-1][1] == 2
    assert len(set(RandomSampler(range(9), num_samples=3))) == 3
    with pytest.raises(ValueError, match="non-negative"):
        RandomSampler(range(3), num_samples=-1)
    with pytest.raises(ValueError, match="without samples"):
        list(RandomSampler([], num_samples=2))


def test_subset_random() -> None:
    assert sorted(SubsetRandomSampler([7, 3, 9])) == [3, 7, 9]
    assert len(SubsetRandomSampler([7, 3, 9])) == 3


def test_weighted_random() -> None:
    distgrad.manual_seed(0)
    counts = np.bincount(list(WeightedRandomSampler([0.0, 1.0, 3.0], 4000)), minlength=3)
    assert counts[0] == 0 and counts[2] == pytest.approx(3000, abs=150)
    assert sorted(WeightedRandomSampler([1, 2, 3], 3, replacement=False)) == [0, 1, 2]
    with pytest.raises(ValueError, match="positive integer"):
        WeightedRandomSampler([1.0], 0)
    with pytest.raises(ValueError, match="1d sequence"):
        WeightedRandomSampler([[1.0]], 1)


@given(sizes, st.integers(1, 8), st.booleans())
def test_batches_cut_an_order(n: int, batch: int, drop_last: bool) -> None:
    batches = list(BatchSampler(SequentialSampler(range(n)), batch, drop_last))
    assert len(BatchSampler(range(n), batch, drop_last)) == len(batches)
    whole = [i for b in batches for i in b]
    assert whole == list(range(n // batch * batch if drop_last else n))
    assert all(len(b) == batch for b in batches[:-1])


def test_batch_sampler_refuses() -> None:
    with pytest.raises(ValueError, match="batch_size should be a positive integer"):
        BatchSampler(range(3), 0, False)
    with pytest.raises(ValueError, match="drop_last should be a boolean"):
        BatchSampler(range(3), 1, 0)  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError, match="Sampler does not define __iter__"):
        iter(Sampler())
