"""Convolution in any number of spatial dimensions: windows copied block by block into rows, and one matrix product a
block.

Inside, everything is channels-last: a row then consists of long contiguous runs. Results are (N, C, ...) views of
channels-last memory, so a chain of layers stays in that layout. The gradients use the same means: that of the input is
a convolution of the output's gradient with flipped weights where the stride is 1, else the adjoint of the copy.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..._typing import Array, Shape
from ._channels import add_to_rows, channel_sums, channels_first, channels_last
from ._products import add_product_of_columns, product_of_rows, zero_total
from ._scratch import BLOCK, scratch

__all__ = ["backward", "channel_sums", "forward", "grad_input", "grad_weight"]


FEW = 4  # channels up to which a copy runs along the image's rows, not along the channels


class _Plan(NamedTuple):
    """What is convolved: sizes without batch and channels."""

    size: Shape  # of the input
    kernel: Shape
    out: Shape
    stride: Shape
    padding: tuple[tuple[int, int], ...]
    dilation: Shape
    groups: int

    @property
    def padded(self) -> Shape:
        """The sizes with padding; a negative one behind only means that the last rows are not looked at."""
        return tuple(n + a + max(b, 0) for n, (a, b) in zip(self.size, self.padding, strict=True))

    @property
    def taps(self) -> int:
        return math.prod(self.kernel)

    @property
    def pointwise(self) -> bool:
        """Whether a row is a pixel itself."""
        return self.taps == 1


def _plan(size: Shape, kernel: Shape, stride: Shape, padding: Any, dilation: Shape, groups: int) -> _Plan:
    out = tuple(
        (n + a + b - d * (k - 1) - 1) // s + 1
        for n, k, s, (a, b), d in zip(size, kernel, stride, padding, dilation, strict=True)
    )
    return _Plan(size, kernel, out, stride, padding, dilation, groups)


class _Block(NamedTuple):
    """Images [first, last) and of each the outputs [top, bottom) along the first spatial axis."""

    first: int
    last: int
    top: int
    bottom: int


def _blocks(images: int, plan: _Plan, row: int) -> Iterator[_Block]:
    """Blocks whose copied windows stay in cache; `row` is the number of elements copied for one output."""
    image = max(math.prod(plan.out) * row, 1)
    step = max(1, BLOCK // image)
    parts = min(-(-image // (2 * BLOCK)), max(plan.out[0], 1))  # of one image, of nearly equal size
    lines = -(-plan.out[0] // parts)
    for first in range(0, images, step):
        for top in range(0, plan.out[0], lines):
            yield _Block(first, min(first + step, images), top, min(top + lines, plan.out[0]))


def _inner(padding: tuple[tuple[int, int], ...], size: Shape) -> tuple[Any, ...]:
    """The index of an image inside its padded form, without the batch axis."""
    return tuple(slice(a, a + n) for (a, _), n in zip(padding, size, strict=True))


def _windows(images: Array, plan: _Plan) -> Array:
    """A view (images, *outputs, *kernel, C) of padded images."""
    n, *spatial, c = images.strides
    steps = [s * k for s, k in zip(spatial, plan.stride, strict=True)]
    taps = [s * d for s, d in zip(spatial, plan.dilation, strict=True)]
    return as_strided(images, (len(images), *plan.out, *plan.kernel, images.shape[-1]), (n, *steps, *taps, c))


class _Source:
    """The windows of x (N, ..., C), whose images are padded into scratch memory when a block asks for them.

    Args:
        x: the images.
        plan: the convolution.
        row: the number of elements that are copied for one output.
    """

    def __init__(self, x: Array, plan: _Plan, row: int) -> None:
        self.x = x
        self.plan = plan
        # With few channels, long runs lie along the last spatial axis: behind the views all is channels-first then.
        self.planar = x.shape[-1] <= FEW and plan.stride[-1] == 1 and plan.groups == 1 and plan.taps > 1
        padded = any(map(any, plan.padding))
        self.buffer: Array | None = None
        self.held = -1
        if not padded and (channels_first(x) if self.planar else x).flags.c_contiguous:
            self.windows = _windows(x, plan)
            return
        images = min(len(x), max(1, BLOCK // max(math.prod(plan.out) * row, 1)))
        if self.planar:
            self.buffer = channels_last(scratch("conv.padded", (images, x.shape[-1], *plan.padded), x.dtype))
        else:
            self.buffer = scratch("conv.padded", (images, *plan.padded, x.shape[-1]), x.dtype)
        if padded:
            self.buffer.fill(0)
        self.inside = self.buffer[(slice(None), *_inner(plan.padding, plan.size))]
        self.windows = _windows(self.buffer, plan)

    def __getitem__(self, block: _Block) -> Array:
        """The windows of one block: a view (images, lines, ..., *kernel, C)."""
        if self.buffer is None:
            return self.windows[block.first : block.last, block.top : block.bottom]
        count = block.last - block.first
        if self.held != block.first:
            np.copyto(self.inside[:count], self.x[block.first : block.last])
            self.held = block.first
        return self.windows[:count, block.top : block.bottom]


def _rows(source: _Source, plan: _Plan, block: _Block, group: slice | None, row: int) -> Array:
    """The windows of one block and group as a matrix (outputs, row) that BLAS takes as it is."""
    windows = source[block]
    if source.planar:
        rank = len(plan.kernel)
        turned = windows.transpose(*range(rank + 1, 2 * rank + 2), *range(rank + 1))  # (*kernel, C, images, *outputs)
        columns = scratch("conv.rows", turned.shape, windows.dtype)
        np.copyto(columns, turned)
        return columns.reshape(row, -1).T
    if group is not None:
        windows = windows[..., group]
    if plan.pointwise and windows.flags.c_contiguous:
        return windows.reshape(-1, row)
    rows = scratch("conv.rows", windows.shape, windows.dtype)
    np.copyto(rows, windows)
    return rows.reshape(-1, row)


def _weight_rows(w: Array) -> Array:
    """(O, C, *kernel) as (O, taps * C)."""
    return channels_last(w).reshape(w.shape[0], -1)


def _weight_columns(w: Array) -> Array:
    """(O, C, *kernel) as a contiguous (taps * C, O)."""
    return np.ascontiguousarray(_weight_rows(w).T)


def _wide(*arrays: Array) -> list[Array]:
    """Half precision as float32, in which BLAS works; the rest as it is."""
    return [a.astype(np.float32) if a.dtype.itemsize == 2 and a.dtype.kind in "fV" else a for a in arrays]


def _groups(plan: _Plan, channels: int) -> list[slice | None]:
    """The channels of each group; None for all of them."""
    if plan.groups == 1:
        return [None]
    width = channels // plan.groups
    return [slice(g * width, (g + 1) * width) for g in range(plan.groups)]


def _part(x: Array, group: slice | None) -> Array:
    return x if group is None else x[:, group]


def forward(
    x: Array,
    w: Array,
    bias: Array | None,
    stride: Shape,
    padding: tuple[tuple[int, int], ...],
    dilation: Shape,
    groups: int,
) -> Array:
    """x (N, C, ...) with w (O, C / groups, *kernel): (N, O, ...), in channels-last memory."""
    dtype = x.dtype
    x, w = _wide(x, w)
    plan = _plan(x.shape[2:], w.shape[2:], stride, padding, dilation, groups)
    last = channels_last(x)
    n, channels, outputs = x.shape[0], x.shape[1] // groups, w.shape[0]
    out = np.empty((n, *plan.out, outputs), dtype=x.dtype)
    if channels == 1 and groups > 1:
        _depthwise(last, w, plan, out)
    else:
        _convolve(last, _weight_columns(w), plan, out)
    if bias is not None:
        add_to_rows(out.reshape(-1, outputs), bias.astype(out.dtype, copy=False))
    return channels_first(out.astype(dtype, copy=False))


def _convolve(x: Array, weight: Array, plan: _Plan, out: Array) -> None:
    """`weight` is (taps * C / groups, O)."""
    row = plan.taps * x.shape[-1] // plan.groups
    source = _Source(x, plan, row)
    pairs = list(zip(_groups(plan, x.shape[-1]), _groups(plan, out.shape[-1]), strict=True))
    for block in _blocks(len(x), plan, row):
        target = out[block.first : block.last, block.top : block.bottom].reshape(-1, out.shape[-1])
        for inputs, outputs in pairs:
            product_of_rows(_rows(source, plan, block, inputs, row), _part(weight, outputs), _part(target, outputs))


def _taps(windows: Array, plan: _Plan) -> Iterator[tuple[tuple[int, ...], Array]]:
    """For each tap of the kernel, the view (images, *outputs, C) of what it multiplies."""
    lead: tuple[Any, ...] = (slice(None),) * (len(plan.kernel) + 1)
    for tap in np.ndindex(plan.kernel):
        yield tap, windows[(*lead, *tap)]


def _depthwise(x: Array, w: Array, plan: _Plan, out: Array) -> None:
    """One input channel a group: tap by tap, all channels at once."""
    channels = x.shape[-1]
    source = _Source(x, plan, channels)
    for block in _blocks(len(x), plan, channels):
        target = out[block.first : block.last, block.top : block.bottom]
        target = target.reshape(*target.shape[:-1], channels, -1)  # (..., C, outputs of a channel)
        product = scratch("conv.rows", target.shape, x.dtype)
        for number, (tap, view) in enumerate(_taps(source[block], plan)):
            factor = w[(slice(None), 0, *tap)].reshape(channels, -1)
            np.multiply(view[..., None], factor, out=target if number == 0 else product)
            if number:
                target += product


def grad_weight(
    g: Array, x: Array, shape: Shape, stride: Shape, padding: tuple[tuple[int, int], ...], dilation: Shape, groups: int
) -> Array:
    """The gradient of w (O, C / groups, *kernel) from g (N, O, ...) and x (N, C, ...)."""
    dtype = g.dtype
    g, x = _wide(g, x)
    plan = _plan(x.shape[2:], shape[2:], stride, padding, dilation, groups)
    last, g_last = channels_last(x), np.ascontiguousarray(channels_last(g))
    if shape[1] == 1 and groups > 1:
        return _depthwise_grad_weight(g_last, last, plan, shape).astype(dtype, copy=False)
    row = plan.taps * shape[1]
    totals = [zero_total(row, shape[0] // groups, x.dtype) for _ in range(groups)]
    source = _Source(last, plan, row)
    pairs = list(zip(_groups(plan, x.shape[1]), _groups(plan, shape[0]), strict=True))
    for block in _blocks(len(last), plan, row):
        gradient = g_last[block.first : block.last, block.top : block.bottom].reshape(-1, shape[0])
        for target, (inputs, outputs) in zip(totals, pairs, strict=True):
            add_product_of_columns(_rows(source, plan, block, inputs, row), _part(gradient, outputs), target)
    rows = np.concatenate([total.T for total in totals]) if groups > 1 else totals[0].T
    return channels_first(rows.reshape(shape[0], *shape[2:], shape[1])).astype(dtype, copy=False)


def _depthwise_grad_weight(g: Array, x: Array, plan: _Plan, shape: Shape) -> Array:
    channels = x.shape[-1]
    result = np.zeros((channels, shape[0] // channels, *plan.kernel), dtype=x.dtype)
    source = _Source(x, plan, channels)
    for block in _blocks(len(x), plan, channels):
        gradient = g[block.first : block.last, block.top : block.bottom]
        gradient = gradient.reshape(-1, channels, shape[0] // channels)
        for tap, view in _taps(source[block], plan):
            place: tuple[Any, ...] = (slice(None), slice(None), *tap)
            result[place] += np.einsum("mc,mck->ck", view.reshape(-1, channels), gradient)
    return result.reshape(shape)


def _flipped(w: Array, groups: int) -> Array:
    """The weights with which a stride-1 convolution of g gives x's gradient: (C, O / groups, *kernel)."""
    o, c = w.shape[:2]
    spatial = tuple(range(2, w.ndim))
    grouped = np.flip(w, spatial).reshape(groups, o // groups, c, *w.shape[2:])
    return grouped.swapaxes(1, 2).reshape(groups * c, o // groups, *w.shape[2:])


def _adjoint_padding(plan: _Plan) -> tuple[tuple[int, int], ...] | None:
    """The padding of that convolution; None where it cannot be used."""
    if any(s != 1 for s in plan.stride):
        return None
    sizes = zip(plan.dilation, plan.kernel, plan.padding, plan.size, plan.out, strict=True)
    pads = tuple((d * (k - 1) - a, n + a - out) for d, k, (a, _), n, out in sizes)
    return pads if all(a >= 0 and b >= 0 for a, b in pads) else None


def grad_input(
    g: Array, w: Array, size: Shape, stride: Shape, padding: tuple[tuple[int, int], ...], dilation: Shape, groups: int
) -> Array:
    """The gradient of x (N, C, *size) from g (N, O, ...): a transposed convolution, in channels-last memory."""
    dtype = g.dtype
    g, w = _wide(g, w)
    plan = _plan(size, w.shape[2:], stride, padding, dilation, groups)
    pads = _adjoint_padding(plan)
    if pads is not None:
        return forward(g, _flipped(w, groups), None, stride, pads, dilation, groups).astype(dtype, copy=False)
    return _scatter_windows(g, w, plan).astype(dtype, copy=False)


def _scatter_windows(g: Array, w: Array, plan: _Plan) -> Array:
    """The adjoint of copying windows: each tap's part is added where it came from."""
    n, channels = g.shape[0], w.shape[1]
    g_last = np.ascontiguousarray(channels_last(g))
    weight = _weight_rows(w)
    result = np.zeros((n, *plan.padded, channels * plan.groups), dtype=g.dtype)
    windows = _windows(result, plan)
    row = plan.taps * channels
    pairs = list(zip(_groups(plan, result.shape[-1]), _groups(plan, g.shape[1]), strict=True))
    for block in _blocks(n, plan, row):
        gradient = g_last[block.first : block.last, block.top : block.bottom]
        target = windows[block.first : block.last, block.top : block.bottom]
        rows = scratch("conv.rows", (*gradient.shape[:-1], *plan.kernel, channels), g.dtype)
        for inputs, outputs in pairs:
            weights = weight if outputs is None else weight[outputs]
            np.matmul(_part(gradient.reshape(-1, g.shape[1]), outputs), weights, out=rows.reshape(-1, row))
            mine = target if inputs is None else target[..., inputs]
            for (_, place), (_, value) in zip(_taps(mine, plan), _taps(rows, plan), strict=True):
                place += value
    return channels_first(result[(slice(None), *_inner(plan.padding, plan.size))])


def backward(
    g: Array, x: Array, w: Array, stride: Shape, padding: tuple[tuple[int, int], ...], dilation: Shape, groups: int
) -> tuple[Array, Array]:
    """The gradients of x and w together; with stride 1 the windows of g are copied once for both."""
    plan = _plan(x.shape[2:], w.shape[2:], stride, padding, dilation, groups)
    pads = _adjoint_padding(plan)
    if groups == 1 and pads is not None and g.dtype.itemsize > 2:
        return _both(g, x, w, plan, pads)
    gx = grad_input(g, w, x.shape[2:], stride, padding, dilation, groups)
    return gx, grad_weight(g, x, w.shape, stride, padding, dilation, groups)


def _both(g: Array, x: Array, w: Array, plan: _Plan, pads: tuple[tuple[int, int], ...]) -> tuple[Array, Array]:
    o, c = w.shape[:2]
    adjoint = _plan(plan.out, plan.kernel, plan.stride, pads, plan.dilation, 1)
    g_last, x_last = channels_last(g), np.ascontiguousarray(channels_last(x))
    weight = _weight_columns(_flipped(w, 1))  # (taps * O, C)
    row = plan.taps * o
    gx = np.empty(x_last.shape, dtype=x.dtype)
    total = zero_total(row, c, x.dtype)
    source = _Source(g_last, adjoint, row)
    for block in _blocks(len(x), adjoint, row):
        rows = _rows(source, adjoint, block, None, row)
        here = (slice(block.first, block.last), slice(block.top, block.bottom))
        product_of_rows(rows, weight, gx[here].reshape(-1, c))
        add_product_of_columns(rows, x_last[here].reshape(-1, c), total)
    taps = total.reshape(*plan.kernel, o, c)
    spatial = tuple(range(w.ndim - 2))
    gw = np.flip(taps, spatial).transpose(w.ndim - 2, w.ndim - 1, *spatial)
    return channels_first(gx), gw
