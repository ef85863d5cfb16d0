"""Small models of plain tensor operations, and the batches that tests give them."""

from typing import Any

import numpy as np

import distgrad as dg
from distgrad import Parameter, Tensor
from distgrad.nn import Module

IN, HIDDEN, OUT = 5, 7, 3
ROWS = 12  # of the whole batch; divisible by 2, 3 and 4


def values(seed: int, *shape: int, dtype: str = "float32") -> Tensor:
    """A tensor of normal random numbers."""
    return dg.tensor(np.random.default_rng(seed).normal(size=shape).astype(dtype))


class Dense(Module):
    """x (N, inputs) -> tanh(x w + b), shape (N, outputs)."""

    def __init__(self, inputs: int, outputs: int, seed: int = 0, dtype: str = "float32") -> None:
        super().__init__()
        self.weight = Parameter(values(seed, inputs, outputs, dtype=dtype))
        self.bias = Parameter(values(seed + 1000, outputs, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weight + self.bias).tanh()


class Net(Module):
    """Two layers; `skip` leaves out the first."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.first = Dense(IN, HIDDEN, seed)
        self.second = Dense(HIDDEN, OUT, seed + 1)

    def forward(self, x: Tensor, skip: bool = False) -> Tensor:
        result: Tensor = self.second(x if skip else self.first(x))
        return result


class Centred(Module):
    """Subtracts the mean of the batch, and keeps a running one in a buffer, as BatchNorm does."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Dense(IN, OUT)
        self.register_buffer("mean", dg.zeros(OUT))
        self.register_buffer("count", dg.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.first(x)
        if not self.training:
            return y - self.mean
        now = y.mean(0)
        with dg.no_grad():
            self.mean.mul_(0.9).add_(now.detach() * 0.1)
            self.count.add_(1)
        return y - now * 0.5


def whole_batch(seed: int = 5) -> tuple[Tensor, Tensor]:
    """Inputs (ROWS, IN) and targets (ROWS, OUT)."""
    return values(seed, ROWS, IN), values(seed + 1, ROWS, OUT)


def part(t: Tensor, rank: int, size: int) -> Tensor:
    """The rows of one rank."""
    n = t.shape[0] // size
    result: Tensor = t[rank * n : (rank + 1) * n]
    return result


def loss(output: Tensor, target: Tensor) -> Tensor:
    """The mean of squares."""
    difference = output - target
    result: Tensor = (difference * difference).mean()
    return result


def grads(module: Module) -> dict[str, Any]:
    """The gradients as arrays by name; None where there is none. Copies."""
    return {name: None if p.grad is None else p.grad.numpy(force=True).copy() for name, p in module.named_parameters()}


def close(a: dict[str, Any], b: dict[str, Any], tolerance: float = 1e-6) -> bool:
    """Whether two sets of gradients are the same but for rounding."""
    assert a.keys() == b.keys()
    pairs = [(a[name], b[name]) for name in a]
    return all((x is None) == (y is None) for x, y in pairs) and all(
        np.allclose(x, y, rtol=tolerance, atol=tolerance) for x, y in pairs if x is not None
    )
