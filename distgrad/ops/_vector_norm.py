"""Norms of vectors and of matrices seen as vectors, and distances."""

import math
from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._node import Node
from ..autograd._op import Op, apply1
from ..errors import ShapeError
from ._arithmetic import Sub
from ._common import axes_of, binary, floating_in
from ._reduce import is_half, restore_axes
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


class VectorNorm(Op):
    """``params = (p, axes, keepdim)``."""

    name = "LinalgVectorNorm"
    saves = ((0,),)
    saves_output = True
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, p: float, axes: tuple[int, ...], keepdim: bool) -> Array:
        if is_half(x.dtype):
            return ctx.xp.asarray(_norm(ctx.xp, x.astype("float32"), p, axes, keepdim)).astype(x.dtype)
        return _norm(ctx.xp, x, p, axes, keepdim)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        p, axes, keepdim = ctx.params
        (shape,) = ctx.shapes
        g, y = restore_axes(xp, g, shape, axes, keepdim), restore_axes(xp, y, shape, axes, keepdim)
        if p == 0:
            return xp.zeros_like(x)
        if p == 1:
            return g * xp.sign(x)
        if p == 2:
            return xp.where(y == 0, xp.zeros_like(x), x * (g / y))
        if math.isinf(p):
            hit = xp.astype(xp.abs(x) == y, x.dtype)
            return xp.sign(x) * hit * (g / xp.sum(hit, axis=axes, keepdims=True))
        return _general_gradient(xp, g, x, y, p)


def _norm(xp: Any, x: Array, p: float, axes: tuple[int, ...], keepdim: bool) -> Array:
    if p == 2:
        if x.dtype.kind != "c" and len(axes) == x.ndim and x.flags.c_contiguous and not keepdim:
            flat = x.reshape(-1)
            return xp.sqrt(flat @ flat)
        squares = (x * x.conj()).real if x.dtype.kind == "c" else x * x
        return xp.sqrt(squares.sum(axis=axes, keepdims=keepdim))
    size = xp.abs(x)
    if math.isinf(p):
        if size.size == 0 and p > 0:
            return size.sum(axis=axes, keepdims=keepdim)
        return size.max(axis=axes, keepdims=keepdim) if p > 0 else size.min(axis=axes, keepdims=keepdim)
    if p == 0:
        return (x != 0).sum(axis=axes, keepdims=keepdim).astype(size.dtype)
    if p == 1:
        return size.sum(axis=axes, keepdims=keepdim)
    return (size**p).sum(axis=axes, keepdims=keepdim) ** (1 / p)


def _general_gradient(xp: Any, g: Any, x: Any, y: Any, p: float) -> Any:
    zero = x == 0
    size = xp.where(zero, xp.ones_like(x), xp.abs(x))
    safe = xp.where(y == 0, xp.ones_like(y), y)
    value = xp.sign(x) * size ** (p - 1) * (g / safe ** (p - 1))
    return xp.where(zero, xp.zeros_like(x), value)


@op(name="linalg.vector_norm", method=False)
def vector_norm(x: "Tensor", ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> "Tensor":
    """The norm of the elements over the dimensions `dim` (all by default), as of one vector.

    Args:
        x: a floating-point tensor.
        ord: ``sum(|x|**ord)**(1/ord)``; inf, -inf: the largest and smallest |x|; 0: how many are not 0.
        dim: a dimension or several.
        keepdim: keep each reduced dimension as 1.
        dtype: convert the input to this dtype first.
    """
    t = floating_in(x, dtype, "linalg.vector_norm")
    axes = axes_of(dim, t._data.ndim, "linalg.vector_norm")
    if t._data.size == 0 and (ord < 0 or math.isinf(ord)) and math.prod([t._data.shape[a] for a in axes]) == 0:
        raise ShapeError(f"linalg.vector_norm: the norm of order {ord} of no elements is not defined")
    return apply1(VectorNorm, t, float(ord), axes, keepdim)


@op()
def dist(input: "Tensor", other: "Tensor", p: float = 2) -> "Tensor":
    """The p-norm of ``input - other``."""
    return vector_norm(binary(Sub, input, other), p)
