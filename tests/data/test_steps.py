"""Steps whose samples do not depend on the number of ranks, and where a loop over them goes on."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import distgrad
from distgrad.comm._threads import run_threads
from distgrad.data._steps import shard_sizes
from distgrad.utils.data import DataLoader, IterableDataset, TensorDataset


def loader_of(n: int, batch: int, shards: int = 4, drop_last: bool = False, shuffle: bool = True) -> Any:
    data = TensorDataset(distgrad.arange(n))
    generator = distgrad.Generator().manual_seed(5)
    return DataLoader(data, batch, shuffle=shuffle, drop_last=drop_last, generator=generator, logical_shards=shards)


def samples(loader: Any, steps: int | None = None) -> list[list[int]]:
    """What this rank sees of an epoch, by step."""
    found: list[list[int]] = []
    for step in loader.steps():
        found.append([i for (x,) in step for i in x.tolist()])
        if len(found) == steps:
            break
    return found


@given(st.integers(0, 200), st.integers(1, 20))
def test_shard_sizes(n: int, shards: int) -> None:
    sizes = shard_sizes(n, shards)
    assert len(sizes) == shards and sum(sizes) == n
    assert sizes == sorted(sizes, reverse=True) and sizes[0] - sizes[-1] <= 1


@settings(max_examples=25)
@given(st.integers(0, 60), st.integers(1, 4), st.integers(1, 25), st.booleans())
def test_every_sample_once(n: int, ranks: int, batch: int, drop_last: bool) -> None:
    of_ranks = run_threads(ranks, lambda: samples(loader_of(n, batch, drop_last=drop_last)))
    assert len({len(steps) for steps in of_ranks}) == 1  # all ranks take as many steps
    alone = samples(loader_of(n, batch, drop_last=drop_last))
    together = [[i for rank in of_ranks for i in rank[k]] for k in range(len(alone))]
    assert together == alone
    seen = sorted(i for step in alone for i in step)
    assert len(set(seen)) == len(seen) == (n - n % batch if drop_last else n)


@pytest.mark.parametrize("stop", [1, 3, 4])
@pytest.mark.parametrize("ranks", [1, 3])
def test_goes_on_with_another_number_of_ranks(stop: int, ranks: int) -> None:
    whole = loader_of(18, 5)
    expected = samples(whole) + samples(whole)
    first = loader_of(18, 5)
    before = samples(first, stop)
    state = first.state_dict()

    def rest() -> list[list[int]]:
        loader = loader_of(18, 5)
        loader.load_state_dict(state)
        return samples(loader) + samples(loader)

    of_ranks = run_threads(ranks, rest)
    after = [[i for rank in of_ranks for i in rank[k]] for k in range(len(of_ranks[0]))]
    assert (before + after)[: len(expected)] == expected


def test_the_state_is_small_and_says_whose_it_is() -> None:
    loader = loader_of(20, 5)
    samples(loader, 2)
    assert loader.state_dict() == {"seed": 5, "epoch": 0, "sample": 10}
    samples(loader, 1)  # a new loop begins the next epoch, whether or not the last one came to its end
    assert loader.state_dict() == {"seed": 5, "epoch": 1, "sample": 5}
    samples(loader)
    assert loader.state_dict() == {"seed": 5, "epoch": 3, "sample": 0}
    with pytest.raises(ValueError, match="seed 0, got one with seed 5"):
        DataLoader(TensorDataset(distgrad.arange(20))).load_state_dict(loader.state_dict())


def test_epochs_have_other_orders() -> None:
    loader = loader_of(50, 50)
    assert samples(loader) != samples(loader)
    loader.set_epoch(0)
    assert samples(loader) == samples(loader_of(50, 50))
    assert samples(loader_of(6, 4, shuffle=False)) == [[0, 1, 2, 3], [4, 5]]


def test_any_data_set_with_a_length() -> None:
    loader: Any = DataLoader([(i, np.float32(i)) for i in range(7)], batch_size=7, logical_shards=2)
    (step,) = list_of_batches(loader)
    assert [x.tolist() for x, _ in step] == [[0, 1, 2, 3], [4, 5, 6]]


def list_of_batches(loader: Any) -> list[list[Any]]:
    return [list(step) for step in loader.steps()]


def test_what_steps_cannot_be_made_of() -> None:
    class Endless(IterableDataset[int]):
        def __iter__(self) -> Any:
            return iter(range(3))

    for loader in (DataLoader(Endless()), DataLoader(range(3), batch_size=None), DataLoader(range(3), sampler=[2, 1])):
        with pytest.raises(ValueError, match=r"DataLoader.steps: expected a data set with a length"):
            loader.steps()


def test_a_step_is_worked_on_once() -> None:
    for step in loader_of(5, 5).steps():
        assert [len(x) for (x,) in step] == [2, 1, 1, 1]
        with pytest.raises(RuntimeError, match="once"):
            list(step)


# ---- the batches of a sharded loader ---------------------------------------------------------------------------------


def sharded(n: int, batch: int, drop_last: bool = False, exact: bool | None = None) -> Any:
    data = TensorDataset(distgrad.arange(n))
    return DataLoader(data, batch, shuffle=True, drop_last=drop_last, sharded=True, exact=exact)


def some(loader: Any, count: int | None = None) -> list[int]:
    found: list[int] = []
    for number, (x,) in enumerate(loader, 1):
        found += x.tolist()
        if number == count:
            break
    return found


@settings(max_examples=25)
@given(st.integers(1, 60), st.integers(1, 4), st.integers(1, 4), st.integers(1, 8), st.integers(1, 4))
def test_batches_go_on_with_another_number_of_ranks(n: int, ranks: int, others: int, batch: int, stop: int) -> None:
    def begin() -> tuple[list[int], dict[str, int]]:
        loader = sharded(n, batch, exact=True)
        return some(loader, stop), loader.state_dict()

    first = run_threads(ranks, begin)
    state = max((state for _, state in first), key=lambda s: (s["epoch"], s["sample"]))

    def go_on() -> list[int]:
        loader = sharded(n, batch, exact=True)
        loader.load_state_dict(state)
        return some(loader) if state["epoch"] == 0 else []

    rest = run_threads(others, go_on)
    seen = [i for part, _ in first for i in part] + [i for part in rest for i in part]
    assert sorted(seen) == list(range(n))


def test_the_epoch_after_a_resumed_one_is_whole() -> None:
    loader = sharded(10, 3)
    loader.load_state_dict({"seed": 0, "epoch": 2, "sample": 6})
    assert len(some(loader)) == 4
    assert loader.state_dict() == {"seed": 0, "epoch": 3, "sample": 0}
    again = sharded(10, 3)
    again.sampler.set_epoch(3)  # torch's way to say which epoch it is
    assert some(loader) == some(again)


def test_a_loop_that_cannot_go_on_says_so() -> None:
    loader = loader_of(20, 5)
    loader.load_state_dict({"seed": 5, "epoch": 0, "sample": 10})
    with pytest.raises(ValueError, match="expected a loop over steps"):
        iter(loader)
    loader.set_epoch(0)
    assert len(list(loader)) == 4
