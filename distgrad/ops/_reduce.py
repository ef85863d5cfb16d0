"""Reductions: sums, means, products, variances, and the logical ones."""

import math
from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._base import wrap_result
from ..autograd._node import Node
from ..autograd._op import Op, apply, apply1
from ._common import axes_of, axis_of, cast, check_floating, floating_in, tensor_of, to_dtype
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


def restore_axes(xp: Any, g: Any, shape: tuple[int, ...], axes: tuple[int, ...], keepdim: bool) -> Any:
    """The gradient of a reduction, with the reduced axes put back as 1."""
    if keepdim or not axes:
        return g
    return xp.reshape(g, tuple([1 if i in axes else n for i, n in enumerate(shape)]))


def count_of(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    """How many elements are reduced to one."""
    return math.prod([shape[a] for a in axes])


def is_half(dtype: Any) -> bool:
    """Whether this is float16 or bfloat16, whose sums are accumulated in float32."""
    return dtype.itemsize == 2 and dtype.kind in "fV"


def sum_of(xp: Any, x: Array, axes: Any, keepdim: bool) -> Array:
    """The sum in x's dtype, accumulated in float32 at least."""
    if is_half(x.dtype):
        return xp.asarray(x.astype("float32").sum(axis=axes, keepdims=keepdim)).astype(x.dtype)
    return xp.sum(x, axis=axes, keepdims=keepdim, dtype=x.dtype)


class Sum(Op):
    """``params = (axes, keepdim)``."""

    @staticmethod
    def forward(ctx: Node, x: Array, axes: tuple[int, ...], keepdim: bool) -> Array:
        if is_half(x.dtype):
            return sum_of(ctx.xp, x, axes, keepdim)
        return x.sum(axis=axes, keepdims=keepdim)

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
        n = count_of(x.shape, axes)
        if is_half(x.dtype):
            return ctx.xp.asarray(x.astype("float32").sum(axis=axes, keepdims=keepdim) / n).astype(x.dtype)
        total = x.sum(axis=axes, keepdims=keepdim)
        return total / (n if n else x.dtype.type(0))

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        axes, keepdim = ctx.params
        (shape,) = ctx.shapes
        n = count_of(shape, axes)
        return xp.broadcast_to(restore_axes(xp, g / n if n else g, shape, axes, keepdim), shape)


class Prod(Op):
    """``params = (axis, keepdim)``; axis None multiplies all."""

    saves = ((0,),)
    saves_output = True

    @staticmethod
    def forward(ctx: Node, x: Array, axis: int | None, keepdim: bool) -> Array:
        return ctx.xp.prod(x, axis=axis, keepdims=keepdim, dtype=x.dtype)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        """Each element's gradient is the product of the others: those before it times those after it."""
        axis, _ = ctx.params
        (shape,) = ctx.shapes
        flat = x if axis is not None else xp.reshape(x, (-1,))
        along = axis if axis is not None else 0
        if flat.ndim == 0:
            return g
        g = xp.reshape(g, tuple([1 if i == along else n for i, n in enumerate(flat.shape)]))
        others = _exclusive(xp, flat, along) * xp.flip(_exclusive(xp, xp.flip(flat, axis=along), along), axis=along)
        return xp.reshape(g * others, shape)

    @staticmethod
    def backward_fast(xp: Any, ctx: Node, g: Any, x: Array, y: Array) -> Any:
        if not x.all():
            return Prod.backward(xp, ctx, g, x, y)
        axis, _ = ctx.params
        (shape,) = ctx.shapes
        kept = tuple([1 if axis is None or i == axis else n for i, n in enumerate(shape)])
        return (g * y).reshape(kept) / x


def _exclusive(xp: Any, x: Any, axis: int) -> Any:
    """At each place along `axis`, the product of the elements before it."""
    lead = (slice(None),) * axis
    first = xp.ones_like(xp.getitem(x, (*lead, slice(0, 1))))
    before = xp.concat((first, xp.getitem(x, (*lead, slice(0, max(x.shape[axis] - 1, 0))))), axis=axis)
    before = xp.getitem(before, (*lead, slice(0, x.shape[axis])))
    return xp.call(CumulativeProduct, (before,), (axis,))


class CumulativeProduct(Op):
    """``params = (axis,)``."""

    name = "Cumprod"
    saves = ((0,),)
    saves_output = True

    @staticmethod
    def forward(ctx: Node, x: Array, axis: int) -> Array:
        return ctx.xp.cumprod(x, axis=axis, dtype=x.dtype)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        """With ``s_i = sum over j >= i of g_j * y_j``, the gradient is ``s_i / x_i``; without division where there is
        a 0."""
        (axis,) = ctx.params
        zero = x == 0
        safe = xp.where(zero, xp.ones_like(x), x)
        simple = _from_end(xp, g * y, axis) / safe
        if not bool(zero.any()):
            return simple
        # A zero cannot be divided by: its sum is of the products without it. From the third zero on, these are 0, and
        # so
        # are their derivatives.
        number = xp.call(CumulativeSumOp, (xp.astype(zero, x.dtype),), (axis,))
        result = xp.where(zero, xp.zeros_like(x), simple)
        for place in (1, 2):
            here = xp.logical_and(zero, number == place)
            others = xp.call(CumulativeProduct, (xp.where(here, xp.ones_like(x), x),), (axis,))
            result = xp.where(here, _from_end(xp, g * others, axis), result)
        return result


class CumulativeSumOp(Op):
    """``params = (axis,)``."""

    name = "Cumsum"

    @staticmethod
    def forward(ctx: Node, x: Array, axis: int) -> Array:
        if is_half(x.dtype):
            return ctx.xp.cumsum(x.astype("float32"), axis=axis).astype(x.dtype)
        return ctx.xp.cumsum(x, axis=axis, dtype=x.dtype)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return _from_end(xp, g, ctx.params[0])


def _from_end(xp: Any, g: Any, axis: int) -> Any:
    """At each place along `axis`, the sum from there to the end."""
    return xp.flip(xp.call(CumulativeSumOp, (xp.flip(g, axis=axis),), (axis,)), axis=axis)


class Var(Op):
    """``params = (axes, correction, keepdim)``."""

    saves = ((0,),)
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, axes: tuple[int, ...], correction: float, keepdim: bool) -> Array:
        return _variance(ctx, x, axes, correction, keepdim)[0]

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        axes, correction, keepdim = ctx.params
        return _variance_gradient(xp, ctx, restore_axes(xp, g, ctx.shapes[0], axes, keepdim), x, axes, correction)


