"""Matrix products with weights that stay the same for many steps, copied once into the layout that oneDNN likes."""

from typing import NamedTuple

import numpy as np

from ..._typing import Array, Shape
from ._core import DST, SRC, WEIGHTS, WEIGHTS_LAYOUT, Core, Primitive, Thread


class Sizes(NamedTuple):
    """``out[g] = rows @ weights[g]`` for each of some gates.

    Args:
        rows: rows of the left matrix.
        inner: what is summed over.
        columns: of the result.
        gates: how many matrices of weights there are; for one, no array has this dimension.
        spread: elements from one row of the left matrix to the next.
        weights: strides of the weights, of (gates, inner, columns).
    """

    rows: int
    inner: int
    columns: int
    gates: int
    spread: int
    weights: Shape


class _Packed:
    """A product with its weights, which stay as `pack` left them until the next use of `slot` on this thread."""

    def __init__(self, local: Thread, sizes: Sizes, slot: str) -> None:
        library, s = local.library, sizes
        several = s.gates > 1
        shapes = (s.rows, s.inner), (s.inner, s.columns), (s.rows, s.columns)
        strides = (s.spread, 1), s.weights[1:], (s.columns, 1)
        if several:
            shapes = (1, *shapes[0]), (s.gates, *shapes[1]), (s.gates, *shapes[2])  # type: ignore[assignment]
            strides = (s.rows * s.spread, *strides[0]), s.weights, (s.rows * s.columns, *strides[2])  # type: ignore[assignment]
        left, plain, out = (library.layout(*both) for both in zip(shapes, strides, strict=True))
        about = library.describe("matmul", left, library.any_layout(shapes[1]), None, out)
        inside = library.layout_of(about, WEIGHTS_LAYOUT)
        place = inside, local.memory(slot, library.size(inside))
        self.run = Primitive(local, about, {SRC: left, DST: out}, {WEIGHTS: place})
        self.pack = Primitive(local, library.describe_reorder(plain, inside), {SRC: plain}, {DST: place})


class _Plain:
    """The same by NumPy, for sizes that oneDNN does not take."""

    def pack(self, weights: Array) -> None:
        self._weights = weights

    def run(self, rows: Array, out: Array) -> None:
        np.matmul(rows, self._weights, out=out)


Product = _Packed | _Plain


def product(core: Core, rows: Array, weights: Array, slot: str, count: int = 0) -> Product:
    """A product with these weights, ready to run.

    Args:
        core: the library.
        rows: a left matrix as all will be, (count or more, inner), rows of any spread.
        weights: (inner, columns) or (gates, inner, columns), of any strides.
        slot: products with different ones can be used in turn.
        count: the rows of each left matrix, if not all of `rows`.
    """
    strides = tuple(s // weights.itemsize for s in weights.strides)
    gates = weights.shape[0] if weights.ndim == 3 else 1
    inner, columns = weights.shape[-2:]
    spread = rows.strides[0] // rows.itemsize
    sizes = Sizes(count or len(rows), inner, columns, gates, spread, strides if gates > 1 else (0, *strides[-2:]))
    made: Product = core.plan(_Packed, sizes, slot) or _Plain()
    made.pack(weights)
    return made


class _Matrices:
    """``out = a @ b`` for matrices of given strides."""

    def __init__(self, local: Thread, *layouts: tuple[Shape, Shape]) -> None:
        a, b, out = (local.library.layout(*layout) for layout in layouts)
        about = local.library.describe("matmul", a, b, None, out)
        self.run = Primitive(local, about, {SRC: a, WEIGHTS: b, DST: out})


def multiply(core: Core, a: Array, b: Array, out: Array) -> Array:
    """``out = a @ b`` for matrices of any strides; returns out."""
    layouts = ((m.shape, tuple(s // m.itemsize for s in m.strides)) for m in (a, b, out))
    plan = core.plan(_Matrices, *layouts)
    if plan is None:
        np.matmul(a, b, out=out)
    else:
        plan.run(a, b, out)
    return out
