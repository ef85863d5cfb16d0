"""Pooling by strided slices: one pass over the output for each place of the window, in blocks that stay in cache.

What a window sees beyond the edge is left out, so nothing is padded. Max pooling remembers, for each output, the number of the place
that won (row by row through the window), from which indices and gradients follow.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..._typing import Array, Shape
from ._channels import channels_last
from ._scratch import BLOCK, scratch

Slices = tuple[slice, ...]


def _layout(x: Array) -> tuple[Array, int, bool]:
    """`x` as it lies in memory, the number of its first spatial axis, and whether the channels come last."""
    last = channels_last(x)
    return (last, 1, True) if last.flags.c_contiguous and not x.flags.c_contiguous else (x, 2, False)


def _first(x: Array, last: bool) -> Array:
    return x.transpose(0, x.ndim - 1, *range(1, x.ndim - 1)) if last else x


def _places(size: Shape, out: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape) -> Iterator[tuple[Slices, Slices]]:
    """For each place of the window: the outputs that see an element there, and those elements."""
    for tap in np.ndindex(kernel):
        outputs, inputs = [], []
        for n, m, s, p, d, t in zip(size, out, stride, padding, dilation, tap, strict=True):
            shift = t * d - p
            low = max(0, -(shift // s))  # the first output whose element is not before the edge
            high = min(m, (n - 1 - shift) // s + 1)
            high = max(low, high)
            outputs.append(slice(low, high))
            inputs.append(slice(low * s + shift, (high - 1) * s + shift + 1, s) if high > low else slice(0, 0))
        yield tuple(outputs), tuple(inputs)


def _images(x: Array, out: Shape) -> Iterator[slice]:
    """Blocks of images."""
    size = max(1, x[:1].size)
    step = max(1, 2 * BLOCK // size)
    for first in range(0, len(x), step):
        yield slice(first, min(first + step, len(x)))


def max_forward(x: Array, out: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape) -> tuple[Array, Array]:
    """The maxima (N, C, *out) of the windows of x (N, C, ...), and the number of the place of each."""
    source, axis, last = _layout(x)
    shape = (*source.shape[:axis], *out, *source.shape[axis + len(out) :])
    result = np.empty(shape, dtype=x.dtype)
    winners = np.empty(shape, dtype=np.uint8 if math.prod(kernel) <= 256 else np.int64)
    places = list(_places(x.shape[2:], out, kernel, stride, padding, dilation))
    lead = (slice(None),) * axis
    for images in _images(source, out):
        part, best, who = source[images], result[images], winners[images]
        _max_block(part, best, who, [((*lead, *o), (*lead, *i)) for o, i in places], out, axis)
    return _first(result, last), _first(winners, last)


def _max_block(x: Array, best: Array, who: Array, places: Any, out: Shape, axis: int) -> None:
    who.fill(0)
    outputs, inputs = places[0]
    whole = tuple(slice(0, n) for n in out)
    if outputs[axis:] == whole:
        best[...] = x[inputs]
        begin = 1
    else:
        best.fill(_lowest(best.dtype))
        begin = 0
    mask = scratch("pool.mask", best.shape, np.bool_)
    for number in range(begin, len(places)):
        outputs, inputs = places[number]
        here, now, wins = best[outputs], x[inputs], mask[outputs]
        np.greater(now, here, out=wins)
        np.maximum(here, now, out=here)
        if who.dtype == np.uint8:  # later places have larger numbers
            code = wins.view(np.uint8)
            np.multiply(code, np.uint8(number), out=code)
            np.maximum(who[outputs], code, out=who[outputs])
        else:
            who[outputs][wins] = number


def _lowest(dtype: Any) -> Any:
    return -np.inf if dtype.kind in "fV" else np.iinfo(dtype).min


def max_backward(g: Array, winners: Array, shape: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape) -> Array:
    """Each output's gradient at the place that won: (N, C, ...) of `shape`."""
    who, axis, last = _layout(winners)
    source = channels_last(g) if last else g
    full = (shape[0], *shape[2:], shape[1]) if last else shape
    out = winners.shape[2:]
    tiled = _tiles(shape[2:], out, kernel, stride, padding, dilation)
    result = (np.empty if tiled else np.zeros)(full, dtype=g.dtype)
    lead = (slice(None),) * axis
    places = [((*lead, *o), (*lead, *i)) for o, i in _places(shape[2:], out, kernel, stride, padding, dilation)]
    for images in _images(result, out):
        part, gradient, numbers = result[images], source[images], who[images]
        mask = scratch("pool.mask", numbers.shape, np.bool_)
        product = None if tiled else scratch("pool.product", numbers.shape, g.dtype)
        for number, (outputs, inputs) in enumerate(places):
            mine = np.equal(numbers[outputs], number, out=mask[outputs])
            if product is None:
                np.multiply(gradient[outputs], mine, out=part[inputs])
            else:
                target = part[inputs]
                target += np.multiply(gradient[outputs], mine, out=product[outputs])
    return _first(result, last)


def _tiles(size: Shape, out: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape) -> bool:
    """Whether the windows cover each element exactly once."""
    same = all(k == s and p == 0 and d == 1 for k, s, p, d in zip(kernel, stride, padding, dilation, strict=True))
    return same and all(n == m * k for n, m, k in zip(size, out, kernel, strict=True))


def max_indices(winners: Array, size: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape) -> Array:
    """The flat position in the input's plane of each winner: int64 (N, C, *out)."""
    taps = np.unravel_index(winners.astype(np.int64), kernel)
    out = winners.shape[2:]
    result = np.zeros(winners.shape, dtype=np.int64)
    for axis, (n, m, s, p, d) in enumerate(zip(size, out, stride, padding, dilation, strict=True)):
        start = (np.arange(m) * s - p).reshape(-1, *(1,) * (len(out) - axis - 1))
        result *= n
        result += start + taps[axis] * d
    return result


def sum_forward(x: Array, out: Shape, kernel: Shape, stride: Shape, padding: Shape) -> Array:
    """The sum over each window of x (N, C, ...): (N, C, *out)."""
    source, axis, last = _layout(x)
    shape = (*source.shape[:axis], *out, *source.shape[axis + len(out) :])
    result = np.zeros(shape, dtype=x.dtype)
    lead = (slice(None),) * axis
    places = list(_places(x.shape[2:], out, kernel, stride, padding, (1,) * len(out)))
    for images in _images(source, out):
        for outputs, inputs in places:
            target = result[images][(*lead, *outputs)]
            target += source[images][(*lead, *inputs)]
    return _first(result, last)


def sum_backward(g: Array, shape: Shape, kernel: Shape, stride: Shape, padding: Shape) -> Array:
    """The adjoint of `sum_forward`."""
    source, axis, last = _layout(g)
    full = (shape[0], *shape[2:], shape[1]) if last else shape
    out = g.shape[2:]
    result = np.zeros(full, dtype=g.dtype)
    lead = (slice(None),) * axis
    places = list(_places(shape[2:], out, kernel, stride, padding, (1,) * len(out)))
    for images in _images(result, out):
        for outputs, inputs in places:
            target = result[images][(*lead, *inputs)]
            target += source[images][(*lead, *outputs)]
    return _first(result, last)
