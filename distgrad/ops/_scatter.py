"""Reading and writing elements through tensors of indices: gather, scatter and their relatives."""

from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._base import TensorBase, wrap
from ..autograd._inplace import replace_values
from ..autograd._node import Node
from ..autograd._op import Op, apply, apply1
from ..backend import OF_NUMPY, backend_of
from ..errors import AutogradError, DTypeError, ShapeError
from ._common import axis_of, cast, tensor_of
from ._indexing import Index
from ._spec import op
from ._write import WriteOp, sum_to, write_in_place

if TYPE_CHECKING:
    from .._tensor import Tensor


def corner(shape: tuple[int, ...], axis: int) -> tuple[slice, ...]:
    """The part of a larger tensor that an index of `shape` reaches in the dimensions other than `axis`."""
    return tuple([slice(None) if i == axis else slice(n) for i, n in enumerate(shape)])


def along(xp: Any, index: Array, axis: int) -> tuple[Array, ...]:
    """The full index of the elements that `index` names along `axis`."""
    grids: list[Any] = []
    for i, n in enumerate(index.shape):
        grids.append(index if i == axis else xp.arange(n).reshape((-1,) + (1,) * (index.ndim - i - 1)))
    return tuple(grids)


class Gather(Op):
    """``params = (index, axis)``."""

    @staticmethod
    def forward(ctx: Node, x: Array, index: Array, axis: int) -> Array:
        return ctx.xp.take_along_axis(x[corner(index.shape, axis)], index, axis)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return xp.put_along_axis(g, ctx.params[0], ctx.shapes[0], axis=ctx.params[1])


class PutAlong(Op):
    """The adjoint of `Gather`: ``params = (index, shape, axis)``."""

    @staticmethod
    def forward(ctx: Node, values: Array, index: Array, shape: tuple[int, ...], axis: int) -> Array:
        return ctx.backend.namespace.put_along_axis(values, index, shape, axis=axis)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return xp.take_along_axis(g, ctx.params[0], axis=ctx.params[2])


class ScatterAlong(WriteOp):
    """``x[index along axis] = v``: ``params = (index, axis)``; `v` is a tensor at least as large as the index, or a number."""

    name = "Scatter"

    @staticmethod
    def write(ctx: Node, data: Array, value: Any, index: Array, axis: int) -> None:
        data[along(ctx.xp, index, axis)] = cut(value, index)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        index, axis = ctx.params
        rest = xp.call(ScatterAlong, (g, 0), (index, axis)) if ctx.needs[0] else None
        return rest, _source_gradient(xp, ctx, g) if ctx.needs[1] else None


class ScatterAdd(WriteOp):
    """``x[index along axis] += v``, repeated places adding up: ``params = (index, axis)``."""

    @staticmethod
    def write(ctx: Node, data: Array, value: Any, index: Array, axis: int) -> None:
        value = cut(value, index)
        if data.shape == index.shape and data.ndim == 1:
            ctx.xp.add.at(data, index, value)
        else:
            data += ctx.backend.namespace.put_along_axis(
                ctx.xp.broadcast_to(ctx.xp.asarray(value, data.dtype), index.shape), index, data.shape, axis=axis
            )

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return g, _source_gradient(xp, ctx, g) if ctx.needs[1] else None


def cut(value: Any, index: Array) -> Any:
    return value[tuple([slice(n) for n in index.shape])] if getattr(value, "ndim", 0) else value


def _source_gradient(xp: Any, ctx: Node, g: Any) -> Any:
    """The gradient of the values that were scattered: what lies at their places, and 0 for those that were not used."""
    index, axis = ctx.params
    inside = xp.take_along_axis(g, index, axis=axis)
    shape = ctx.shapes[1]
    if not shape or tuple(inside.shape) == tuple(shape):
        return inside if shape else sum_to(xp, inside, shape)
    return xp.scatter(inside, tuple([slice(n) for n in index.shape]), shape)


class IndexSelect(Op):
    """``params = (index, axis)`` with a 1-d index."""

    @staticmethod
    def forward(ctx: Node, x: Array, index: Array, axis: int) -> Array:
        return ctx.xp.take(x, index, axis)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        index, axis = ctx.params
        return xp.scatter(g, (slice(None),) * axis + (index,), ctx.shapes[0])


class _Along(WriteOp):
    """Writes to ``x[..., index, ...]`` with a 1-d index along an axis: ``params = (place,)``, the full index."""


class IndexAdd(_Along):
    """``x[place] += alpha * v``: ``params = (place, alpha)``."""

    @staticmethod
    def write(ctx: Node, data: Array, value: Any, place: Any, alpha: Any) -> None:
        ctx.xp.add.at(data, place, value if alpha == 1 else value * alpha)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        place, alpha = ctx.params
        inside = sum_to(xp, xp.getitem(g, place), ctx.shapes[1]) if ctx.needs[1] else None
        return g, inside if inside is None or alpha == 1 else inside * alpha


