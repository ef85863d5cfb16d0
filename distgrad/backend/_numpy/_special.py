"""Special functions on NumPy arrays.

erf follows W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969): one rational
function for each of three ranges, with relative error below 1e-16 in float64.
"""

from collections.abc import Callable

import numpy as np

from ..._typing import Array

_SMALL_P = (
    1.85777706184603153e-1,
    3.16112374387056560e00,
    1.13864154151050156e02,
    3.77485237685302021e02,
    3.20937758913846947e03,
)
_SMALL_Q = (1.0, 2.36012909523441209e01, 2.44024637934444173e02, 1.28261652607737228e03, 2.84423683343917062e03)
_MIDDLE_P = (
    2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e00, 6.61191906371416295e01,
    2.98635138197400131e02,
    8.81952221241769090e02, 1.71204761263407058e03, 2.05107837782607147e03, 1.23033935479799725e03,
)  # fmt: skip
_MIDDLE_Q = (
    1.0, 1.57449261107098347e01, 1.17693950891312499e02, 5.37181101862009858e02, 1.62138957456669019e03,
    3.29079923573345963e03, 4.36261909014324716e03, 3.43936767414372164e03, 1.23033935480374942e03,
)  # fmt: skip
_LARGE_P = (
    1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
    1.60837851487422766e-2,
    6.58749161529837803e-4,
)  # fmt: skip
_LARGE_Q = (
    1.0, 2.56852019228982242e00, 1.87295284992346725e00, 5.27905102951428412e-1, 6.05183413124413191e-2,
    2.33520497626869185e-3,
)  # fmt: skip


def _horner(coefficients: tuple[float, ...], x: Array) -> Array:
    total = np.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        total *= x
        total += c
    return total


def _erf64(x: Array) -> Array:
    y = np.abs(x)
    result = np.sign(x)
    small = y <= 0.46875
    if small.any():
        z = x[small]
        square = z * z
        result[small] = z * _horner(_SMALL_P, square) / _horner(_SMALL_Q, square)
    middle = (y > 0.46875) & (y <= 4.0)
    if middle.any():
        z = y[middle]
        result[middle] *= 1.0 - np.exp(-z * z) * _middle(z)
    large = (y > 4.0) & (y < 6.0)  # beyond 6, erf is 1 to the last bit
    if large.any():
        z = y[large]
        result[large] *= 1.0 - np.exp(-z * z) * _large(z)
    return result


def _middle(z: Array) -> Array:
    """``exp(z**2) * erfc(z)`` for z from 0.46875 to 4."""
    return _horner(_MIDDLE_P, z) / _horner(_MIDDLE_Q, z)


def _large(z: Array) -> Array:
    """``exp(z**2) * erfc(z)`` for z above 4."""
    inverse = 1.0 / (z * z)
    tail = inverse * _horner(_LARGE_P, inverse) / _horner(_LARGE_Q, inverse)
    return (0.56418958354775628695 - tail) / z


def _erfc64(x: Array) -> Array:
    y = np.abs(x)
    result = 1.0 - _erf64(np.clip(x, -0.46875, 0.46875))
    for part, scaled in ((y > 0.46875) & (y <= 4.0), _middle), (y > 4.0, _large):
        z = np.minimum(y[part], 30.0)  # erfc underflows long before
        near = np.trunc(z * 16.0) / 16.0  # the square of this is exact, and so the exponential keeps its digits
        tail = np.exp(-near * near) * np.exp((near - z) * (near + z)) * scaled(z)
        result[part] = np.where(x[part] < 0, 2.0 - tail, tail)
    return result


def _in_blocks(function: Callable[[Array], Array], x: Array) -> Array:
    # Abramowitz and Stegun 7.1.26 is too coarse for float32, so the float64 formula runs on blocks that stay in cache.
    out = np.empty_like(x)
    flat, target = x.reshape(-1), out.reshape(-1)
    for start in range(0, flat.size, 16384):
        block = slice(start, start + 16384)
        target[block] = function(flat[block].astype(np.float64))
    return out


def erf(x: Array) -> Array:
    """The error function, elementwise; the result has x's dtype."""
    if x.dtype == np.float64:
        return _erf64(np.ascontiguousarray(x)).reshape(x.shape)
    return _in_blocks(_erf64, np.ascontiguousarray(x)).reshape(x.shape)


def erfc(x: Array) -> Array:
    """``1 - erf(x)`` with all its digits where that is small, elementwise; the result has x's dtype."""
    if x.dtype == np.float64:
        return _erfc64(np.ascontiguousarray(x).reshape(-1)).reshape(x.shape)
    return _in_blocks(_erfc64, np.ascontiguousarray(x)).reshape(x.shape)


def sigmoid(x: Array) -> Array:
    """The logistic function; the caller silences NumPy's overflow warning, whose result (0) is right."""
    result = np.negative(x, out=np.empty_like(x))  # an array for a 0-d x, too
    np.exp(result, out=result)
    result += 1
    return np.reciprocal(result, out=result)
