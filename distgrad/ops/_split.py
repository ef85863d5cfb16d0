"""Tensors taken apart: views of their parts."""

from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._base import TensorBase
from ..autograd._node import Node
from ..autograd._op import Op, apply, apply1
from ..errors import ShapeError
from ._common import axis_of, tensor_of
from ._indexing import Slice
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


class Split(Op):
    """``params = (lengths, axis)``."""

    view = True

    @staticmethod
    def forward(ctx: Node, x: Array, lengths: tuple[int, ...], axis: int) -> Any:
        lead = (slice(None),) * axis
        parts, start = [], 0
        for n in lengths:
            parts.append(x[(*lead, slice(start, start + n))])
            start += n
        return tuple(parts)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        lengths, axis = ctx.params
        (shape,) = ctx.shapes
        like = next(part for part in g if part is not None)
        parts = [
            xp.zeros((*shape[:axis], n, *shape[axis + 1 :]), like) if part is None else part
            for part, n in zip(g, lengths, strict=True)
        ]
        return xp.concat(parts, axis=axis)

    @staticmethod
    def backward_fast(xp: Any, ctx: Node, g: Any) -> Any:
        """Without a copy where an operation has laid the gradients side by side, as attention does."""
        lengths, axis = ctx.params
        if g[0] is not None and _lie_apart(ctx, g, [n * g[0].strides[axis] for n in lengths[:-1]]):
            return ctx.xp.lib.stride_tricks.as_strided(g[0], ctx.shapes[0], g[0].strides)
        return Split.backward(xp, ctx, g)


class Unbind(Op):
    """``params = (axis,)``."""

    view = True

    @staticmethod
    def forward(ctx: Node, x: Array, axis: int) -> Any:
        lead = (slice(None),) * axis
        return tuple([x[(*lead, i, ...)] for i in range(x.shape[axis])])

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        like = next(part for part in g if part is not None)
        return xp.stack([xp.zeros(like.shape, like) if part is None else part for part in g], axis=ctx.params[0])

    @staticmethod
    def backward_fast(xp: Any, ctx: Node, g: Any) -> Any:
        """As `Split.backward_fast`."""
        (axis,), first = ctx.params, g[0]
        if len(g) > 1 and first is not None and g[1] is not None:
            step = ctx.backend.address(g[1]) - ctx.backend.address(first)
            if step > 0 and _lie_apart(ctx, g, [step] * (len(g) - 1)):
                strides = (*first.strides[:axis], step, *first.strides[axis:])
                return ctx.xp.lib.stride_tricks.as_strided(first, ctx.shapes[0], strides)
        return Unbind.backward(xp, ctx, g)


def _lie_apart(ctx: Node, parts: Any, steps: list[int]) -> bool:
    """Whether all are views of one memory, alike but for so many bytes from each to the next."""
    first = parts[0]
    place = ctx.backend.address(first)
    for part, step in zip(parts[1:], steps, strict=True):
        place += step
        if part is None or part.base is None or part.base is not first.base or part.strides != first.strides:
            return False
        if ctx.backend.address(part) != place:
            return False
    return True


def _check(input: Any, dim: int, name: str) -> tuple[int, int]:
    """The axis and its size."""
    shape = tensor_of(input, name)._data.shape
    if not shape:
        raise ShapeError(f"{name}: expected a tensor of at least 1 dimension, got 0")
    axis = axis_of(dim, len(shape), name)
    return axis, shape[axis]


