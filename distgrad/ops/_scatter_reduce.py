"""Scatters that combine what meets at one place by a sum, product, mean, maximum or minimum."""

import math
from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._base import TensorBase, wrap
from ..autograd._node import Node
from ..autograd._op import Op, apply
from ..backend import backend_of
from ._common import axis_of, tensor_of
from ._scatter import ScatterAdd, ScatterAlong, along, cut, index_array, scatter_arguments
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor

_REDUCTIONS = {"sum": "add", "prod": "multiply", "amax": "maximum", "amin": "minimum"}


class ScatterReduce(Op):
    """``params = (index, axis, reduction, include_self)``: repeated places are combined by a ufunc."""

    saves = ((0, 1), (0, 1))
    saves_output = True

    @staticmethod
    def forward(ctx: Node, x: Array, src: Array, index: Array, axis: int, reduction: str, include_self: bool) -> Array:
        xp = ctx.xp
        places = along(xp, index, axis)
        result = xp.array(x)
        values = cut(src, index)
        if not include_self:
            result[places] = _neutral(xp, reduction, x.dtype)
        name = _REDUCTIONS["sum" if reduction == "mean" else reduction]
        ctx.kernels.ufuncs.at(name, result, places, values)
        if reduction == "mean":
            count = _counts(xp, x, index, axis, include_self)
            result = result // count.astype(x.dtype) if x.dtype.kind in "biu" else result / count.astype(x.dtype)
        return result

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, src: Any, out: Any) -> Any:
        index, axis, reduction, include_self = ctx.params
        keep = _kept(ctx, include_self)
        values = xp.getitem(src, tuple([slice(n) for n in index.shape]))
        if reduction in ("sum", "mean"):
            if reduction == "mean":
                g = g / xp.astype(
                    _as_like(xp, _counts(ctx.xp, ctx.xp.zeros(ctx.shapes[0]), index, axis, include_self), g), x.dtype
                )
            gx, gs = g, xp.take_along_axis(g, index, axis=axis)
        elif reduction == "prod":
            gx, gs = _prod_gradients(xp, g, x, values, out, index, axis, include_self)
        else:
            gx, gs = _extreme_gradients(xp, g, x, values, out, index, axis, keep)
        gx = gx if include_self else xp.call(ScatterAlong, (gx, 0), (index, axis))
        full = tuple(gs.shape) == tuple(ctx.shapes[1])
        return gx, gs if full else xp.scatter(gs, tuple([slice(n) for n in index.shape]), ctx.shapes[1])


def _as_like(xp: Any, array: Array, like: Any) -> Any:
    """A raw array in the form in which the namespace works."""
    return wrap(array) if isinstance(like, TensorBase) else array


def _neutral(xp: Any, reduction: str, dtype: Any) -> Any:
    if reduction in ("sum", "mean"):
        return 0
    if reduction == "prod":
        return 1
    if dtype.kind in "iu":
        info = xp.iinfo(dtype)
        return info.min if reduction == "amax" else info.max
    return -math.inf if reduction == "amax" else math.inf


def _counts(xp: Any, x: Array, index: Array, axis: int, include_self: bool) -> Array:
    """How many values met at each place, at least 1."""
    count = xp.full(x.shape, 1 if include_self else 0)
    xp.add.at(count, along(xp, index, axis), 1)
    return xp.maximum(count, 1)


def _kept(ctx: Node, include_self: bool) -> Array | None:
    """Where the input's own value takes part; None for everywhere."""
    if include_self:
        return None
    index, axis = ctx.params[:2]
    kept = ctx.xp.ones(ctx.shapes[0], dtype=bool)
    kept[along(ctx.xp, index, axis)] = False
    return kept


