"""Softmax and its relatives."""

from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._node import Node
from ..autograd._op import Op, apply1
from ._common import axes_of, axis_of, cast, floating, floating_in
from ._reduce import restore_axes
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


class Softmax(Op):
    """``params = (axis,)``."""

    saves_output = True
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, axis: int) -> Array:
        return ctx.kernels.softmax.softmax(x, axis)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, y: Any) -> Any:
        gy = g * y
        return gy - y * xp.sum(gy, axis=ctx.params[0], keepdims=True)

    @staticmethod
    def backward_fast(xp: Any, ctx: Node, g: Array, y: Array) -> Array:
        return ctx.kernels.softmax.softmax_backward(g, y, ctx.params[0])


class LogSoftmax(Op):
    """``params = (axis,)``."""

    saves_output = True
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, axis: int) -> Array:
        return ctx.kernels.softmax.log_softmax(x, axis)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, y: Any) -> Any:
        return g - xp.exp(y) * xp.sum(g, axis=ctx.params[0], keepdims=True)

    @staticmethod
    def backward_fast(xp: Any, ctx: Node, g: Array, y: Array) -> Array:
        return ctx.kernels.softmax.log_softmax_backward(g, y, ctx.params[0])


class Logsumexp(Op):
    """``params = (axes, keepdim)``."""

    saves = ((0,),)
    saves_output = True
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, axes: tuple[int, ...], keepdim: bool) -> Array:
        xp = ctx.xp
        top = x.max(axis=axes, keepdims=True) if x.size else xp.zeros_like(x.sum(axis=axes, keepdims=True))
        top = xp.where(xp.isfinite(top), top, xp.zeros_like(top))
        total = xp.exp(x - top).sum(axis=axes, keepdims=keepdim)
        return xp.log(total) + top.reshape(total.shape)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        axes, keepdim = ctx.params
        (shape,) = ctx.shapes
        y = restore_axes(xp, y, shape, axes, keepdim)
        return restore_axes(xp, g, shape, axes, keepdim) * xp.exp(xp.where(x == y, xp.zeros_like(x), x - y))


class Logcumsumexp(Op):
    """``params = (axis,)``."""

    saves = ((0,),)
    saves_output = True
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, axis: int) -> Array:
        return ctx.kernels.ufuncs.accumulate("logaddexp", x, axis)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        """``exp(x_i) * sum over j >= i of g_j * exp(-y_j)``, with the positive and the negative g summed as
        logarithms."""
        (axis,) = ctx.params
        return _from_end(xp, g, x, y, axis, 1.0) - _from_end(xp, g, x, y, axis, -1.0)


def _from_end(xp: Any, g: Any, x: Any, y: Any, axis: int, sign: float) -> Any:
    """The part of that sum in which g has the given sign."""
    part = xp.maximum(g * sign, 0.0)
    absent = part == 0
    logs = xp.log(xp.where(absent, xp.ones_like(part), part)) - y
    logs = xp.where(absent, xp.zeros_like(logs) - float("inf"), logs)
    total = xp.flip(xp.call(Logcumsumexp, (xp.flip(logs, axis=axis),), (axis,)), axis=axis)
    return xp.exp(total + x)


@op()
def softmax(input: "Tensor", dim: int, dtype: Any = None) -> "Tensor":
    """``exp(x) / sum(exp(x))`` along a dimension; nan where all elements are -inf.

    Args:
        input: a floating-point tensor.
        dim: the dimension along which the results sum to 1.
        dtype: convert the input to this dtype first.
    """
    t = floating_in(input, dtype, "softmax")
    return apply1(Softmax, t, axis_of(dim, t._data.ndim, "softmax"))


@op()
def log_softmax(input: "Tensor", dim: int, dtype: Any = None) -> "Tensor":
    """The logarithm of softmax, without taking it: ``x - log(sum(exp(x)))``. Arguments as for `softmax`."""
    t = floating_in(input, dtype, "log_softmax")
    return apply1(LogSoftmax, t, axis_of(dim, t._data.ndim, "log_softmax"))


@op(method=False)
def softmin(input: "Tensor", dim: int, dtype: Any = None) -> "Tensor":
    """``softmax(-input)``. Arguments as for `softmax`."""
    t = floating_in(input, dtype, "softmin")
    return softmax(-t, dim)


@op()
def logsumexp(input: "Tensor", dim: Any, keepdim: bool = False) -> "Tensor":
    """``log(sum(exp(input)))`` over the dimensions `dim`, without overflow; integers give the default dtype."""
    t = floating(input, "logsumexp")
    return apply1(Logsumexp, t, axes_of(dim, t._data.ndim, "logsumexp"), keepdim)


@op()
def logcumsumexp(input: "Tensor", dim: int) -> "Tensor":
    """The running ``log(sum(exp(input)))`` along a dimension."""
    t = floating(input, "logcumsumexp")
    axis = axis_of(dim, t._data.ndim, "logcumsumexp")
    return apply1(Logcumsumexp, t, axis) if t._data.ndim else cast(t, t._data.dtype).clone()
