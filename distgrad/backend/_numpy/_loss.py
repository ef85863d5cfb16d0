"""Kernels of the losses, as passes over blocks of rows that stay in cache."""

import numpy as np

from ..._typing import Array

_OFTEN = 8  # occurrences of an index from which one sum of its rows is faster than taking turns


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
        raise IndexError(
            f"Target {target[wrong][0]} is out of bounds: expected a class between 0 and {classes - 1}, or "
            f"ignore_index {ignore}"
        )
    return np.where(keep, target, 0), keep


_SAFE = 80.0  # exp of this, times a million, is a float32


def exp_rows(x: Array, classes: Array) -> tuple[Array | float, Array, Array, Array, Array]:
    """For rows (M, C): a shift, exp(x - shift), its sums (M, 1), their logarithms plus the shift (M,), and x at
    `classes` (M,).

    The shift is 0 where no value is large, else each row's maximum (M, 1).
    """
    m, c = x.shape
    picked = x[np.arange(m), classes]
    shift: Array | float = 0.0
    if x.size and max(x.max(), -x.min()) <= _SAFE:
        exps = np.exp(x)
    else:
        shift = np.maximum.reduce(x, axis=1, keepdims=True, initial=-np.inf)
        exps = np.subtract(x, shift)
        np.exp(exps, out=exps)
    total = np.matmul(exps, np.ones((c, 1), dtype=exps.dtype))
    return shift, exps, total, (np.log(total) + shift)[:, 0], picked


def scaled_minus_onehot(exps: Array, classes: Array, scale: Array, at_class: Array) -> Array:
    """``exps * scale`` (M, 1) with `at_class`, a number or (M,), subtracted at each row's class."""
    result = exps * scale
    result[np.arange(len(exps)), classes] -= at_class
    return result


def sum_rows(rows: Array, indices: Array, count: int) -> Array:
    """For rows (M, D) and indices (M,): the (count, D) in which each row is added at its index."""
    m, d = rows.shape
    result = np.zeros((count, d), dtype=rows.dtype)
    if m == 0:
        return result
    order = np.argsort(indices, kind="stable")
    ordered = rows[order]
    places, starts, counts = np.unique(indices[order], return_index=True, return_counts=True)
    often = counts > _OFTEN
    for place, start, many in zip(places[often], starts[often], counts[often], strict=True):
        np.add.reduce(ordered[start : start + many], axis=0, out=result[place])
    places, starts, counts = places[~often], starts[~often], counts[~often]
    for turn in range(int(counts.max(initial=0))):
        # Each index occurs at most once among the rows of one turn, so plain indexing adds them.
        live = counts > turn
        result[places[live]] += ordered[starts[live] + turn]
    return result
