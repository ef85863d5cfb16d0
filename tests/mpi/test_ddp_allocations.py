"""On shared memory the reduction copies nothing: no allocation as large as a parameter."""

import tracemalloc
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

import distgrad as dg
from distgrad import Parameter, Tensor, comm
from distgrad.nn import Module
from distgrad.parallel import DistributedDataParallel, default_hooks
from distgrad.parallel._bucket import Span
from distgrad.parallel._reducer import Reducer

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


Setting = Callable[..., DistributedDataParallel]

# Every way of reducing that claims to copy nothing.
SETTINGS: dict[str, Setting] = {
    "at the end": DistributedDataParallel,
    "small buckets": lambda module: DistributedDataParallel(module, bucket_cap_mb=1),
    "during backward": lambda module: DistributedDataParallel(module, bucket_cap_mb=8, overlap=True),
    "a hook": lambda module: with_hook(DistributedDataParallel(module)),
    "nan check": lambda module: DistributedDataParallel(module, check_for_nan=True),
}


def with_hook(model: DistributedDataParallel) -> DistributedDataParallel:
    model.register_comm_hook(None, default_hooks.allreduce_hook)
    return model


def largest_allocation(monkeypatch: pytest.MonkeyPatch, make: Setting) -> int:
    """The most bytes that a reduction needed at once, beyond what was there; the first one may make what is kept."""
    peaks = []
    real = Reducer.reduce

    def measured(self: Reducer) -> None:
        tracemalloc.start()
        real(self)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    comm.init_process_group("shm")
    model = make(Weights())
    with monkeypatch.context() as patch:
        patch.setattr(Reducer, "reduce", measured)
        patch.setattr(Reducer, "on_gradient", lambda self, number: None)  # leaves everything to `reduce`
        for step in range(3):
            with model.weighted(comm.get_rank()) if step == 2 else nullcontext():
                model(dg.ones(SIZE)).backward()
    assert len(peaks) == 3
    values = model.module.b.grad.numpy()
    assert values.min() == values.max() > 0
    comm.destroy_process_group()
    return max(peaks[1:])


@pytest.mark.parametrize("make", SETTINGS.values(), ids=SETTINGS)
def test_nothing_of_the_size_of_a_parameter(make: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    assert largest_allocation(monkeypatch, make) < SIZE * 4 / 4


COMPRESSIONS = [default_hooks.fp16_compress_hook] + [default_hooks.bf16_compress_hook] * (dg.bfloat16 is not None)


@pytest.mark.parametrize("hook", COMPRESSIONS)
def test_compression_allocates_once(hook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(module: Module) -> DistributedDataParallel:
        model = DistributedDataParallel(module, bucket_cap_mb=8)
        model.register_comm_hook(None, hook)
        return model

    assert largest_allocation(monkeypatch, make) < SIZE * 4 / 4


@pytest.mark.parametrize("name", ["at the end", "during backward"])
def test_the_test_sees_a_copy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Span.fill

    def copies(self: Span) -> None:
        self.buffer[...] = self.buffer.copy()
        real(self)

    monkeypatch.setattr(Span, "fill", copies)
    assert largest_allocation(monkeypatch, SETTINGS[name]) >= SIZE * 4
