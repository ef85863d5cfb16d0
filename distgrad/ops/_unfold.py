"""Sliding windows as columns, and back."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .._typing import Array, IntOrInts, Shape
from ..autograd._node import Node
from ..autograd._op import Op, apply1
from ..errors import ShapeError
from ._common import tensor_of
from ._conv import per_dimension
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


def _places(out: Shape, kernel: Shape, dilation: Shape, stride: Shape) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Each place of the window: its number, and the index of what it sees in padded images (N, C, H, W)."""
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            rows, columns = (
                slice(t * d, t * d + (m - 1) * s + 1, s)
                for t, d, m, s in zip((i, j), dilation, out, stride, strict=True)
            )
            yield i * kernel[1] + j, (slice(None), slice(None), rows, columns)


def _windows(size: Shape, kernel: Shape, dilation: Shape, padding: Shape, stride: Shape) -> Shape:
    return tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, d, p, s in zip(size, kernel, dilation, padding, stride, strict=True)
    )


class Unfold(Op):
    """``params = (size, kernel, dilation, padding, stride)``: (N, C, H, W) to (N, C * taps, windows)."""

    name = "Im2Col"

    @staticmethod
    def forward(
        ctx: Node, x: Array, size: Shape, kernel: Shape, dilation: Shape, padding: Shape, stride: Shape
    ) -> Array:
        n, c = x.shape[:2]
        out = _windows(size, kernel, dilation, padding, stride)
        padded = ctx.xp.pad(x, ((0, 0), (0, 0), *((p, p) for p in padding)))
        result = ctx.xp.empty((n, c, math.prod(kernel), *out), dtype=x.dtype)
        for number, place in _places(out, kernel, dilation, stride):
            result[:, :, number] = padded[place]
        return result.reshape(n, c * math.prod(kernel), math.prod(out))

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return xp.call(Fold, (g,), ctx.params)


class Fold(Op):
    """The adjoint of `Unfold`, with the same parameters."""

    name = "Col2Im"

    @staticmethod
    def forward(
        ctx: Node, g: Array, size: Shape, kernel: Shape, dilation: Shape, padding: Shape, stride: Shape
    ) -> Array:
        out, taps = _windows(size, kernel, dilation, padding, stride), math.prod(kernel)
        n, c = g.shape[0], g.shape[1] // taps
        columns = g.reshape(n, c, taps, *out)
        padded = ctx.xp.zeros((n, c, *(m + 2 * p for m, p in zip(size, padding, strict=True))), dtype=g.dtype)
        for number, place in _places(out, kernel, dilation, stride):
            padded[place] += columns[:, :, number]
        rows, cols = (slice(p, p + m) for m, p in zip(size, padding, strict=True))
        return padded[:, :, rows, cols]

    @staticmethod
    def backward(xp: Any, ctx: Node, h: Any) -> Any:
        return xp.call(Unfold, (h,), ctx.params)


def _four_settings(name: str, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> tuple[Shape, ...]:
    named = (("kernel_size", kernel_size), ("dilation", dilation), ("padding", padding), ("stride", stride))
    return tuple(per_dimension(value, 2, name, what) for what, value in named)


@op(method=False)
def unfold(
    input: "Tensor", kernel_size: IntOrInts, dilation: IntOrInts = 1, padding: IntOrInts = 0, stride: IntOrInts = 1
) -> "Tensor":
    """Each window as a column: (N, C, H, W) to (N, C * KH * KW, windows)."""
    x = tensor_of(input, "unfold")
    if x._data.ndim not in (3, 4):
        raise ShapeError(f"unfold: expected an input (N, C, H, W) or (C, H, W), got shape {list(x._data.shape)}")
    settings = _four_settings("unfold", kernel_size, dilation, padding, stride)
    if x._data.ndim == 3:
        return apply1(Unfold, x.unsqueeze(0), x._data.shape[1:], *settings).squeeze(0)
    if min(_windows(x._data.shape[2:], *settings)) < 1:
        raise ShapeError(f"unfold: the window {list(settings[0])} does not fit an input of shape {list(x._data.shape)}")
    return apply1(Unfold, x, x._data.shape[2:], *settings)


@op(method=False)
def fold(
    input: "Tensor",
    output_size: IntOrInts,
    kernel_size: IntOrInts,
    dilation: IntOrInts = 1,
    padding: IntOrInts = 0,
    stride: IntOrInts = 1,
) -> "Tensor":
    """The sum of columns at their windows: (N, C * KH * KW, windows) to (N, C, *output_size).

    Raises:
        ShapeError: the number of windows does not fit the output's size.
    """
    x = tensor_of(input, "fold")
    size = per_dimension(output_size, 2, "fold", "output_size")
    settings = _four_settings("fold", kernel_size, dilation, padding, stride)
    single = x._data.ndim == 2
    taps, windows = math.prod(settings[0]), math.prod(_windows(size, *settings))
    shape = x._data.shape
    if x._data.ndim not in (2, 3) or shape[-2] % taps or shape[-1] != windows:
        raise ShapeError(
            f"fold: expected an input (N, C * {taps}, {windows}) for windows {list(settings[0])} and an output "
            f"{list(size)}, got {list(shape)}"
        )
    result = apply1(Fold, x.unsqueeze(0) if single else x, size, *settings)
    return result.squeeze(0) if single else result
