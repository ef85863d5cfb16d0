"""Activations: accuracy, special values, in-place forms and errors."""

import numpy as np
import pytest
import scipy.special

import distgrad
import distgrad.nn.functional as F
from distgrad.errors import AutogradError, ShapeError


def test_gelu_in_single_precision() -> None:
    """The fitted error function keeps GELU and its gradient within a few float32 roundings over the whole range."""
    x = np.concatenate((np.linspace(-12, 12, 20001), [0.0, -0.0, 1e-30, 1e-8, 1e4, -1e4])).astype(np.float32)
    t = distgrad.from_numpy(x).requires_grad_()
    y = F.gelu(t)
    y.sum().backward()
    wide = x.astype(np.float64)
    np.testing.assert_allclose(y.detach().numpy(), wide * scipy.special.ndtr(wide), rtol=3e-7, atol=8e-7)
    slope = scipy.special.ndtr(wide) + wide * np.exp(-wide * wide / 2) / np.sqrt(2 * np.pi)
    assert t.grad is not None
    np.testing.assert_allclose(t.grad.numpy(), slope, atol=1e-6)


def test_nan_passes_through() -> None:
    x = distgrad.tensor([float("nan"), 1.0])
    for function in (F.relu, F.leaky_relu, F.elu, F.gelu, F.silu, F.softplus, F.mish, F.hardtanh, F.hardswish, F.relu6):
        assert np.isnan(function(x).numpy()).tolist() == [True, False], function.__name__


def test_large_values_do_not_overflow() -> None:
    x = distgrad.tensor([-1e4, 1e4])
    for function, expected in (
        (F.silu, [0, 1e4]),
        (F.softplus, [0, 1e4]),
        (F.mish, [0, 1e4]),
        (F.logsigmoid, [-1e4, 0]),
        (F.elu, [-1, 1e4]),
    ):
        np.testing.assert_allclose(function(x).numpy(), expected, atol=1e-6)


def test_activations_keep_the_layout() -> None:
    """A result is laid out as its input, so channels-last chains stay so."""
    x = distgrad.randn(2, 4, 5, 3).permute(0, 3, 1, 2)
    for function in (F.relu, F.gelu, F.silu):
        assert function(x).stride() == x.stride(), function.__name__


def test_in_place_forms_keep_the_history() -> None:
    x = distgrad.tensor([-1.0, 2.0], requires_grad=True)
    y = x * 3
    assert F.relu(y, inplace=True) is y and y.tolist() == [0.0, 6.0]
    y.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0.0, 3.0]
    for function in (F.relu_, F.elu_, F.selu_, F.celu_, F.leaky_relu_, F.hardtanh_, F.rrelu_):
        t = distgrad.tensor([-1.0, 2.0])
        assert function(t) is t and (t[0].item() != -1.0 or function is F.hardtanh_)
    t = distgrad.tensor([-1.0, 2.0])
    assert F.threshold_(t, 0.0, 9.0).tolist() == [9.0, 2.0]
    with pytest.raises(AutogradError, match="leaf"):
        F.relu_(x)


def test_softmax_without_a_dimension_warns_as_torch_does() -> None:
    with pytest.warns(UserWarning, match="implicit dimension"):
        assert F.softmax(distgrad.zeros(2, 4))[0, 0].item() == 0.25
    assert F.softmax(distgrad.zeros(2, 4), dim=0, dtype=distgrad.float64).dtype == distgrad.float64


def test_errors() -> None:
    with pytest.raises(ValueError, match="'none' or 'tanh', got 'erf'"):
        F.gelu(distgrad.zeros(2), approximate="erf")
    with pytest.raises(ShapeError, match="even size"):
        F.glu(distgrad.zeros(3))
    with pytest.raises(ShapeError, match="1 or 3 elements"):
        F.prelu(distgrad.zeros(2, 3), distgrad.zeros(2))
    with pytest.raises(ValueError, match="lambd >= 0"):
        F.softshrink(distgrad.zeros(2), -1.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int64])
def test_relu_of_many_elements_in_any_layout(dtype: type) -> None:
    x = (10 * np.random.default_rng(0).standard_normal((6, 5, 20, 33))).astype(dtype)
    if dtype is not np.int64:
        x[1, 2, 3, 4], x[2, 3, 4, 5], x[3, 4, 5, 6] = np.nan, np.inf, -np.inf
    for same in (x, x.transpose(0, 2, 3, 1), x[:, ::-1], x[..., :32], x[:, :, None], np.broadcast_to(x[0], x.shape)):
        result = F.relu(distgrad.from_numpy(same)).numpy()
        np.testing.assert_array_equal(result, np.where(same < 0, 0, same))
        assert result.dtype == dtype
