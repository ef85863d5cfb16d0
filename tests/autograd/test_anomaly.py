"""Anomaly mode: errors of backward name the forward line, and nan is an error."""

import traceback

import pytest

import distgrad as dg
from distgrad.autograd import Function, detect_anomaly, set_detect_anomaly
from distgrad.autograd._mode import intercepts


class Fails(Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    def backward(ctx, g):
        raise ZeroDivisionError("planted")


def full_text(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def test_an_error_in_backward_names_the_forward_line() -> None:
    x = dg.ones(2, requires_grad=True)
    with detect_anomaly():
        y = Fails.apply(x)  # the line to be named
        with pytest.raises(ZeroDivisionError) as caught:
            (y * 2).sum().backward()
    text = full_text(caught.value)
    assert "FailsBackward was recorded by this forward call" in text
    assert "y = Fails.apply(x)  # the line to be named" in text
    assert "distgrad/autograd/_function.py" not in text.partition("was recorded")[2]


def test_a_modified_tensor_names_the_forward_line() -> None:
    x = dg.ones(2, requires_grad=True)
    with detect_anomaly():
        a = x * 2
        b = a * a  # saved here
        a.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation") as caught:
            b.sum().backward()
    assert "b = a * a  # saved here" in full_text(caught.value)


def test_nan_in_a_gradient_is_an_error() -> None:
    x = dg.zeros(2, requires_grad=True)
    with (
        detect_anomaly(),
        pytest.raises(RuntimeError, match="'SqrtBackward0' returned nan values in its 0th output") as caught,
    ):
        y = (x * 0).sqrt()  # infinite slope
        (y * 0).sum().backward()
    assert "# infinite slope" in full_text(caught.value)


def test_nan_is_noticed_when_only_backward_is_watched() -> None:
    x = dg.zeros(2, requires_grad=True)
    y = ((x * 0).sqrt() * 0).sum()
    with detect_anomaly(), pytest.raises(RuntimeError, match="returned nan values"):
        y.backward()


def test_nan_in_a_second_derivative() -> None:
    x = dg.zeros(2, requires_grad=True)
    with detect_anomaly(), pytest.raises(RuntimeError, match="returned nan values"):
        dg.autograd.grad(((x * 0).sqrt() * 0).sum(), x, create_graph=True)


def test_nan_may_be_let_pass() -> None:
    x = dg.zeros(2, requires_grad=True)
    with detect_anomaly(check_nan=False):
        ((x * 0).sqrt() * 0).sum().backward()
    assert x.grad.isnan().all()


def test_a_good_pass_is_as_without() -> None:
    x = dg.ones(3, requires_grad=True)
    with detect_anomaly():
        (x.exp() * x + 2 - x / 3).sum().backward()
    watched = x.grad
    x.grad = None
    (x.exp() * x + 2 - x / 3).sum().backward()
    assert dg.equal(watched, x.grad)


def test_nothing_is_left_on() -> None:
    before = intercepts.active
    with detect_anomaly():
        assert dg.autograd.is_anomaly_enabled() and dg.autograd.is_anomaly_check_nan_enabled()
        with set_detect_anomaly(False):
            assert not dg.autograd.is_anomaly_enabled()
        with detect_anomaly(check_nan=False):
            assert not dg.autograd.is_anomaly_check_nan_enabled()
        assert dg.autograd.is_anomaly_enabled() and dg.autograd.is_anomaly_check_nan_enabled()
    assert not dg.autograd.is_anomaly_enabled() and not dg.autograd.is_anomaly_check_nan_enabled()
    set_detect_anomaly(True)
    set_detect_anomaly(True)
    assert dg.autograd.is_anomaly_enabled()
    set_detect_anomaly(False)
    assert not dg.autograd.is_anomaly_enabled()
    assert intercepts.active == before
