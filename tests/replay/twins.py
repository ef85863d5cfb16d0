"""Two copies of one experiment, one eager and one compiled, which must never differ in a bit."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

import distgrad as dg
from distgrad import nn, optim

CALLS = 8  # three to record, the rest to replay


def mlp(dropout: float = 0.0, norm: bool = False) -> nn.Module:
    """A small classifier."""
    hidden = [nn.BatchNorm1d(8)] if norm else []
    return nn.Sequential(nn.Linear(4, 8), *hidden, nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 3))


def world(model: Callable[[], Any] = mlp, optimizer: Callable[[Any], Any] | None = None) -> SimpleNamespace:
    """A model, an optimizer and whatever a test adds."""
    dg.manual_seed(0)
    made = model()
    make = (lambda p: optim.SGD(p, lr=0.1)) if optimizer is None else optimizer
    return SimpleNamespace(model=made, optimizer=make(made.parameters()))


def batch(i: int, n: int = 6) -> tuple[Any, Any]:
    """Inputs and classes of step `i`."""
    rng = np.random.default_rng(i)
    return dg.tensor(rng.standard_normal((n, 4)).astype("f")), dg.tensor(rng.integers(0, 3, n))


def plain_step(w: Any) -> Callable[..., Any]:
    """The usual training step."""
    model, optimizer = w.model, w.optimizer

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def state(w: Any) -> list[bytes]:
    """All parameters, buffers and gradients."""
    arrays = [t._data.tobytes() for t in (*w.model.parameters(), *w.model.buffers())]
    grads = [b"" if p.grad is None else p.grad._data.tobytes() for p in w.model.parameters()]
    return arrays + grads


def values(result: Any) -> Any:
    """What a step returned, to compare."""
    if isinstance(result, (tuple, list)):
        return [values(part) for part in result]
    if isinstance(result, dict):
        return {key: values(part) for key, part in result.items()}
    return result.detach().numpy().tobytes() if isinstance(result, dg.Tensor) else result


class Twins:
    """Runs both copies side by side.

    Args:
        make: builds a copy.
        step: builds the step of a copy.
    """

    def __init__(self, make: Callable[[], Any], step: Callable[[Any], Callable[..., Any]] = plain_step) -> None:
        self.eager, self.other = make(), make()
        self.step = step(self.eager)
        self.compiled = dg.compile(step(self.other))
        self._stream: Any = None

    def both(self, change: Callable[[Any], Any]) -> None:
        """Does something to both copies."""
        change(self.eager)
        change(self.other)

    def call(self, *args: Any) -> None:
        """One step of both from the same random stream; compares results, state and stream."""
        before = dg.get_rng_state()
        expected = self.step(*args)
        after = dg.get_rng_state()
        dg.set_rng_state(before)
        found = self.compiled(*args)
        assert values(found) == values(expected)
        assert state(self.other) == state(self.eager)
        assert bool((dg.get_rng_state() == after).all()), "another number of random numbers was drawn"

    def calls(self, count: int = CALLS, start: int = 0, n: int = 6) -> int:
        """Several steps on new batches; how many of them were replayed."""
        before = self.compiled.replays
        for i in range(start, start + count):
            self.call(*batch(i, n))
        return self.compiled.replays - before