class IndexCopy(_Along):
    """``x[place] = v``."""

    @staticmethod
    def write(ctx: Node, data: Array, value: Any, place: Any) -> None:
        data[place] = value

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        (place,) = ctx.params
        rest = xp.call(IndexCopy, (g, 0), (place,)) if ctx.needs[0] else None
        return rest, sum_to(xp, xp.getitem(g, place), ctx.shapes[1]) if ctx.needs[1] else None


class IndexFill(IndexCopy):
    """``x[place] = v`` with one value."""


def index_array(index: Any, name: str) -> Array:
    """The array of an integer tensor.

    Raises:
        DTypeError: it is of another dtype.
    """
    array = tensor_of(index, name)._data
    if array.dtype.kind not in "iu":
        raise DTypeError(
            f"{name}: expected an integer index (int64), got {OF_NUMPY[array.dtype]}; convert with .long()"
        )
    return array


def _check_bounds(index: Array, n: int, dim: int, name: str) -> None:
    if index.size and (index.min() < 0 or index.max() >= n):
        wrong = int(index.min() if index.min() < 0 else index.max())
        raise IndexError(f"{name}: index {wrong} is out of bounds for dimension {dim} with size {n}")


def _along_dim(input: Any, dim: int, index: Any, name: str) -> tuple[Any, Array, int]:
    """The tensor and the index with at least one dimension, checked, and the axis."""
    array = index_array(index, name)
    t = input if input._data.ndim else input.reshape(1)
    array = array if array.ndim else array.reshape(1)
    axis = axis_of(dim, t._data.ndim, name)
    if array.ndim != t._data.ndim and array.size:
        raise ShapeError(f"{name}: expected an index of {t._data.ndim} dimensions, as the input has, got {array.ndim}")
    if array.size == 0:
        return t, array, axis
    for d, (n, most) in enumerate(zip(array.shape, t._data.shape, strict=True)):
        if d != axis and n > most:
            raise ShapeError(
                f"{name}: expected an index no larger than the input {list(t._data.shape)} except in dimension {axis}, got {list(array.shape)}"
            )
    _check_bounds(array, t._data.shape[axis], axis, name)
    return t, array, axis


@op()
def gather(input: "Tensor", dim: int, index: "Tensor", *, sparse_grad: bool = False) -> "Tensor":
    """The elements named by `index` along a dimension: ``out[i][j] = input[index[i][j]][j]`` for ``dim=0``.

    Args:
        input: the values.
        dim: the dimension that `index` counts along.
        index: an integer tensor of as many dimensions, no larger than `input` in the others. The result has its shape.
        sparse_grad: accepted; gradients are dense.

    Raises:
        IndexError: an index is out of range.
        ShapeError: the index has a wrong shape.
    """
    t, array, axis = _along_dim(input, dim, index, "gather")
    if array.size == 0:
        return input.new_empty(tuple(index._data.shape))  # type: ignore[no-any-return]
    result = apply1(Gather, t, array, axis)
    return result if index._data.ndim else result.reshape(())  # type: ignore[no-any-return]


@op()
def take_along_dim(input: "Tensor", indices: "Tensor", dim: int | None = None) -> "Tensor":
    """As `gather`, with `input` and `indices` broadcast against each other in the other dimensions.

    Args:
        dim: None takes from the flattened tensor.
    """
    array = index_array(indices, "take_along_dim")
    if dim is None:
        return gather(input.reshape(-1), 0, wrap(array.reshape(-1)))
    axis = axis_of(dim, input._data.ndim, "take_along_dim")
    xp = backend_of(array).xp
    try:
        others = xp.broadcast_shapes(
            tuple([1 if i == axis else n for i, n in enumerate(input._data.shape)]),
            tuple([1 if i == axis else n for i, n in enumerate(array.shape)]),
        )
    except ValueError:
        raise ShapeError(
            f"take_along_dim: the shapes {list(input._data.shape)} and {list(array.shape)} cannot be broadcast together"
        ) from None
    t = input.expand(*others[:axis], input._data.shape[axis], *others[axis + 1 :])
    return gather(t, axis, wrap(xp.broadcast_to(array, (*others[:axis], array.shape[axis], *others[axis + 1 :]))))


