"""GELU and SiLU in blocks that stay in cache.

The error function in float32 is ``tanh(x P(x^2))`` with a polynomial P of degree 6, fitted (Lawson's weighted least squares on Chebyshev
points of [0, 4]) so that the relative error stays below 3e-7: NumPy's tanh is vectorised, and beyond 4 both are 1 in float32.
"""

from collections.abc import Iterator

import numpy as np

from ..._typing import Array
from . import _special
from ._scratch import scratch

_BLOCK = 8192  # elements: a few float32 blocks fit in the first-level cache and its neighbour
_ERF = (1.41849017e-07, -5.6684182e-06, 8.76369624e-05, -0.000619783637, -0.00019183204, 0.102769056, 1.12837927)
# The same for erf(x / sqrt(2)) as a polynomial of x^2: the k-th power of x^2 takes 2**-k, and x itself 2**-0.5.
_ERF_HALF = tuple(c * 0.5 ** (len(_ERF) - 1 - k) * 0.5**0.5 for k, c in enumerate(_ERF))
_LIMIT = 4.0 * 2**0.5
_SQRT_HALF = 0.5**0.5
_INV_SQRT_TWO_PI = 0.3989422804014327
_SQRT_TWO_OVER_PI = 0.7978845608028654
_TANH_CUBE = 0.044715


def _blocks(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """Matching blocks of contiguous arrays of one shape."""
    flat = [a.reshape(-1) for a in arrays]
    for start in range(0, flat[0].size, _BLOCK):
        yield tuple(a[start : start + _BLOCK] for a in flat)


def _dense(*arrays: Array) -> tuple[tuple[Array, ...], tuple[int, ...]]:
    """The arrays with axes in the order of the first one's memory, all contiguous; and that order."""
    first = arrays[0]
    order = tuple(sorted(range(first.ndim), key=lambda i: -abs(first.strides[i])))
    return tuple(np.ascontiguousarray(a.transpose(order)) for a in arrays), order


def _restored(a: Array, order: tuple[int, ...]) -> Array:
    return a.transpose(np.argsort(order)) if a.ndim > 1 else a


def _cdf_term(x: Array, name: str) -> Array:
    """erf(x / sqrt(2)) of a block, in scratch memory."""
    if x.dtype != np.float32:
        return _special.erf(x * x.dtype.type(_SQRT_HALF))
    z = np.clip(x, -_LIMIT, _LIMIT, out=scratch(name, x.shape, x.dtype))
    u = np.multiply(z, z, out=scratch("activation.u", x.shape, x.dtype))
    p = np.multiply(u, np.float32(_ERF_HALF[0]), out=scratch("activation.p", x.shape, x.dtype))
    for c in _ERF_HALF[1:-1]:
        p += np.float32(c)
        p *= u
    p += np.float32(_ERF_HALF[-1])
    z *= p
    return np.tanh(z, out=z)


def _tanh_term(x: Array, name: str) -> Array:
    """The tanh of GELU's approximation."""
    z = np.multiply(x, x, out=scratch(name, x.shape, x.dtype))
    z *= _TANH_CUBE * _SQRT_TWO_OVER_PI
    z += _SQRT_TWO_OVER_PI
    z *= x
    return np.tanh(z, out=z)


def gelu(x: Array, by_tanh: bool) -> Array:
    """``x / 2 * (1 + erf(x / sqrt(2)))``, or its tanh form."""
    (dense,), order = _dense(x)
    out = np.empty_like(dense)
    term = _tanh_term if by_tanh else _cdf_term
    for part, y in _blocks(dense, out):
        t = term(part, "activation.z")
        t += 1
        t *= 0.5
        np.multiply(t, part, out=y)
    return _restored(out, order)


def gelu_backward(g: Array, x: Array, y: Array, by_tanh: bool) -> Array:
    """The gradient of `gelu` with result y."""
    (dense, grad, value), order = _dense(x, g, y)
    out = np.empty_like(dense)
    step = _tanh_slope if by_tanh else _erf_slope
    for part, gradient, result, target in _blocks(dense, grad, value, out):
        np.multiply(step(part, result), gradient, out=target)
    return _restored(out, order)


def _erf_slope(x: Array, y: Array) -> Array:
    """cdf(x) + x pdf(x); the cdf is y / x, and 1/2 at 0."""
    slope = np.multiply(x, x, out=scratch("activation.z", x.shape, x.dtype))
    slope *= -0.5
    np.exp(slope, out=slope)
    slope *= _INV_SQRT_TWO_PI
    slope *= x
    cdf = np.divide(y, x, out=scratch("activation.u", x.shape, x.dtype))
    slope += cdf
    zero = x == 0
    if zero.any():
        slope[zero] = 0.5
    return slope


def _tanh_slope(x: Array, y: Array) -> Array:
    t = _tanh_term(x, "activation.z")
    inner = np.multiply(x, x, out=scratch("activation.u", x.shape, x.dtype))
    inner *= 3 * _TANH_CUBE * _SQRT_TWO_OVER_PI * 0.5
    inner += _SQRT_TWO_OVER_PI * 0.5
    inner *= x
    slope = np.multiply(t, t, out=scratch("activation.p", x.shape, x.dtype))
    np.subtract(1, slope, out=slope)
    slope *= inner
    t += 1
    t *= 0.5
    slope += t
    return slope


def silu(x: Array) -> Array:
    """``x / (1 + exp(-x))``."""
    (dense,), order = _dense(x)
    out = np.empty_like(dense)
    for part, y in _blocks(dense, out):
        np.negative(part, out=y)
        np.exp(y, out=y)
        y += 1
        np.divide(part, y, out=y)
    return _restored(out, order)


def silu_backward(g: Array, x: Array) -> Array:
    """The gradient of `silu`: ``g s (1 + x (1 - s))`` with the sigmoid s."""
    (dense, grad), order = _dense(x, g)
    out = np.empty_like(dense)
    for part, gradient, target in _blocks(dense, grad, out):
        s = np.negative(part, out=scratch("activation.z", part.shape, part.dtype))
        np.exp(s, out=s)
        s += 1
        np.reciprocal(s, out=s)
        slope = np.subtract(1, s, out=scratch("activation.u", part.shape, part.dtype))
        slope *= part
        slope += 1
        slope *= s
        np.multiply(slope, gradient, out=target)
    return _restored(out, order)