class Std(Op):
    """``params = (axes, correction, keepdim)``."""

    saves = ((0,),)
    saves_output = True
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, axes: tuple[int, ...], correction: float, keepdim: bool) -> Array:
        return ctx.xp.sqrt(_variance(ctx, x, axes, correction, keepdim)[0])

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        axes, correction, keepdim = ctx.params
        g = xp.where(y == 0, xp.zeros_like(g), g / (y * 2))
        return _variance_gradient(xp, ctx, restore_axes(xp, g, ctx.shapes[0], axes, keepdim), x, axes, correction)


class VarMean(Op):
    """Outputs the variance and the mean: ``params = (axes, correction, keepdim)``."""

    saves = ((0,),)
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, axes: tuple[int, ...], correction: float, keepdim: bool) -> Any:
        return _variance(ctx, x, axes, correction, keepdim)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        axes, correction, keepdim = ctx.params
        (shape,) = ctx.shapes
        result = None
        if g[0] is not None:
            result = _variance_gradient(xp, ctx, restore_axes(xp, g[0], shape, axes, keepdim), x, axes, correction)
        if g[1] is not None:
            share = xp.broadcast_to(restore_axes(xp, g[1] / count_of(shape, axes), shape, axes, keepdim), shape)
            result = share if result is None else result + share
        return result


