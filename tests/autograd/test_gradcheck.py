"""gradcheck itself: it passes what is right and notices what is wrong."""

import warnings

import pytest

import distgrad as dg
from distgrad.autograd import Function, gradcheck, gradgradcheck


def leaf(*values: float, dtype: dg.dtype = dg.float64) -> dg.Tensor:
    return dg.tensor(list(values), dtype=dtype, requires_grad=True)


class WrongScale(Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return g * 2.01


class Unrepeatable(Function):
    count = 0

    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        Unrepeatable.count += 1
        return g * (2 + 1e-7 * Unrepeatable.count)


def test_right_gradients() -> None:
    x, y = leaf(0.5, -1.0), leaf(2.0, 3.0)
    assert gradcheck(lambda a, b: (a * b, a.exp() + b), (x, y))
    assert gradgradcheck(lambda a, b: (a * b, a.exp() + b), (x, y))
    assert gradcheck(lambda a: (a * a).sum(), x)
    assert gradcheck(lambda a: a[0] * 2, [x])


@pytest.mark.parametrize("fast_mode", [False, True])
def test_a_wrong_gradient(fast_mode: bool) -> None:
    with pytest.raises(RuntimeError, match="mismatch"):
        gradcheck(WrongScale.apply, leaf(1.0, 2.0), fast_mode=fast_mode)
    assert not gradcheck(WrongScale.apply, leaf(1.0, 2.0), raise_exception=False, fast_mode=fast_mode)
    assert gradcheck(WrongScale.apply, leaf(1.0, 2.0), atol=0.1, fast_mode=fast_mode)


def test_a_missing_gradient() -> None:
    assert not gradcheck(lambda a: a.detach() * a, leaf(1.0), raise_exception=False)
    assert not gradcheck(lambda a: a.detach() * 2, leaf(1.0), raise_exception=False)
    assert gradcheck(lambda a: dg.ones(2, dtype=dg.float64), leaf(1.0))


def test_an_unrepeatable_backward() -> None:
    assert not gradcheck(Unrepeatable.apply, leaf(1.0), raise_exception=False)
    assert gradcheck(Unrepeatable.apply, leaf(1.0), nondet_tol=1e-5)


def test_a_wrong_second_derivative() -> None:
    class Square(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, g):
            return g * 2 * ctx.saved_tensors[0].detach()

    assert gradcheck(Square.apply, leaf(1.0, 2.0))
    assert not gradgradcheck(Square.apply, leaf(1.0, 2.0), raise_exception=False)


def test_an_input_that_is_its_own_output() -> None:
    assert gradcheck(lambda a: (a, a * 2), leaf(1.0, 2.0))
    assert gradgradcheck(lambda a, b: a + b, (leaf(1.0), leaf(2.0)))


def test_given_output_gradients() -> None:
    assert gradgradcheck(lambda a: a * a, leaf(1.0, 2.0), [leaf(0.5, 0.25)])
    assert gradgradcheck(lambda a: a * a, leaf(1.0, 2.0), gen_non_contig_grad_outputs=True)


def test_inputs_are_left_as_they_were() -> None:
    x = leaf(0.1, 0.7)
    gradcheck(lambda a: a.exp(), x)
    assert x.tolist() == [0.1, 0.7]
    assert x.grad is None


def test_what_cannot_be_checked() -> None:
    with pytest.raises(ValueError, match=r"requires? grad"):
        gradcheck(lambda a: a, dg.ones(2, dtype=dg.float64))
    with pytest.raises(RuntimeError):
        gradcheck(lambda a: a * 2, dg.ones(1, dtype=dg.float64).expand(3).detach().requires_grad_())


def test_float32_is_warned_of() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gradcheck(lambda a: a * 2, leaf(1.0, dtype=dg.float32), raise_exception=False)
    assert len(caught) == 1


def test_a_wrong_dtype_of_a_gradient() -> None:
    x = leaf(1.0)
    assert gradcheck(lambda a: (a.float() * 2).double(), x, eps=1e-2, check_grad_dtypes=True)


def test_empty_and_0d_inputs() -> None:
    assert gradcheck(lambda a: a * 2, dg.ones(0, 2, dtype=dg.float64, requires_grad=True))
    assert gradcheck(lambda a: a * a, dg.tensor(1.5, dtype=dg.float64, requires_grad=True))
