"""Matrix products by the BLAS of an array module."""

from typing import Any

from .._typing import Array


class ArrayProducts:
    """`ProductKernels` for any array module with NumPy's interface.

    Args:
        xp: the array module, numpy or cupy.
    """

    def __init__(self, xp: Any) -> None:
        self._xp = xp
        self._matmul = xp.matmul

    def matmul(self, x: Array, y: Array, out: Array | None = None) -> Array:
        """By BLAS: 16-bit floats go through float32, and what BLAS cannot read is copied. `out` may take the result."""
        if x.dtype.itemsize == 2 and x.dtype.kind in "fV":
            wide = self._xp.asarray(self._matmul(x.astype("float32"), y.astype("float32")))
            if out is None:
                return wide.astype(x.dtype)
            out[...] = wide
            return out
        return self._matmul(_blas_readable(self._xp, x), _blas_readable(self._xp, y), out=out)

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """The transposed view reaches BLAS as a flag, without a copy."""
        y = self._matmul(x, weight.T)
        if bias is not None:
            y += bias
        return y


def _blas_readable(xp: Any, x: Array) -> Array:
    """`x` itself where the rows or the columns of its matrices lie without gaps, else a copy."""
    if x.flags.c_contiguous:
        return x
    if x.ndim < 2:
        return x if x.strides[0] else xp.ascontiguousarray(x)
    size, (rows, columns) = x.itemsize, x.strides[-2:]
    fits = (columns == size and rows >= size * x.shape[-1]) or (rows == size and columns >= size * x.shape[-2])
    return x if fits else xp.ascontiguousarray(x)