def _variance(ctx: Node, x: Array, axes: tuple[int, ...], correction: float, keepdim: bool) -> tuple[Array, Array]:
    """The variance and the mean in x's dtype, by deviations from the mean."""
    dtype = x.dtype
    wide = x.astype("float32") if is_half(dtype) else x
    n = count_of(x.shape, axes)
    mean = wide.sum(axis=axes, keepdims=True) / (n or wide.dtype.type(0))
    deviation = ctx.xp.asarray(wide - mean)  # NumPy makes a scalar of 0 dimensions, which cannot be written to
    squares = (
        (deviation * deviation.conj()).real
        if dtype.kind == "c"
        else ctx.xp.multiply(deviation, deviation, out=deviation)
    )
    total = squares.sum(axis=axes, keepdims=keepdim)
    divisor = squares.dtype.type(max(n - correction, 0))
    mean = mean if keepdim else mean.reshape(total.shape)
    if is_half(dtype):
        return ctx.xp.asarray(total / divisor).astype(dtype), mean.astype(dtype)
    return total / divisor, mean


def _variance_gradient(xp: Any, ctx: Node, g: Any, x: Any, axes: tuple[int, ...], correction: float) -> Any:
    n = count_of(ctx.shapes[0], axes)
    divisor = max(n - correction, 0)
    return (x - xp.mean(x, axis=axes, keepdims=True)) * (g * (2.0 / divisor if divisor else math.inf))


