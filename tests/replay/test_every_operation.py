"""Every registered operation in a step that is recorded with some values and replayed with others.

A function that looks at values while it checks its arguments, or draws, or writes, must end the recording; a replay of
one that does not would be stale here.
"""

import warnings
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad import nn
from distgrad.ops import registry
from tests.ops.samples import Array, Call, Samples, collect, map_arrays

SPECS = registry()
SAMPLES = collect()


def tensors_in(value: Any) -> list[Any]:
    """All tensors in a result."""
    if isinstance(value, dg.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for part in value for t in tensors_in(part)] if isinstance(value, (list, tuple)) else []


class Experiment:
    """One call of one operation; its floating-point arguments are parameters that get other values, seed by seed."""

    def __init__(self, function: Any, samples: Samples, sample: Call) -> None:
        dtype = (sample.dtypes or samples.dtypes)[0]
        self.dtype, self.sample = dtype, sample
        self.parameters: list[Any] = []
        self.places: list[Array] = []

        def make(array: Array) -> Any:
            host = array.draw(dtype, np.random.default_rng(0))
            wants = np.dtype(host.dtype).kind == "f" and sample.grad and array.grad and array.dtype is None
            t = nn.Parameter(dg.from_numpy(host)) if wants else dg.from_numpy(host)
            self.parameters.append(t)
            self.places.append(array)
            return t

        args, kwargs = map_arrays(make, (list(sample.args), sample.kwargs))
        parameters = self.parameters

        def step() -> Any:
            result = function(*args, **kwargs)
            total: Any = None
            for t in result if isinstance(result, (tuple, list)) else (result,):
                if t.requires_grad:
                    total = t.sum() if total is None else t.sum() + total
            for p in parameters:
                if p.requires_grad:
                    total = (p * 0.5).sum() if total is None else (p * 0.5).sum() + total
            if total is not None:
                total.backward()
            return result.detach() if isinstance(result, dg.Tensor) else [t.detach() for t in result]

        self.step = step

    def run(self, step: Any, seed: int) -> Any:
        """A call with the values of a seed: what it returned or raised, the gradients, and the parameters."""
        rng = np.random.default_rng(seed)
        for t, array in zip(self.parameters, self.places, strict=True):
            t._data[...] = array.draw(self.dtype, rng)
            t._cell[0] += 1
            t.grad = None
        dg.manual_seed(seed)
        try:
            result: Any = [(t.dtype, t.shape, t.detach().numpy().tobytes()) for t in tensors_in(step())]
        except Exception as error:
            result = type(error)
        grads = [None if t.grad is None or t.grad.is_sparse else t.grad.numpy().tobytes() for t in self.parameters]
        return result, grads, [t.detach().numpy().tobytes() for t in self.parameters]


def replayed(name: str, sample: Call) -> bool:
    """Compares eager and compiled calls; whether any was replayed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        experiment = Experiment(SPECS[name].function, SAMPLES[name], sample)
        compiled = dg.compile(experiment.step)
        for seed in (1, 1, 1, 1, 2, 3):
            expected, found = experiment.run(experiment.step, seed), experiment.run(compiled, seed)
            assert found == expected, f"{name}({sample}), seed {seed}: {compiled.explain()}\n" + "".join(
                p.source for p in compiled._programs
            )
    return compiled.replays > 0


@pytest.mark.slow
@pytest.mark.skipif("'slow' not in config.option.markexpr", reason="takes a minute: pytest -m slow tests/replay")
def test_every_operation() -> None:
    calls = [(name, sample) for name in SPECS for sample in SAMPLES[name].calls]
    assert sum(replayed(name, sample) for name, sample in calls) > 0.75 * len(calls)


@pytest.mark.parametrize("start", range(3))
def test_some_operations(start: int) -> None:
    """One sample of every eighteenth, others in each test."""
    names = list(SPECS)[start::18]
    assert sum(replayed(name, SAMPLES[name].calls[0]) for name in names) > len(names) // 2
