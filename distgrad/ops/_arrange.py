"""Operations that put elements in another order, or repeat them."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .._typing import Array, Shape
from ..autograd._base import TensorBase, wrap
from ..autograd._node import Node
from ..autograd._op import Op, apply1
from ..backend import backend_of
from ..errors import ShapeError
from ._common import axes_of, axis_of, sizes, tensor_of
from ._memory import clone
from ._shape import expand, reshape, transpose, unsqueeze
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


class Flip(Op):
    """``params = (axes,)``."""

    @staticmethod
    def forward(ctx: Node, x: Array, axes: tuple[int, ...]) -> Array:
        return ctx.xp.ascontiguousarray(ctx.xp.flip(x, axes)).reshape(x.shape)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return xp.flip(g, axis=ctx.params[0])


class Roll(Op):
    """``params = (shifts, axes)``; axes None rolls the flattened tensor."""

    @staticmethod
    def forward(ctx: Node, x: Array, shifts: tuple[int, ...], axes: tuple[int, ...] | None) -> Array:
        return ctx.xp.roll(x, shifts[0] if axes is None else shifts, axes)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        shifts, axes = ctx.params
        return xp.call(Roll, (g,), (tuple(-n for n in shifts), axes))


class Repeat(Op):
    """Copies side by side: ``params = (repeats,)``, one for each dimension of the input."""

    @staticmethod
    def forward(ctx: Node, x: Array, repeats: tuple[int, ...]) -> Array:
        return ctx.xp.tile(x, repeats)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        (shape,) = ctx.shapes
        pairs = [n for pair in zip(ctx.params[0], shape, strict=True) for n in pair]
        if 0 in pairs:
            return xp.zeros(shape, g)
        return xp.sum(xp.reshape(g, tuple(pairs)), axis=tuple(range(0, len(pairs), 2)))


class Unfold(Op):
    """Windows along an axis, as a view: ``params = (axis, size, step)``; the window's elements become the last
    dimension."""

    view = True

    @staticmethod
    def forward(ctx: Node, x: Array, axis: int, size: int, step: int) -> Array:
        count = (x.shape[axis] - size) // step + 1
        shape = (*x.shape[:axis], count, *x.shape[axis + 1 :], size)
        strides = (*x.strides[:axis], x.strides[axis] * step, *x.strides[axis + 1 :], x.strides[axis])
        return ctx.xp.lib.stride_tricks.as_strided(x, shape, strides)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        axis, size, step = ctx.params
        (shape,) = ctx.shapes
        windows = np.arange(g.shape[axis])[:, None] * step + np.arange(size)  # (count, size)
        moved = xp.permute_dims(g, (axis, g.ndim - 1, *(i for i in range(g.ndim - 1) if i != axis)))
        front = xp.scatter(moved, (_on(ctx, windows),), (shape[axis], *shape[:axis], *shape[axis + 1 :]))
        return xp.permute_dims(front, tuple(0 if i == axis else i + (i < axis) for i in range(len(shape))))


class AsStrided(Op):
    """A view by explicit strides: ``params = (size, stride, offset)`` in elements, counted in the input's memory."""

    view = True

    @staticmethod
    def forward(ctx: Node, x: Array, size: Shape, stride: Shape, offset: int) -> Array:
        flat = x.reshape(-1)[offset:]
        return ctx.xp.lib.stride_tricks.as_strided(flat, size, tuple(n * x.itemsize for n in stride))

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        size, stride, offset = ctx.params
        (shape,) = ctx.shapes
        places = np.full(size, offset, dtype=np.int64)
        for axis, (n, step) in enumerate(zip(size, stride, strict=True)):
            places += (np.arange(n) * step).reshape((-1,) + (1,) * (len(size) - axis - 1))
        return xp.reshape(xp.scatter(g, (_on(ctx, places),), (math.prod(shape),)), shape)


