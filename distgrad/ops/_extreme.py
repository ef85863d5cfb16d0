"""The largest and the smallest, and where they are."""

from typing import TYPE_CHECKING, Any, NamedTuple

from .._typing import Array
from ..autograd._base import TensorBase, wrap_result
from ..autograd._node import Node
from ..autograd._op import Op, apply, apply1
from ..backend import backend_of
from ..errors import ShapeError
from . import _arithmetic
from ._common import axes_of, axis_of, tensor_of
from ._reduce import restore_axes
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


class ValuesIndices(NamedTuple):
    """What a reduction or a sort along a dimension gives: values, and where along it they were."""

    values: Any
    indices: Any

    def __repr__(self) -> str:
        return f"{type(self).__name__}(\nvalues={self.values!r},\nindices={self.indices!r})"


class MinMax(NamedTuple):
    """What `aminmax` gives."""

    min: Any
    max: Any


class Max(Op):
    """Outputs the values and their places: ``params = (axis, keepdim)``."""

    non_differentiable = (1,)
    largest = True

    @staticmethod
    def forward(ctx: Node, x: Array, axis: int, keepdim: bool) -> Any:
        find = ctx.xp.argmax if ctx.op.largest else ctx.xp.argmin
        places = find(x, axis=axis, keepdims=True)
        values = ctx.xp.take_along_axis(x, places, axis)
        ctx.aux = places
        if keepdim:
            return values, places
        return values.squeeze(axis), places.squeeze(axis)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        axis, keepdim = ctx.params
        (shape,) = ctx.shapes
        return xp.put_along_axis(restore_axes(xp, g[0], shape, (axis,), keepdim), ctx.aux, shape, axis=axis)


class Min(Max):
    """As `Max`, of the smallest."""

    largest = False


class Amax(Op):
    """``params = (axes, keepdim)``. The gradient is shared evenly among equal elements."""

    saves = ((0,),)
    saves_output = True

    @staticmethod
    def forward(ctx: Node, x: Array, axes: tuple[int, ...], keepdim: bool) -> Array:
        return x.max(axis=axes, keepdims=keepdim)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        axes, keepdim = ctx.params
        (shape,) = ctx.shapes
        y = restore_axes(xp, y, shape, axes, keepdim)
        hit = xp.astype(xp.where(y == y, x == y, x != x), x.dtype)  # where the result is nan, the nans are what gave it
        share = hit / xp.sum(hit, axis=axes, keepdims=True) if axes else hit
        return restore_axes(xp, g, shape, axes, keepdim) * share


class Amin(Amax):
    """As `Amax`, of the smallest."""

    @staticmethod
    def forward(ctx: Node, x: Array, axes: tuple[int, ...], keepdim: bool) -> Array:
        return x.min(axis=axes, keepdims=keepdim)


class CumulativeMax(Op):
    """Outputs the values and their places: ``params = (axis,)``. Of equal ones the last counts, as in torch."""

    name = "Cummax"
    non_differentiable = (1,)
    largest = True

    @staticmethod
    def forward(ctx: Node, x: Array, axis: int) -> Any:
        xp = ctx.xp
        accumulate = ctx.kernels.ufuncs.accumulate
        values = accumulate("maximum" if ctx.op.largest else "minimum", x, axis)
        steps = xp.arange(x.shape[axis]).reshape((-1,) + (1,) * (x.ndim - axis - 1))
        new = (values == x) | ((values != values) & (x != x))
        places = accumulate("maximum", xp.where(new, steps, 0), axis)
        ctx.aux = places
        return values, places

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return xp.put_along_axis(g[0], ctx.aux, ctx.shapes[0], axis=ctx.params[0])


class CumulativeMin(CumulativeMax):
    """As `CumulativeMax`, of the smallest."""

    name = "Cummin"
    largest = False


def _need_elements(x: Array, axes: tuple[int, ...], dim: Any, name: str) -> None:
    if dim is None and x.size == 0:
        raise ShapeError(f"{name}: a tensor without elements has no result; give a dim of size > 0")
    for axis in axes:
        if x.ndim and x.shape[axis] == 0:
            raise IndexError(f"{name}: expected dimension {axis} to have a size > 0, got shape {list(x.shape)}")


