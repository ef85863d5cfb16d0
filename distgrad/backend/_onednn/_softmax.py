"""Softmax along the last axis by oneDNN, in 0.3 to 0.6 of the NumPy kernels' time."""

import numpy as np

from ..._typing import Array
from .._kernels import SoftmaxKernels
from ._core import DIFF, DST, FORWARD, SRC, Family, Primitive, Thread, row_major
from ._dense import FLOAT32, has_nan, is_plain
from ._library import Handle

SOFTMAX, LOG_SOFTMAX = 0x30000, 0x30001
SMALL = 1 << 10  # elements, below which NumPy is as fast


def _describe(local: Thread, algorithm: int, layout: Handle) -> Handle:
    return local.library.describe("softmax_forward", FORWARD, algorithm, layout, layout, 1)


class SoftmaxForward:
    """y from x, (rows, columns)."""

    def __init__(self, local: Thread, algorithm: int, rows: int, columns: int) -> None:
        layout = local.library.layout((rows, columns), row_major((rows, columns)))
        self.run = Primitive(local, _describe(local, algorithm, layout), {SRC: layout, DST: layout})


class SoftmaxBackward:
    """x's gradient from y's and y, (rows, columns)."""

    def __init__(self, local: Thread, algorithm: int, rows: int, columns: int) -> None:
        layout = local.library.layout((rows, columns), row_major((rows, columns)))
        hint = _describe(local, algorithm, layout)
        about = local.library.describe("softmax_backward", algorithm, layout, layout, layout, 1, hint)
        self.run = Primitive(local, about, {DIFF + DST: layout, DST: layout, DIFF + SRC: layout})


class OneDnnSoftmax(Family[SoftmaxKernels]):
    """`SoftmaxKernels` that use oneDNN where it is faster."""

    def _forward(self, algorithm: int, x: Array, axis: int) -> Array | None:
        if x.size < SMALL or axis not in (-1, x.ndim - 1) or not is_plain(x):
            return None
        columns = x.shape[-1]
        plan = self._core.plan(SoftmaxForward, algorithm, x.size // columns, columns)
        if plan is None:
            return None
        y = np.empty(x.shape, dtype=FLOAT32)
        plan.run(x, y)
        return None if has_nan(y) else y  # NumPy gives nan to the whole row

    def _backward(self, algorithm: int, g: Array, y: Array, axis: int) -> Array | None:
        if y.size < SMALL or axis not in (-1, y.ndim - 1) or not is_plain(y) or g.dtype != FLOAT32:
            return None
        columns = y.shape[-1]
        plan = self._core.plan(SoftmaxBackward, algorithm, y.size // columns, columns)
        if plan is None:
            return None
        gx = np.empty(y.shape, dtype=FLOAT32)
        plan.run(np.ascontiguousarray(g), y, gx)
        return gx

    def softmax(self, x: Array, axis: int) -> Array:
        """``exp(x) / sum(exp(x))``; nan where all are -inf."""
        y = self._forward(SOFTMAX, x, axis)
        return self._numpy.softmax(x, axis) if y is None else y

    def log_softmax(self, x: Array, axis: int) -> Array:
        """``x - log(sum(exp(x)))``."""
        y = self._forward(LOG_SOFTMAX, x, axis)
        return self._numpy.log_softmax(x, axis) if y is None else y

    def softmax_backward(self, g: Array, y: Array, axis: int) -> Array:
        """``y * (g - sum(g * y))``."""
        gx = self._backward(SOFTMAX, g, y, axis)
        return self._numpy.softmax_backward(g, y, axis) if gx is None else gx

    def log_softmax_backward(self, g: Array, y: Array, axis: int) -> Array:
        """``g - exp(y) * sum(g)``."""
        gx = self._backward(LOG_SOFTMAX, g, y, axis)
        return self._numpy.log_softmax_backward(g, y, axis) if gx is None else gx
