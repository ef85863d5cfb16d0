"""Softmax and log-softmax on NumPy arrays, block by block so that a block's passes stay in the second-level cache.

A block whose values all lie well inside the range of exp needs no shift by each row's maximum, which costs two passes
that
NumPy does slowly; the result is the same to rounding.
"""

import math
from collections.abc import Callable

import numpy as np

from ..._typing import Array
from ._scratch import scratch

_BLOCK = 1 << 15  # elements
_FLOAT32 = np.dtype(np.float32)
_SAFE = {_FLOAT32: 80.0, np.dtype(np.float64): 690.0}
_VANISHING = 1e-30  # of a sum of exponentials: below, they have lost digits


def softmax(x: Array, axis: int) -> Array:
    """``exp(x) / sum(exp(x))`` along an axis; float16 and bfloat16 are computed in float32."""
    return _by_rows(_softmax_rows, axis, x)


def log_softmax(x: Array, axis: int) -> Array:
    """``x - log(sum(exp(x)))`` along an axis."""
    return _by_rows(_log_softmax_rows, axis, x)


def softmax_backward(g: Array, y: Array, axis: int) -> Array:
    """The gradient of softmax from its result: ``y * (g - sum(g * y))``."""
    return _by_rows(softmax_backward_rows, axis, y, g)


def log_softmax_backward(g: Array, y: Array, axis: int) -> Array:
    """The gradient of log-softmax from its result: ``g - exp(y) * sum(g)``."""
    return _by_rows(_log_softmax_backward_rows, axis, y, g)


def _by_rows(rows: Callable[..., None], axis: int, *given: Array) -> Array:
    """Runs a kernel on (rows, columns) matrices in which `axis` is the columns; the result has the arrays' shape and
    dtype."""
    x = given[0]
    dtype, last = x.dtype, x.ndim == 0 or axis in (-1, x.ndim - 1)
    wide = dtype if dtype in _SAFE else _FLOAT32
    if not last:
        given = tuple([np.moveaxis(a, axis, -1) for a in given])
    result = np.empty(given[0].shape, dtype=wide)
    n = result.shape[-1] if result.ndim else 1
    if result.size:
        _in_blocks(rows, result.reshape(-1, n), [np.ascontiguousarray(a, dtype=wide).reshape(-1, n) for a in given])
    if dtype != wide:
        result = result.astype(dtype)
    return result if last else np.moveaxis(result, -1, axis)


def _in_blocks(rows: Callable[..., None], out: Array, arrays: list[Array]) -> None:
    step = max(1, _BLOCK // out.shape[1])
    if step >= out.shape[0]:
        rows(out, *arrays)
        return
    for start in range(0, out.shape[0], step):
        rows(out[start : start + step], *[a[start : start + step] for a in arrays])


_largest, _smallest = np.maximum.reduce, np.minimum.reduce


def _is_safe(x: Array) -> bool:
    """Whether exp of these values, and its sums, can neither overflow nor vanish; false where there is nan."""
    return _is_low(x) and bool(_smallest(x, None) > -_SAFE[x.dtype])


def _is_low(x: Array) -> bool:
    """Whether exp of these values, and its sums, cannot overflow; false where there is nan."""
    return bool(_largest(x, None) < _SAFE[x.dtype] - math.log(x.shape[1]))


def _sums(x: Array) -> Array:
    """The sum of each row, as a column; a product with ones is the fastest way."""
    return np.dot(x, np.ones((x.shape[1], 1), dtype=x.dtype))


def _dots(x: Array, y: Array) -> Array:
    """The product of each pair of rows, as a column."""
    return (np.vecdot(x, y) if x.shape[1] >= 64 else np.einsum("ij,ij->i", x, y))[:, None]


def _softmax_rows(out: Array, x: Array) -> None:
    total: Array | None = None
    if _is_low(x):
        total = _sums(np.exp(x, out=out))
    if total is None or not total.min() > _VANISHING:
        np.subtract(x, _largest(x, 1, keepdims=True), out=out)
        total = _sums(np.exp(out, out=out))
    np.multiply(out, np.reciprocal(total, out=total), out=out)


def _log_softmax_rows(out: Array, x: Array) -> None:
    if _is_safe(x):
        np.exp(x, out=out)
        np.subtract(x, np.log(_sums(out)), out=out)
        return
    np.subtract(x, _largest(x, 1, keepdims=True), out=out)
    powers = np.exp(out, out=scratch("softmax", out.shape, out.dtype))
    np.subtract(out, np.log(_sums(powers)), out=out)


def softmax_backward_rows(out: Array, y: Array, g: Array) -> None:
    """The gradient of the softmax of rows from its result y; `out` may be g."""
    np.subtract(g, _dots(g, y), out=out)
    np.multiply(out, y, out=out)


def _log_softmax_backward_rows(out: Array, y: Array, g: Array) -> None:
    np.exp(y, out=out)
    np.multiply(out, _sums(g), out=out)
    np.subtract(g, out, out=out)