def _extreme(
    op_class: Any, whole: Any, pairwise: Any, name: str, input: Any, dim: Any, keepdim: bool, other: Any
) -> Any:
    """The three forms of max and min: of all, along a dimension, and of two tensors."""
    t = tensor_of(input, name)
    if other is not None or isinstance(dim, TensorBase):
        return pairwise(t, dim if other is None else other)
    x = t._data
    if dim is None:
        _need_elements(x, (), None, name)
        return apply1(whole, t, tuple(range(x.ndim)), False)
    axis = axis_of(dim, x.ndim, name)
    if x.ndim == 0:
        return ValuesIndices(t.clone(), wrap_result(backend_of(x).xp.zeros((), dtype="int64"), x))
    _need_elements(x, (axis,), dim, name)
    return ValuesIndices(*apply(op_class, (t,), (axis, keepdim)))


@op()
def max(input: "Tensor", dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """The largest element of all; with `dim`, a named tuple ``(values, indices)`` along it; of two tensors, `maximum`.

    Args:
        input: a tensor with elements; nan counts as the largest.
        dim: a dimension, or the other tensor.
        keepdim: keep the dimension as 1.

    Raises:
        ShapeError, IndexError: there is nothing to take the largest of.
    """
    return _extreme(Max, Amax, _arithmetic.maximum, "max", input, dim, keepdim, other)


@op()
def min(input: "Tensor", dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """The smallest element of all; with `dim`, a named tuple ``(values, indices)`` along it; of two tensors,
    `minimum`."""
    return _extreme(Min, Amin, _arithmetic.minimum, "min", input, dim, keepdim, other)


@op()
def amax(input: "Tensor", dim: Any = (), keepdim: bool = False) -> "Tensor":
    """The largest over the dimensions `dim` (all by default); equal ones share the gradient."""
    x = tensor_of(input, "amax")._data
    axes = axes_of(dim, x.ndim, "amax")
    _need_elements(x, axes, dim, "amax")
    return apply1(Amax, input, axes, keepdim)


@op()
def amin(input: "Tensor", dim: Any = (), keepdim: bool = False) -> "Tensor":
    """The smallest over the dimensions `dim` (all by default); equal ones share the gradient."""
    x = tensor_of(input, "amin")._data
    axes = axes_of(dim, x.ndim, "amin")
    _need_elements(x, axes, dim, "amin")
    return apply1(Amin, input, axes, keepdim)


@op()
def aminmax(input: "Tensor", *, dim: int | None = None, keepdim: bool = False) -> MinMax:
    """The smallest and the largest, of all or along a dimension, as a named tuple ``(min, max)``."""
    axes: tuple[int, ...] = () if dim is None else (dim,)
    if dim is None and keepdim:
        axes = tuple(range(input._data.ndim))
    return MinMax(amin(input, axes, keepdim), amax(input, axes, keepdim))


def _place_of(name: str, input: Any, dim: int | None, keepdim: bool) -> Any:
    x = tensor_of(input, name)._data
    find = getattr(backend_of(x).xp, name)
    if dim is None:
        _need_elements(x, (), None, name)
        place = find(x)
        return wrap_result(place.reshape((1,) * x.ndim) if keepdim else place, x)
    axis = axis_of(dim, x.ndim, name)
    if x.ndim == 0:
        return wrap_result(find(x), x)
    _need_elements(x, (axis,), dim, name)
    return wrap_result(find(x, axis=axis, keepdims=keepdim), x)


@op(differentiable=False)
def argmax(input: "Tensor", dim: int | None = None, keepdim: bool = False) -> "Tensor":
    """Where the largest element is, along a dimension or in the flattened tensor; the first of equal ones."""
    return _place_of("argmax", input, dim, keepdim)  # type: ignore[no-any-return]


@op(differentiable=False)
def argmin(input: "Tensor", dim: int | None = None, keepdim: bool = False) -> "Tensor":
    """Where the smallest element is, along a dimension or in the flattened tensor; the first of equal ones."""
    return _place_of("argmin", input, dim, keepdim)  # type: ignore[no-any-return]


def _running(op_class: Any, name: str, input: Any, dim: int) -> ValuesIndices:
    t = tensor_of(input, name)
    axis = axis_of(dim, t._data.ndim, name)
    if t._data.ndim == 0:
        return ValuesIndices(t.clone(), wrap_result(backend_of(t._data).xp.zeros((), dtype="int64"), t._data))
    return ValuesIndices(*apply(op_class, (t,), (axis,)))


@op()
def cummax(input: "Tensor", dim: int) -> ValuesIndices:
    """The largest so far along a dimension, and where it was, as a named tuple ``(values, indices)``."""
    return _running(CumulativeMax, "cummax", input, dim)


@op()
def cummin(input: "Tensor", dim: int) -> ValuesIndices:
    """The smallest so far along a dimension, and where it was, as a named tuple ``(values, indices)``."""
    return _running(CumulativeMin, "cummin", input, dim)
