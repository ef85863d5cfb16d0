"""What attention does in each of its blocks, by oneDNN: products on views as they lie, softmax in one pass."""

import math

from ..._typing import Array, Shape
from .._numpy._attention import Steps
from ._core import DST, SRC, WEIGHTS, Family, Primitive, Products, Thread
from ._dense import FLOAT32, has_nan, is_plain
from ._optim import _Chain
from ._softmax import SOFTMAX, SoftmaxBackward, SoftmaxForward

SMALL = 1 << 20  # multiplications of a block, below which NumPy is as fast
SMALL_SOFTMAX = 1 << 10  # elements

_Layout = tuple[Shape, Shape]  # with strides in elements


class _Product(Products):
    """The product of stacks of matrices, or that added to what the result's memory holds."""

    def __init__(self, local: Thread, x: _Layout, y: _Layout, out: _Layout, add: bool) -> None:
        super().__init__(local)
        library = local.library
        layouts = [library.layout(*each) for each in (x, y, out)]
        chain = _Chain(library)
        if add:
            chain.add_to_result(1.0)
        about = library.describe("matmul", layouts[0], layouts[1], None, layouts[2], attributes=chain.attributes())
        self.run = Primitive(local, about, dict(zip((SRC, WEIGHTS, DST), layouts, strict=True)))


def _layout_of(x: Array) -> _Layout:
    return x.shape, tuple([s // 4 for s in x.strides])


def _fits(x: Array) -> bool:
    """Whether oneDNN reads these matrices, or their transposes, as they lie."""
    return x.dtype == FLOAT32 and 4 in x.strides[-2:] and all(s > 0 and s % 4 == 0 for s in x.strides)


class OneDnnSteps(Family[Steps]):
    """`Steps` that use oneDNN where it is faster."""

    def _product(self, x: Array, y: Array, out: Array, add: bool) -> bool:
        """Whether oneDNN did it."""
        if math.prod(x.shape) * y.shape[-1] < SMALL or not (_fits(x) and _fits(y) and _fits(out)):
            return False
        plan = self._core.plan(_Product, _layout_of(x), _layout_of(y), _layout_of(out), add)
        if plan is None:
            return False
        plan.run(x, y, out)
        return True

    def product(self, x: Array, y: Array, out: Array) -> None:
        """``out = x @ y``."""
        if not self._product(x, y, out, False):
            self._numpy.product(x, y, out)

    def add_product(self, x: Array, y: Array, out: Array) -> None:
        """``out += x @ y``."""
        if not self._product(x, y, out, True):
            self._numpy.add_product(x, y, out)

    def softmax(self, x: Array, out: Array) -> None:
        """The softmax of rows; NumPy computes what holds nan, or rows of -inf alone."""
        plan = None
        if is_plain(x) and x.size >= SMALL_SOFTMAX:
            plan = self._core.plan(SoftmaxForward, SOFTMAX, x.size // x.shape[-1], x.shape[-1])
        if plan is not None:
            plan.run(x, out)
        if plan is None or has_nan(out):
            self._numpy.softmax(x, out)

    def softmax_backward(self, g: Array, y: Array) -> None:
        """``g = y * (g - sum(g * y))``."""
        plan = None
        if is_plain(g) and g.size >= SMALL_SOFTMAX:
            plan = self._core.plan(SoftmaxBackward, SOFTMAX, g.size // g.shape[-1], g.shape[-1])
        if plan is None:
            self._numpy.softmax_backward(g, y)
        else:
            plan.run(g, y, g)