def scatter_arguments(input: Any, dim: int, index: Any, src: Any, name: str) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    t, array, axis = _along_dim(input, dim, index, name)
    if isinstance(src, TensorBase):
        if src._data.dtype != input._data.dtype:
            raise DTypeError(
                f"{name}: expected input and src of one dtype, got {OF_NUMPY[input._data.dtype]} and {OF_NUMPY[src._data.dtype]}; convert with .to(dtype)"
            )
        if src._data.ndim == 0 and array.ndim == 1:
            src = src.reshape(1)
        if any(n > m for n, m in zip(array.shape, src._data.shape, strict=False)):
            raise ShapeError(
                f"{name}: expected an index no larger than src {list(src._data.shape)}, got {list(array.shape)}"
            )
    return (t, src), (array, axis)


class ScatterMultiply(WriteOp):
    """``x[index along axis] *= v``, repeated places multiplying: ``params = (index, axis)``. torch has no gradient of it either."""

    @staticmethod
    def write(ctx: Node, data: Array, value: Any, index: Array, axis: int) -> None:
        ctx.xp.multiply.at(data, along(ctx.xp, index, axis), cut(value, index))

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        raise AutogradError("scatter: reduce='multiply' has no gradient; use scatter_reduce(..., reduce='prod')")


def _scatter_op(reduce: str | None) -> Any:
    if reduce is None:
        return ScatterAlong
    if reduce not in ("add", "multiply"):
        raise ValueError(f"scatter: expected reduce to be None, 'add' or 'multiply', got {reduce!r}")
    return ScatterAdd if reduce == "add" else ScatterMultiply


@op(inplace=True)
def scatter(
    input: "Tensor", dim: int, index: "Tensor", src: Any = None, *, value: Any = None, reduce: str | None = None
) -> "Tensor":
    """A copy of `input` with ``out[index[i][j]][j] = src[i][j]`` for ``dim=0``.

    Args:
        input: the tensor that is copied.
        dim: the dimension that `index` counts along.
        index: an integer tensor, no larger than `src`, nor than `input` in the other dimensions.
        src: a tensor of the input's dtype, or a number.
        value: a number, instead of `src`.
        reduce: ``"add"`` or ``"multiply"``: combine with what is there instead of replacing it.

    Raises:
        IndexError: an index is out of range.
        ShapeError, DTypeError: the arguments do not fit together.
    """
    src = value if src is None else src
    if index._data.size == 0:
        return input.clone()
    inputs, params = scatter_arguments(input, dim, index, src, "scatter")
    return apply(_scatter_op(reduce), inputs, params).reshape(input._data.shape)  # type: ignore[no-any-return]


def scatter_(
    input: "Tensor", dim: int, index: "Tensor", src: Any = None, *, value: Any = None, reduce: str | None = None
) -> "Tensor":
    """In-place form of `scatter`."""
    return _scatter_in_place(input, _scatter_op(reduce), dim, index, value if src is None else src, "scatter_")  # type: ignore[no-any-return]


def _scatter_in_place(input: Any, op_class: Any, dim: int, index: Any, src: Any, name: str) -> Any:
    if index._data.size == 0:
        return input
    if input._data.ndim == 0:
        return replace_values(
            input, apply(op_class, *scatter_arguments(input, dim, index, src, name)).reshape(()), name
        )
    inputs, params = scatter_arguments(input, dim, index, src, name)
    return write_in_place(input, op_class, inputs[1:], params)


@op(inplace=True)
def scatter_add(input: "Tensor", dim: int, index: "Tensor", src: Any) -> "Tensor":
    """A copy of `input` with ``out[index[i][j]][j] += src[i][j]`` for ``dim=0``; repeated places add up."""
    if index._data.size == 0:
        return input.clone()
    inputs, params = scatter_arguments(input, dim, index, src, "scatter_add")
    return apply(ScatterAdd, inputs, params).reshape(input._data.shape)  # type: ignore[no-any-return]


def scatter_add_(input: "Tensor", dim: int, index: "Tensor", src: Any) -> "Tensor":
    """In-place form of `scatter_add`."""
    return _scatter_in_place(input, ScatterAdd, dim, index, src, "scatter_add_")  # type: ignore[no-any-return]


@op()
def index_select(input: "Tensor", dim: int, index: "Tensor") -> "Tensor":
    """A copy of the slices along a dimension that a 1-d integer tensor names.

    Raises:
        IndexError: an index is out of range.
        ShapeError: the index has more than one dimension.
    """
    array = index_array(index, "index_select")
    if array.ndim > 1:
        raise ShapeError(f"index_select: expected a 1-d index, got {array.ndim} dimensions")
    axis = axis_of(dim, input._data.ndim, "index_select")
    t = input if input._data.ndim else input.reshape(1)
    _check_bounds(array, t._data.shape[axis], dim, "index_select")
    result = apply1(IndexSelect, t, array.reshape(-1), axis)
    return result if input._data.ndim else result.reshape(())  # type: ignore[no-any-return]