def _prod_gradients(xp: Any, g: Any, x: Any, values: Any, out: Any, index: Array, axis: int, include_self: bool) -> Any:
    """The product divided by each factor; where one factor is 0, only it has a gradient, the product of the others."""
    zero_x, zero_v = xp.astype(x == 0, x.dtype), xp.astype(values == 0, x.dtype)
    own = x if include_self else xp.call(ScatterAlong, (x, 1), (index, axis))
    zeros = zero_x if include_self else xp.call(ScatterAlong, (zero_x, 0), (index, axis))
    zeros = xp.call(ScatterAdd, (zeros, zero_v), (index, axis))
    safe_x, safe_v = xp.where(own == 0, xp.ones_like(own), own), xp.where(values == 0, xp.ones_like(values), values)
    others = xp.call(
        ScatterReduce, (safe_x, safe_v), (index, axis, "prod", True)
    )  # the product of all factors that are not 0
    gx = g * xp.where(own == 0, xp.where(zeros == 1, others, xp.zeros_like(x)), out / safe_x)

    def at(t: Any) -> Any:
        return xp.take_along_axis(t, index, axis=axis)

    gs = at(g) * xp.where(values == 0, xp.where(at(zeros) == 1, at(others), xp.zeros_like(values)), at(out) / safe_v)
    return gx, gs


def _extreme_gradients(
    xp: Any, g: Any, x: Any, values: Any, out: Any, index: Array, axis: int, keep: Array | None
) -> Any:
    """The gradient shared evenly among all that are equal to the result."""
    self_hit = xp.astype(x == out, x.dtype)
    if keep is not None:
        self_hit = self_hit * xp.astype(_as_like(xp, keep, g), x.dtype)
    hit = xp.astype(values == xp.take_along_axis(out, index, axis=axis), x.dtype)
    ties = xp.call(ScatterAdd, (self_hit, hit), (index, axis))
    share = g / xp.where(ties == 0, xp.ones_like(ties), ties)
    gx = share * self_hit if keep is None else xp.where(_as_like(xp, keep, g), g, xp.zeros_like(g))
    return gx, xp.take_along_axis(share, index, axis=axis) * hit


@op(inplace=True, twice=False)
def scatter_reduce(
    input: "Tensor", dim: int, index: "Tensor", src: "Tensor", reduce: str, *, include_self: bool = True
) -> "Tensor":
    """A copy of `input` in which all values of `src` that `index` sends to a place are combined.

    Args:
        input, dim, index, src: as in `scatter`.
        reduce: ``"sum"``, ``"prod"``, ``"mean"``, ``"amax"`` or ``"amin"``.
        include_self: whether the value in `input` takes part, too.
    """
    if reduce not in ("sum", "prod", "mean", "amax", "amin"):
        raise ValueError(f"scatter_reduce: expected reduce to be sum, prod, mean, amax or amin, got {reduce!r}")
    if index._data.size == 0:
        return input.clone()
    inputs, params = scatter_arguments(input, dim, index, src, "scatter_reduce")
    return apply(ScatterReduce, inputs, (*params, reduce, include_self)).reshape(input._data.shape)  # type: ignore[no-any-return]


@op(inplace=True, twice=False)
def index_reduce(
    input: "Tensor", dim: int, index: "Tensor", source: "Tensor", reduce: str, *, include_self: bool = True
) -> "Tensor":
    """A copy of `input` in which the slices of `source` that `index` sends to one place along `dim` are combined.

    Args:
        reduce: ``"prod"``, ``"mean"``, ``"amax"`` or ``"amin"``.
    """
    input, source = tensor_of(input, "index_reduce"), tensor_of(source, "index_reduce")
    axis = axis_of(dim, input._data.ndim, "index_reduce")
    array = index_array(index, "index_reduce").reshape(-1)
    shape = source._data.shape
    wide = array.reshape((-1,) + (1,) * (len(shape) - axis - 1)) if shape else array.reshape(())
    full = backend_of(array).xp.broadcast_to(wide, shape)
    return scatter_reduce(input, dim, wrap(full), source, reduce, include_self=include_self)
