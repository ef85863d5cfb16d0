"""Tensors put together."""

from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._base import TensorBase
from ..autograd._node import Node
from ..autograd._op import Op, apply, result_dtype
from ..errors import ShapeError
from ._common import axis_of, cast, tensor_of
from ._shape import atleast_1d, atleast_2d, atleast_3d, reshape
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


class Cat(Op):
    """``params = (axis,)``; any number of inputs."""

    @staticmethod
    def forward(ctx: Node, *arrays: Any) -> Array:
        return ctx.xp.concatenate(arrays[:-1], axis=arrays[-1])

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        (axis,) = ctx.params
        lead = (slice(None),) * axis
        grads, start = [], 0
        for shape, needed in zip(ctx.shapes, ctx.needs, strict=True):
            stop = start + shape[axis]
            grads.append(xp.getitem(g, (*lead, slice(start, stop))) if needed else None)
            start = stop
        return tuple(grads)


class Stack(Op):
    """``params = (axis,)``; any number of inputs of one shape."""

    @staticmethod
    def forward(ctx: Node, *arrays: Any) -> Array:
        return ctx.xp.stack(arrays[:-1], axis=arrays[-1])

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        lead = (slice(None),) * ctx.params[0]
        return tuple([xp.getitem(g, (*lead, i)) if needed else None for i, needed in enumerate(ctx.needs)])


def _listed(tensors: Any, name: str) -> tuple[Any, ...]:
    """The tensors of a list in their common dtype.

    Raises:
        TypeError: it is no list of tensors.
        ShapeError: it is empty.
    """
    if isinstance(tensors, TensorBase) or not isinstance(tensors, (list, tuple)):
        raise TypeError(f"{name}: expected a list or tuple of Tensors, got {type(tensors).__name__}")
    given = [tensor_of(t, name) for t in tensors]
    if not given:
        raise ShapeError(f"{name}: expected a non-empty list of Tensors")
    first = given[0]._data.dtype
    if all(t._data.dtype == first for t in given):
        return tuple(given)
    dtype = result_dtype(tuple(given))
    return tuple([cast(t, dtype) for t in given])


@op(method=False)
def cat(tensors: Any, dim: int = 0) -> "Tensor":
    """The tensors one after the other along an existing dimension.

    Args:
        tensors: a list or tuple of tensors of equal sizes in all other dimensions; those of shape (0,) are left out.
        dim: the dimension in which the sizes add up.

    Raises:
        ShapeError: other sizes differ; the message names the tensor.
    """
    given = _listed(tensors, "cat")
    parts = tuple([t for t in given if t._data.shape != (0,)]) or given[:1]
    shape = parts[0]._data.shape
    if not shape:
        raise ShapeError("cat: zero-dimensional tensors cannot be concatenated; use stack()")
    axis = axis_of(dim, len(shape), "cat")
    try:
        return apply(Cat, parts, (axis,))  # type: ignore[no-any-return]
    except ValueError:
        _check_sizes(parts, shape, axis)
        raise


def _check_sizes(parts: tuple[Any, ...], shape: tuple[int, ...], axis: int) -> None:
    for number, t in enumerate(parts):
        have = t._data.shape
        if len(have) != len(shape):
            raise ShapeError(
                f"cat: tensors must have the same number of dimensions: got {len(shape)} and "
                f"{len(have)} (tensor number {number})"
            ) from None
        if have[:axis] != shape[:axis] or have[axis + 1 :] != shape[axis + 1 :]:
            raise ShapeError(
                f"cat: sizes of tensors must match except in dimension {axis}: expected {list(shape)} "
                f"but got {list(have)} for tensor number "
                f"{number} in the list"
            ) from None


@op(method=False)
def stack(tensors: Any, dim: int = 0) -> "Tensor":
    """The tensors side by side along a new dimension.

    Raises:
        ShapeError: their shapes differ.
    """
    given = _listed(tensors, "stack")
    shape = given[0]._data.shape
    for number, t in enumerate(given):
        if t._data.shape != shape:
            raise ShapeError(
                f"stack: expected all tensors to have the same shape, got {list(shape)} at entry 0 "
                f"and {list(t._data.shape)} at entry {number}"
            )
    return apply(Stack, given, (axis_of(dim, len(shape) + 1, "stack"),))  # type: ignore[no-any-return]


def _raised(tensors: Any, name: str, shaped: Any) -> list[Any]:
    return [shaped(t) for t in _listed(tensors, name)]


@op(method=False)
def hstack(tensors: Any) -> "Tensor":
    """The tensors one after the other along dimension 1 (0 for vectors)."""
    parts = _raised(tensors, "hstack", atleast_1d)
    return cat(parts, 0 if parts[0]._data.ndim == 1 else 1)


@op(method=False)
def vstack(tensors: Any) -> "Tensor":
    """The tensors one below the other: vectors count as rows."""
    return cat(_raised(tensors, "vstack", atleast_2d), 0)


@op(method=False)
def dstack(tensors: Any) -> "Tensor":
    """The tensors one behind the other along dimension 2."""
    return cat(_raised(tensors, "dstack", atleast_3d), 2)


@op(method=False)
def column_stack(tensors: Any) -> "Tensor":
    """The tensors side by side: vectors count as columns."""

    def shaped(t: Any) -> Any:
        return t if t._data.ndim > 1 else reshape(t, -1, 1)

    return hstack(_raised(tensors, "column_stack", shaped))


@op(method=False)
def block_diag(*tensors: Any) -> "Tensor":
    """A matrix with the given matrices along its diagonal and zeros elsewhere; vectors count as rows."""
    parts = _raised(tensors, "block_diag", atleast_2d)
    if any(p._data.ndim > 2 for p in parts):
        shapes = ", ".join(str(list(p._data.shape)) for p in parts)
        raise ShapeError(f"block_diag: expected tensors of 2 dimensions at most, got {shapes}")
    width = sum([p._data.shape[1] for p in parts])
    rows, before = [], 0
    for p in parts:
        n, m = p._data.shape
        rows.append(cat([p.new_zeros((n, before)), p, p.new_zeros((n, width - before - m))], 1))
        before += m
    return cat(rows, 0)
