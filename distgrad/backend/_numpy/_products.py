"""Products of tall matrices with small ones, cut so that each call is a small product.

For AVX-512, OpenBLAS has kernels that read their operands where they lie, for up to a million multiplications; larger
products pack both operands first, which costs as much as the arithmetic where one of them is narrow. Cut into such
pieces, convolutions of 3 to 32 channels took 0.7 to 0.95 of the time. Other CPUs have no such kernels; there, pieces
took up to 1.1 of it, so nothing is cut.
"""

import functools
from typing import Any

import numpy as np

from ..._environment import blas_uses_avx512
from ..._typing import Array
from ._scratch import scratch

_SMALL = 10**6 if blas_uses_avx512() else 0  # multiplications
_LONG, _SHORT = 512, 128  # rows of a piece, where they are the result's and where they are summed over


@functools.lru_cache(1024)
def _piece(columns: int, others: int, longest: int) -> int:
    """How many rows to multiply at once, by the columns of the two matrices beside them; 0 for all."""
    rows = min(longest, _SMALL // max(columns * others, 1))
    return rows // 16 * 16 if rows >= 48 else 0


def product_of_rows(rows: Array, weight: Array, out: Array) -> None:
    """``out = rows @ weight`` for rows (m, k), a contiguous weight (k, n) and out (m, n)."""
    m, k = rows.shape
    step = _piece(k, weight.shape[1], _LONG)
    whole = m // step * step if step else 0
    if whole:
        pieces = rows[:whole].reshape(-1, step, k)
        np.matmul(pieces, weight, out=out[:whole].reshape(-1, step, weight.shape[1]))
    if whole < m:
        np.matmul(rows[whole:], weight, out=out[whole:])


def zero_total(k: int, n: int, dtype: Any) -> Array:
    """Zeros (k, n), laid out as `add_product_of_columns` likes them."""
    return np.zeros((k, n), dtype) if _piece(k, n, _SHORT) else np.zeros((n, k), dtype).T


def add_product_of_columns(rows: Array, others: Array, total: Array) -> None:
    """``total += rows.T @ others`` for rows (m, k), others (m, n) and total (k, n)."""
    m, k = rows.shape
    n = others.shape[1]
    step = _piece(k, n, _SHORT)
    if not step:
        turned = total.T
        turned += np.matmul(others.T, rows, out=scratch("products.parts", (n, k), total.dtype))
        return
    whole = m // step * step
    if whole:
        left, right = rows[:whole].reshape(-1, step, k), others[:whole].reshape(-1, step, n)
        parts = scratch("products.parts", (whole // step, k, n), total.dtype)
        total += np.add.reduce(np.matmul(left.swapaxes(1, 2), right, out=parts), axis=0)
    if whole < m:
        total += np.matmul(rows[whole:].T, others[whole:], out=scratch("products.parts", (k, n), total.dtype))
