"""Reading and writing slices along a dimension by a 1-d tensor of indices, and single elements by flat ones."""

import math
from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._base import TensorBase, wrap
from ..autograd._node import Node
from ..autograd._op import Op, apply, apply1
from ..backend import backend_of
from ..errors import DTypeError, ShapeError
from ._common import axis_of, cast, tensor_of
from ._indexing import Index
from ._scatter import check_bounds, index_array
from ._spec import op
from ._write import WriteOp, sum_to, write_in_place

if TYPE_CHECKING:
    from .._tensor import Tensor


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
        ctx.kernels.ufuncs.at("add", data, place, value if alpha == 1 else value * alpha)

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


@op()
def index_select(input: "Tensor", dim: int, index: "Tensor") -> "Tensor":
    """A copy of the slices along a dimension that a 1-d integer tensor names.

    Raises:
        IndexError: an index is out of range.
        ShapeError: the index has more than one dimension.
    """
    input, array = tensor_of(input, "index_select"), _flat_index(index, "index_select")
    axis = axis_of(dim, input._data.ndim, "index_select")
    t = input if input._data.ndim else input.reshape(1)
    check_bounds(array, t._data.shape[axis], dim, "index_select")
    result = apply1(IndexSelect, t, array, axis)
    return result if input._data.ndim else result.reshape(())


def _flat_index(index: Any, name: str) -> Array:
    """The numbers of a 1-d index; one of 0 dimensions counts as such."""
    array = index_array(index, name)
    if array.ndim > 1:
        raise ShapeError(f"{name}: expected a 1-d index, got {array.ndim} dimensions")
    return array.reshape(-1)


def _need_slices(source: Any, input: Any, dim: int, index: Any, name: str) -> None:
    """Raises ShapeError unless the source has one slice of the input's shape for each index."""
    shape, count = list(input._data.shape), index_array(index, name).size
    if shape:
        shape[axis_of(dim, len(shape), name)] = count
    if list(source._data.shape) != shape and not (source._data.size == count == 1 == math.prod(shape)):
        raise ShapeError(
            f"{name}: expected a source of shape {shape} (the input's, with one slice for each index along dimension "
            f"{dim}), got {list(source._data.shape)}"
        )


def _place(input: Any, dim: int, index: Any, name: str) -> tuple[Any, ...]:
    """The full index of the slices along `dim` that a 1-d index names."""
    array = _flat_index(index, name)
    axis = axis_of(dim, input._data.ndim, name)
    if input._data.ndim == 0:
        check_bounds(array, 1, dim, name)
        return ()
    n = input._data.shape[axis]
    check_bounds(array + (array < 0) * n if name == "index_fill" else array, n, dim, name)
    return (slice(None),) * axis + (array,)


def _index_add(input: Any, dim: int, index: Any, source: Any, alpha: Any) -> Any:
    input, source = tensor_of(input, "index_add"), tensor_of(source, "index_add")
    place = _place(input, dim, index, "index_add")
    _need_slices(source, input, dim, index, "index_add")
    return IndexAdd, (input, cast(source, input._data.dtype)), (place, alpha)


def _index_copy(input: Any, dim: int, index: Any, source: Any) -> Any:
    input, source = tensor_of(input, "index_copy"), tensor_of(source, "index_copy")
    if source._data.dtype != input._data.dtype:
        raise DTypeError(
            f"index_copy: expected input and source of one dtype, got {input.dtype} and "
            f"{source.dtype}; convert with .to(dtype)"
        )
    place = _place(input, dim, index, "index_copy")
    _need_slices(source, input, dim, index, "index_copy")
    return IndexCopy, (input, source), (place,)


def _index_fill(input: Any, dim: int, index: Any, value: Any) -> Any:
    input = tensor_of(input, "index_fill")
    if isinstance(value, TensorBase):
        if value._data.ndim:
            raise ShapeError(
                f"index_fill: expected a number or a 0-d tensor as the value, got shape {list(value._data.shape)}"
            )
        value = cast(value, input._data.dtype)
    return IndexFill, (input, value), (_place(input, dim, index, "index_fill"),)


@op(inplace=True)
def index_add(input: "Tensor", dim: int, index: "Tensor", source: "Tensor", *, alpha: Any = 1) -> "Tensor":
    """A copy of `input` with ``alpha * source`` added to the slices along `dim` that `index` names; repeated ones add
    up.

    Args:
        index: a 1-d tensor of n integers.
        source: of the input's shape, with n slices along `dim`.

    Raises:
        IndexError: an index is out of range.
        ShapeError: the source has another shape.
    """
    return apply(*_index_add(input, dim, index, source, alpha))  # type: ignore[no-any-return]


def index_add_(input: "Tensor", dim: int, index: "Tensor", source: "Tensor", *, alpha: Any = 1) -> "Tensor":
    """In-place form of `index_add`."""
    op_class, inputs, params = _index_add(input, dim, index, source, alpha)
    return write_in_place(input, op_class, inputs[1:], params)  # type: ignore[no-any-return]


@op(inplace=True)
def index_copy(input: "Tensor", dim: int, index: "Tensor", source: "Tensor") -> "Tensor":
    """A copy of `input` with the slices along `dim` that `index` names replaced by those of `source`; arguments as for
    `index_add`."""
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
    input, array = tensor_of(input, "take"), index_array(index, "take")
    n = input._data.size
    check_bounds(array + (array < 0) * n, n, 0, "take")
    return apply1(Index, input.reshape(-1), (array,))


@op(inplace=True)
def put(input: "Tensor", index: "Tensor", source: "Tensor", accumulate: bool = False) -> "Tensor":
    """A copy of `input` with `source` put at (or added to) the places `index` of the flattened tensor.

    Raises:
        ShapeError: index and source differ in their number of elements.
    """
    input, source = tensor_of(input, "put"), tensor_of(source, "put")
    array = index_array(index, "put").reshape(-1)
    n = input._data.size
    check_bounds(array + (array < 0) * n, n, 0, "put")
    if source._data.dtype != input._data.dtype:
        raise DTypeError(
            f"put: expected input and source of one dtype, got {input.dtype} and {source.dtype}; "
            "convert with .to(dtype)"
        )
    if source._data.size != array.size:
        raise ShapeError(
            f"put: expected as many elements in source as in index, got {source._data.size} and {array.size}"
        )
    flat, values = input.reshape(-1), source.reshape(-1)
    result = (
        apply(IndexAdd, (flat, values), ((array,), 1)) if accumulate else apply(IndexCopy, (flat, values), ((array,),))
    )
    return result.reshape(input._data.shape)  # type: ignore[no-any-return]


@op(method=False, differentiable=False)
def one_hot(tensor: "Tensor", num_classes: int = -1) -> "Tensor":
    """For each class number, a vector (int64) of zeros with a 1 at its place; it becomes the last dimension.

    Args:
        tensor: an integer tensor.
        num_classes: how many classes; -1: one more than the largest number.

    Raises:
        IndexError: a number is negative or not below `num_classes`.
    """
    array = index_array(tensor, "one_hot")
    xp = backend_of(array).xp
    n = num_classes if num_classes >= 0 else int(array.max()) + 1
    check_bounds(array, n, -1, "one_hot")
    return wrap((array[..., None] == xp.arange(n)).astype("int64"))
