"""A fast rank never writes its gradients while a peer still reads them."""

import time
from contextlib import nullcontext
from functools import cache
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad import Parameter, Tensor, comm
from distgrad.nn import Module
from distgrad.parallel import DistributedDataParallel

pytestmark = pytest.mark.mpi

LARGE = 6000  # elements: 24 KB, above what shared memory sends through its lane
SMALL = 40
PERIOD = 20  # inputs repeat after so many steps
EVERY = 5  # a step in so many accumulates in two passes without reduction first


class Weights(Module):
    """The gradient of each parameter is the input itself, so that every step has gradients of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.large, self.small = Parameter(dg.zeros(LARGE)), Parameter(dg.zeros(SMALL))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = (self.large * x).sum() + (self.small * x[:SMALL]).sum()
        return result


class Pauses:
    """Random delays, different on every rank."""

    def __init__(self, rank: int, share: float) -> None:
        self._random = np.random.default_rng(rank)
        self._share = share

    def here(self, longest: float = 3e-4) -> None:
        """Sleeps, now and then."""
        if self._random.random() < self._share:
            time.sleep(self._random.random() * longest)


@cache
def inputs(step: int, rank: int, size: int) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    """Whole multiples of the number of ranks: their sums and means are exact, in any order."""
    return (((np.arange(LARGE) + 7 * step + 3 * rank) % 64) * size).astype("float32")


@cache
def mean(step: int, passes: int, size: int) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    """What the gradients of a step must be."""
    every = [inputs((step + one) % PERIOD, rank, size) for one in range(passes) for rank in range(size)]
    return np.sum(every, axis=0) / size  # type: ignore[no-any-return]


def wrong_steps(
    backend: str, steps: int, share: float, leaves_early: bool = False, overlap: bool = False
) -> tuple[list[int], list[float]]:
    """The steps whose gradients are not the mean over the ranks, and a checksum of the gradients of each step."""
    comm.init_process_group(backend)
    group = comm.get_default()
    model = DistributedDataParallel(Weights(), bucket_cap_mb=LARGE * 4 / 2**20, overlap=overlap)
    assert model._reducer is not None and len(model._reducer.buckets) == 2
    pauses = Pauses(group.rank, share)
    if backend == "shm":
        group._board = SlowBoard(group._board, pauses, leaves_early)  # type: ignore[attr-defined]
    wrong, sums = [], []
    for step in range(steps):
        passes = 3 if step % EVERY == 0 else 1
        for one in range(passes):
            pauses.here()
            with model.no_sync() if one < passes - 1 else nullcontext():
                model(dg.from_numpy(inputs((step + one) % PERIOD, group.rank, group.size))).backward()
        pauses.here()
        large, small = model.module.large.grad.numpy(), model.module.small.grad.numpy()
        if not np.array_equal(large, mean(step % PERIOD, passes, group.size)) or not np.array_equal(
            large[:SMALL], small
        ):
            wrong.append(step)
        sums.append(float(large.sum(dtype=np.float64)))
        model.zero_grad()
    comm.destroy_process_group()
    return wrong, sums


class SlowBoard:
    """A meeting point after which this rank sleeps now and then: before it reads what the others wrote, for instance.

    `leaves_early` plants the bug: every meeting but the first of a collective is left out.
    """

    def __init__(self, board: Any, pauses: Pauses, leaves_early: bool) -> None:
        self._board = board
        self._pauses = pauses
        self._leaves_early = leaves_early
        self._meetings = 0

    def announce(self, call: Any) -> None:
        self._meetings = 0
        self._board.announce(call)

    def meet(self) -> None:
        self._meetings += 1
        if self._meetings == 1 or not self._leaves_early:
            self._board.meet()
        self._pauses.here()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._board, name)


def check(steps: int, share: float) -> None:
    over_mpi, over_shm = wrong_steps("mpi", steps, share), wrong_steps("shm", steps, share)
    assert over_mpi[0] == []
    assert over_shm[0] == []
    assert over_shm[1] == over_mpi[1]


def test_gradients_are_right_in_every_step() -> None:
    check(200, 0.1)


@pytest.mark.slow
@pytest.mark.skipif("'slow' not in config.option.markexpr", reason="takes a minute: pytest -m 'mpi and slow'")
def test_gradients_are_right_in_ten_thousand_steps() -> None:
    check(10_000, 0.05)


def test_gradients_are_right_with_overlap() -> None:
    over_mpi, over_shm = (wrong_steps(backend, 200, 0.1, overlap=True) for backend in ("mpi", "shm"))
    assert over_mpi[0] == over_shm[0] == []
    assert over_shm[1] == over_mpi[1]


def test_the_test_sees_a_rank_that_leaves_too_early() -> None:
    wrong, _ = wrong_steps("shm", 200, 0.5, leaves_early=True)
    comm.init_process_group()
    seen = comm.get_default().all_gather_object(len(wrong))
    comm.destroy_process_group()
    assert max(seen) > 0
