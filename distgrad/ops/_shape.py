"""Operations that rearrange elements without computing with them. Where torch gives a view, so do these."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .._typing import Array, Shape
from ..autograd._node import Node
from ..autograd._op import Op, apply1
from ..errors import ShapeError
from ._common import axes_of, axis_of, sizes, tensor_of
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


class Reshape(Op):
    """A reshape that had to copy."""

    @staticmethod
    def forward(ctx: Node, x: Array, shape: Shape) -> Array:
        return x.reshape(shape)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return xp.reshape(g, ctx.shapes[0])


class View(Reshape):
    """A reshape that shares the memory."""

    view = True


class Permute(Op):
    view = True

    @staticmethod
    def forward(ctx: Node, x: Array, axes: tuple[int, ...]) -> Array:
        return x.transpose(axes)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return xp.permute_dims(g, tuple(int(i) for i in np.argsort(ctx.params[0])))


class Expand(Op):
    view = True

    @staticmethod
    def forward(ctx: Node, x: Array, shape: Shape) -> Array:
        return ctx.xp.broadcast_to(x, shape)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        (shape,) = ctx.shapes
        lead = len(g.shape) - len(shape)
        axes = tuple(range(lead)) + tuple(i + lead for i, n in enumerate(shape) if n == 1 and g.shape[i + lead] != 1)
        return xp.reshape(xp.sum(g, axis=axes, keepdims=True) if axes else g, shape)


def _resolve(shape: Shape, size: int, name: str) -> Shape:
    """`shape` with -1 worked out.

    Raises:
        ShapeError: it cannot hold `size` elements.
    """
    known = math.prod(n for n in shape if n != -1)
    unknown = shape.count(-1)
    fits = known == size if not unknown else known > 0 and size % known == 0
    if unknown > 1 or not fits or any(n < -1 for n in shape):
        raise ShapeError(f"{name}: shape {list(shape)} is invalid for input of size {size}; the product of the sizes must be {size}, with at most one -1")
    return tuple(size // known if n == -1 else n for n in shape)


def _shares(x: Array, shape: Shape) -> bool:
    """Whether `x` can be seen as `shape` without a copy."""
    if x.flags.c_contiguous or x.size == 0:
        return True
    try:
        y = x.view()
        y.shape = shape
    except AttributeError:
        return False
    return True


@op()
def reshape(input: "Tensor", *shape: Any) -> "Tensor":
    """The same elements in another shape: a view where possible, else a copy. One size may be -1.

    Raises:
        ShapeError: the sizes do not multiply to the number of elements.
    """
    x = tensor_of(input, "reshape")._data
    wanted = _resolve(sizes(shape), x.size, "reshape")
    return apply1(View if _shares(x, wanted) else Reshape, input, wanted)  # type: ignore[no-any-return]


@op()
def permute(input: "Tensor", *dims: Any) -> "Tensor":
    """A view with the dimensions in the order `dims`."""
    ndim = tensor_of(input, "permute")._data.ndim
    axes = tuple(axis_of(d, ndim, "permute") for d in sizes(dims))
    if sorted(axes) != list(range(ndim)):
        raise ShapeError(f"permute: expected each of the {ndim} dimensions once, got {list(sizes(dims))}")
    return apply1(Permute, input, axes)  # type: ignore[no-any-return]


@op()
def transpose(input: "Tensor", dim0: int, dim1: int) -> "Tensor":
    """A view with two dimensions exchanged."""
    ndim = tensor_of(input, "transpose")._data.ndim
    if ndim == 0:
        return apply1(Permute, input, ())  # type: ignore[no-any-return]
    a, b = axis_of(dim0, ndim, "transpose"), axis_of(dim1, ndim, "transpose")
    axes = list(range(ndim))
    axes[a], axes[b] = axes[b], axes[a]
    return apply1(Permute, input, tuple(axes))  # type: ignore[no-any-return]


@op()
def expand(input: "Tensor", *size: Any) -> "Tensor":
    """A view in which dimensions of size 1 are repeated to the given sizes without memory; -1 keeps a size.

    Raises:
        ShapeError: a size other than 1 would change.
    """
    x = tensor_of(input, "expand")._data
    wanted = sizes(size)
    lead = len(wanted) - x.ndim
    if lead < 0:
        raise ShapeError(f"expand: expected at least {x.ndim} sizes, got {list(wanted)}")
    full = tuple(x.shape[i - lead] if n == -1 and i >= lead else n for i, n in enumerate(wanted))
    if any(n < 0 for n in full) or any(have not in (1, n) for have, n in zip(x.shape, full[lead:], strict=True)):
        raise ShapeError(f"expand: the sizes {list(wanted)} do not fit the shape {list(x.shape)}: only a size of 1 can be expanded")
    return apply1(Expand, input, full)  # type: ignore[no-any-return]


@op()
def squeeze(input: "Tensor", dim: Any = None) -> "Tensor":
    """A view without the dimensions of size 1 (of those in `dim`, if given)."""
    x = tensor_of(input, "squeeze")._data
    axes = axes_of(dim, x.ndim, "squeeze")
    return apply1(View, input, tuple(n for i, n in enumerate(x.shape) if n != 1 or i not in axes))  # type: ignore[no-any-return]


@op()
def unsqueeze(input: "Tensor", dim: int) -> "Tensor":
    """A view with a new dimension of size 1 at `dim`."""
    x = tensor_of(input, "unsqueeze")._data
    axis = axis_of(dim, x.ndim + 1, "unsqueeze")
    return apply1(View, input, (*x.shape[:axis], 1, *x.shape[axis:]))  # type: ignore[no-any-return]
