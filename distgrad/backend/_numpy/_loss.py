"""Kernels of the losses, as passes over blocks of rows that stay in cache."""

import numpy as np

from ..._typing import Array


def check_classes(target: Array, classes: int, ignore: int) -> tuple[Array, Array | None]:
    """Targets that can index, and the mask of those that count (None: all).

    Raises:
        IndexError: a target is neither a class nor `ignore`.
    """
    if target.size == 0:
        return target, None
    low, high = target.min(), target.max()
    if low >= 0 and high < classes and not low <= ignore <= high:
        return target, None
    keep = target != ignore
    wrong = keep & ((target < 0) | (target >= classes))
    if wrong.any():
        raise IndexError(f"Target {target[wrong][0]} is out of bounds: expected a class between 0 and {classes - 1}, or ignore_index {ignore}")
    return np.where(keep, target, 0), keep


def log_sum_exp(x: Array, classes: Array) -> tuple[Array, Array, Array, Array]:
    """For rows (M, C): the shift (M, 1), exp(x - shift) divided by its sum, the log of the sum of exponentials, and x at `classes`."""
    rows = np.arange(x.shape[0])
    shift = np.maximum.reduce(x, axis=1, keepdims=True, initial=-np.inf)
    soft = np.subtract(x, shift)
    np.exp(soft, out=soft)
    total = np.add.reduce(soft, axis=1, keepdims=True)
    soft /= total
    np.log(total, out=total)
    total += shift
    return shift, soft, total[:, 0], x[rows, classes]


def softmax_minus_onehot(soft: Array, classes: Array, scale: Array, at_class: Array) -> Array:
    """``scale * soft`` with `at_class` subtracted at each row's class; both factors are numbers or (M,)."""
    m = soft.shape[0]
    result = soft * (scale if np.ndim(scale) == 0 else scale.reshape(m, 1))
    result[np.arange(m), classes] -= at_class
    return result


def sum_rows(rows: Array, indices: Array, count: int) -> Array:
    """For rows (M, D) and indices (M,): the (count, D) in which each row is added at its index."""
    m, d = rows.shape
    result = np.zeros((count, d), dtype=rows.dtype)
    if m == 0:
        return result
    order = np.argsort(indices, kind="stable")
    ordered = indices[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    result[ordered[starts]] = np.add.reduceat(rows[order], starts, axis=0)
    return result
