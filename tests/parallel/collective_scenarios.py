"""Gradients through collectives, as functions that every rank of a group calls; compared with finite differences."""

from collections.abc import Callable
from typing import Any

import numpy as np

import distgrad as dg
from distgrad import Tensor, comm
from distgrad.comm import ReduceOp
from distgrad.errors import CommError
from distgrad.parallel import functional as F
from tests.parallel.scenarios import everyone, place

SCENARIOS: list[Callable[[], None]] = []
STEP = 1e-5


def scenario(function: Callable[[], None]) -> Callable[[], None]:
    """Enters a function into the list of all."""
    SCENARIOS.append(function)
    return function


def numbers(seed: int, *shape: int) -> Any:
    """Random numbers, different on every rank."""
    return np.random.default_rng([seed, place()[0]]).uniform(0.5, 1.5, shape)


def parts(x: Tensor, n: int) -> list[Tensor]:
    """A list with a part for each rank, made from a vector of n elements for each."""
    return [x[r * n : (r + 1) * n] for r in range(place()[1])]


def uneven(x: Tensor) -> list[Tensor]:
    """Rank r sends (r + s) % 3 + 1 elements to rank s: at most 12 to 4 ranks."""
    rank, size = place()
    lengths = [(rank + other) % 3 + 1 for other in range(size)]
    return list(x[: sum(lengths)].split(lengths))


# name -> a function of a vector of 12 elements, which uses every kind of result
COLLECTIVES: dict[str, Callable[[Tensor], Any]] = {
    "all_reduce": lambda x: F.all_reduce(x),
    "all_reduce mean": lambda x: F.all_reduce(x.reshape(3, 4).t(), ReduceOp.AVG),
    "broadcast": lambda x: F.broadcast(x, 1),
    "reduce": lambda x: F.reduce(x, 1),
    "reduce mean": lambda x: F.reduce(x, 0, op=ReduceOp.AVG),
    "all_gather": lambda x: F.all_gather(x.reshape(3, 4)),
    "reduce_scatter": lambda x: F.reduce_scatter(x[:2], parts(x, 2)),
    "reduce_scatter mean": lambda x: F.reduce_scatter(x[:3], parts(x, 3), ReduceOp.AVG),
    "gather": lambda x: F.gather(x, 1),
    "scatter": lambda x: F.scatter(parts(x, 2), 1),
    "all_to_all": lambda x: F.all_to_all(uneven(x.detach()), uneven(x)),
    "all_to_all_single": lambda x: F.all_to_all_single(x, x),
    "two in a row": lambda x: F.all_gather(F.all_reduce(x).tanh() * x),
}


def value(collective: Callable[[Tensor], Any], x: Tensor) -> Tensor:
    """This rank's part of a function of the inputs of all ranks."""
    result = collective(x * x)
    results = result if isinstance(result, tuple) else (result,)
    total = dg.zeros((), dtype=dg.float64)
    for i, y in enumerate(results):
        weights = dg.tensor(numbers(7 + i, *y.shape))
        total = total + (y.tanh() * y * weights).sum()
    return total


def slope(collective: Callable[[Tensor], Any], x: Tensor) -> Tensor:
    """This rank's part of a function of the gradients of `value`."""
    (g,) = dg.autograd.grad(value(collective, x), [x], create_graph=True)
    result: Tensor = (g * dg.tensor(numbers(9, *x.shape))).sum()
    return result


def check_gradient(function: Callable[[Tensor], Tensor]) -> None:
    """The gradient of the sum over ranks, against differences along a random direction on each rank."""
    rank, size = place()
    x = dg.tensor(numbers(0, 12)).requires_grad_()
    function(x).backward()
    assert x.grad is not None
    direction = numbers(3, 12)
    expected = x.grad.numpy() @ direction
    for owner in range(size):
        totals = []
        for step in (STEP, -STEP):
            moved = dg.tensor(x.numpy(force=True) + step * direction * (rank == owner))
            totals.append(sum(everyone(function(moved.requires_grad_()).item())))
        if rank == owner:
            np.testing.assert_allclose(expected, (totals[0] - totals[1]) / (2 * STEP), rtol=1e-6, atol=1e-7)


@scenario
def gradients_of_all_collectives() -> None:
    for name, collective in COLLECTIVES.items():
        try:
            check_gradient(lambda x, collective=collective: value(collective, x))
        except AssertionError as error:
            raise AssertionError(name) from error


@scenario
def second_derivatives_of_all_collectives() -> None:
    for name, collective in COLLECTIVES.items():
        try:
            check_gradient(lambda x, collective=collective: slope(collective, x))
        except AssertionError as error:
            raise AssertionError(name) from error


@scenario
def values_of_all_collectives() -> None:
    rank, size = place()
    x = dg.tensor(numbers(0, 4))
    all_x = everyone(x.numpy())
    assert np.allclose(F.all_reduce(x).numpy(), sum(all_x)) and np.array_equal(x.numpy(), all_x[rank])
    assert np.array_equal(F.broadcast(x, 1).numpy(), all_x[1])
    assert np.allclose(F.reduce(x, 1).numpy(), sum(all_x) if rank == 1 else 0)
    assert [t.tolist() for t in F.all_gather(x)] == [t.tolist() for t in all_x]
    gathered = F.gather(x, 1)
    assert [t.tolist() for t in gathered] == [t.tolist() if rank == 1 else [0.0] * 4 for t in all_x]
    lists = [dg.tensor([10.0 * rank + r]) for r in range(size)]
    assert F.scatter(lists, 1).tolist() == [10.0 + rank]
    assert F.reduce_scatter(lists[0], lists).tolist() == [sum(10.0 * r + rank for r in range(size))]
    assert [t.tolist() for t in F.all_to_all(lists, lists)] == [[10.0 * r + rank] for r in range(size)]
    rows = dg.tensor([[10.0 * rank + r, 0.5] for r in range(size)])
    assert F.all_to_all_single(rows, rows).tolist() == [[10.0 * r + rank, 0.5] for r in range(size)]
    sizes = [1] * (size - 1) + [2]
    longer = dg.arange(float(size + 1)) + 100 * rank
    got = F.all_to_all_single(dg.zeros(sizes[rank] * size), longer, [sizes[rank]] * size, sizes)
    assert got.tolist() == [100.0 * r + rank + i for r in range(size) for i in range(sizes[rank])]
    assert F.all_reduce(x.detach(), ReduceOp.MAX).tolist() == np.max(all_x, axis=0).tolist()


@scenario
def a_group_of_some_ranks() -> None:
    rank, size = place()
    group = comm.get_default().split(0 if rank else None, -rank)  # from the last rank down to 1
    if group is not None:
        x = dg.tensor([float(rank)]).requires_grad_()
        y = F.broadcast(x, size - 1, group)
        assert y.tolist() == [size - 1.0]
        (y * rank).sum().backward()
        assert x.grad is not None and x.grad.tolist() == [sum(range(1, size)) if rank == size - 1 else 0.0]
        group.close()


@scenario
def what_collectives_refuse() -> None:
    x = dg.ones(3).requires_grad_()
    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: F.all_reduce(x, ReduceOp.MAX), "expected op to be SUM or AVG where gradients are wanted, got MAX"),
        (lambda: F.scatter([x]), "`tensors` to be a list of"),
        (lambda: F.all_to_all_single(dg.ones(7), dg.ones(7)), "can share equally, got shape [7]"),
    ]
    for call, message in cases:
        try:
            call()
        except CommError as error:
            assert message in str(error)
        else:
            raise AssertionError(message)
