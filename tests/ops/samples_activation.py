"""Samples of the activation functions."""

from typing import Any

import numpy as np
import scipy.special

from tests.ops.samples import FLOATS, Array, Call, Samples, call, only, unary

_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def _curve(reference: Any, *extra: Call, tolerance: float = 2e-5) -> Samples:
    """A function of one tensor; the samples stay away from its kinks."""
    far = only(call(Array(values=[-30.0, -9.5, 9.5, 30.0])), grad=False)
    return Samples(
        reference,
        [*unary(low=0.1, high=2.4), *unary(low=-2.4, high=-0.1), far, *extra],
        dtypes=(*FLOATS, "bfloat16"),
        tolerance={"float32": tolerance, "bfloat16": 0.1},
    )


def _elu(x: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _gelu(x: Any, approximate: str = "none") -> Any:
    if approximate == "tanh":
        return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return x * scipy.special.ndtr(x)


def _softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    return np.where(x * beta > threshold, x, np.logaddexp(0, x * beta) / beta)


def _glu(x: Any, dim: int = -1) -> Any:
    a, b = np.split(x, 2, axis=dim)
    return a * scipy.special.expit(b)


def _prelu(x: Any, w: Any) -> Any:
    w = w.reshape(-1, *(1,) * max(x.ndim - 2, 0)) if w.size > 1 else w.reshape(())
    return np.where(x > 0, x, w * x)


def _check_rrelu(
    result: Any, x: Any, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False
) -> None:
    ratio = result / x
    assert np.all(np.where(x > 0, ratio == 1, (ratio >= lower - 1e-6) & (ratio <= upper + 1e-6)))
    if not training:
        np.testing.assert_allclose(ratio[x < 0], (lower + upper) / 2, rtol=1e-5)


def _check_gumbel(result: Any, x: Any, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> None:
    np.testing.assert_allclose(result.sum(dim), 1, rtol=1e-5)
    assert not hard or np.all((result.round() == 0) | (result.round() == 1))


SAMPLES = {
    "relu": _curve(
        lambda x, inplace=False: np.maximum(x, 0), only(call(Array(values=[0.0, -0.0, np.nan])), grad=False)
    ),
    "relu6": _curve(lambda x, inplace=False: np.clip(x, 0, 6), call(Array(3, low=6.5, high=8))),
    "leaky_relu": _curve(
        lambda x, s=0.01, inplace=False: np.where(x > 0, x, s * x),
        call(Array(2, 3, low=-2, high=-1), 0.3),
        call(Array(3, low=-2, high=-1), 1.5),
    ),
    "prelu": Samples(
        _prelu,
        [
            call(Array(2, 3, 2), Array(3)),
            call(Array(2, 3), Array(1)),
            call(Array(4), Array(1)),
            call(Array(), Array(1)),
        ],
    ),
    "rrelu": Samples(
        None,
        [call(Array(4, 5)), call(Array(4, 5), 0.2, 0.3, True), call(Array(4, 5), training=True)],
        check=_check_rrelu,
        random=True,
    ),
    "threshold": Samples(
        lambda x, t, v, inplace=False: np.where(x > t, x, v),
        [call(Array(2, 3), 0.05, -1.5), call(Array(), 0.05, 2), call(Array(0, 2), 1, 2)],
    ),
    "hardtanh": _curve(lambda x, a=-1.0, b=1.0, inplace=False: np.clip(x, a, b), call(Array(2, 3), -0.55, 0.35)),
    "hardsigmoid": _curve(lambda x, inplace=False: np.clip(x / 6 + 0.5, 0, 1), call(Array(3, low=-5, high=-4))),
    "hardswish": _curve(
        lambda x, inplace=False: x * np.clip(x + 3, 0, 6) / 6,
        call(Array(3, low=-5, high=-4)),
        call(Array(3, low=4, high=5)),
    ),
    "hardshrink": _curve(lambda x, lambd=0.5: np.where(np.abs(x) > lambd, x, 0), call(Array(2, 3), 1.05)),
    "softshrink": _curve(lambda x, lambd=0.5: np.sign(x) * np.maximum(np.abs(x) - lambd, 0), call(Array(2, 3), 1.05)),
    "elu": _curve(_elu, call(Array(2, 3), 1.7)),
    "selu": _curve(lambda x, inplace=False: _SELU_SCALE * _elu(x, _SELU_ALPHA)),
    "celu": _curve(
        lambda x, alpha=1.0, inplace=False: np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(x / alpha)),
        call(Array(2, 3), 1.7),
    ),
    "gelu": _curve(
        _gelu,
        call(Array(2, 3, 4)),
        call(Array(2, 3), approximate="tanh"),
        call(Array(values=[0.0, 0.5])),
        tolerance=2e-5,
    ),
    "silu": _curve(lambda x, inplace=False: x * scipy.special.expit(x), call(Array(2, 3, 4))),
    "mish": _curve(lambda x, inplace=False: x * np.tanh(np.logaddexp(0, x))),
    "softplus": _curve(_softplus, call(Array(2, 3), 2.0), call(Array(2, 3), 1.0, 0.5)),
    "logsigmoid": _curve(lambda x: -np.logaddexp(0, -x)),
    "softsign": _curve(lambda x: x / (1 + np.abs(x))),
    "tanhshrink": _curve(lambda x: x - np.tanh(x)),
    "glu": Samples(_glu, [call(Array(2, 4)), call(Array(4, 3), 0), call(Array(2, 6, 2), 1), call(Array(0, 4))]),
    "gumbel_softmax": Samples(
        None,
        [
            only(call(Array(3, 4)), twice=False),
            only(call(Array(3, 4), tau=0.5, dim=0), twice=False),
            only(call(Array(3, 4), hard=True), grad=False),
        ],
        check=_check_gumbel,
        random=True,
    ),
}
