"""Pooling over windows."""

import math
from typing import TYPE_CHECKING, Any

from .._typing import Array, IntOrInts, Shape
from ..autograd._base import wrap
from ..autograd._node import Node
from ..autograd._op import Op, apply, apply1
from ..backend import backend_of
from ..errors import ShapeError
from ._common import cast, tensor_of
from ._conv import per_dimension
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


class MaxPool(Op):
    """``params = (output size, kernel, stride, padding, dilation)``; outputs the maxima and the winners' flat indices
    or None.
    """

    @staticmethod
    def forward(ctx: Node, x: Array, out: Shape, *window: Shape) -> Array:
        best, ctx.aux = ctx.kernels.pool.max_forward(x, out, *window)
        return best

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return xp.call(MaxPoolGradient, (g,), (ctx.aux, ctx.shapes[0], *ctx.params[1:]))


class MaxPoolGradient(Op):
    """Puts each output's gradient at its winner: ``params = (winners, shape of the input, kernel, stride, padding,
    dilation)``.
    """

    @staticmethod
    def forward(ctx: Node, g: Array, winners: Array, shape: Shape, *window: Shape) -> Array:
        return ctx.kernels.pool.max_backward(g, winners, shape, *window)

    @staticmethod
    def backward(xp: Any, ctx: Node, h: Any) -> Any:
        winners, shape, *window = ctx.params
        lead, plane = shape[:2], math.prod(shape[2:])
        places = ctx.kernels.pool.max_indices(winners, shape[2:], *window).reshape(*lead, -1)
        picked = xp.take_along_axis(xp.reshape(h, (*lead, plane)), places, axis=2)
        return xp.reshape(picked, winners.shape)


class WindowSum(Op):
    """``params = (output size, kernel, stride, padding)``."""

    name = "AvgPool"

    @staticmethod
    def forward(ctx: Node, x: Array, out: Shape, kernel: Shape, stride: Shape, padding: Shape) -> Array:
        return ctx.kernels.pool.sum_forward(x, out, kernel, stride, padding)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return xp.call(WindowSumGradient, (g,), (ctx.shapes[0], *ctx.params[1:]))


class WindowSumGradient(Op):
    """The adjoint of `WindowSum`: ``params = (shape of the input, kernel, stride, padding)``."""

    name = "AvgPoolBackward"

    @staticmethod
    def forward(ctx: Node, g: Array, shape: Shape, kernel: Shape, stride: Shape, padding: Shape) -> Array:
        return ctx.kernels.pool.sum_backward(g, shape, kernel, stride, padding)

    @staticmethod
    def backward(xp: Any, ctx: Node, h: Any) -> Any:
        return xp.call(WindowSum, (h,), (ctx.shapes[0][2:], *ctx.params[1:]))


