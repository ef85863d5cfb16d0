"""Channels-last views, and sums and affine maps per channel.

NumPy runs its inner loop along the last axis, which for a few channels is far too short. Where rows lie without gaps,
the functions here treat several rows as one long row.
"""

import functools

import numpy as np

from ..._typing import Array

LONG = 1024  # elements of an inner loop that hides NumPy's cost of starting it


def channels_last(x: Array) -> Array:
    """(N, C, ...) as a view (N, ..., C)."""
    return x.transpose(0, *range(2, x.ndim), 1)


def channels_first(x: Array) -> Array:
    """(N, ..., C) as a view (N, C, ...)."""
    return x.transpose(0, x.ndim - 1, *range(1, x.ndim - 1))


@functools.lru_cache(4096)
def fold_of(rows: int, columns: int) -> int:
    """How many rows of a contiguous (rows, columns) to treat as one: a divisor of `rows`."""
    for fold in range(min(rows, LONG // max(columns, 1)), 1, -1):
        if rows % fold == 0:
            return fold
    return 1


def folded(x: Array) -> tuple[Array, int]:
    """A contiguous (M, C) as (M / fold, fold * C), and fold."""
    m, c = x.shape
    fold = fold_of(m, c)
    return (x if fold == 1 else x.reshape(m // fold, fold * c)), fold


def column_sums(x: Array) -> Array:
    """The sum over the rows of a contiguous (M, C), in x's dtype."""
    long, fold = folded(x)
    total = np.add.reduce(long, axis=0)
    return total if fold == 1 else np.add.reduce(total.reshape(fold, x.shape[1]), axis=0)


def add_to_rows(x: Array, row: Array) -> None:
    """``x += row`` for a contiguous (M, C) and (C,), in place."""
    long, fold = folded(x)
    long += np.tile(row, fold)


def channel_sums(x: Array) -> Array:
    """The sum over all axes but the second of (N, C, ...)."""
    last = channels_last(x)
    if last.flags.c_contiguous:
        return column_sums(last.reshape(-1, x.shape[1]))
    return np.add.reduce(x, axis=(0, *range(2, x.ndim)))
