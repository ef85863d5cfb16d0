"""Matrix products by oneDNN.

Measured on one core with AVX-512: ``x @ weight.T`` takes 0.6 to 0.9 of OpenBLAS's time, ``g @ weight`` 0.7 to 1, and
stacks of matrices that are not small 0.7; a transposed first factor, the gradient of a weight, takes 0.8 to 0.9 where
the result has twice as many columns as rows. Elsewhere it takes up to 1.5, and stays with NumPy.

oneDNN has two ways: dnnl_sgemm, which needs no plan, and a primitive, whose plan for one shape takes a millisecond. The
second is for shapes at which it takes 0.6 to 0.9 of the first's time (`_suits_primitive`).
"""

import math

import numpy as np

from ..._typing import Array, Shape
from .._kernels import ProductKernels
from ._core import BIAS, DST, SRC, WEIGHTS, Family, Primitive, Products, Thread, address_of, row_major
from ._dense import FLOAT32, is_plain
from ._library import check

SMALL = 1 << 20  # multiplications of two matrices, below which OpenBLAS is as fast
_MAX_DIMS = 6  # that the primitive for stacks has fast implementations for


class _Gemm(Products):
    """A product of two matrices, ``out = x @ y + keep * out``; each is contiguous, or the transpose of one that is."""

    def __init__(self, local: Thread) -> None:
        super().__init__(local)
        self._sgemm = local.library.sgemm

    def __call__(self, x: Array, y: Array, turned: tuple[bool, bool], out: Array, keep: float) -> None:
        (m, k), n = x.shape, out.shape[1]
        matrices = address_of(x), m if turned[0] else k, address_of(y), k if turned[1] else n
        forms = (b"T" if turned[0] else b"N"), (b"T" if turned[1] else b"N")
        status = self._sgemm(*forms, m, n, k, 1.0, *matrices, keep, address_of(out), n)
        if status:
            check("sgemm", status)


class _Planned(Products):
    """Products of matrices, or of stacks of them, of these shapes and strides (in elements); and a bias, if told."""

    def __init__(
        self, local: Thread, x: tuple[Shape, Shape], y: tuple[Shape, Shape], out: Shape, biased: bool = False
    ) -> None:
        super().__init__(local)
        library = local.library
        layouts = [library.layout(*each) for each in (x, y, (out, row_major(out)))]
        bias = library.layout((1, out[1]), (out[1], 1)) if biased else None
        about = library.describe("matmul", layouts[0], layouts[1], bias, layouts[2])
        args = dict(zip((SRC, WEIGHTS, DST), layouts, strict=True))
        self.run = Primitive(local, about, args if bias is None else {**args, BIAS: bias})


def _suits_primitive(m: int, k: int, n: int, turned: tuple[bool, bool]) -> bool:
    """Whether the primitive is the faster way to (m, k) by (k, n), each of which may be a transpose."""
    if turned == (False, True):  # long rows, of which sgemm copies more than it multiplies
        return m <= 512 and k >= 2 * n
    # What is small sgemm does not copy; rows 4 KiB apart then push each other out of the cache.
    return turned == (False, False) and m <= 256 and 128 < k <= 256 and n % 1024 == 0


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
        turned = not x.flags.c_contiguous, not y.flags.c_contiguous
        if not is_plain(x.T if turned[0] else x) or not is_plain(y.T if turned[1] else y) or x.shape[1] != y.shape[0]:
            return None
        if turned[0] and (turned[1] or y.shape[1] < 2 * x.shape[0]):  # OpenBLAS is as fast
            return None
        if out is not None and (out.shape != (x.shape[0], y.shape[1]) or not is_plain(out)):
            return None
        return self._product(x, y, turned, None, out)

    def _product(
        self, x: Array, y: Array, turned: tuple[bool, bool], bias: Array | None, out: Array | None
    ) -> Array | None:
        """``x @ y + bias``; `turned` are transposes of contiguous matrices. None where oneDNN does not do it."""
        (m, k), n = x.shape, y.shape[1]
        if _suits_primitive(m, k, n, turned):
            strides = (1, k) if turned[1] else (n, 1)
            planned = self._core.plan(_Planned, ((m, k), (k, 1)), ((k, n), strides), (m, n), bias is not None)
            if planned is not None:
                out = np.empty((m, n), dtype=FLOAT32) if out is None else out
                planned.run(x, y, out, *(() if bias is None else (bias,)))
                return out
        gemm = self._core.plan(_Gemm)
        if gemm is None:
            return None
        out = np.empty((m, n), dtype=FLOAT32) if out is None else out
        if bias is not None:
            out[...] = bias
        gemm(x, y, turned, out, 0.0 if bias is None else 1.0)
        return out

    def _stacked(self, x: Array, y: Array) -> Array | None:
        lead = x.shape[:-2]
        if y.shape[:-2] != lead or x.shape[-1] != y.shape[-2] or not x.size or x.ndim > _MAX_DIMS:
            return None
        strides = _strides_of(x), _strides_of(y)
        if strides[0] is None or strides[1] is None:
            return None
        shape = (*lead, x.shape[-2], y.shape[-1])
        plan = self._core.plan(_Planned, (x.shape, strides[0]), (y.shape, strides[1]), shape)
        if plan is None:
            return None
        out = np.empty(shape, dtype=FLOAT32)
        plan.run(x, y, out)
        return out

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """``x @ weight.T + bias``: the bias goes into the product."""
        fits = x.size * weight.shape[0] >= SMALL and is_plain(x) and is_plain(weight) and x.shape[1] == weight.shape[1]
        if fits and (bias is None or (bias.shape == (weight.shape[0],) and is_plain(bias))):
            result = self._product(x, weight.T, (False, True), bias, None)
            if result is not None:
                return result
        return self._numpy.linear(x, weight, bias)
