"""Pooling by oneDNN. Its workspace of a maximum is what the NumPy kernels keep: the number of the place that won.

oneDNN's maximum passes over nan, and begins with the least finite number. So the input is looked at first, by a dot
product with itself, which is finite only where all elements are; the rest is NumPy's, whose maxima are the same bits.
"""

import math

import numpy as np

from ..._typing import Array, Shape
from .._kernels import PoolKernels
from ._core import DIFF, DST, FORWARD, SRC, WORKSPACE, WORKSPACE_LAYOUT, Core, Family, Primitive, Thread
from ._images import channels_last_layout, is_packed, new_images, packed
from ._library import Handle, dims

_MAX, _AVERAGE = 0x1FF, 0x2FF  # the latter divides by the size of the window, wherever that lies
_MANY = 256  # places of a window, whose numbers no longer fit in a byte of oneDNN's


class _Window:
    """What one pooling looks at: the layouts, and the ends of its descriptions."""

    def __init__(
        self, local: Thread, x: Shape, out: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape
    ) -> None:
        self.x = channels_last_layout(local.library, x)
        self.y = channels_last_layout(local.library, (*x[:2], *out))
        sizes = zip(x[2:], out, kernel, stride, padding, dilation, strict=True)
        after = [(m - 1) * s + d * (k - 1) + 1 - n - p for n, m, k, s, p, d in sizes]
        spread = [d - 1 for d in dilation]
        self.geometry = dims(stride), dims(kernel), dims(spread), dims(padding), dims(after)

    def describe(self, local: Thread, kind: int) -> Handle:
        return local.library.describe("pooling_forward", FORWARD, kind, self.x, self.y, *self.geometry)

    def describe_backward(self, local: Thread, kind: int, hint: Handle) -> Handle:
        return local.library.describe("pooling_backward", kind, self.x, self.y, *self.geometry, hint)


class _Forward:
    """y from x; for a maximum also the winners."""

    def __init__(self, local: Thread, kind: int, x: Shape, *window: Shape) -> None:
        layouts = _Window(local, x, *window)
        about = layouts.describe(local, kind)
        args = {SRC: layouts.x, DST: layouts.y}
        if kind == _MAX:
            args[WORKSPACE] = local.library.layout_of(about, WORKSPACE_LAYOUT)
        self.run = Primitive(local, about, args)


class _Backward:
    """x's gradient from y's, and from the winners of a maximum."""

    def __init__(self, local: Thread, kind: int, x: Shape, *window: Shape) -> None:
        layouts = _Window(local, x, *window)
        hint = layouts.describe(local, kind)
        about = layouts.describe_backward(local, kind, hint)
        args = {DIFF + DST: layouts.y, DIFF + SRC: layouts.x}
        if kind == _MAX:
            args[WORKSPACE] = local.library.layout_of(about, WORKSPACE_LAYOUT)
        self.run = Primitive(local, about, args)


def _fits(x: Array) -> bool:
    return bool(x.dtype == np.float32 and 3 <= x.ndim <= 5 and x.size)


def _is_finite(x: Array) -> bool:
    """Whether no element of a contiguous array is nan, infinite, or so large that its square is."""
    flat = x.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        return math.isfinite(float(np.dot(flat, flat)))


class OneDnnPool(Family[PoolKernels]):
    """`PoolKernels` that use oneDNN where it is faster."""

    def __init__(self, core: Core, numpy: PoolKernels) -> None:
        super().__init__(core, numpy)
        self.max_indices = numpy.max_indices

    def max_forward(
        self, x: Array, out: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape
    ) -> tuple[Array, Array]:
        """The maxima (N, C, *out) of the windows of x (N, C, ...), and the number of the place of each."""
        window = out, kernel, stride, padding, dilation
        fits = _fits(x) and math.prod(kernel) < _MANY
        plan = self._core.plan(_Forward, _MAX, x.shape, *window) if fits else None
        if plan is None:
            return self._numpy.max_forward(x, *window)
        source = packed(self._core, x)
        if not _is_finite(source):
            return self._numpy.max_forward(x, *window)
        best, result = new_images((*x.shape[:2], *out))
        who, winners = new_images(result.shape, np.uint8)
        plan.run(source, best, who)
        return result, winners

    def max_backward(
        self, g: Array, winners: Array, shape: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape
    ) -> Array:
        """Each output's gradient at the place that won: (N, C, ...) of `shape`."""
        window = kernel, stride, padding, dilation
        fits = _fits(g) and math.prod(kernel) < _MANY and is_packed(winners)
        plan = self._core.plan(_Backward, _MAX, shape, winners.shape[2:], *window) if fits else None
        if plan is None:
            return self._numpy.max_backward(g, winners, shape, *window)
        gx, result = new_images(shape)
        plan.run(packed(self._core, g), gx, packed(self._core, winners))
        return result

    def sum_forward(self, x: Array, out: Shape, kernel: Shape, stride: Shape, padding: Shape) -> Array:
        """The sum over each window of x (N, C, ...): (N, C, *out)."""
        window = out, kernel, stride, padding, (1,) * len(out)
        plan = self._core.plan(_Forward, _AVERAGE, x.shape, *window) if _fits(x) else None
        if plan is None:
            return self._numpy.sum_forward(x, out, kernel, stride, padding)
        total, result = new_images((*x.shape[:2], *out))
        plan.run(packed(self._core, x), total)
        total *= math.prod(kernel)
        return result

    def sum_backward(self, g: Array, shape: Shape, kernel: Shape, stride: Shape, padding: Shape) -> Array:
        """The adjoint of `sum_forward`."""
        window = g.shape[2:], kernel, stride, padding, (1,) * (g.ndim - 2)
        plan = self._core.plan(_Backward, _AVERAGE, shape, *window) if _fits(g) else None
        if plan is None:
            return self._numpy.sum_backward(g, shape, kernel, stride, padding)
        gx, result = new_images(shape)
        plan.run(packed(self._core, g) * np.float32(math.prod(kernel)), gx)
        return result
