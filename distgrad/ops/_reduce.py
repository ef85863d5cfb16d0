"""Reductions."""

import math
from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._node import Node
from ..autograd._op import Op, apply1
from ..errors import DTypeError
from ._common import axes_of, cast, tensor_of, to_dtype
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


def restore_axes(xp: Any, g: Any, shape: tuple[int, ...], axes: tuple[int, ...], keepdim: bool) -> Any:
    """The gradient of a reduction, with the reduced axes put back as 1."""
    if keepdim or not axes:
        return g
    return xp.reshape(g, tuple(1 if i in axes else n for i, n in enumerate(shape)))


class Sum(Op):
    """``params = (axes, keepdim)``."""

    @staticmethod
    def forward(ctx: Node, x: Array, axes: tuple[int, ...], keepdim: bool) -> Array:
        return ctx.xp.add.reduce(x, axis=axes, keepdims=keepdim)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        axes, keepdim = ctx.params
        (shape,) = ctx.shapes
        return xp.broadcast_to(restore_axes(xp, g, shape, axes, keepdim), shape)


class Mean(Op):
    """``params = (axes, keepdim)``."""

    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, axes: tuple[int, ...], keepdim: bool) -> Array:
        return ctx.xp.add.reduce(x, axis=axes, keepdims=keepdim) / _count(x.shape, axes)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        axes, keepdim = ctx.params
        (shape,) = ctx.shapes
        return xp.broadcast_to(restore_axes(xp, g / _count(shape, axes), shape, axes, keepdim), shape)


def _count(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    return math.prod(shape[a] for a in axes)


@op()
def sum(input: "Tensor", dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> "Tensor":
    """The sum over the dimensions `dim` (all by default); integers and bools sum to int64.

    Args:
        input: a tensor of any shape.
        dim: a dimension or several; None or () means all.
        keepdim: keep each reduced dimension as 1.
        dtype: convert the input to this dtype first.
    """
    t = tensor_of(input, "sum")
    t = to_dtype(t, dtype) if dtype is not None else cast(t, "int64") if t._data.dtype.kind in "biu" else t
    return apply1(Sum, t, axes_of(dim, t._data.ndim, "sum"), keepdim)  # type: ignore[no-any-return]


@op()
def mean(input: "Tensor", dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> "Tensor":
    """The mean over the dimensions `dim` (all by default).

    Raises:
        DTypeError: the input is not of a floating-point dtype.
    """
    t = to_dtype(tensor_of(input, "mean"), dtype)
    if t._data.dtype.kind in "biu":
        raise DTypeError(f"mean: expected a floating-point dtype, got {t._data.dtype}; convert with .float() or pass dtype=")
    return apply1(Mean, t, axes_of(dim, t._data.ndim, "mean"), keepdim)  # type: ignore[no-any-return]