def _place(input: Any, dim: int, index: Any, name: str) -> tuple[Any, ...]:
    """The full index of the slices along `dim` that a 1-d index names."""
    array = index_array(index, name).reshape(-1)
    axis = axis_of(dim, input._data.ndim, name)
    if input._data.ndim == 0:
        _check_bounds(array, 1, dim, name)
        return ()
    n = input._data.shape[axis]
    _check_bounds(array + (array < 0) * n if name == "index_fill" else array, n, dim, name)
    return (slice(None),) * axis + (array,)


def _index_add(input: Any, dim: int, index: Any, source: Any, alpha: Any) -> Any:
    return IndexAdd, (input, cast(source, input._data.dtype)), (_place(input, dim, index, "index_add"), alpha)


def _index_copy(input: Any, dim: int, index: Any, source: Any) -> Any:
    if source._data.dtype != input._data.dtype:
        raise DTypeError(
            f"index_copy: expected input and source of one dtype, got {input.dtype} and {source.dtype}; convert with .to(dtype)"
        )
    return IndexCopy, (input, source), (_place(input, dim, index, "index_copy"),)


def _index_fill(input: Any, dim: int, index: Any, value: Any) -> Any:
    if isinstance(value, TensorBase):
        value = cast(value, input._data.dtype)
    return IndexFill, (input, value), (_place(input, dim, index, "index_fill"),)


@op(inplace=True)
def index_add(input: "Tensor", dim: int, index: "Tensor", source: "Tensor", *, alpha: Any = 1) -> "Tensor":
    """A copy of `input` with ``alpha * source`` added to the slices along `dim` that `index` names; repeated ones add up."""
    return apply(*_index_add(input, dim, index, source, alpha))  # type: ignore[no-any-return]


def index_add_(input: "Tensor", dim: int, index: "Tensor", source: "Tensor", *, alpha: Any = 1) -> "Tensor":
    """In-place form of `index_add`."""
    op_class, inputs, params = _index_add(input, dim, index, source, alpha)
    return write_in_place(input, op_class, inputs[1:], params)  # type: ignore[no-any-return]


@op(inplace=True)
def index_copy(input: "Tensor", dim: int, index: "Tensor", source: "Tensor") -> "Tensor":
    """A copy of `input` with the slices along `dim` that `index` names replaced by those of `source`."""
    return apply(*_index_copy(input, dim, index, source))  # type: ignore[no-any-return]


def index_copy_(input: "Tensor", dim: int, index: "Tensor", source: "Tensor") -> "Tensor":
    """In-place form of `index_copy`."""
    op_class, inputs, params = _index_copy(input, dim, index, source)
    return write_in_place(input, op_class, inputs[1:], params)  # type: ignore[no-any-return]


@op(inplace=True)
def index_fill(input: "Tensor", dim: int, index: "Tensor", value: Any) -> "Tensor":
    """A copy of `input` with the slices along `dim` that `index` names set to one value, a number or a 0-d tensor."""
    return apply(*_index_fill(input, dim, index, value))  # type: ignore[no-any-return]


def index_fill_(input: "Tensor", dim: int, index: "Tensor", value: Any) -> "Tensor":
    """In-place form of `index_fill`."""
    op_class, inputs, params = _index_fill(input, dim, index, value)
    return write_in_place(input, op_class, inputs[1:], params)  # type: ignore[no-any-return]


@op()
def take(input: "Tensor", index: "Tensor") -> "Tensor":
    """The elements at the places `index` of the flattened tensor; the result has the index's shape."""
    array = index_array(index, "take")
    n = input._data.size
    _check_bounds(array + (array < 0) * n, n, 0, "take")
    return apply1(Index, input.reshape(-1), (array,))  # type: ignore[no-any-return]


@op(inplace=True)
def put(input: "Tensor", index: "Tensor", source: "Tensor", accumulate: bool = False) -> "Tensor":
    """A copy of `input` with `source` put at (or added to) the places `index` of the flattened tensor."""
    array = index_array(index, "put").reshape(-1)
    n = input._data.size
    _check_bounds(array + (array < 0) * n, n, 0, "put")
    if source._data.dtype != input._data.dtype:
        raise DTypeError(
            f"put: expected input and source of one dtype, got {input.dtype} and {source.dtype}; convert with .to(dtype)"
        )
    flat, values = input.reshape(-1), source.reshape(-1)
    result = (
        apply(IndexAdd, (flat, values), ((array,), 1)) if accumulate else apply(IndexCopy, (flat, values), ((array,),))
    )
    return result.reshape(input._data.shape)  # type: ignore[no-any-return]
