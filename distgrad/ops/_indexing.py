"""Reading and writing parts of tensors by ``x[...]``."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .._typing import Array
from ..autograd._base import TensorBase, wrap
from ..autograd._node import Node
from ..autograd._op import Op, apply, apply1
from ..backend import OF_NUMPY, backend_of
from ..errors import ShapeError
from ._common import cast, tensor_of
from ._spec import op
from ._write import WriteOp, sum_to, write_in_place

if TYPE_CHECKING:
    from .._tensor import Tensor


class Index(Op):
    """``params = (index,)``: integer or boolean arrays among it, so the result is a copy."""

    @staticmethod
    def forward(ctx: Node, x: Array, index: Any) -> Array:
        return x[index]

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return xp.scatter(g, ctx.params[0], ctx.shapes[0])


class Slice(Index):
    """A basic index: the result is a view. Ends with an Ellipsis, so that NumPy gives an array and no scalar."""

    view = True


class Select(Slice):
    """A basic index that ends with an integer."""


class Scatter(Op):
    """The adjoint of `Index`: ``params = (index, shape)``."""

    @staticmethod
    def forward(ctx: Node, values: Array, index: Any, shape: Any) -> Array:
        return ctx.backend.namespace.scatter(values, index, shape)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return xp.getitem(g, ctx.params[0])


class SetItem(WriteOp):
    """``x[basic][advanced] = v``: ``params = (basic, advanced or None)``."""

    name = "CopySlices"

    @staticmethod
    def write(ctx: Node, data: Array, value: Any, basic: Any, advanced: Any) -> None:
        if advanced is None:
            data[basic] = value
        elif basic is None:
            data[advanced] = value
        else:
            data[basic][advanced] = value

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        basic, advanced = ctx.params
        rest = inside = None
        if ctx.needs[0]:
            rest = xp.call(SetItem, (g, 0), (basic, advanced))
        if ctx.needs[1]:
            inside = g if basic is None else xp.getitem(g, basic)
            inside = inside if advanced is None else xp.getitem(inside, advanced)
            inside = sum_to(xp, inside, ctx.shapes[1])
        return rest, inside


class IndexPut(WriteOp):
    """``x[index] += v`` with repeated places adding up: ``params = (index,)``."""

    @staticmethod
    def write(ctx: Node, data: Array, value: Any, index: Any) -> None:
        ctx.kernels.ufuncs.at("add", data, index, value)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        inside = sum_to(xp, xp.getitem(g, ctx.params[0]), ctx.shapes[1]) if ctx.needs[1] else None
        return g, inside


def _is_tuple_in_disguise(index: list[Any]) -> bool:
    """Whether torch reads a list as a tuple of indices: it holds more than numbers."""
    return any(p is None or p is Ellipsis or isinstance(p, (slice, list, tuple, TensorBase, np.ndarray)) for p in index)


def _array_index(part: Any, like: Array) -> Any:
    """A tensor, array or list as an integer or boolean array; a 0-d integer one as an int.

    Raises:
        IndexError: it is of another kind.
    """
    array = part._data if isinstance(part, TensorBase) else part
    if isinstance(part, (list, tuple, range)):
        if any(isinstance(p, TensorBase) for p in part):
            array = [p._data if isinstance(p, TensorBase) else p for p in part]
        array = np.asarray(array, dtype=None if len(array) else np.int64)
    elif isinstance(part, (bool, np.bool_)):
        array = np.asarray(part)
    elif not hasattr(array, "dtype"):
        raise IndexError(
            "only integers, slices (`:`), ellipsis (`...`), None and integer or boolean tensors are "
            f"valid indices (got {type(part).__name__})"
        )
    kind = array.dtype.kind
    if kind not in "biu":
        raise IndexError(
            f"tensors used as indices must be integer or bool tensors, got {OF_NUMPY[array.dtype]}; "
            "convert with .long()"
        )
    if array.ndim == 0 and kind != "b":
        return int(array)
    if array.dtype == np.uint8:
        array = array != 0
    return array if array.__class__ is like.__class__ else backend_of(like).asarray(array)


def _normal(parts: tuple[Any, ...], like: Array) -> tuple[list[Any], bool, bool]:
    """The parts of an index as ints, slices, None, Ellipsis and arrays; whether there are arrays, and ints among
    them."""
    result: list[Any] = []
    arrays = ints = False
    for part in parts:
        kind = part.__class__
        if kind is slice:
            if part.step is not None and int(part.step) <= 0:
                raise ValueError(
                    f"step must be greater than zero, got {int(part.step)}; use flip() to reverse a dimension"
                )
        elif kind is int:
            ints = True
        elif part is not None and part is not Ellipsis:
            part = int(part) if isinstance(part, np.integer) else _array_index(part, like)
            if part.__class__ is int:
                ints = True
            else:
                arrays = True
        result.append(part)
    return result, arrays, ints


def parse(index: Any, like: Array) -> tuple[Any, Any]:
    """An index as a basic one followed by an advanced one, each None where it is not needed.

    torch applies integers before arrays, where NumPy counts an integer as an array; so the two are kept apart.
    """
    if index.__class__ is list and _is_tuple_in_disguise(index):
        index = tuple(index)
    parts, arrays, ints = _normal(index if index.__class__ is tuple else (index,), like)
    if not any(p is Ellipsis for p in parts):
        parts.append(Ellipsis)
    if not arrays:
        return tuple(parts), None
    if not ints:
        return None, tuple(parts)
    basic: list[Any] = []
    advanced: list[Any] = []
    for part in parts:
        if hasattr(part, "dtype"):
            basic += [slice(None)] * (part.ndim if part.dtype.kind == "b" else 1)
            advanced.append(part)
        else:
            basic.append(part)
            if part.__class__ is not int:
                advanced.append(Ellipsis if part is Ellipsis else slice(None))
    return tuple(basic), tuple(advanced)


def _wrong_index(error: IndexError, shape: tuple[int, ...]) -> IndexError:
    text = (
        str(error)
        .replace("for axis", "for dimension")
        .replace("along axis", "along dimension")
        .replace("array", "tensor")
    )
    return IndexError(f"{text} (the tensor's shape is {list(shape)})")


@op(name="__getitem__")
def getitem(input: "Tensor", index: Any) -> "Tensor":
    """``input[index]``: ints, slices, None, Ellipsis (a view); boolean and integer tensors, arrays or lists (a copy).

    Raises:
        IndexError: an index is out of range, there are too many, or one is of a wrong type.
        ValueError: a slice's step is not positive.
    """
    try:
        if index.__class__ is int:
            return apply1(Select, input, (index, ...))
        basic, advanced = parse(index, input._data)
        if basic is not None:
            last = index[-1] if index.__class__ is tuple and index else None
            input = apply1(Select if last.__class__ is int else Slice, input, basic)
        return input if advanced is None else apply1(Index, input, advanced)
    except IndexError as error:
        raise _wrong_index(error, input._data.shape) from None


def setitem(input: "Tensor", index: Any, value: Any) -> None:
    """``input[index] = value`` in place, with the same indices as reading; the value is broadcast and cast.

    Raises:
        IndexError: an index is out of range, there are too many, or one is of a wrong type.
        ShapeError: the value cannot be broadcast to the place.
    """
    data = input._data
    if index.__class__ is int:
        basic, advanced = (index, ...), None
    else:
        basic, advanced = parse(index, data)
    value = _value_for(value, data)
    try:
        write_in_place(input, SetItem, (value,), (basic, advanced))
    except IndexError as error:
        raise _wrong_index(error, data.shape) from None
    except ValueError as error:
        raise ShapeError(
            f"__setitem__: the value of shape {list(np.shape(value))} cannot be broadcast to the indexed place: {error}"
        ) from None


def _value_for(value: Any, data: Array) -> Any:
    """What is written to `data`, in its dtype: a tensor, or a number."""
    if isinstance(value, TensorBase):
        if value._data.__class__ is not data.__class__ and value._data.ndim == 0:
            return value._data.item()
        return cast(value, data.dtype)
    if isinstance(value, np.ndarray):
        return cast(tensor_of(value, "__setitem__"), data.dtype)
    if isinstance(value, (list, tuple)):
        return wrap(backend_of(data).xp.asarray(value, dtype=data.dtype))
    return value.item() if isinstance(value, np.generic) else value


@op(inplace=True)
def index_put(input: "Tensor", indices: Any, values: Any, accumulate: bool = False) -> "Tensor":
    """A copy of `input` with ``[indices] = values``; with `accumulate`, the values are added, repeated places several
    times.

    Args:
        input: the tensor.
        indices: a tuple of index tensors (integer or bool), one for each leading dimension.
        values: a tensor that can be broadcast to the indexed place, of the same dtype.
        accumulate: add instead of replacing.
    """
    return apply(*_index_put(input, indices, values, accumulate))  # type: ignore[no-any-return]


def index_put_(input: "Tensor", indices: Any, values: Any, accumulate: bool = False) -> "Tensor":
    """In-place form of `index_put`."""
    op_class, inputs, params = _index_put(input, indices, values, accumulate)
    return write_in_place(input, op_class, inputs[1:], params)  # type: ignore[no-any-return]


def _index_put(t: Any, indices: Any, values: Any, accumulate: bool) -> tuple[Any, tuple[Any, ...], tuple[Any, ...]]:
    t = tensor_of(t, "index_put")
    basic, advanced = parse(tuple(slice(None) if i is None else i for i in indices), t._data)
    if accumulate:
        index = basic if advanced is None else advanced
        return IndexPut, (t, _value_for(values, t._data)), (index,)
    return SetItem, (t, _value_for(values, t._data)), (basic, advanced)
