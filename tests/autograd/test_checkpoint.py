"""Activation checkpointing: the same gradients from less memory."""

import tracemalloc
import weakref
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad import Tensor, nn
from distgrad.autograd import Function, gradcheck, gradgradcheck
from distgrad.utils.checkpoint import CheckpointError, checkpoint, checkpoint_sequential


def tensor(*shape: int, seed: int = 0) -> Tensor:
    return dg.tensor(np.random.default_rng(seed).standard_normal(shape)).requires_grad_()


def net(seed: int = 0) -> nn.Sequential:
    dg.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 3))


def gradients(module: nn.Module, x: Tensor, *, checkpointed: bool, **options: Any) -> list[Any]:
    module.zero_grad()
    x = x.detach().clone().requires_grad_()
    y = checkpoint(module, x, **options) if checkpointed else module(x)
    (y * y).sum().backward()
    return [y.detach().numpy(), x.grad.numpy(), *(p.grad.numpy().copy() for p in module.parameters())]


def same(a: list[Any], b: list[Any]) -> None:
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


class Cube(Function):
    """x**3, which keeps an input, an output and an attribute."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x * x * x
        ctx.save_for_backward(x, y)
        ctx.power = 3
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        x, y = ctx.saved_tensors
        return g * ctx.power * y / x


OPERATIONS = {
    "pointwise": lambda x: (x * x).tanh().exp() / (x * x + 1),
    "matrices": lambda x: (x @ x.t()).softmax(-1) @ x,
    "views": lambda x: x.reshape(2, 6).t()[1:3].transpose(0, 1) * x.sum(),
    "several outputs": lambda x: dg.cat([p * i for i, p in enumerate(x.split(1))]) + x.max(1).values.sum(),
    "in place": lambda x: (x * 2).mul_(3).add_(x).tanh_().mul_(x),
    "in place on a view": lambda x: _in_place_on_a_view(x),
    "a function of the user": lambda x: Cube.apply(x.exp()) * x,
    "indices": lambda x: x[dg.tensor([0, 2, 0])] * x.sort(1).values[dg.tensor([0, 1, 1])],
}


def _in_place_on_a_view(x: Tensor) -> Tensor:
    y = x * 1.0
    y[0].mul_(y[1])
    return y * y


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradients_of_operations(name: str) -> None:
    function = OPERATIONS[name]
    x, z = tensor(3, 4), tensor(3, 4)
    for t, y in ((x, function(x)), (z, checkpoint(function, z))):
        (y * y).sum().backward()
        assert t.grad is not None
    np.testing.assert_array_equal(x.grad.numpy(), z.grad.numpy())


@pytest.mark.parametrize("name", OPERATIONS)
def test_second_derivatives(name: str) -> None:
    function = OPERATIONS[name]

    def checkpointed(x: Tensor) -> Tensor:
        return checkpoint(function, x)  # type: ignore[no-any-return]

    assert gradcheck(checkpointed, (tensor(3, 4),))
    assert gradgradcheck(checkpointed, (tensor(3, 4),))


def test_modules() -> None:
    module, x = net(), dg.randn(5, 4)
    same(gradients(module, x, checkpointed=True), gradients(module, x, checkpointed=False))
    same(gradients(module, x, checkpointed=True, use_reentrant=True), gradients(module, x, checkpointed=False))
    for layer in (nn.LSTM(4, 3), nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)):
        results = []
        for use in (False, True):
            layer.zero_grad()
            t = dg.tensor(np.random.default_rng(1).standard_normal((5, 2, 4)).astype("float32")).requires_grad_()
            y = checkpoint(layer, t) if use else layer(t)
            y = y[0] if isinstance(y, tuple) else y
            (y * y).sum().backward()
            results.append([t.grad.numpy(), *(p.grad.numpy().copy() for p in layer.parameters())])
        same(*results)


def test_the_function_runs_once_and_again_in_backward() -> None:
    calls = []

    def function(x: Tensor) -> Tensor:
        calls.append(dg.is_grad_enabled())
        return (x * x).exp()

    x = tensor(3)
    y = checkpoint(function, x)
    assert calls == [True]
    y.sum().backward()
    assert calls == [True, True]
    with dg.no_grad():
        checkpoint(function, x)
    assert calls == [True, True, False]
    z = checkpoint(function, x.detach())  # nothing requires grad: nothing to come back for
    assert not z.requires_grad and len(calls) == 4


def held(checkpointed: bool) -> tuple[int, int]:
    """Bytes held after forward, and the peak over forward and backward, of a stack of eight blocks of 1 MiB."""
    blocks = [nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.GELU(), nn.Tanh()) for _ in range(8)]
    x = dg.randn(4096, 64).requires_grad_()
    tracemalloc.start()
    y = x
    for block in blocks:
        y = checkpoint(block, y) if checkpointed else block(y)
    after = tracemalloc.get_traced_memory()[0]
    y.sum().backward()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return after, peak


def test_memory() -> None:
    (kept, peak), (without, peak_without) = held(True), held(False)
    mib = 1 << 20
    assert kept < 10 * mib and without > 25 * mib, (kept, without)  # inputs of the blocks against all activations
    assert peak < 0.7 * peak_without, (peak, peak_without)


def test_dropout_draws_the_same_numbers_again() -> None:
    x = dg.ones(1000).requires_grad_()
    dg.manual_seed(3)
    y = checkpoint(lambda t: nn.functional.dropout(t, 0.5) * t, x)
    after = dg.rand(3)
    (y * y).sum().backward()
    assert x.grad is not None
    np.testing.assert_array_equal((x.grad.numpy() != 0), (y.detach().numpy() != 0))
    dg.manual_seed(3)
    nn.functional.dropout(dg.ones(1000), 0.5)
    np.testing.assert_array_equal(dg.rand(3).numpy(), after.numpy())  # and nothing else is disturbed
    position = dg.get_rng_state().numpy().copy()
    checkpoint(lambda t: nn.functional.dropout(t, 0.5), dg.ones(4).requires_grad_()).sum()
    dg.set_rng_state(dg.tensor(position))
    z = checkpoint(lambda t: nn.functional.dropout(t, 0.5) * t, x, preserve_rng_state=False)
    x.grad = None
    (z * z).sum().backward()
    assert (x.grad.numpy() != 0).tolist() != (z.detach().numpy() != 0).tolist()


def test_nested() -> None:
    calls = []

    def inner(x: Tensor) -> Tensor:
        calls.append("inner")
        return (x * x).tanh()

    def outer(x: Tensor) -> Tensor:
        calls.append("outer")
        return checkpoint(inner, checkpoint(inner, x).exp()) * x

    x, z = tensor(4), tensor(4)
    y = checkpoint(outer, x)
    del calls[:]
    y.sum().backward()
    assert calls.count("outer") == 1 and calls.count("inner") == 4  # in the second run of outer, and for themselves
    outer(z).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), z.grad.numpy())
    assert gradgradcheck(lambda t: checkpoint(outer, t), (tensor(4),))


def test_an_inner_checkpoint_keeps_nothing_while_the_outer_waits() -> None:
    seen: list[Any] = []

    def inner(x: Tensor) -> Tensor:
        return x.exp().exp()

    def outer(x: Tensor) -> Tensor:
        middle = x.exp()
        seen.append(weakref.ref(middle._data))
        return checkpoint(inner, middle)  # type: ignore[no-any-return]

    x = tensor(4)
    y = checkpoint(outer, x)
    assert seen[0]() is None
    y.sum().backward()
    assert x.grad is not None


def test_grad_function_and_chosen_inputs() -> None:
    x, w = tensor(3), tensor(3, seed=1)
    y = checkpoint(lambda a, scale: (a * w).tanh() * scale, x, scale=2.0)
    (g,) = dg.autograd.grad(y.sum(), [x])
    assert x.grad is None and w.grad is None
    expected = 2 * w.detach().numpy() * (1 - np.tanh(x.detach().numpy() * w.detach().numpy()) ** 2)
    np.testing.assert_allclose(g.numpy(), expected)
    z = checkpoint(lambda a: (a * w).tanh(), x)
    z.sum().backward(inputs=[w])
    assert w.grad is not None and x.grad is None


def test_any_arguments_and_results() -> None:
    def function(pair: Any, flag: bool, *, name: str, extra: Tensor | None = None) -> Any:
        a, b = pair
        return {"sum": a * b if flag else a, "name": name, "rest": (b.exp(), extra)}

    a, b = tensor(3), tensor(3, seed=1)
    result = checkpoint(function, (a, b), True, name="n")
    assert result["name"] == "n" and result["rest"][1] is None
    (result["sum"] + result["rest"][0]).sum().backward()
    np.testing.assert_allclose(b.grad.numpy(), a.detach().numpy() + np.exp(b.detach().numpy()))


def test_hooks_of_parameters_run_once() -> None:
    module, calls = net(), []
    for p in module.parameters():
        p.register_post_accumulate_grad_hook(lambda p: calls.append(1))
    checkpoint(module, dg.randn(2, 4)).sum().backward()
    assert len(calls) == len(list(module.parameters()))


def test_retain_graph_and_a_second_backward() -> None:
    x = tensor(3)
    y = checkpoint(lambda t: (t * t).exp(), x).sum()
    y.backward(retain_graph=True)
    first = x.grad.numpy().copy()
    y.backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * first)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        y.backward()


def test_contexts() -> None:
    entered = []

    @contextmanager
    def context(name: str) -> Any:
        entered.append(name)
        yield
        entered.append(f"left {name}")

    x = tensor(3)
    y = checkpoint(lambda t: t.exp(), x, context_fn=lambda: (context("first"), context("again")))
    assert entered == ["first", "left first"]
    y.sum().backward()
    assert entered[2:] == ["again", "left again"]


def test_a_part_of_the_graph_that_is_gone() -> None:
    def function(x: Tensor) -> tuple[Tensor, Tensor]:
        return x.exp(), (x * x).tanh()

    x = tensor(3)
    y, _ = checkpoint(function, x)
    del _
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.exp(x.detach().numpy()))


@pytest.mark.parametrize("segments", [1, 2, 3])
def test_sequential(segments: int) -> None:
    module, x = net(), dg.randn(5, 4).requires_grad_()
    results = []
    for function in (module, lambda t: checkpoint_sequential(module, segments, t, use_reentrant=False)):
        module.zero_grad()
        x.grad = None
        function(x).sum().backward()
        results.append([x.grad.numpy().copy(), *(p.grad.numpy().copy() for p in module.parameters())])
    same(*results)
    with pytest.raises(ValueError, match="at most as many segments as functions"):
        checkpoint_sequential(module, 7, x)


# ---- what goes wrong -------------------------------------------------------------------------------------------------


def changing(*functions: Any) -> Any:
    """Does something else at each call."""
    queue = list(functions)
    return lambda x: queue.pop(0)(x)


def test_another_number_of_operations() -> None:
    y = checkpoint(changing(lambda x: x.exp(), lambda x: x.exp().exp()), tensor(3))
    with pytest.raises(CheckpointError, match="A different number of tensors was saved during the original forward"):
        y.sum().backward()


def test_other_operations_and_shapes() -> None:
    y = checkpoint(changing(lambda x: x.exp(), lambda x: x.tanh()), tensor(3))
    with pytest.raises(CheckpointError, match=r"different metadata .* ExpBackward0 .* first and TanhBackward0"):
        y.sum().backward()
    shapes = changing(lambda x: x[:2].exp().sum(), lambda x: x[:1].exp().sum())
    with pytest.raises(CheckpointError, match=r"float64 \[2\] first and .* float64 \[1\]"):
        checkpoint(shapes, tensor(3)).backward()
    lenient = changing(lambda x: x.exp() * 2.0, lambda x: x.double().exp() * 2.0)
    checkpoint(lenient, tensor(3), determinism_check="none").sum().backward()
    with pytest.raises(ValueError, match="determinism_check to be 'default' or 'none', got 'all'"):
        checkpoint(lenient, tensor(3), determinism_check="all")


def test_inputs_that_were_changed() -> None:
    x = tensor(3) * 1.0
    y = checkpoint(lambda t: t.exp(), x)
    x.add_(1)
    with pytest.raises(CheckpointError, match="an input of the function was modified by an inplace operation"):
        y.sum().backward()


def test_an_error_in_the_function_leaves_no_trace() -> None:
    def fails(x: Tensor) -> Tensor:
        raise ValueError("planted")

    x = tensor(3)
    with pytest.raises(ValueError, match="planted"):
        checkpoint(fails, x)
    y = x.exp()
    y.sum().backward()
    assert x.grad is not None
    with pytest.raises(ValueError, match="planted"):
        checkpoint(changing(lambda t: t.exp(), fails), x).sum().backward()
    x.tanh().sum().backward()
