"""On shared memory the reduction copies nothing: no allocation as large as a parameter."""

import tracemalloc
from typing import Any

import pytest

import distgrad as dg
from distgrad import Parameter, Tensor, comm
from distgrad.nn import Module
from distgrad.parallel import DistributedDataParallel
from distgrad.parallel._reducer import GradientBucket

pytestmark = pytest.mark.mpi

SIZE = 1 << 20  # elements of a parameter: 4 MiB


class Weights(Module):
    """Three parameters, in buckets of one and two."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (Parameter(dg.ones(SIZE)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = (self.a * x).sum() + (self.b * x).sum() + (self.c * x).sum()
        return result


def largest_allocation(monkeypatch: pytest.MonkeyPatch) -> int:
    """The most bytes that a reduction of a bucket needed at once, beyond what was there."""
    peaks = []
    real = GradientBucket.reduce

    def measured(self: GradientBucket, communicator: comm.Communicator) -> None:
        tracemalloc.start()
        real(self, communicator)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    comm.init_process_group("shm")
    model = DistributedDataParallel(Weights(), bucket_cap_mb=8)
    with monkeypatch.context() as patch:
        patch.setattr(GradientBucket, "reduce", measured)
        for _ in range(2):
            model(dg.ones(SIZE)).backward()
    assert len(peaks) == 4
    assert model.module.b.grad.numpy().min() == 2.0
    comm.destroy_process_group()
    return max(peaks)


def test_nothing_of_the_size_of_a_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    assert largest_allocation(monkeypatch) < SIZE * 4 / 4


def test_the_test_sees_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    real = GradientBucket.reduce

    def copies(self: GradientBucket, communicator: Any) -> None:
        self.buffer[...] = self.buffer.copy()
        real(self, communicator)

    monkeypatch.setattr(GradientBucket, "reduce", copies)
    assert largest_allocation(monkeypatch) >= SIZE * 4
