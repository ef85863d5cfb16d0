"""Reading and writing elements through tensors of indices: gather, scatter and their relatives."""

from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._base import TensorBase, wrap
from ..autograd._inplace import replace_values
from ..autograd._node import Node
from ..autograd._op import Op, apply, apply1
from ..backend import OF_NUMPY, backend_of
from ..errors import AutogradError, DTypeError, ShapeError
from ._common import axis_of, tensor_of
from ._shape import reshape
from ._spec import op
from ._write import WriteOp, sum_to, write_in_place

if TYPE_CHECKING:
    from .._tensor import Tensor


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
        return ctx.backend.namespace.take_along_axis(x, index, axis=axis)

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
    """``x[index along axis] = v``: ``params = (index, axis)``; `v` is a tensor at least as large as the index, or a
    number."""

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
            ctx.kernels.ufuncs.at("add", data, index, value)
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


def check_bounds(index: Array, n: int, dim: int, name: str) -> None:
    if index.size and (index.min() < 0 or index.max() >= n):
        wrong = int(index.min() if index.min() < 0 else index.max())
        raise IndexError(f"{name}: index {wrong} is out of bounds for dimension {dim} with size {n}")


def _along_dim(input: Any, dim: int, index: Any, name: str) -> tuple[Any, Array, int]:
    """The tensor and the index with at least one dimension, checked, and the axis."""
    array, t = index_array(index, name), tensor_of(input, name)
    t = t if t._data.ndim else t.reshape(1)
    array = array if array.ndim else array.reshape(1)
    axis = axis_of(dim, t._data.ndim, name)
    if array.ndim != t._data.ndim and array.size:
        raise ShapeError(f"{name}: expected an index of {t._data.ndim} dimensions, as the input has, got {array.ndim}")
    if array.size == 0:
        return t, array, axis
    for d, (n, most) in enumerate(zip(array.shape, t._data.shape, strict=True)):
        if d != axis and n > most:
            raise ShapeError(
                f"{name}: expected an index no larger than the input {list(t._data.shape)} except in "
                f"dimension {axis}, got {list(array.shape)}"
            )
    check_bounds(array, t._data.shape[axis], axis, name)
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
    if array.ndim != t._data.ndim:
        return input.new_empty(tuple(index._data.shape))
    result = apply1(Gather, t, array, axis)
    return result if index._data.ndim else result.reshape(())


@op()
def take_along_dim(input: "Tensor", indices: "Tensor", dim: int | None = None) -> "Tensor":
    """As `gather`, with `input` and `indices` broadcast against each other in the other dimensions.

    Args:
        dim: None takes from the flattened tensor.
    """
    array = index_array(indices, "take_along_dim")
    array = array + (array < 0) * (input._data.size if dim is None else input._data.shape[dim])
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
                f"{name}: expected input and src of one dtype, got {OF_NUMPY[input._data.dtype]} and "
                f"{OF_NUMPY[src._data.dtype]}; convert with .to(dtype)"
            )
        if src._data.ndim == 0 and array.ndim == 1:
            src = reshape(src, 1)  # type: ignore[arg-type]
        fits = src._data.ndim == array.ndim and all(n <= m for n, m in zip(array.shape, src._data.shape, strict=True))
        if array.size and not fits:
            raise ShapeError(
                f"{name}: expected an index of as many dimensions as src {list(src._data.shape)} and no larger, got "
                f"{list(array.shape)}"
            )
    return (t, src), (array, axis)


class ScatterMultiply(WriteOp):
    """``x[index along axis] *= v``, repeated places multiplying: ``params = (index, axis)``. torch has no gradient of
    it either."""

    @staticmethod
    def write(ctx: Node, data: Array, value: Any, index: Array, axis: int) -> None:
        ctx.kernels.ufuncs.at("multiply", data, along(ctx.xp, index, axis), cut(value, index))

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
    if tensor_of(index, "scatter")._data.size == 0:
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
    if tensor_of(index, "scatter_add")._data.size == 0:
        return input.clone()
    inputs, params = scatter_arguments(input, dim, index, src, "scatter_add")
    return apply(ScatterAdd, inputs, params).reshape(input._data.shape)  # type: ignore[no-any-return]


def scatter_add_(input: "Tensor", dim: int, index: "Tensor", src: Any) -> "Tensor":
    """In-place form of `scatter_add`."""
    return _scatter_in_place(input, ScatterAdd, dim, index, src, "scatter_add_")  # type: ignore[no-any-return]
