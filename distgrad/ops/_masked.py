"""Operations on the elements that a mask names, and fills and copies in place."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .._typing import Array
from ..autograd._base import TensorBase, wrap
from ..autograd._node import Node
from ..autograd._op import apply, apply1
from ..backend import OF_NUMPY, backend_of
from ..errors import DTypeError, ShapeError
from ._common import cast, mismatch, tensor_of
from ._indexing import Index
from ._spec import op
from ._write import WriteOp, sum_to, write_in_place

if TYPE_CHECKING:
    from .._tensor import Tensor


class MaskedFill(WriteOp):
    """``x[mask] = v`` with one value: ``params = (mask,)``, of the input's shape or one that broadcasts to it."""

    @staticmethod
    def forward(ctx: Node, x: Array, value: Any, mask: Array) -> Array:
        return ctx.xp.where(mask, ctx.xp.asarray(value, dtype=x.dtype), x)

    @staticmethod
    def write(ctx: Node, data: Array, value: Any, mask: Array) -> None:
        ctx.xp.copyto(data, value, where=mask, casting="unsafe")

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        (mask,) = ctx.params
        gx = xp.call(MaskedFill, (g, 0), (mask,)) if ctx.needs[0] else None
        gv = xp.call(MaskedFill, (g, 0), (~mask,)) if ctx.needs[1] else None
        return gx, None if gv is None else sum_to(xp, gv, ctx.shapes[1])


class Fill(WriteOp):
    """All elements become one value."""

    @staticmethod
    def write(ctx: Node, data: Array, value: Any) -> None:
        data[...] = value

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        gx = xp.zeros_like(g) if ctx.needs[0] else None
        return gx, sum_to(xp, g, ctx.shapes[1]) if ctx.needs[1] else None


class Zero(Fill):
    """All elements become 0."""


class Copy(Fill):
    """All elements become those of another tensor, which is broadcast."""


class MaskedScatter(WriteOp):
    """``x[mask] = source's elements in order``: ``params = (mask,)``."""

    @staticmethod
    def write(ctx: Node, data: Array, source: Array, mask: Array) -> None:
        data[mask] = source.reshape(-1)[: int(mask.sum())]

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        (mask,) = ctx.params
        gx = xp.call(MaskedFill, (g, 0), (mask,)) if ctx.needs[0] else None
        gs = None
        if ctx.needs[1]:
            shape = ctx.shapes[1]
            size = int(np.prod(shape))
            taken = xp.getitem(g, mask)
            gs = xp.reshape(xp.scatter(taken, (slice(0, taken.shape[0]),), (size,)), shape)
        return gx, gs


def _mask(mask: Any, name: str) -> Array:
    array = tensor_of(mask, name)._data
    if array.dtype != np.bool_:
        raise DTypeError(
            f"{name}: expected a bool mask, got {OF_NUMPY[array.dtype]}; convert with .bool() or "
            "compare it with something"
        )
    return array


def _joint_shape(input: Any, mask: Array, name: str) -> tuple[int, ...]:
    """The shape in which a tensor and its mask meet."""
    shape: tuple[int, ...] = input._data.shape
    if shape == mask.shape:
        return shape
    try:
        return np.broadcast_shapes(shape, mask.shape)
    except ValueError:
        raise mismatch(name, input._data, mask) from None


def _fill_value(input: Any, value: Any, name: str) -> Any:
    if isinstance(value, TensorBase):
        if value._data.ndim:
            raise ShapeError(
                f"{name}: expected a number or a 0-d tensor as the value, got shape {list(value._data.shape)}"
            )
        return cast(value, input._data.dtype)
    if isinstance(value, float) and input._data.dtype.kind in "biu" and value != int(value):
        raise DTypeError(
            f"{name}: the value {value} cannot be put into a tensor of {OF_NUMPY[input._data.dtype]}; "
            "convert that with .float()"
        )
    return value


@op(inplace=True)
def masked_fill(input: "Tensor", mask: "Tensor", value: Any) -> "Tensor":
    """A copy of `input` with `value` where `mask` is true.

    Args:
        input: a tensor that can be broadcast with the mask.
        mask: a bool tensor.
        value: a number or a 0-d tensor.

    Raises:
        DTypeError: the mask is not bool.
        ShapeError: the shapes cannot be broadcast together.
    """
    input, chosen = tensor_of(input, "masked_fill"), _mask(mask, "masked_fill")
    value = _fill_value(input, value, "masked_fill")
    shape = _joint_shape(input, chosen, "masked_fill")
    t = input if input._data.shape == shape else input.expand(*shape)
    return apply(MaskedFill, (t, value), (chosen,))  # type: ignore[no-any-return]


