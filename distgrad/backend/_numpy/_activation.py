"""ReLU; GELU and SiLU in blocks that stay in cache.

The error function in float32 is ``tanh(x P(x^2))`` with a polynomial P of degree 6, fitted (weighted least squares by
Lawson's method on Chebyshev points of [0, 4]) so that its relative error stays below 1e-7: NumPy's tanh is vectorised,
and beyond 4 the result is 1, for x P(x^2) goes on growing.
"""

from collections.abc import Callable

import numpy as np

from ..._typing import Array
from . import _special
from ._scratch import scratch

_BLOCK = 32768  # elements: the four float32 blocks in use fill half of a second-level cache of 1 MiB
_ERF = (
    1.4184972e-07,
    -5.6684293e-06,
    8.7637026e-05,
    -6.1978380e-04,
    -1.9183188e-04,
    1.0276906e-01,
    1.1283793e00,
)
# The same for erf(x / sqrt(2)): the k-th power of x^2 takes 2**-k, and x itself 2**-0.5.
_ERF_HALF = tuple(c * 0.5 ** (len(_ERF) - 1 - k) * 0.5**0.5 for k, c in enumerate(_ERF))
_MANY, _TOO_MANY, _ROW = 8192, 1 << 20, 1024  # elements for which `relu` goes by rows, which fit caches; of a row
_SQRT_HALF = 0.5**0.5
_INV_SQRT_TWO_PI = 0.3989422804014327
_SQRT_TWO_OVER_PI = 0.7978845608028654
_TANH_CUBE = 0.044715

_Work = tuple[Array, Array]
_Step = Callable[..., None]


def _run(step: _Step, *arrays: Array) -> Array:
    """Calls ``step(*blocks, block of the result, two scratch blocks)`` for matching blocks of arrays of one shape.

    The arrays are read, and the result is laid out, in the order of the first one's memory.
    """
    first = arrays[0]
    order = tuple(sorted(range(first.ndim), key=lambda i: -abs(first.strides[i])))
    flat = [np.ascontiguousarray(a.transpose(order)).reshape(-1) for a in arrays]
    out = np.empty([first.shape[i] for i in order], dtype=first.dtype)
    target = out.reshape(-1)
    size = min(_BLOCK, target.size)
    work = scratch("activation.a", (size,), first.dtype), scratch("activation.b", (size,), first.dtype)
    for start in range(0, target.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        y = target[part]
        step(*(a[part] for a in flat), y, *(w[: y.size] for w in work))
    return out.transpose(np.argsort(order)) if out.ndim > 1 else out


def _erf_half(x: Array, z: Array, u: Array) -> None:
    """z = erf(x / sqrt(2)); u is overwritten."""
    if x.dtype != np.float32:
        z[...] = _special.erf(x * x.dtype.type(_SQRT_HALF))
        return
    np.multiply(x, x, out=u)
    np.multiply(u, _ERF_HALF[0], out=z)
    for c in _ERF_HALF[1:-1]:
        z += c
        z *= u
    z += _ERF_HALF[-1]
    z *= x
    np.tanh(z, out=z)


def _tanh_term(x: Array, z: Array) -> None:
    """z = the tanh of GELU's approximation."""
    np.multiply(x, x, out=z)
    z *= _TANH_CUBE * _SQRT_TWO_OVER_PI
    z += _SQRT_TWO_OVER_PI
    z *= x
    np.tanh(z, out=z)


def _gelu_erf(x: Array, y: Array, z: Array, u: Array) -> None:
    _erf_half(x, z, u)
    z += 1
    np.multiply(x, 0.5, out=y)
    y *= z


def _gelu_tanh(x: Array, y: Array, z: Array, u: Array) -> None:
    _tanh_term(x, z)
    z += 1
    np.multiply(x, 0.5, out=y)
    y *= z


def _gelu_erf_slope(x: Array, g: Array, y: Array, out: Array, z: Array, u: Array) -> None:
    """cdf(x) + x pdf(x); the cdf is y / x, and 1/2 at 0."""
    np.multiply(x, x, out=z)
    z *= -0.5
    np.exp(z, out=z)
    z *= _INV_SQRT_TWO_PI
    z *= x
    np.divide(y, x, out=u)
    z += u
    if not np.isfinite(z.sum()):  # nan at 0, or in what was given
        z[x == 0] = 0.5
    np.multiply(z, g, out=out)


def _gelu_tanh_slope(x: Array, g: Array, y: Array, out: Array, z: Array, u: Array) -> None:
    # With t the tanh and v its argument: (1 + t) / 2 + x / 2 (1 - t^2) v' = (1 + t) / 2 * (1 + x (1 - t) v').
    _tanh_term(x, z)
    np.multiply(x, x, out=u)
    u *= 3 * _TANH_CUBE * _SQRT_TWO_OVER_PI
    u += _SQRT_TWO_OVER_PI
    u *= x
    np.multiply(u, z, out=out)
    u -= out
    u += 1
    z += 1
    z *= 0.5
    z *= u
    np.multiply(z, g, out=out)


def _silu(x: Array, y: Array, z: Array, u: Array) -> None:
    np.negative(x, out=z)
    np.exp(z, out=z)
    z += 1
    np.divide(x, z, out=y)


def _silu_slope(x: Array, g: Array, out: Array, z: Array, u: Array) -> None:
    # s (1 + x (1 - s)) with the sigmoid s = 1 / (1 + e): s + s x (e s).
    np.negative(x, out=u)
    np.exp(u, out=u)
    np.add(u, 1, out=z)
    np.reciprocal(z, out=z)
    np.subtract(1, z, out=u)
    u *= x
    u += 1
    z *= u
    np.multiply(z, g, out=out)


def gelu(x: Array, by_tanh: bool) -> Array:
    """``x / 2 * (1 + erf(x / sqrt(2)))``, or its tanh form."""
    return _run(_gelu_tanh if by_tanh else _gelu_erf, x)


def gelu_backward(g: Array, x: Array, y: Array, by_tanh: bool) -> Array:
    """The gradient of `gelu` with result y."""
    return _run(_gelu_tanh_slope if by_tanh else _gelu_erf_slope, x, g, y)


def silu(x: Array) -> Array:
    """``x / (1 + exp(-x))``."""
    return _run(_silu, x)


def silu_backward(g: Array, x: Array) -> Array:
    """The gradient of `silu`: ``g s (1 + x (1 - s))`` with the sigmoid s."""
    return _run(_silu_slope, x, g)


def relu(x: Array) -> Array:
    """``max(x, 0)``, and nan where x is. NumPy's loop over two arrays is vectorised, that with a number is not."""
    if not _MANY <= x.size < _TOO_MANY or x.dtype.char not in "fd":
        return np.maximum(x, 0)
    out = np.empty_like(x)
    if out.strides != x.strides:  # x has gaps
        return np.maximum(x, 0, out=out)
    flat, result = x.ravel(order="K"), out.ravel(order="K")  # views: there are no gaps
    whole = x.size // _ROW * _ROW
    zeros = np.zeros(_ROW, x.dtype)
    np.maximum(flat[:whole].reshape(-1, _ROW), zeros, out=result[:whole].reshape(-1, _ROW))
    np.maximum(flat[whole:], 0, out=result[whole:])
    return out


def relu_backward(g: Array, y: Array) -> Array:
    """The gradient of ``y = max(x, 0)``."""
    return g * (y > 0)
