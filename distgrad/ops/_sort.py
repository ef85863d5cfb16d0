"""Sorting, ranking, and what is in order: topk, median, quantiles, unique, searching."""

from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._base import TensorBase, wrap, wrap_result
from ..autograd._node import Node
from ..autograd._op import Op, apply
from ..backend import backend_of
from ..errors import ShapeError
from ._common import axis_of, tensor_of
from ._extreme import ValuesIndices
from ._reduce import restore_axes
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


class Chosen(Op):
    """Outputs elements along an axis and their places, which the subclasses find. The gradient goes back to those
    places."""

    non_differentiable = (1,)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        axis, (shape,) = ctx.params[0], ctx.shapes
        return xp.put_along_axis(
            restore_axes(xp, g[0], shape, (axis,), g[0].ndim == len(shape)), ctx.aux, shape, axis=axis
        )


class Sort(Chosen):
    """``params = (axis, descending)``. Equal elements keep their order; nan counts as the largest."""

    @staticmethod
    def forward(ctx: Node, x: Array, axis: int, descending: bool) -> Any:
        xp = ctx.xp
        places = ctx.aux = order(xp, x, axis, descending)
        return xp.take_along_axis(x, places, axis), places


def order(xp: Any, x: Array, axis: int, descending: bool) -> Array:
    """The places along `axis` in order of the elements."""
    if not descending:
        return xp.argsort(x, axis=axis, kind="stable")
    # Reversed before and after, so that equal elements keep their order and nan comes first.
    places = xp.argsort(xp.flip(x, axis), axis=axis, kind="stable")
    return x.shape[axis] - 1 - xp.flip(places, axis)


class Topk(Chosen):
    """``params = (axis, k, largest)``, in order."""

    @staticmethod
    def forward(ctx: Node, x: Array, axis: int, k: int, largest: bool) -> Any:
        xp = ctx.xp
        few = _few(xp, x, axis, k, largest) if 0 < k <= 8 and x.shape[axis] >= 32 else None
        places = ctx.aux = _partition(xp, x, axis, k, largest) if few is None else few
        return xp.take_along_axis(x, places, axis), places


def _partition(xp: Any, x: Array, axis: int, k: int, largest: bool) -> Array:
    """The places of the top k, in order: set apart first, then sorted."""
    n = x.shape[axis]
    lead = (slice(None),) * axis
    if not 0 < k < n:
        return order(xp, x, axis, largest)[(*lead, slice(0, k))]
    found = xp.argpartition(x, n - k if largest else k - 1, axis=axis)
    places = found[(*lead, slice(n - k, None) if largest else slice(0, k))]
    within = order(xp, xp.take_along_axis(x, places, axis), axis, largest)
    return xp.take_along_axis(places, within, axis)


def _few(xp: Any, x: Array, axis: int, k: int, largest: bool) -> Array | None:
    """The places of the top k, found one after the other, which is fast for few; None where that cannot tell them
    apart."""
    limit = xp.finfo(x.dtype) if x.dtype.kind == "f" else xp.iinfo(x.dtype) if x.dtype.kind in "iu" else None
    if limit is None:
        return None
    taken = limit.min if largest else limit.max
    find = xp.argmax if largest else xp.argmin
    left, found = xp.array(x), []
    for _ in range(k):
        place = find(left, axis=axis, keepdims=True)
        value = xp.take_along_axis(left, place, axis)
        if not ((value > taken) if largest else (value < taken)).all():
            return None  # nan, infinity, or the mark of what was taken
        found.append(place)
        xp.put_along_axis(left, place, taken, axis)
    return xp.concatenate(found, axis=axis)


class KthValue(Chosen):
    """``params = (axis, k, keepdim)``: the k-th smallest, counted from 0."""

    name = "Kthvalue"

    @staticmethod
    def forward(ctx: Node, x: Array, axis: int, k: int, keepdim: bool) -> Any:
        xp = ctx.xp
        places = xp.argpartition(x, k, axis=axis)[(slice(None),) * axis + (slice(k, k + 1),)]
        return _picked(ctx, x, places, axis, keepdim)


