"""Padding: more elements around a tensor."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._node import Node
from ..autograd._op import Op, apply1
from ..errors import ShapeError
from ._common import tensor_of
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor

Pads = tuple[tuple[int, int], ...]  # before and after, for each dimension of the tensor


class PadConstant(Op):
    """``params = (pads, value)``; negative ones crop."""

    name = "ConstantPadNd"

    @staticmethod
    def forward(ctx: Node, x: Array, pads: Pads, value: float) -> Array:
        shape = tuple([n + a + b for n, (a, b) in zip(x.shape, pads, strict=True)])
        result = ctx.xp.zeros(shape, x.dtype) if value == 0 else ctx.xp.full(shape, value, x.dtype)
        inside, kept = _overlap(x.shape, pads)
        result[inside] = x[kept]
        return result

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        pads, _ = ctx.params
        return xp.call(PadConstant, (g,), (tuple([(-a, -b) for a, b in pads]), 0))


def _overlap(shape: tuple[int, ...], pads: Pads) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where the input's elements are in the result, and which of them are kept."""
    inside = tuple(
        [slice(max(a, 0), max(a, 0) + n + min(a, 0) + min(b, 0)) for n, (a, b) in zip(shape, pads, strict=True)]
    )
    kept = tuple([slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(shape, pads, strict=True)])
    return inside, kept


def _borders(mode: str, n: int, before: int, after: int) -> list[tuple[slice, slice, int]]:
    """For an axis of `n` elements that lie at `before`: (where it is written, what it is copied from, direction)."""
    end = before + n
    if mode == "reflect":
        return [
            (slice(0, before), slice(before + 1, 2 * before + 1), -1),
            (slice(end, end + after), slice(end - 1 - after, end - 1), -1),
        ]
    if mode == "circular":
        return [
            (slice(0, before), slice(n, n + before), 1),
            (slice(end, end + after), slice(before, before + after), 1),
        ]
    return [(slice(0, before), slice(before, before + 1), 1), (slice(end, end + after), slice(end - 1, end), 1)]


class PadBorder(Op):
    """``params = (pads, mode)``: pads >= 0; the mode is reflect, replicate or circular."""

    name = "Pad"

    @staticmethod
    def forward(ctx: Node, x: Array, pads: Pads, mode: str) -> Array:
        result = ctx.xp.empty(tuple([n + a + b for n, (a, b) in zip(x.shape, pads, strict=True)]), x.dtype)
        result[_overlap(x.shape, pads)[0]] = x
        for axis, (before, after) in enumerate(pads):
            # The axes before this one are complete, those after it are not: copy only where there is something.
            lead = (slice(None),) * axis
            rest = tuple([slice(a, a + n) for n, (a, _) in zip(x.shape[axis + 1 :], pads[axis + 1 :], strict=True)])
            for target, source, step in _borders(mode, x.shape[axis], before, after):
                if target.start != target.stop:
                    result[(*lead, target, *rest)] = result[(*lead, source, *rest)][(*lead, slice(None, None, step))]
        return result

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return xp.call(FoldBorder, (g,), (ctx.shapes[0], *ctx.params))


class FoldBorder(Op):
    """The adjoint of `PadBorder`: the borders added to what they were copied from. ``params = (shape, pads, mode)``."""

    @staticmethod
    def forward(ctx: Node, g: Array, shape: Any, pads: Pads, mode: str) -> Array:
        total = ctx.xp.array(g)
        for axis in range(len(shape) - 1, -1, -1):
            before, after = pads[axis]
            lead = (slice(None),) * axis
            for target, source, step in _borders(mode, shape[axis], before, after):
                part = total[(*lead, target)][(*lead, slice(None, None, step))]
                if target.start != target.stop:
                    wide = source.stop - source.start != target.stop - target.start  # replicate: many copies of one
                    total[(*lead, source)] += part.sum(axis=axis, keepdims=True) if wide else part
            total = total[(*lead, slice(before, before + shape[axis]))]
        return ctx.xp.ascontiguousarray(total)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return xp.call(PadBorder, (g,), ctx.params[1:])


def _pairs(pad: Sequence[int], ndim: int) -> Pads:
    """torch's flat list, last dimension first, as one pair for each dimension."""
    if len(pad) % 2 or len(pad) // 2 > ndim:
        raise ShapeError(
            f"pad: expected 2 numbers for each of at most {ndim} dimensions, the last one first, got {len(pad)} numbers"
        )
    given = [(int(pad[i]), int(pad[i + 1])) for i in range(0, len(pad), 2)]
    return ((0, 0),) * (ndim - len(given)) + tuple(given[::-1])


def _check_borders(shape: tuple[int, ...], pads: Pads, mode: str) -> None:
    for axis, (n, (a, b)) in enumerate(zip(shape, pads, strict=True)):
        if a <= 0 and b <= 0:
            continue
        limit = n - 1 if mode == "reflect" else n
        if mode != "replicate" and max(a, b) > limit:
            raise ShapeError(
                f"pad: {mode} padding of dimension {axis} (size {n}) must be at most {limit}, got {(a, b)}"
            )
        if n == 0:
            raise ShapeError(f"pad: dimension {axis} has no elements to pad with, got shape {list(shape)}")


@op(method=False)
def pad(input: "Tensor", pad: Sequence[int], mode: str = "constant", value: float | None = None) -> "Tensor":
    """More elements around a tensor.

    Args:
        input: a tensor.
        pad: for the last dimension, how many before and after it, then for the one before it, and so on; negative
            numbers take elements away.
        mode: ``"constant"``; ``"reflect"`` (mirrored at the edge, which is not repeated), ``"replicate"`` (the edge
            again and again), ``"circular"`` (from the other end).
        value: the constant, 0 by default.

    Raises:
        ShapeError: there are more pairs than dimensions, or not enough elements to reflect.
        ValueError: an unknown mode, or a value with a mode other than constant.
    """
    x = tensor_of(input, "pad")._data
    pads = _pairs(pad, x.ndim)
    if mode == "constant":
        return apply1(PadConstant, input, pads, 0 if value is None else value)
    if mode not in ("reflect", "replicate", "circular"):
        raise ValueError(f"pad: expected the mode constant, reflect, replicate or circular, got {mode!r}")
    if value:
        raise ValueError(f"pad: the mode {mode!r} takes no value, got {value}")
    _check_borders(x.shape, pads, mode)
    crop = tuple([(min(a, 0), min(b, 0)) for a, b in pads])
    if not any(a or b for a, b in crop):
        return pad_border(input, pads, mode)
    if mode == "circular":  # torch wraps what is left
        return pad_border(apply1(PadConstant, input, crop, 0), pads, mode)
    return apply1(PadConstant, pad_border(input, pads, mode), crop, 0)


def pad_border(t: "Tensor", pads: Pads, mode: str) -> "Tensor":
    """The positive part of `pads`."""
    return apply1(PadBorder, t, tuple([(max(a, 0), max(b, 0)) for a, b in pads]), mode)
