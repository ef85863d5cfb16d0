"""Matrix products by oneDNN.

Measured on one core with AVX-512: ``x @ weight.T`` takes 0.6 to 0.9 of OpenBLAS's time, ``g @ weight`` 0.7 to 1, and
stacks of matrices that are not small 0.7; a transposed first factor, the gradient of a weight, takes 0.8 to 1.5, and
stays with NumPy.
"""

import math

import numpy as np

from ..._typing import Array, Shape
from .._kernels import ProductKernels
from ._core import DST, SRC, WEIGHTS, Family, Primitive, Products, Thread, address_of, row_major
from ._dense import FLOAT32, is_plain
from ._library import check

SMALL = 1 << 20  # multiplications of two matrices, below which OpenBLAS is as fast
_MAX_DIMS = 6  # that the primitive for stacks has fast implementations for


class _Gemm(Products):
    """A product of two matrices, ``out = x @ y + keep * out``; all are contiguous, y or its transpose."""

    def __init__(self, local: Thread) -> None:
        super().__init__(local)
        self._sgemm = local.library.sgemm

    def __call__(self, x: Array, y: Array, transposed: bool, out: Array, keep: float) -> None:
        (m, k), n = x.shape, out.shape[1]
        matrices = address_of(x), k, address_of(y), k if transposed else n
        status = self._sgemm(
            b"N", b"T" if transposed else b"N", m, n, k, 1.0, *matrices, keep, address_of(out), n
        )
        if status:
            check("sgemm", status)


class _Stacked(Products):
    """Products of stacks of matrices of these shapes and strides (in elements)."""

    def __init__(self, local: Thread, x: tuple[Shape, Shape], y: tuple[Shape, Shape], out: Shape) -> None:
        super().__init__(local)
        library = local.library
        layouts = [library.layout(*each) for each in (x, y, (out, row_major(out)))]
        about = library.describe("matmul", layouts[0], layouts[1], None, layouts[2])
        self.run = Primitive(local, about, dict(zip((SRC, WEIGHTS, DST), layouts, strict=True)))


def _strides_of(x: Array) -> Shape | None:
    """In elements; None where oneDNN cannot read the array so, or would be slow."""
    strides = tuple([s // 4 for s in x.strides])
    if x.dtype != FLOAT32 or min(strides) <= 0 or 1 not in strides[-2:] or sum(s % 4 for s in x.strides):
        return None
    return strides


class OneDnnProducts(Family[ProductKernels]):
    """`ProductKernels` that use oneDNN where it is faster."""

    def matmul(self, x: Array, y: Array, out: Array | None = None) -> Array:
        """``x @ y``; `out` may take the result."""
        if x.ndim == 2 and y.ndim == 2:
            if x.shape[0] * y.size >= SMALL:
                result = self._matrices(x, y, out)
                if result is not None:
                    return result
        elif x.ndim == y.ndim > 2 and out is None and math.prod(x.shape[-2:]) * y.shape[-1] >= SMALL:
            result = self._stacked(x, y)
            if result is not None:
                return result
        return self._numpy.matmul(x, y, out)

    def _matrices(self, x: Array, y: Array, out: Array | None) -> Array | None:
        transposed = not y.flags.c_contiguous
        if not is_plain(x) or not is_plain(y.T if transposed else y) or x.shape[1] != y.shape[0]:
            return None
        shape = x.shape[0], y.shape[1]
        if out is not None and (out.shape != shape or not is_plain(out)):
            return None
        gemm = self._core.plan(_Gemm)
        if gemm is None:
            return None
        if out is None:
            out = np.empty(shape, dtype=FLOAT32)
        gemm(x, y, transposed, out, 0.0)
        return out

    def _stacked(self, x: Array, y: Array) -> Array | None:
        lead = x.shape[:-2]
        if y.shape[:-2] != lead or x.shape[-1] != y.shape[-2] or not x.size or x.ndim > _MAX_DIMS:
            return None
        strides = _strides_of(x), _strides_of(y)
        if strides[0] is None or strides[1] is None:
            return None
        shape = (*lead, x.shape[-2], y.shape[-1])
        plan = self._core.plan(_Stacked, (x.shape, strides[0]), (y.shape, strides[1]), shape)
        if plan is None:
            return None
        out = np.empty(shape, dtype=FLOAT32)
        plan.run(x, y, out)
        return out

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """``x @ weight.T + bias``: the bias is put where the product is then added."""
        if x.size * weight.shape[0] < SMALL or not (is_plain(x) and is_plain(weight)):
            return self._numpy.linear(x, weight, bias)
        n = weight.shape[0]
        gemm = self._core.plan(_Gemm)
        if gemm is None or x.shape[1] != weight.shape[1] or (bias is not None and bias.shape != (n,)):
            return self._numpy.linear(x, weight, bias)
        out = np.empty((x.shape[0], n), dtype=FLOAT32)
        if bias is not None:
            out[...] = bias
        gemm(x, weight, True, out, 0.0 if bias is None else 1.0)
        return out
