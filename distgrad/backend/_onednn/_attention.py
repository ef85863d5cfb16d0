"""What attention does in each of its blocks, by oneDNN: products on views as they lie, fused passes over scores."""

import functools
import math
from ctypes import c_int

import numpy as np

from ..._typing import Array, Shape
from .._numpy._attention import Steps
from .._numpy._scratch import BLOCK
from ._chain import ADD, LINEAR, OTHER, Chain
from ._core import DST, SRC, WEIGHTS, Family, Primitive, Products, Thread, row_major
from ._dense import FLOAT32, is_plain
from ._softmax import SOFTMAX, SoftmaxBackward

_EXP = 0x2A
SMALL = 1 << 17  # multiplications of two matrices, below which NumPy is as fast
SMALL_ROWS = 1 << 10  # elements of a block
LONG = 256  # rows or columns, above which NumPy is faster; under a causal mask each number of keys has plans of its own

_Layout = tuple[Shape, Shape]  # with strides in elements


class _Product(Products):
    """The product of stacks of matrices, or that added to what the result's memory holds."""

    def __init__(self, local: Thread, x: _Layout, y: _Layout, out: _Layout, add: bool) -> None:
        super().__init__(local)
        library = local.library
        layouts = [library.layout(*each) for each in (x, y, out)]
        chain = Chain(library)
        if add:
            chain.add_to_result(1.0)
        about = library.describe("matmul", layouts[0], layouts[1], None, layouts[2], attributes=chain.attributes())
        self.run = Primitive(local, about, dict(zip((SRC, WEIGHTS, DST), layouts, strict=True)))


class _Exps:
    """``exp(scale * (x + hidden))`` of a stack (M, rows, keys), with `hidden` one matrix or one number."""

    def __init__(self, local: Thread, shape: Shape, hidden: Shape, scale: float) -> None:
        library = local.library
        stack, other = library.layout(shape, row_major(shape)), library.layout(hidden, row_major(hidden))
        chain = Chain(library).function(LINEAR, scale, 0).function(_EXP, 0, 0)
        about = library.describe("binary", c_int(ADD), stack, other, stack, attributes=chain.attributes())
        self.run = Primitive(local, about, {SRC: stack, OTHER: other, DST: stack})


@functools.lru_cache(8)
def _hidden(rows: int, keys: int, above: int | None) -> Array:
    """What is added to scores: -inf where row r would see a key above ``r + above``, else 0."""
    if above is None:
        return np.zeros((1, 1, 1), dtype=FLOAT32)
    seen = np.tri(rows, keys, above, dtype=np.bool_)
    return np.where(seen, FLOAT32.type(0), FLOAT32.type(-np.inf))[None]


def _layout_of(x: Array) -> _Layout:
    return x.shape, tuple([s // 4 for s in x.strides])


def _fits(x: Array) -> bool:
    """Whether oneDNN reads these matrices, or their transposes, as they lie."""
    return x.dtype == FLOAT32 and 4 in x.strides[-2:] and all(s > 0 and s % 4 == 0 for s in x.strides)


def _is_block(x: Array) -> bool:
    return is_plain(x) and x.size >= SMALL_ROWS and x.shape[-1] <= LONG


class OneDnnSteps(Family[Steps]):
    """`Steps` that use oneDNN where it is faster."""

    block = 2 * BLOCK  # fewer calls are worth more than the second-level cache

    def _product(self, x: Array, y: Array, out: Array, add: bool) -> bool:
        """Whether oneDNN did it."""
        (rows, inner), columns = x.shape[-2:], y.shape[-1]
        if max(rows, inner, columns) > LONG or rows * inner * columns < SMALL or not all(map(_fits, (x, y, out))):
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

    def exps(self, x: Array, scale: float, above: int | None) -> None:
        """``x = exp(scale * x)``, and 0 where keys are hidden, in one pass."""
        plan = None
        if _is_block(x):
            stack = math.prod(x.shape[:-2]), *x.shape[-2:]
            hidden = _hidden(*stack[1:], above)
            plan = self._core.plan(_Exps, stack, hidden.shape, scale)
        if plan is None:
            self._numpy.exps(x, scale, above)
        else:
            plan.run(x, hidden, x)

    def softmax_backward(self, g: Array, y: Array) -> None:
        """``g = y * (g - sum(g * y))``."""
        plan = None
        if _is_block(g):
            plan = self._core.plan(SoftmaxBackward, SOFTMAX, g.size // g.shape[-1], g.shape[-1])
        if plan is None:
            self._numpy.softmax_backward(g, y)
        else:
            plan.run(g, y, g)