def _on(ctx: Node, host: Any) -> Array:
    """Indices from the host on the device of a node."""
    return ctx.xp.asarray(host)


@op()
def flip(input: "Tensor", *axes: Any, dims: Any = None) -> "Tensor":
    """A copy with the order of the elements reversed along `dims`."""
    wanted = sizes(axes if dims is None else (dims,))
    chosen = axes_of(wanted, tensor_of(input, "flip")._data.ndim, "flip") if wanted else ()
    return apply1(Flip, input, chosen)


@op()
def fliplr(input: "Tensor") -> "Tensor":
    """A copy with the columns (dimension 1) in reverse order."""
    input = tensor_of(input, "fliplr")
    if input._data.ndim < 2:
        raise ShapeError(f"fliplr: expected at least 2 dimensions, got {input._data.ndim}")
    return flip(input, 1)


@op()
def flipud(input: "Tensor") -> "Tensor":
    """A copy with the rows (dimension 0) in reverse order."""
    if tensor_of(input, "flipud")._data.ndim < 1:
        raise ShapeError("flipud: expected at least 1 dimension, got 0")
    return flip(input, 0)


@op()
def roll(input: "Tensor", shifts: Any, dims: Any = None) -> "Tensor":
    """The elements moved by `shifts` along `dims`; those pushed out come in at the other end. Without `dims`, as if
    flat.

    Raises:
        ShapeError: there are not as many shifts as dims.
    """
    input = tensor_of(input, "roll")
    moves = (shifts,) if isinstance(shifts, int) else tuple(shifts)
    axes: tuple[int, ...] | None = None
    if dims is not None and dims != ():
        given = (dims,) if isinstance(dims, int) else tuple(dims)
        axes = tuple(axis_of(d, input._data.ndim, "roll") for d in given)
    if len(moves) != (1 if axes is None else len(axes)):
        raise ShapeError(f"roll: expected one shift for each dimension, got shifts={shifts} and dims={dims}")
    return apply1(Roll, input, moves, axes if input._data.ndim else None)


@op()
def rot90(input: "Tensor", k: int = 1, dims: Any = (0, 1)) -> "Tensor":
    """A copy turned by `k` quarter turns in the plane of two dimensions, from the first towards the second.

    Raises:
        ShapeError: not two different dimensions.
    """
    ndim = tensor_of(input, "rot90")._data.ndim
    axes = [axis_of(d, ndim, "rot90") for d in dims]
    if len(axes) != 2 or axes[0] == axes[1]:
        raise ShapeError(f"rot90: expected two different dimensions, got {list(dims)}")
    turns = k % 4
    if turns == 0:
        return clone(input)
    if turns == 2:
        return flip(input, *axes)
    turned = flip(input, axes[1] if turns == 1 else axes[0])
    return transpose(turned, axes[0], axes[1]).contiguous()


@op()
def repeat(input: "Tensor", *counts: Any, repeats: Any = None) -> "Tensor":
    """Copies side by side: `repeats` times along each dimension; extra numbers in front make new dimensions.

    Raises:
        ShapeError: there are fewer repeats than dimensions.
    """
    wanted = sizes(counts if repeats is None else (repeats,))
    x = tensor_of(input, "repeat")._data
    if len(wanted) < x.ndim or any(n < 0 for n in wanted):
        raise ShapeError(
            f"repeat: expected a count >= 0 for each of the {x.ndim} dimensions at least, got {list(wanted)}"
        )
    lead = len(wanted) - x.ndim
    t = reshape(input, (1,) * lead + x.shape) if lead else input
    return apply1(Repeat, t, wanted)


@op()
def tile(input: "Tensor", *counts: Any, dims: Any = None) -> "Tensor":
    """As `repeat`, with missing counts in front taken as 1."""
    wanted = sizes(counts if dims is None else (dims,))
    return repeat(input, (1,) * (tensor_of(input, "tile")._data.ndim - len(wanted)) + wanted)


