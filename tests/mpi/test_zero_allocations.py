"""On shared memory a step of ZeroRedundancyOptimizer copies nothing, and makes state for its own part only."""

import tracemalloc
from typing import Any

import pytest

import distgrad as dg
from distgrad import Parameter, Tensor, comm, nn, optim
from distgrad._environment import job
from distgrad.parallel import DistributedDataParallel, ZeroRedundancyOptimizer
from distgrad.parallel._shares import Shares

pytestmark = pytest.mark.mpi

SIZE = 1 << 20  # elements of a parameter: 4 MiB


class Weights(nn.Module):
    """Three parameters of 4 MiB."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (Parameter(dg.ones(SIZE)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = (self.a * x).sum() + (self.b * x).sum() + (self.c * x).sum()
        return result


def allocated_by_a_step() -> tuple[int, int]:
    """The most bytes that clipping and a step need at once beyond what was there: in a later step, and in the first."""
    comm.init_process_group("shm")
    model = DistributedDataParallel(Weights(), bucket_cap_mb=8)
    optimizer = ZeroRedundancyOptimizer(model.parameters(), optim.Adam)
    peaks = []
    for _ in range(3):
        optimizer.zero_grad()
        model(dg.ones(SIZE)).backward()
        tracemalloc.start()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    comm.destroy_process_group()
    return max(peaks[1:]), peaks[0]


def test_nothing_of_the_size_of_a_parameter() -> None:
    later, first = allocated_by_a_step()
    assert later < SIZE * 4 / 4
    assert first < 2 * 3 * SIZE * 4 / job.world_size + SIZE * 4 / 4  # the two moments of this rank's part


def test_the_test_sees_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Shares.publish

    def copies(self: Any) -> None:
        for whole, _ in self._gathers:
            whole[...] = whole.copy()
        real(self)

    monkeypatch.setattr(Shares, "publish", copies)
    assert allocated_by_a_step()[0] >= SIZE * 4