def _output_size(
    name: str, x: Any, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape, ceil_mode: bool
) -> Shape:
    rank = len(kernel)
    sizes = []
    for n, k, s, p, d in zip(x._data.shape[-rank:], kernel, stride, padding, dilation, strict=True):
        if not 0 <= p <= k // 2 or s < 1 or k < 1:
            raise ValueError(
                f"{name}: expected padding of at most half the kernel size, and a stride of 1 or more, got kernel "
                f"{list(kernel)}, "
                f"padding {list(padding)}, stride {list(stride)}"
            )
        free = n + 2 * p - d * (k - 1) - 1
        out = (-(-free // s) if ceil_mode else free // s) + 1
        if ceil_mode and (out - 1) * s >= n + p:  # the last window must begin inside the input or the padding before it
            out -= 1
        if out < 1:
            raise ShapeError(
                f"{name}: the window {list(kernel)} does not fit an input of shape {list(x._data.shape)}; use a "
                "smaller window"
            )
        sizes.append(out)
    return tuple(sizes)


def _batched(name: str, input: Any, rank: int) -> tuple[Any, bool]:
    """The input with a batch dimension, and whether it was added."""
    x = tensor_of(input, name)
    if x._data.ndim == rank + 1:
        return x.unsqueeze(0), True
    if x._data.ndim != rank + 2:
        raise ShapeError(
            f"{name}: expected an input of {rank + 2} dimensions, or {rank + 1} without a batch, got "
            f"{list(x._data.shape)}"
        )
    return x, False


def _max_pool(
    name: str,
    rank: int,
    input: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    indices: bool,
) -> Any:
    x, single = _batched(name, input, rank)
    kernel = per_dimension(kernel_size, rank, name, "kernel_size")
    steps = kernel if stride is None or stride == [] else per_dimension(stride, rank, name, "stride")
    pads, spread = per_dimension(padding, rank, name, "padding"), per_dimension(dilation, rank, name, "dilation")
    window = (kernel, steps, pads, spread)
    result = apply1(MaxPool, x, _output_size(name, x, *window, ceil_mode), *window)
    if not indices:
        return result.squeeze(0) if single else result
    found = _indices(x, result, window)
    return (result.squeeze(0), found.squeeze(0)) if single else (result, found)


def _indices(x: Any, result: Any, window: tuple[Shape, Shape, Shape, Shape]) -> Any:
    pool = backend_of(x._data).kernels.pool
    _, winners = pool.max_forward(x._data, result._data.shape[2:], *window)
    return wrap(pool.max_indices(winners, x._data.shape[2:], *window))


@op(method=False)
def max_pool1d(
    input: "Tensor",
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: IntOrInts = 0,
    dilation: IntOrInts = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of each window: input (N, C, L) or (C, L); else as `max_pool2d`."""
    return _max_pool("max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@op(method=False)
def max_pool2d(
    input: "Tensor",
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: IntOrInts = 0,
    dilation: IntOrInts = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of each window; the gradient goes to the first of equal maxima.

    Args:
        input: (N, C, H, W) or (C, H, W).
        kernel_size: the window, a number or one for each dimension.
        stride: the step between windows; the window's size by default.
        padding: rows of -inf on both sides, at most half the window.
        dilation: the step inside a window.
        ceil_mode: keep a last window that is partly outside.
        return_indices: also return each maximum's flat position in its input plane.

    Raises:
        ShapeError: the window does not fit the input.
    """
    return _max_pool("max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@op(method=False)
def max_pool3d(
    input: "Tensor",
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: IntOrInts = 0,
    dilation: IntOrInts = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of each window: input (N, C, D, H, W) or (C, D, H, W); else as `max_pool2d`."""
    return _max_pool("max_pool3d", 3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def _divisors(x: Any, out: Shape, kernel: Shape, stride: Shape, padding: Shape, count_include_pad: bool) -> Any:
    """What each window's sum is divided by: a number where all windows agree, else an array of shape `out`."""
    xp = backend_of(x._data).xp
    result: Any = 1
    for axis, (n, m, k, s, p) in enumerate(zip(x._data.shape[2:], out, kernel, stride, padding, strict=True)):
        start = xp.arange(m) * s - p
        stop = xp.minimum(start + k, n + p)
        if not count_include_pad:
            start, stop = xp.maximum(start, 0), xp.minimum(stop, n)
        result = result * (stop - start).reshape(-1, *(1,) * (len(out) - axis - 1))
    return result.astype(x._data.dtype)


def _avg_pool(
    name: str,
    rank: int,
    input: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: Any,
) -> "Tensor":
    x, single = _batched(name, input, rank)
    kernel = per_dimension(kernel_size, rank, name, "kernel_size")
    steps = kernel if stride is None or stride == [] else per_dimension(stride, rank, name, "stride")
    pads = per_dimension(padding, rank, name, "padding")
    out = _output_size(name, x, kernel, steps, pads, (1,) * rank, ceil_mode)
    total = apply1(WindowSum, x, out, kernel, steps, pads)
    if divisor is not None:
        if divisor == 0:
            raise ValueError(f"{name}: expected divisor_override not to be 0")
        result = total / divisor
    elif not ceil_mode and (count_include_pad or not any(pads)):
        result = total * (1 / math.prod(kernel))
    else:
        result = total / wrap(_divisors(x, out, kernel, steps, pads, count_include_pad))
    result = cast(result, x._data.dtype)  # integers stay integers
    return result.squeeze(0) if single else result


@op(method=False)
def avg_pool1d(
    input: "Tensor",
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: IntOrInts = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> "Tensor":
    """The mean of each window: input (N, C, L) or (C, L); else as `avg_pool2d`."""
    return _avg_pool("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


@op(method=False)
def avg_pool2d(
    input: "Tensor",
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: IntOrInts = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> "Tensor":
    """The mean of each window.

    Args:
        input: (N, C, H, W) or (C, H, W).
        kernel_size: the window, a number or one for each dimension.
        stride: the step between windows; the window's size by default.
        padding: zeros on both sides, at most half the window.
        ceil_mode: keep a last window that is partly outside.
        count_include_pad: count the padding's zeros in the mean.
        divisor_override: divide each sum by this instead.

    Raises:
        ShapeError: the window does not fit the input.
    """
    return _avg_pool(
        "avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


@op(method=False)
def avg_pool3d(
    input: "Tensor",
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: IntOrInts = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> "Tensor":
    """The mean of each window: input (N, C, D, H, W) or (C, D, H, W); else as `avg_pool2d`."""
    return _avg_pool(
        "avg_pool3d", 3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def _adaptive_size(name: str, x: Any, output_size: Any, rank: int) -> Shape:
    given = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * rank
    if len(given) != rank:
        raise ShapeError(f"{name}: expected output_size to be one number or {rank}, got {list(given)}")
    return tuple(n if m is None else int(m) for m, n in zip(given, x._data.shape[2:], strict=True))


def _bounds(n: int, m: int) -> list[tuple[int, int]]:
    """The m windows, of nearly equal size, that cover n elements."""
    return [(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]


def _adaptive_avg(name: str, rank: int, input: Any, output_size: Any) -> "Tensor":
    x, single = _batched(name, input, rank)
    size, out = x._data.shape[2:], _adaptive_size(name, x, output_size, rank)
    if out == (1,) * rank:
        result = x.mean(tuple(range(2, rank + 2)), keepdim=True)
    elif all(m and n % m == 0 for n, m in zip(size, out, strict=True)):
        kernel = tuple(n // m for n, m in zip(size, out, strict=True))
        result = apply1(WindowSum, x, out, kernel, kernel, (0,) * rank) * (1 / math.prod(kernel))
    else:
        result = x
        for axis, (n, m) in enumerate(zip(size, out, strict=True), start=2):
            result = (result.transpose(axis, -1) @ _averages(x, n, m)).transpose(axis, -1)
    return result.squeeze(0) if single else result  # type: ignore[no-any-return]


def _averages(x: Any, n: int, m: int) -> Any:
    """The matrix (n, m) that takes the mean of each window."""
    matrix = backend_of(x._data).xp.zeros((n, m), dtype=x._data.dtype)
    for i, (start, stop) in enumerate(_bounds(n, m)):
        matrix[start:stop, i] = 1 / (stop - start)
    return wrap(matrix)


@op(method=False)
def adaptive_avg_pool1d(input: "Tensor", output_size: Any) -> "Tensor":
    """Means of windows chosen so that the output has a given size: input (N, C, L) or (C, L)."""
    return _adaptive_avg("adaptive_avg_pool1d", 1, input, output_size)


@op(method=False)
def adaptive_avg_pool2d(input: "Tensor", output_size: Any) -> "Tensor":
    """Means of windows chosen so that the output has a given size.

    Args:
        input: (N, C, H, W) or (C, H, W).
        output_size: a number, or one for each dimension; None keeps the input's.
    """
    return _adaptive_avg("adaptive_avg_pool2d", 2, input, output_size)


@op(method=False)
def adaptive_avg_pool3d(input: "Tensor", output_size: Any) -> "Tensor":
    """Means of windows chosen so that the output has a given size: input (N, C, D, H, W) or (C, D, H, W)."""
    return _adaptive_avg("adaptive_avg_pool3d", 3, input, output_size)


class AdaptiveMax(Op):
    """Maxima of uneven windows: ``params = (flat positions,)``, (outputs, window) with the last position repeated where
    a window is short.
    """

    @staticmethod
    def forward(ctx: Node, x: Array, places: Array) -> tuple[Array, Array]:
        xp = ctx.xp
        flat = x.reshape(*x.shape[:2], math.prod(x.shape[2:]))
        windows = flat[:, :, places]  # (N, C, outputs, window)
        winners = xp.argmax(windows, axis=3)
        ctx.aux = places[xp.arange(len(places)), winners]  # (N, C, outputs)
        return xp.take_along_axis(flat, ctx.aux, 2), ctx.aux

    non_differentiable = (1,)

    @staticmethod
    def backward(xp: Any, ctx: Node, grads: Any) -> Any:
        shape = ctx.shapes[0]
        flat = (*shape[:2], math.prod(shape[2:]))
        return xp.reshape(xp.put_along_axis(grads[0], ctx.aux, flat, axis=2), shape)


def _adaptive_max(name: str, rank: int, input: Any, output_size: Any, indices: bool) -> Any:
    x, single = _batched(name, input, rank)
    size, out = x._data.shape[2:], _adaptive_size(name, x, output_size, rank)
    xp = backend_of(x._data).xp
    places = xp.zeros((1, 1), dtype="int64")
    for n, m in zip(size, out, strict=True):
        bounds = _bounds(n, m)
        width = max((b - a for a, b in bounds), default=0)
        line = xp.asarray([[min(a + i, b - 1) for i in range(width)] for a, b in bounds], dtype="int64").reshape(
            m, width
        )
        places = (places[:, None, :, None] * n + line[None, :, None, :]).reshape(len(places) * m, -1)
    result, found = apply(AdaptiveMax, (x,), (places,))
    shape = (*x._data.shape[:2], *out)[1 if single else 0 :]
    result, found = result.reshape(shape), found.reshape(shape)
    return (result, found) if indices else result


@op(method=False)
def adaptive_max_pool1d(input: "Tensor", output_size: Any, return_indices: bool = False) -> Any:
    """Maxima of windows chosen so that the output has a given size: input (N, C, L) or (C, L)."""
    return _adaptive_max("adaptive_max_pool1d", 1, input, output_size, return_indices)


@op(method=False)
def adaptive_max_pool2d(input: "Tensor", output_size: Any, return_indices: bool = False) -> Any:
    """Maxima of windows chosen so that the output has a given size.

    Args:
        input: (N, C, H, W) or (C, H, W).
        output_size: a number, or one for each dimension; None keeps the input's.
        return_indices: also return each maximum's flat position in its input plane.
    """
    return _adaptive_max("adaptive_max_pool2d", 2, input, output_size, return_indices)


@op(method=False)
def adaptive_max_pool3d(input: "Tensor", output_size: Any, return_indices: bool = False) -> Any:
    """Maxima of windows chosen so that the output has a given size: input (N, C, D, H, W) or (C, D, H, W)."""
    return _adaptive_max("adaptive_max_pool3d", 3, input, output_size, return_indices)
