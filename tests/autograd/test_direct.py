"""Gradients that an operation writes to their final place in the arena, and the cases in which it must not."""

from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad import nn, optim
from distgrad.nn import functional as F


def layer(dtype: Any = dg.float32) -> Any:
    """A layer whose parameters lie in an arena, without gradients."""
    made = nn.Linear(3, 4).to(dtype)
    optimizer = optim.SGD(made.parameters(), lr=0.0)
    made(dg.ones(2, 3, dtype=dtype)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    return made


def plain(made: Any) -> Any:
    """The same layer outside any arena."""
    other = nn.Linear(3, 4).to(made.weight.dtype)
    other.load_state_dict(made.state_dict())
    return other


X = dg.tensor(np.random.default_rng(0).normal(size=(5, 3)).astype("float32"))


def slot(p: Any) -> Any:
    return p._extra.grad_slot


@pytest.mark.parametrize("dtype", [dg.float32, dg.float64, dg.float16])
def test_is_written_in_place_and_right(dtype: Any) -> None:
    made = layer(dtype)
    other = plain(made)
    for net in (made, other):
        F.mse_loss(net(X.to(dtype)), dg.ones(5, 4, dtype=dtype)).backward()
    assert made.weight.grad is slot(made.weight)
    assert dg.equal(made.weight.grad, other.weight.grad)


def test_no_array_of_its_size_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made = layer()
    seen: list[Any] = []
    products = dg.backend.CPU.kernels.products  # all matrix products of operations go through it
    plain_matmul = np.matmul

    def spy(*args: Any, out: Any = None, **options: Any) -> Any:
        seen.append(out)
        return plain_matmul(*args, out=out, **options)

    monkeypatch.setattr(products, "_matmul", spy)
    made(X).sum().backward()
    assert any(out is slot(made.weight)._data for out in seen)


def check(run: Any) -> None:
    """`run(layer)` leaves the same gradients in an arena as outside."""
    made = layer()
    other = plain(made)
    run(made)
    run(other)
    assert dg.allclose(made.weight.grad, other.weight.grad)
    assert dg.allclose(made.bias.grad, other.bias.grad)


def test_used_twice() -> None:
    check(lambda net: (net(X) * net(X + 1)).sum().backward())


def test_used_by_another_operation_too() -> None:
    check(lambda net: (net(X).sum() + (net.weight**2).sum()).backward())
    check(lambda net: ((net.weight**2).sum() + net(X).sum()).backward())


def test_accumulates() -> None:
    def run(net: Any) -> None:
        net(X).sum().backward()
        (net(X) ** 2).sum().backward()

    check(run)


def test_a_hook_sees_and_changes_the_gradient() -> None:
    def run(net: Any) -> None:
        handle = net.weight.register_hook(lambda g: g * 2)
        net(X).sum().backward()
        handle.remove()

    check(run)


def test_grad_leaves_the_arena_alone() -> None:
    made = layer()
    slot(made.weight)._data[...] = 7
    (g,) = dg.autograd.grad(made(X).sum(), made.weight)
    assert made.weight.grad is None
    assert (slot(made.weight)._data == 7).all()
    assert not np.shares_memory(g.numpy(), slot(made.weight)._data)


def test_create_graph_bypasses_it() -> None:
    made = layer()
    (made(X) ** 2).sum().backward(create_graph=True)
    assert made.weight.grad.requires_grad
    assert made.weight.grad is not slot(made.weight)