@op()
def split(input: "Tensor", split_size: Any, dim: int = 0) -> tuple["Tensor", ...]:
    """Views of consecutive parts.

    Args:
        input: a tensor of at least one dimension.
        split_size: the size of each part (the last may be smaller), or a list of the sizes.
        dim: the dimension that is divided.

    Raises:
        ShapeError: the sizes do not add up to the dimension's.
    """
    axis, n = _check(input, dim, "split")
    if isinstance(split_size, int):
        if split_size < 0 or (split_size == 0 and n):
            raise ShapeError(f"split: expected split_size > 0, got {split_size} for a dimension of size {n}")
        count = max(-(-n // split_size), 1) if split_size else 1
        lengths = tuple([min(split_size, n - i * split_size) for i in range(count)])
    else:
        lengths = tuple([int(s) for s in split_size])
        if sum(lengths) != n or any(s < 0 for s in lengths):
            raise ShapeError(
                f"split: expected split sizes that sum to {n} (the size of dimension {dim}), got {list(lengths)}"
            )
    return apply(Split, (input,), (lengths, axis))  # type: ignore[no-any-return]


@op(method=False)
def split_with_sizes(input: "Tensor", split_sizes: Any, dim: int = 0) -> tuple["Tensor", ...]:
    """`split` by a list of sizes."""
    return split(input, list(split_sizes), dim)


@op()
def chunk(input: "Tensor", chunks: int, dim: int = 0) -> tuple["Tensor", ...]:
    """Views of at most `chunks` parts of equal size; the last may be smaller, and there may be fewer of them.

    Raises:
        ShapeError: `chunks` is not positive.
    """
    axis, n = _check(input, dim, "chunk")
    if chunks <= 0:
        raise ShapeError(f"chunk: expected chunks > 0, got {chunks}")
    size = -(-n // chunks)
    if size == 0:
        return split(input, [0] * chunks, axis)
    return split(input, size, axis)


@op()
def tensor_split(input: "Tensor", indices_or_sections: Any, dim: int = 0) -> tuple["Tensor", ...]:
    """Views of parts: so many of nearly equal size, or cut before the given indices."""
    axis, n = _check(input, dim, "tensor_split")
    cuts = indices_or_sections._data.tolist() if isinstance(indices_or_sections, TensorBase) else indices_or_sections
    if isinstance(cuts, int):
        if cuts <= 0:
            raise ShapeError(f"tensor_split: expected sections > 0, got {cuts}")
        return split(input, [n // cuts + (i < n % cuts) for i in range(cuts)], axis)
    ends = [0, *cuts, n]
    lead = (slice(None),) * axis
    pairs = [(ends[i], ends[i + 1]) for i in range(len(ends) - 1)]
    return tuple(
        [apply1(Slice, input, (*lead, slice(a, b if i < len(cuts) else None), ...)) for i, (a, b) in enumerate(pairs)]
    )


def _xsplit(input: Any, parts: Any, axis: int, name: str, least: int) -> Any:
    input = tensor_of(input, name)
    if input._data.ndim < least:
        raise ShapeError(f"{name}: expected a tensor of at least {least} dimension(s), got {input._data.ndim}")
    if isinstance(parts, int) and (parts <= 0 or input._data.shape[axis] % parts):
        raise ShapeError(
            f"{name}: expected a divisor of the size {input._data.shape[axis]} of dimension {axis}, got {parts}"
        )
    return tensor_split(input, parts, axis)


@op()
def hsplit(input: "Tensor", indices_or_sections: Any) -> tuple["Tensor", ...]:
    """`tensor_split` along dimension 1 (0 for vectors)."""
    return _xsplit(input, indices_or_sections, 0 if tensor_of(input, "hsplit")._data.ndim == 1 else 1, "hsplit", 1)  # type: ignore[no-any-return]


@op()
def vsplit(input: "Tensor", indices_or_sections: Any) -> tuple["Tensor", ...]:
    """`tensor_split` along dimension 0."""
    return _xsplit(input, indices_or_sections, 0, "vsplit", 2)  # type: ignore[no-any-return]


@op()
def dsplit(input: "Tensor", indices_or_sections: Any) -> tuple["Tensor", ...]:
    """`tensor_split` along dimension 2."""
    return _xsplit(input, indices_or_sections, 2, "dsplit", 3)  # type: ignore[no-any-return]


@op()
def unbind(input: "Tensor", dim: int = 0) -> tuple["Tensor", ...]:
    """Views of all slices along a dimension, without it."""
    axis, n = _check(input, dim, "unbind")
    return apply(Unbind, (input,), (axis,)) if n else ()


@op()
def narrow(input: "Tensor", dim: int, start: Any, length: int) -> "Tensor":
    """A view of `length` elements from `start` on along a dimension.

    Raises:
        ShapeError: they go past the end.
    """
    axis, n = _check(input, dim, "narrow")
    first = int(start)
    if not -n <= first <= n or length < 0 or (first + n if first < 0 else first) + length > n:
        raise ShapeError(f"narrow: start ({first}) + length ({length}) exceeds the size {n} of dimension {dim}")
    first += n if first < 0 else 0
    return apply1(Slice, input, (*(slice(None),) * axis, slice(first, first + length), ...))


@op()
def select(input: "Tensor", dim: int, index: Any) -> "Tensor":
    """A view of one slice along a dimension, without it.

    Raises:
        IndexError: the index is out of range.
    """
    axis, n = _check(input, dim, "select")
    if not -n <= int(index) < n:
        raise IndexError(f"select: index {int(index)} is out of bounds for dimension {dim} with size {n}")
    return apply1(Slice, input, (*(slice(None),) * axis, int(index), ...))
