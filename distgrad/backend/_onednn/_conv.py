"""Convolutions by oneDNN: images channels-last, as the NumPy kernels keep them, and weights as the parameters lie.

A plan copies the weights into the layout that its primitive wants, or the gradient of the weights out of it; compared
with the arithmetic that is nothing, and there is no copy that could be out of date.
"""

import math
from typing import NamedTuple

import numpy as np

from ..._typing import Array, Shape
from .._kernels import ConvKernels, Pads
from ._core import (
    BIAS,
    DIFF,
    DIFF_WEIGHTS_LAYOUT,
    DST,
    FORWARD,
    SRC,
    WEIGHTS,
    WEIGHTS_LAYOUT,
    Core,
    Family,
    Primitive,
    Thread,
    row_major,
)
from ._images import channels_last_layout, new_images, packed
from ._library import Handle, dims

_DIRECT = 1  # the algorithm; Winograd's is less exact
SMALL = 1 << 12  # multiplications, below which there is nothing to win


class _Sizes(NamedTuple):
    """What is convolved: x (N, C, ...) with w (O, C / groups, *kernel)."""

    x: Shape
    w: Shape
    stride: Shape
    padding: Pads
    dilation: Shape
    groups: int

    @property
    def out(self) -> Shape:
        """The shape of the result, (N, O, ...)."""
        sizes = zip(self.x[2:], self.w[2:], self.stride, self.padding, self.dilation, strict=True)
        spatial = ((n + a + b - d * (k - 1) - 1) // s + 1 for n, k, s, (a, b), d in sizes)
        return (self.x[0], self.w[0], *spatial)

    @property
    def work(self) -> int:
        """Multiplications."""
        return math.prod(self.out) * math.prod(self.w[1:])


class _Layouts:
    """The layouts of one convolution, and what all its descriptions end with."""

    def __init__(self, local: Thread, sizes: _Sizes) -> None:
        library = local.library
        o, *rest = sizes.w
        shape = sizes.w if sizes.groups == 1 else (sizes.groups, o // sizes.groups, *rest)
        self.x = channels_last_layout(library, sizes.x)
        self.y = channels_last_layout(library, sizes.out)
        self.w = library.layout(shape, row_major(shape))  # as parameters lie
        self.any_w = library.any_layout(shape)
        self.bias = library.layout((o,), (1,))
        before, after = zip(*sizes.padding, strict=True)
        spread = [d - 1 for d in sizes.dilation]
        self.geometry = dims(sizes.stride), dims(spread), dims(before), dims(after)

    def describe_forward(self, local: Thread, bias: bool) -> Handle:
        layout = self.bias if bias else None
        args = FORWARD, _DIRECT, self.x, self.any_w, layout, self.y
        return local.library.describe("convolution_forward", *args, *self.geometry)


class _Weights:
    """Weights in the layout of a primitive, between the parameter and there."""

    def __init__(self, local: Thread, plain: Handle, inside: Handle) -> None:
        library = local.library
        self.place = inside, local.memory("weights", library.size(inside))
        self._route = local, plain, inside
        self.same = library.same_layout(plain, inside)

    def reorder(self, back: bool) -> Primitive:
        """The copy from the parameter's layout, or back into it."""
        local, plain, inside = self._route
        ends = (inside, plain) if back else (plain, inside)
        outer, inner = (DST, SRC) if back else (SRC, DST)
        about = local.library.describe_reorder(*ends)
        return Primitive(local, about, {outer: plain}, {inner: self.place})


class _Forward:
    """y from x and w."""

    def __init__(self, local: Thread, sizes: _Sizes, bias: bool) -> None:
        layouts = _Layouts(local, sizes)
        about = layouts.describe_forward(local, bias)
        weights = _Weights(local, layouts.w, local.library.layout_of(about, WEIGHTS_LAYOUT))
        self.out = sizes.out
        self._reorder = None if weights.same else weights.reorder(False)
        args = {SRC: layouts.x, DST: layouts.y}
        if bias:
            args[BIAS] = layouts.bias
        if weights.same:
            args[WEIGHTS] = layouts.w
        self._run = Primitive(local, about, args, None if weights.same else {WEIGHTS: weights.place})

    def __call__(self, w: Array, *arrays: Array) -> None:
        """Compute from w, and x, y and bias."""
        if self._reorder is None:
            self._run(*arrays, w)
        else:
            self._reorder(w)
            self._run(*arrays)


class _GradInput:
    """x's gradient from y's and w."""

    def __init__(self, local: Thread, sizes: _Sizes) -> None:
        layouts = _Layouts(local, sizes)
        hint = layouts.describe_forward(local, False)
        args = _DIRECT, layouts.x, layouts.any_w, layouts.y
        about = local.library.describe("convolution_backward_data", *args, *layouts.geometry, hint)
        weights = _Weights(local, layouts.w, local.library.layout_of(about, WEIGHTS_LAYOUT))
        self._reorder = weights.reorder(False)
        self._run = Primitive(local, about, {DIFF + DST: layouts.y, DIFF + SRC: layouts.x}, {WEIGHTS: weights.place})

    def __call__(self, w: Array, g: Array, gx: Array) -> None:
        self._reorder(w)
        self._run(g, gx)


class _GradWeight:
    """w's gradient from y's and x."""

    def __init__(self, local: Thread, sizes: _Sizes) -> None:
        layouts = _Layouts(local, sizes)
        hint = layouts.describe_forward(local, False)
        args = _DIRECT, layouts.x, layouts.any_w, None, layouts.y
        about = local.library.describe("convolution_backward_weights", *args, *layouts.geometry, hint)
        weights = _Weights(local, layouts.w, local.library.layout_of(about, DIFF_WEIGHTS_LAYOUT))
        self._reorder = weights.reorder(True)
        inner = {DIFF + WEIGHTS: weights.place}
        self._run = Primitive(local, about, {SRC: layouts.x, DIFF + DST: layouts.y}, inner)

    def __call__(self, x: Array, g: Array, gw: Array) -> None:
        self._run(x, g)
        self._reorder(gw)


def _fits(sizes: _Sizes, *arrays: Array) -> bool:
    """Whether oneDNN is to compute this: float32, in up to 3 dimensions, and enough of it.

    Images of one pixel are rows of a matrix, which a BLAS multiplies faster.
    """
    enough = sizes.work >= SMALL and math.prod(sizes.x[2:]) > 1
    return enough and len(sizes.stride) <= 3 and all(a.dtype == np.float32 for a in arrays)


class OneDnnConv(Family[ConvKernels]):
    """`ConvKernels` that use oneDNN where it is faster."""

    def __init__(self, core: Core, numpy: ConvKernels) -> None:
        super().__init__(core, numpy)
        self.channel_sums = numpy.channel_sums

    def forward(
        self, x: Array, w: Array, bias: Array | None, stride: Shape, padding: Pads, dilation: Shape, groups: int
    ) -> Array:
        """x (N, C, ...) with w (O, C / groups, *kernel): (N, O, ...), in channels-last memory."""
        sizes = _Sizes(x.shape, w.shape, stride, padding, dilation, groups)
        plan = self._core.plan(_Forward, sizes, bias is not None) if _fits(sizes, x) else None
        if plan is None:
            return self._numpy.forward(x, w, bias, stride, padding, dilation, groups)
        out, result = new_images(plan.out)
        rest = () if bias is None else (np.ascontiguousarray(bias),)
        plan(np.ascontiguousarray(w), packed(self._core, x), out, *rest)
        return result

    def grad_input(
        self, g: Array, w: Array, size: Shape, stride: Shape, padding: Pads, dilation: Shape, groups: int
    ) -> Array:
        """The gradient of x (N, C, *size) from g (N, O, ...), in channels-last memory."""
        shape = (g.shape[0], w.shape[1] * groups, *size)
        sizes = _Sizes(shape, w.shape, stride, padding, dilation, groups)
        plan = self._core.plan(_GradInput, sizes) if _fits(sizes, g) else None
        if plan is None:
            return self._numpy.grad_input(g, w, size, stride, padding, dilation, groups)
        out, result = new_images(shape)
        plan(np.ascontiguousarray(w), packed(self._core, g), out)
        return result

    def grad_weight(
        self, g: Array, x: Array, shape: Shape, stride: Shape, padding: Pads, dilation: Shape, groups: int
    ) -> Array:
        """The gradient of w (O, C / groups, *kernel), contiguous, from g (N, O, ...) and x (N, C, ...)."""
        sizes = _Sizes(x.shape, shape, stride, padding, dilation, groups)
        plan = self._core.plan(_GradWeight, sizes) if _fits(sizes, g) else None
        if plan is None:
            return self._numpy.grad_weight(g, x, shape, stride, padding, dilation, groups)
        out = np.empty(shape, dtype=np.float32)
        plan(packed(self._core, x), packed(self._core, g), out)
        return out

    def backward(
        self, g: Array, x: Array, w: Array, stride: Shape, padding: Pads, dilation: Shape, groups: int
    ) -> tuple[Array, Array]:
        """The gradients of x and w together."""
        rest = stride, padding, dilation, groups
        sizes = _Sizes(x.shape, w.shape, *rest)
        if not _fits(sizes, g) or self._core.library is None:
            return self._numpy.backward(g, x, w, *rest)
        return self.grad_input(g, w, x.shape[2:], *rest), self.grad_weight(g, x, w.shape, *rest)
