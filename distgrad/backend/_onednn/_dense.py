"""What kernels on flat memory share: which arrays they take, and how results are laid out."""

import numpy as np

from ..._typing import Array

FLOAT32 = np.dtype(np.float32)


def is_plain(x: Array) -> bool:
    """Whether this is float32 in C order."""
    return bool(x.dtype == FLOAT32 and x.flags.c_contiguous)


def same_memory(x: Array, *others: Array) -> tuple[Array, ...] | None:
    """A new array and the others, in the order of x's memory, so that elementwise kernels may run along that.

    None where x has gaps, or is not float32.
    """
    if x.dtype != FLOAT32:
        return None
    out = np.empty_like(x)
    if out.strides != x.strides and not x.flags.c_contiguous:
        return None
    return (out, *(_as_in(out, other) for other in others))


def _as_in(out: Array, x: Array) -> Array:
    if x.strides == out.strides or (x.flags.c_contiguous and out.flags.c_contiguous):
        return x
    copy = np.empty_like(out)
    copy[...] = x
    return copy


def has_nan(x: Array) -> bool:
    """Whether there is nan in contiguous memory without both infinities: the product with itself is the fastest sum."""
    flat = x.ravel(order="K")
    return bool(np.isnan(np.dot(flat, flat)))
