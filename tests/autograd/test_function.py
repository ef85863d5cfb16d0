"""autograd.Function: torch's contract for operations of the user's own."""

import pytest

import distgrad as dg
from distgrad.autograd import Function, grad, gradcheck, gradgradcheck
from distgrad.autograd.function import once_differentiable


def leaf(*values: float) -> dg.Tensor:
    return dg.tensor(list(values), requires_grad=True)


class Square(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g


class Exp(Function):
    """Saves its output."""

    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * y


class Cube(Function):
    """forward and setup_context apart."""

    @staticmethod
    def forward(x, scale):
        return x**3 * scale

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, ctx.scale = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * x * x * ctx.scale * g, None


# ---- values and derivatives ------------------------------------------------------------------------------------------


def test_forward_and_backward() -> None:
    x = leaf(1.0, 2.0)
    y = Square.apply(x)
    y.sum().backward()
    assert y.tolist() == [1.0, 4.0]
    assert x.grad.tolist() == [2.0, 4.0]
    assert y.grad_fn.name() == "SquareBackward"


@pytest.mark.parametrize("function", [Square.apply, Exp.apply, lambda x: Cube.apply(x, 2.0)])
def test_first_and_second_derivatives(function) -> None:
    x = dg.tensor([0.5, -1.0, 2.0], dtype=dg.float64, requires_grad=True)
    assert gradcheck(function, x)
    assert gradgradcheck(function, x)


def test_setup_context() -> None:
    x = leaf(2.0)
    Cube.apply(x, 10).backward()
    assert x.grad.tolist() == [120.0]


def test_nothing_is_recorded_without_need() -> None:
    assert Square.apply(dg.ones(2)).grad_fn is None
    with dg.no_grad():
        assert Square.apply(leaf(1.0)).grad_fn is None


def test_forward_runs_without_recording() -> None:
    class Look(Function):
        @staticmethod
        def forward(ctx, x):
            seen.append((dg.is_grad_enabled(), (x * 2).requires_grad))
            return x * 2

        @staticmethod
        def backward(ctx, g):
            seen.append((dg.is_grad_enabled(), g.requires_grad))
            return g * 2

    seen: list[tuple[bool, bool]] = []
    Look.apply(leaf(1.0)).backward()
    assert seen == [(False, False), (False, False)]


# ---- arguments -------------------------------------------------------------------------------------------------------


class Affine(Function):
    @staticmethod
    def forward(ctx, x, w, b, times, note):
        ctx.save_for_backward(x, w)
        ctx.times = times
        needs.append(ctx.needs_input_grad)
        return (x * w + b) * times

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        needs.append(ctx.needs_input_grad)
        g = g * ctx.times
        return g * w, g * x, g, None, None


needs: list[tuple[bool, ...]] = []


def test_arguments_that_are_no_tensors() -> None:
    needs.clear()
    x, w, b = leaf(1.0, 2.0), dg.tensor([3.0, 4.0]), leaf(5.0, 6.0)
    Affine.apply(x, w, b, 2, "note").sum().backward()
    assert x.grad.tolist() == [6.0, 8.0]
    assert b.grad.tolist() == [2.0, 2.0]
    assert w.grad is None
    assert needs == [(True, False, True, False, False)] * 2


def test_a_gradient_is_summed_to_its_input() -> None:
    x, b = dg.ones(2, 3, requires_grad=True), leaf(1.0, 1.0, 1.0)
    Affine.apply(x, dg.ones(3), b, 1, "").sum().backward()
    assert b.grad.tolist() == [2.0, 2.0, 2.0]


def test_too_few_or_wrong_gradients() -> None:
    class Bad(Function):
        @staticmethod
        def forward(ctx, x, y):
            return x * y

        @staticmethod
        def backward(ctx, g):
            return returned

    for wrong, match in ((dg.ones(2), "1|one"), ((dg.ones(3), dg.ones(2)), "shape"), ((1.0, None), "float|Variable")):
        returned = wrong
        with pytest.raises((RuntimeError, TypeError), match=match):
            Bad.apply(leaf(1.0, 2.0), leaf(1.0, 2.0)).sum().backward()


def test_methods_must_be_static() -> None:
    class NotStatic(Function):
        def forward(self, x):
            return x

        def backward(self, g):
            return g

    with pytest.raises((RuntimeError, TypeError)):
        NotStatic.apply(leaf(1.0))


def test_missing_methods() -> None:
    class NoForward(Function):
        pass

    class NoBackward(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

    with pytest.raises(NotImplementedError):
        NoForward.apply(leaf(1.0))
    y = NoBackward.apply(leaf(1.0))
    with pytest.raises(NotImplementedError):
        y.backward()


# ---- outputs ---------------------------------------------------------------------------------------------------------


class Split(Function):
    """Two outputs, of which a use may need only one."""

    @staticmethod
    def forward(ctx, x, materialize=True):
        ctx.set_materialize_grads(materialize)
        return x * 2, x * 3

    @staticmethod
    def backward(ctx, a, b):
        got.append((a is None, b is None))
        zero = dg.zeros(2)
        return 2 * (zero if a is None else a) + 3 * (zero if b is None else b), None


got: list[tuple[bool, bool]] = []


def test_several_outputs() -> None:
    x = leaf(1.0, 2.0)
    a, b = Split.apply(x)
    (a + b).sum().backward()
    assert x.grad.tolist() == [5.0, 5.0]


def test_an_output_that_takes_no_part() -> None:
    got.clear()
    for materialize in (True, False):
        x = leaf(1.0, 2.0)
        a, _ = Split.apply(x, materialize)
        a.sum().backward()
        assert x.grad.tolist() == [2.0, 2.0]
    assert got == [(False, False), (False, True)]


def test_outputs_without_gradient() -> None:
    class WithRank(Function):
        @staticmethod
        def forward(ctx, x):
            order = x.argsort()
            sign = x.sign()
            ctx.mark_non_differentiable(sign)
            return x * 2, order, sign

        @staticmethod
        def backward(ctx, g, *unused):
            return g * 2

    x = leaf(3.0, 1.0)
    y, order, sign = WithRank.apply(x)
    assert (y.requires_grad, order.requires_grad, sign.requires_grad) == (True, False, False)
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_the_input_as_output() -> None:
    class Identity(Function):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def backward(ctx, g):
            return g * 10

    x = leaf(1.0, 2.0)
    y = Identity.apply(x)
    assert y is not x
    y.sum().backward()
    assert x.grad.tolist() == [10.0, 10.0]


def test_a_view_as_output() -> None:
    class Flat(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.shape = x.shape
            return x.reshape(-1)

        @staticmethod
        def backward(ctx, g):
            return g.reshape(ctx.shape) * 5

    x = dg.ones(2, 2, requires_grad=True)
    Flat.apply(x * 1).sum().backward()
    assert x.grad.tolist() == [[5.0, 5.0], [5.0, 5.0]]


class Double_(Function):
    @staticmethod
    def forward(ctx, x):
        x.mul_(2)
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx, g):
        return g * 2


def test_a_dirty_input() -> None:
    x = leaf(1.0, 2.0)
    y = x * 1
    z = Double_.apply(y)
    assert z is y
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_a_dirty_view() -> None:
    x = leaf(1.0, 2.0, 3.0)
    y = x * 1
    Double_.apply(y[:2])
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0, 1.0]


def test_a_dirty_leaf_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        Double_.apply(leaf(1.0))


# ---- what was saved --------------------------------------------------------------------------------------------------


def test_a_saved_tensor_that_is_modified_is_an_error() -> None:
    x = leaf(1.0, 2.0)
    y = x * 1
    z = Square.apply(y)
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        grad(z.sum(), x, create_graph=True)


def test_what_was_saved_is_freed() -> None:
    x = leaf(1.0, 2.0)
    y = Square.apply(x)
    y.sum().backward()
    with pytest.raises(RuntimeError, match=r"second time|freed"):
        y.sum().backward()
    with pytest.raises(RuntimeError, match="freed"):
        _ = y.grad_fn.saved_tensors


def test_retain_graph_keeps_it() -> None:
    x = leaf(1.0, 2.0)
    y = Square.apply(x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [4.0, 8.0]


def test_only_tensors_can_be_saved() -> None:
    class SavesNumber(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x, None, 3)
            return x * 1

        @staticmethod
        def backward(ctx, g):
            return g

    with pytest.raises((RuntimeError, TypeError), match=r"Tensors|variables"):
        SavesNumber.apply(leaf(1.0))


def test_once_differentiable() -> None:
    class Once(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @once_differentiable
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 2 * x * g

    x = leaf(1.0, 2.0)
    Once.apply(x).sum().backward()
    assert x.grad.tolist() == [2.0, 4.0]
    (g,) = grad((Once.apply(x) * x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g.sum().backward()


def test_hooks_on_its_node() -> None:
    x = leaf(1.0, 2.0)
    y = Square.apply(x)
    seen: list[list[float]] = []
    y.grad_fn.register_hook(lambda inputs, outputs: seen.append(inputs[0].tolist()))
    y.sum().backward()
    assert seen == [[2.0, 4.0]]