@op()
def sum(input: "Tensor", dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> "Tensor":
    """The sum over the dimensions `dim` (all by default); integers and bools sum to int64.

    Args:
        input: a tensor of any shape.
        dim: a dimension or several; None or () means all.
        keepdim: keep each reduced dimension as 1.
        dtype: convert the input to this dtype first.
    """
    t = _summable(input, dtype, "sum")
    return apply1(Sum, t, axes_of(dim, t._data.ndim, "sum"), keepdim)


def _summable(input: Any, dtype: Any, name: str) -> Any:
    """The input in the dtype that is asked for; integers and bools as int64."""
    t = tensor_of(input, name)
    if dtype is not None:
        return to_dtype(t, dtype)
    return cast(t, "int64") if t._data.dtype.kind in "biu" else t


@op()
def mean(input: "Tensor", dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> "Tensor":
    """The mean over the dimensions `dim` (all by default).

    Raises:
        DTypeError: the input is not of a floating-point dtype.
    """
    t = floating_in(input, dtype, "mean")
    return apply1(Mean, t, axes_of(dim, t._data.ndim, "mean"), keepdim)


def _spread(op_class: Any, name: str, input: Any, dim: Any, unbiased: Any, keepdim: bool, correction: Any) -> Any:
    """The common part of var and std, whose arguments torch reads in an old and a new way."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if correction is None:
        correction = 1 if unbiased is None or unbiased else 0
    t = tensor_of(input, name)
    check_floating(name, t)
    from_all = axes_of(dim, t._data.ndim, name)
    return op_class, t, (from_all, correction, keepdim)


@op()
def var(
    input: "Tensor",
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> "Tensor":
    """The variance over the dimensions `dim` (all by default).

    Args:
        input: a floating-point tensor.
        dim: a dimension or several. ``var(False)`` is read as ``unbiased=False``.
        unbiased: the older way to say ``correction=1`` (True) or ``correction=0``.
        keepdim: keep each reduced dimension as 1.
        correction: the sum of squared deviations is divided by ``n - correction``; default 1.
    """
    op_class, t, params = _spread(Var, "var", input, dim, unbiased, keepdim, correction)
    return apply1(op_class, t, *params)


@op()
def std(
    input: "Tensor",
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> "Tensor":
    """The standard deviation over the dimensions `dim`; arguments as for `var`."""
    op_class, t, params = _spread(Std, "std", input, dim, unbiased, keepdim, correction)
    return apply1(op_class, t, *params)


@op(method=False)
def var_mean(
    input: "Tensor",
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> tuple["Tensor", "Tensor"]:
    """The variance and the mean over the dimensions `dim`; arguments as for `var`."""
    op_class, t, params = _spread(VarMean, "var_mean", input, dim, unbiased, keepdim, correction)
    return apply(op_class, (t,), params)  # type: ignore[no-any-return]


@op(method=False)
def std_mean(
    input: "Tensor",
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> tuple["Tensor", "Tensor"]:
    """The standard deviation and the mean over the dimensions `dim`; arguments as for `var`."""
    return std(input, dim, unbiased, keepdim, correction=correction), mean(
        input, None if isinstance(dim, bool) else dim, keepdim
    )


@op()
def prod(input: "Tensor", dim: int | None = None, keepdim: bool = False, *, dtype: Any = None) -> "Tensor":
    """The product over one dimension, or of all elements; integers and bools give int64."""
    t = _summable(input, dtype, "prod")
    return apply1(Prod, t, None if dim is None else _axis_or_all(dim, t._data.ndim, "prod"), keepdim)


def _axis_or_all(dim: int, ndim: int, name: str) -> int | None:
    axis = axis_of(dim, ndim, name)
    return axis if ndim else None


@op(inplace=True)
def cumsum(input: "Tensor", dim: int, *, dtype: Any = None) -> "Tensor":
    """The running sum along a dimension; integers and bools give int64."""
    t = _summable(input, dtype, "cumsum")
    axis = _axis_or_all(dim, t._data.ndim, "cumsum")
    return t.clone() if axis is None else apply1(CumulativeSumOp, t, axis)


@op(inplace=True)
def cumprod(input: "Tensor", dim: int, *, dtype: Any = None) -> "Tensor":
    """The running product along a dimension; integers and bools give int64."""
    t = _summable(input, dtype, "cumprod")
    axis = _axis_or_all(dim, t._data.ndim, "cumprod")
    return t.clone() if axis is None else apply1(CumulativeProduct, t, axis)


@op()
def nansum(input: "Tensor", dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> "Tensor":
    """The sum over the dimensions `dim`, with nan counted as 0."""
    t = _summable(input, dtype, "nansum")
    return sum(t.masked_fill(t.isnan(), 0) if t._data.dtype.kind in "fV" else t, dim, keepdim)


@op()
def nanmean(input: "Tensor", dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> "Tensor":
    """The mean over the dimensions `dim` of the elements that are not nan."""
    t = floating_in(input, dtype, "nanmean")
    return nansum(t, dim, keepdim) / sum(t.isnan().logical_not(), dim, keepdim)


def _logical(reduction: str, input: Any, dim: Any, keepdim: bool) -> Any:
    x = tensor_of(input, reduction)._data
    axes = axes_of(dim, x.ndim, reduction)
    result = getattr(x if x.dtype.kind == "b" else x != 0, reduction)(axis=axes, keepdims=keepdim)
    return wrap_result(result.astype(x.dtype) if x.dtype == "uint8" else result, x)


@op(differentiable=False)
def all(input: "Tensor", dim: Any = None, keepdim: bool = False) -> "Tensor":
    """Whether all elements over the dimensions `dim` are true (not 0)."""
    return _logical("all", input, dim, keepdim)  # type: ignore[no-any-return]


@op(differentiable=False)
def any(input: "Tensor", dim: Any = None, keepdim: bool = False) -> "Tensor":
    """Whether any element over the dimensions `dim` is true (not 0)."""
    return _logical("any", input, dim, keepdim)  # type: ignore[no-any-return]


@op(differentiable=False)
def count_nonzero(input: "Tensor", dim: Any = None) -> "Tensor":
    """How many elements over the dimensions `dim` are not 0."""
    x = tensor_of(input, "count_nonzero")._data
    return wrap_result((x != 0).sum(axis=axes_of(dim, x.ndim, "count_nonzero")), x)