def _picked(ctx: Node, x: Array, places: Array, axis: int, keepdim: bool) -> tuple[Array, Array]:
    ctx.aux = places
    values = ctx.xp.take_along_axis(x, places, axis)
    return (values, places) if keepdim else (values.squeeze(axis), places.squeeze(axis))


class Median(Chosen):
    """``params = (axis, keepdim, ignore_nan)``: the lower of two middle elements; nan where there is one, unless
    ignored."""

    @staticmethod
    def forward(ctx: Node, x: Array, axis: int, keepdim: bool, ignore_nan: bool) -> Any:
        xp = ctx.xp
        n = x.shape[axis]
        lead = (slice(None),) * axis
        if x.dtype.kind in "biu":
            return _picked(
                ctx,
                x,
                xp.argpartition(x, (n - 1) // 2, axis=axis)[(*lead, slice((n - 1) // 2, (n + 1) // 2))],
                axis,
                keepdim,
            )
        ordered = xp.argsort(x, axis=axis, kind="stable")
        nans = (x != x).sum(axis=axis, keepdims=True)
        valid = xp.maximum(n - nans, 1)
        middle = (valid - 1) // 2
        if not ignore_nan:
            middle = xp.where(nans > 0, n - nans, middle)  # the first nan
        return _picked(ctx, x, xp.take_along_axis(ordered, middle, axis), axis, keepdim)


class Mode(Chosen):
    """``params = (axis, keepdim)``: the most frequent element, the smallest of several, at its last place."""

    @staticmethod
    def forward(ctx: Node, x: Array, axis: int, keepdim: bool) -> Any:
        xp = ctx.xp
        ordered = xp.argsort(x, axis=axis, kind="stable")
        values = xp.moveaxis(xp.take_along_axis(x, ordered, axis), axis, -1)
        n = values.shape[-1]
        steps = xp.arange(n)
        starts = xp.ones(values.shape, dtype=bool)
        starts[..., 1:] = values[..., 1:] != values[..., :-1]
        begin = ctx.kernels.ufuncs.accumulate("maximum", xp.where(starts, steps, 0), -1)
        last = xp.argmax(steps - begin, axis=-1)  # the end of the longest run
        places = xp.take_along_axis(ordered, xp.expand_dims(last, axis), axis)
        return _picked(ctx, x, places, axis, keepdim)


def _chosen(op_class: Any, t: Any, *params: Any) -> ValuesIndices:
    return ValuesIndices(*apply(op_class, (t,), params))


def _of_scalar(t: Any) -> ValuesIndices:
    """What a 0-d tensor gives: itself, at place 0."""
    return ValuesIndices(t.clone(), wrap_result(backend_of(t._data).xp.zeros((), dtype="int64"), t._data))


@op()
def sort(input: "Tensor", dim: int = -1, descending: bool = False, stable: bool = False) -> ValuesIndices:
    """The elements in order along a dimension, and where they were, as a named tuple ``(values, indices)``.

    Args:
        input: a tensor; nan counts as the largest.
        dim: the dimension that is sorted.
        descending: the largest first.
        stable: equal elements keep their order; they always do here.
    """
    t = tensor_of(input, "sort")
    axis = axis_of(dim, t._data.ndim, "sort")
    return _chosen(Sort, t, axis, bool(descending)) if t._data.ndim else _of_scalar(t)


@op(differentiable=False)
def argsort(input: "Tensor", dim: int = -1, descending: bool = False, stable: bool = False) -> "Tensor":
    """The places of the elements in order along a dimension; arguments as for `sort`."""
    x = tensor_of(input, "argsort")._data
    axis = axis_of(dim, x.ndim, "argsort")
    xp = backend_of(x).xp
    return wrap(order(xp, x, axis, bool(descending)) if x.ndim else xp.zeros((), dtype="int64"))


@op()
def msort(input: "Tensor") -> "Tensor":
    """The elements in order along the first dimension."""
    return sort(input, 0).values  # type: ignore[no-any-return]


@op()
def topk(input: "Tensor", k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> ValuesIndices:
    """The `k` largest elements along a dimension, in order, and where they are, as ``(values, indices)``.

    Args:
        input: a tensor; nan counts as the largest.
        k: how many.
        dim: the dimension.
        largest: False for the smallest.
        sorted: accepted; they always are.

    Raises:
        ShapeError: `k` is larger than the dimension.
    """
    t = tensor_of(input, "topk")
    axis = axis_of(dim, t._data.ndim, "topk")
    n = t._data.shape[axis] if t._data.ndim else 1
    if not 0 <= k <= n:
        raise ShapeError(f"topk: expected 0 <= k <= {n} (the size of dimension {dim}), got {k}")
    return _chosen(Topk, t, axis, int(k), bool(largest)) if t._data.ndim else _of_scalar(t)


@op()
def kthvalue(input: "Tensor", k: int, dim: int = -1, keepdim: bool = False) -> ValuesIndices:
    """The `k`-th smallest element along a dimension, counted from 1, and where it is, as ``(values, indices)``."""
    t = tensor_of(input, "kthvalue")
    axis = axis_of(dim, t._data.ndim, "kthvalue")
    n = t._data.shape[axis] if t._data.ndim else 1
    if not 1 <= k <= n:
        raise ShapeError(f"kthvalue: expected 1 <= k <= {n} (the size of dimension {dim}), got {k}")
    return _chosen(KthValue, t, axis, int(k) - 1, keepdim) if t._data.ndim else _of_scalar(t)


def _middle(name: str, input: Any, dim: int | None, keepdim: bool, ignore_nan: bool) -> Any:
    t = tensor_of(input, name)
    if dim is None:
        if t._data.size == 0:
            return wrap_result(backend_of(t._data).xp.full((), float("nan"), t._data.dtype), t._data)
        return _chosen(Median, t.reshape(-1), 0, False, ignore_nan).values
    axis = axis_of(dim, t._data.ndim, name)
    if t._data.ndim and t._data.shape[axis] == 0:
        raise IndexError(f"{name}: expected dimension {dim} to have a size > 0")
    return _chosen(Median, t, axis, keepdim, ignore_nan) if t._data.ndim else _of_scalar(t)


@op()
def median(input: "Tensor", dim: int | None = None, keepdim: bool = False) -> Any:
    """The middle element (the lower of two) of all; with `dim`, ``(values, indices)`` along it. nan where there is
    one."""
    return _middle("median", input, dim, keepdim, False)


@op()
def nanmedian(input: "Tensor", dim: int | None = None, keepdim: bool = False) -> Any:
    """As `median`, of the elements that are not nan."""
    return _middle("nanmedian", input, dim, keepdim, True)


@op()
def mode(input: "Tensor", dim: int = -1, keepdim: bool = False) -> ValuesIndices:
    """The most frequent element along a dimension (the smallest of several), and where it is, as ``(values,
    indices)``."""
    t = tensor_of(input, "mode")
    axis = axis_of(dim, t._data.ndim, "mode")
    return _chosen(Mode, t, axis, keepdim) if t._data.ndim else _of_scalar(t)


def _results(*results: Any) -> Any:
    return results[0] if len(results) == 1 else results


@op(differentiable=False)
def unique(
    input: "Tensor",
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The different elements, in order.

    Args:
        input: a tensor.
        sorted: accepted; they always are.
        return_inverse: also the place of each element in the result.
        return_counts: also how often each occurs.
        dim: the different slices along a dimension instead.
    """
    x = tensor_of(input, "unique")._data
    xp = backend_of(x).xp
    axis = None if dim is None else axis_of(dim, x.ndim, "unique")
    values, inverse, counts = xp.unique(x, return_inverse=True, return_counts=True, axis=axis, equal_nan=False)
    inverse = inverse.reshape(x.shape if axis is None else -1)
    more = [inverse] * bool(return_inverse) + [counts] * bool(return_counts)
    return _results(wrap(values), *[wrap(m) for m in more])


@op(differentiable=False)
def unique_consecutive(
    input: "Tensor", return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """The elements (or slices along `dim`) with each run of equal ones reduced to one; arguments as for `unique`."""
    x = tensor_of(input, "unique_consecutive")._data
    xp = backend_of(x).xp
    axis = axis_of(dim, x.ndim, "unique_consecutive") if dim is not None else 0
    lines = xp.moveaxis(x, axis, 0) if dim is not None else x.reshape(-1)
    n = lines.shape[0]
    flat = lines.reshape(n, -1)
    new = xp.ones(n, dtype=bool)
    new[1:] = (flat[1:] != flat[:-1]).any(axis=1)
    starts = xp.flatnonzero(new)
    inverse = xp.cumsum(new) - 1
    counts = xp.diff(xp.concatenate((starts, xp.asarray([n]))))
    values = xp.ascontiguousarray(xp.moveaxis(lines[starts], 0, axis))
    inverse = inverse if dim is not None else inverse.reshape(x.shape)
    more = [inverse] * bool(return_inverse) + [counts] * bool(return_counts)
    return _results(wrap(values), *[wrap(m) for m in more])


@op(differentiable=False, method=False)
def searchsorted(
    sorted_sequence: "Tensor",
    input: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Any = None,
) -> "Tensor":
    """Where each value would be inserted into a sorted sequence to keep its order.

    Args:
        sorted_sequence: (..., n), ascending along the last dimension.
        input: values: any shape for a 1-d sequence, else (..., m) with the sequence's leading dimensions; or a number.
        out_int32: return int32.
        right: after equal elements instead of before them. ``side="right"`` says the same.
        side: ``"left"`` or ``"right"``.
        sorter: the places that would sort the sequence.
    """
    sequence = tensor_of(sorted_sequence, "searchsorted")._data
    xp = backend_of(sequence).xp
    values = input._data if isinstance(input, TensorBase) else xp.asarray(input)
    where = side or ("right" if right else "left")
    if sorter is not None:
        sequence = xp.take_along_axis(sequence, sorter._data, -1)
    if values.size == 0:
        found = xp.zeros(values.shape)
    elif sequence.ndim == 1:
        found = xp.asarray(xp.searchsorted(sequence, values, side=where))
    else:
        if sequence.shape[:-1] != values.shape[:-1]:
            raise ShapeError(
                "searchsorted: expected equal leading dimensions of a sequence "
                f"{list(sequence.shape)} and values {list(values.shape)}"
            )
        lines = zip(sequence.reshape(-1, sequence.shape[-1]), values.reshape(-1, values.shape[-1]), strict=True)
        found = xp.stack([xp.searchsorted(s, v, side=where) for s, v in lines]).reshape(values.shape)
    return wrap(found.astype("int32" if out_int32 else "int64"))


@op(differentiable=False, method=False)
def bucketize(input: Any, boundaries: "Tensor", *, out_int32: bool = False, right: bool = False) -> "Tensor":
    """Which interval between sorted boundaries each value lies in."""
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)


@op(differentiable=False, method=False)
def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> "Tensor":
    """Whether each element is among the test elements (not among them, if `invert`); either may be a number."""
    like = tensor_of(elements if isinstance(elements, TensorBase) else test_elements, "isin")
    xp = backend_of(like._data).xp
    x, y = (v._data if isinstance(v, TensorBase) else xp.asarray(v) for v in (elements, test_elements))
    return wrap_result(xp.isin(x, y, invert=invert), like._data)