@op()
def repeat_interleave(
    input: "Tensor", repeats: Any = None, dim: int | None = None, *, output_size: int | None = None
) -> "Tensor":
    """Each element repeated next to itself.

    Args:
        input: a tensor; alone (``repeat_interleave(counts)``) it is the repeats of ``arange(len(counts))``.
        repeats: a count, or an integer tensor with one count for each element along `dim`.
        dim: default: the flattened tensor.
        output_size: the sum of the counts, if known; taken on trust by torch and not needed here.

    Raises:
        ShapeError: the counts do not fit the dimension.
    """
    input = tensor_of(input, "repeat_interleave")
    if repeats is None:
        return _indices(input, input)
    if not isinstance(repeats, int):
        repeats = tensor_of(repeats, "repeat_interleave")
    if dim is None:
        input, dim = reshape(input, -1), 0
    axis = axis_of(dim, input._data.ndim, "repeat_interleave")
    n = input._data.shape[axis] if input._data.ndim else 1
    if isinstance(repeats, TensorBase) and repeats._data.size == 1:
        repeats = repeats._data.item()
    if isinstance(repeats, int):
        if repeats < 0:
            raise ShapeError(f"repeat_interleave: expected repeats >= 0, got {repeats}")
        shape = input._data.shape
        wide = expand(unsqueeze(input, axis + 1), (*shape[: axis + 1], repeats, *shape[axis + 1 :]))
        return reshape(wide, (*shape[:axis], n * repeats, *shape[axis + 1 :]))
    if tuple(repeats._data.shape) != (n,):
        raise ShapeError(
            f"repeat_interleave: expected {n} repeats for dimension {dim}, got shape {list(repeats._data.shape)}"
        )
    return input[(slice(None),) * axis + (_indices(repeats, input),)]


def _indices(counts: Any, like: Any) -> "Tensor":
    """0 counts[0] times, 1 counts[1] times, and so on."""
    xp = backend_of(like._data).xp
    return wrap(xp.repeat(xp.arange(counts._data.size), counts._data.tolist()))


@op(name="Tensor.unfold", method=False)  # nn.functional.unfold is another operation
def unfold_dimension(input: "Tensor", dimension: int, size: int, step: int) -> "Tensor":
    """A view of all windows of `size` elements along a dimension, `step` apart; a window's elements become the last
    dimension.

    Raises:
        ShapeError: the window is larger than the dimension, or the step is not positive.
    """
    x = input._data
    axis = axis_of(dimension, x.ndim, "unfold")
    n = x.shape[axis] if x.ndim else 1
    if not 0 <= size <= n or step <= 0:
        raise ShapeError(
            f"unfold: expected 0 <= size <= {n} (the dimension) and step > 0, got size={size}, step={step}"
        )
    t = input if x.ndim else unsqueeze(input, 0)
    result = apply1(Unfold, t, axis, size, step)
    return result if x.ndim else reshape(result, size)


@op()
def as_strided(input: "Tensor", size: Any, stride: Any, storage_offset: int | None = None) -> "Tensor":
    """A view of the elements at ``offset + sum(index * stride)`` of the tensor's own memory in row-major order.

    Args:
        input: a contiguous tensor; another is copied, because NumPy keeps no storage behind a view.
        size, stride: the view's, in elements.
        storage_offset: the first element.

    Raises:
        ShapeError: an element would lie outside the memory.
    """
    t = tensor_of(input, "as_strided").contiguous()
    offset = storage_offset or 0
    last = offset + sum([(n - 1) * s for n, s in zip(size, stride, strict=True)]) + 1
    if 0 not in tuple(size) and (last > t._data.size or offset < 0 or min(stride, default=0) < 0):
        raise ShapeError(
            f"as_strided: size {list(size)}, stride {list(stride)} and offset {offset} need {last} "
            f"elements, got {t._data.size}"
        )
    return apply1(AsStrided, t, tuple(size), tuple(stride), offset)
