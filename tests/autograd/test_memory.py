"""What the graph keeps alive: no more than its gradients need, and no cycles."""

import gc
import weakref
from collections.abc import Callable

import numpy as np
import pytest

import distgrad as dg
from distgrad.autograd import Function


class Memory:
    """Arrays whose end can be seen: NumPy arrays take no weak references, so the base of a view is watched."""

    def __init__(self) -> None:
        self.watched: dict[str, weakref.ref[object]] = {}

    def tensor(self, name: str, requires_grad: bool = False) -> dg.Tensor:
        owner = _Owner(1000)
        self.watched[name] = weakref.ref(owner)
        return dg.from_numpy(np.asarray(owner)).requires_grad_(requires_grad)

    def alive(self) -> set[str]:
        return {name for name, reference in self.watched.items() if reference() is not None}


class _Owner:
    """Lends its memory to an array, which then keeps it alive."""

    def __init__(self, size: int) -> None:
        self._memory = np.ones(size, dtype=np.float32)
        self.__array_interface__ = self._memory.__array_interface__


@pytest.fixture(autouse=True)
def no_collector() -> object:
    """Without the cycle collector: what dies here dies by its reference count."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_the_watch_works() -> None:
    memory = Memory()
    t = memory.tensor("t")
    assert memory.alive() == {"t"}
    view = t[:5]
    del t
    assert memory.alive() == {"t"}
    del view
    assert memory.alive() == set()


def test_a_sum_pins_nothing() -> None:
    memory = Memory()
    w = dg.ones(1000, requires_grad=True)
    a, b = memory.tensor("a"), memory.tensor("b")
    y = (w + a) - b
    del a, b
    assert memory.alive() == set()
    y.sum().backward()
    assert w.grad.tolist() == [1.0] * 1000


def test_a_product_pins_only_the_factor_that_it_needs() -> None:
    memory = Memory()
    w = dg.ones(1000, requires_grad=True)
    y = w * memory.tensor("a")
    assert memory.alive() == {"a"}
    frozen = dg.ones(1000)
    z = memory.tensor("b", requires_grad=True) * 1
    z = (z + 0) * frozen  # needs frozen, and not z's own values
    assert memory.alive() == {"a", "b"}  # b: the leaf that the gradient flows to
    del y, z
    assert memory.alive() == set()


def test_backward_frees_what_was_saved() -> None:
    memory = Memory()
    w = dg.ones(1000, requires_grad=True)
    y = (w * memory.tensor("a")).sum()
    y.backward(retain_graph=True)
    assert memory.alive() == {"a"}
    y.backward()
    assert memory.alive() == set()


def test_a_function_frees_what_it_saved() -> None:
    class Product(Function):
        @staticmethod
        def forward(ctx, x, y):
            ctx.save_for_backward(x, y)
            return x * y

        @staticmethod
        def backward(ctx, g):
            x, y = ctx.saved_tensors
            return g * y, g * x

    memory = Memory()
    w = dg.ones(1000, requires_grad=True)
    y = Product.apply(w, memory.tensor("a")).sum()
    assert memory.alive() == {"a"}
    y.backward()
    assert memory.alive() == set()


def test_a_detached_result_keeps_no_graph() -> None:
    memory = Memory()
    w = dg.ones(1000, requires_grad=True)
    y = (w * memory.tensor("a")).detach()
    assert memory.alive() == set()
    assert y.shape == (1000,)


def test_a_view_taken_under_no_grad_in_inference_mode_keeps_no_graph() -> None:
    memory = Memory()
    w = dg.ones(1000, requires_grad=True)
    y = w * memory.tensor("a")
    with dg.inference_mode():
        first = y[0]
    del y
    assert memory.alive() == set()
    assert first.item() == 1.0


def _step() -> None:
    w = dg.ones(4, 3, requires_grad=True)
    x = dg.ones(2, 4)
    h = x.matmul(w).tanh().exp() * 1
    v = h[0]
    v.mul_(2)
    (h.mean() + h.reshape(-1).sum()).backward()


def _function_step() -> None:
    class Exp(Function):
        @staticmethod
        def forward(ctx, x):
            y = x.exp()
            ctx.save_for_backward(x, y)
            return y

        @staticmethod
        def backward(ctx, g):
            return g * ctx.saved_tensors[1]

    x = dg.ones(3, requires_grad=True)
    y = Exp.apply(x * 2)
    y.sum().backward(retain_graph=True)
    dg.autograd.grad(y.sum(), x, create_graph=True)


def _hook_step() -> None:
    x = dg.ones(3, requires_grad=True)
    y = x * 2
    y.retain_grad()
    y.register_hook(lambda g: g * 2)
    x.register_post_accumulate_grad_hook(lambda p: None)
    y.sum().backward()


def _double_step() -> None:
    x = dg.ones(3, requires_grad=True)
    (g,) = dg.autograd.grad((x.exp() * x).sum(), x, create_graph=True)
    (g * g).sum().backward()


@pytest.mark.parametrize("step", [_step, _function_step, _hook_step, _double_step])
def test_a_step_leaves_no_cycle(step: Callable[[], None]) -> None:
    step()
    gc.collect()
    for _ in range(3):
        step()
    if step is _function_step:  # a class made in a function is a cycle of its own
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        gc.set_debug(0)
        garbage = [o for o in gc.garbage if isinstance(o, (dg.Tensor, np.ndarray)) or "distgrad" in type(o).__module__]
        gc.garbage.clear()
        assert garbage == []
    else:
        assert gc.collect() == 0