def masked_fill_(input: "Tensor", mask: "Tensor", value: Any) -> "Tensor":
    """In-place form of `masked_fill`; the mask is broadcast to the tensor."""
    chosen = _mask(mask, "masked_fill_")
    try:
        np.broadcast_to(np.empty(chosen.shape, dtype=np.bool_), input._data.shape)
    except ValueError:
        raise ShapeError(
            f"masked_fill_: a mask of shape {list(chosen.shape)} cannot be broadcast to {list(input._data.shape)}"
        ) from None
    return write_in_place(input, MaskedFill, (_fill_value(input, value, "masked_fill_"),), (chosen,))  # type: ignore[no-any-return]


@op()
def masked_select(input: "Tensor", mask: "Tensor") -> "Tensor":
    """The elements where `mask` is true, in a 1-d tensor; `input` and `mask` are broadcast against each other."""
    input, chosen = tensor_of(input, "masked_select"), _mask(mask, "masked_select")
    shape = _joint_shape(input, chosen, "masked_select")
    t = input if input._data.shape == shape else input.expand(*shape)
    full = backend_of(chosen).xp.broadcast_to(chosen, shape)
    return apply1(Index, t, full).reshape(-1)


@op(inplace=True)
def masked_scatter(input: "Tensor", mask: "Tensor", source: "Tensor") -> "Tensor":
    """A copy of `input` whose elements where `mask` is true are replaced by those of `source`, in order.

    Raises:
        ShapeError: `source` has too few elements, or the shapes cannot be broadcast together.
    """
    input, source = tensor_of(input, "masked_scatter"), tensor_of(source, "masked_scatter")
    chosen = _mask(mask, "masked_scatter")
    shape = _joint_shape(input, chosen, "masked_scatter")
    full = backend_of(chosen).xp.broadcast_to(chosen, shape)
    if int(full.sum()) > source._data.size:
        raise ShapeError(
            f"masked_scatter: expected at least {int(full.sum())} elements in source (one for each "
            f"True), got {source._data.size}"
        )
    if source._data.dtype != input._data.dtype:
        raise DTypeError(
            f"masked_scatter: expected input and source of one dtype, got {input.dtype} and "
            f"{source.dtype}; convert with .to(dtype)"
        )
    t = input if input._data.shape == shape else input.expand(*shape)
    return apply(MaskedScatter, (t, source), (full,))  # type: ignore[no-any-return]


@op(differentiable=False)
def nonzero(input: "Tensor", *, as_tuple: bool = False) -> Any:
    """The indices of the elements that are not 0.

    Args:
        as_tuple: one index tensor for each dimension, ready for ``x[...]``, instead of an (n, ndim) tensor.
    """
    x = tensor_of(input, "nonzero")._data
    xp = backend_of(x).xp
    if x.ndim == 0:
        found = xp.arange(int(bool(x)))
        return (wrap(found),) if as_tuple else wrap(xp.zeros((found.size, 0), dtype="int64"))
    places = x.nonzero()
    return tuple([wrap(p) for p in places]) if as_tuple else wrap(xp.stack(places, axis=1))


@op(differentiable=False)
def argwhere(input: "Tensor") -> "Tensor":
    """The indices of the elements that are not 0, one row each."""
    return nonzero(input)  # type: ignore[no-any-return]


@op(differentiable=False)
def nonzero_static(input: "Tensor", *, size: int, fill_value: int = -1) -> "Tensor":
    """`nonzero` cut or filled up to `size` rows."""
    found = nonzero(input)._data
    xp = backend_of(found).xp
    result = xp.full((size, found.shape[1]), fill_value)
    result[: found.shape[0]] = found[:size]
    return wrap(result)


@op(inplace=True)
def fill(input: "Tensor", value: Any) -> "Tensor":
    """A tensor of the input's shape and dtype with one value everywhere."""
    return apply(Fill, (input, _fill_value(input, value, "fill")))  # type: ignore[no-any-return]


def fill_(input: "Tensor", value: Any) -> "Tensor":
    """In-place form of `fill`."""
    return write_in_place(input, Fill, (_fill_value(input, value, "fill_"),))  # type: ignore[no-any-return]


def zero_(input: "Tensor") -> "Tensor":
    """Sets all elements to 0."""
    return write_in_place(input, Zero, (0,))  # type: ignore[no-any-return]


def copy_(input: "Tensor", src: Any, non_blocking: bool = False) -> "Tensor":
    """Overwrites this tensor with the values of another, broadcast, cast and moved as needed.

    Args:
        src: the tensor that is copied.
        non_blocking: accepted; the copy is complete when the call returns.

    Raises:
        ShapeError: `src` cannot be broadcast to this tensor's shape.
    """
    source = tensor_of(src, "copy_")
    data = input._data
    if source._data.__class__ is not data.__class__:
        source = source.to(input.device)
    if source._data.dtype != data.dtype and source._target is not None:
        source = cast(source, data.dtype)
    try:
        with backend_of(data).quiet():
            return write_in_place(input, Copy, (source,))  # type: ignore[no-any-return]
    except ValueError:
        raise ShapeError(
            f"copy_: a source of shape {list(source._data.shape)} cannot be broadcast to {list(data.shape)}"
        ) from None
