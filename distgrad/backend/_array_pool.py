"""Pooling by strided slices: one pass over the output for each place of the window.

What a window sees beyond the edge is left out, so nothing is padded. Max pooling remembers, for each output, the number
of the place that won (row by row through the window), from which indices and gradients follow.
"""

import math
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, TypeAlias

from .._typing import Array, Shape

Slices: TypeAlias = tuple[slice, ...]
Scratch: TypeAlias = Callable[[str, Shape, Any], Array]


def _layout(x: Array) -> tuple[Array, int, bool]:
    """`x` as it lies in memory, the number of its first spatial axis, and whether the channels come last."""
    last = _last(x)
    return (last, 1, True) if last.flags.c_contiguous and not x.flags.c_contiguous else (x, 2, False)


def _last(x: Array) -> Array:
    """(N, C, ...) as a view (N, ..., C)."""
    return x.transpose(0, *range(2, x.ndim), 1)


def _first(x: Array, last: bool) -> Array:
    return x.transpose(0, x.ndim - 1, *range(1, x.ndim - 1)) if last else x


def _places(
    size: Shape, out: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape
) -> Iterator[tuple[Slices, Slices]]:
    """For each place of the window: the outputs that see an element there, and those elements."""
    for tap in product(*map(range, kernel)):
        outputs, inputs = [], []
        for n, m, s, p, d, t in zip(size, out, stride, padding, dilation, tap, strict=True):
            shift = t * d - p
            low = max(0, -(shift // s))  # the first output whose element is not before the edge
            high = min(m, (n - 1 - shift) // s + 1)
            high = max(low, high)
            outputs.append(slice(low, high))
            inputs.append(slice(low * s + shift, (high - 1) * s + shift + 1, s) if high > low else slice(0, 0))
        yield tuple(outputs), tuple(inputs)


def _tiles(size: Shape, out: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape) -> bool:
    """Whether the windows cover each element exactly once."""
    same = all(k == s and p == 0 and d == 1 for k, s, p, d in zip(kernel, stride, padding, dilation, strict=True))
    return same and all(n == m * k for n, m, k in zip(size, out, kernel, strict=True))


class ArrayPool:
    """`PoolKernels` for any array module with NumPy's interface.

    Args:
        xp: the array module, numpy or cupy.
        scratch: ``scratch(name, shape, dtype)`` is memory to work in until the same name is asked for again.
        block: elements of the images that one pass works on; None for all of them.
    """

    def __init__(self, xp: Any, scratch: Scratch, block: int | None) -> None:
        self._xp = xp
        self._scratch = scratch
        self._block = block

    def _images(self, x: Array) -> Iterator[slice]:
        """Blocks of images."""
        size = max(1, x[:1].size)
        step = max(1, len(x) if self._block is None else self._block // size)
        for first in range(0, len(x), step):
            yield slice(first, min(first + step, len(x)))

    def max_forward(
        self, x: Array, out: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape
    ) -> tuple[Array, Array]:
        """The maxima (N, C, *out) of the windows of x (N, C, ...), and the number of the place of each."""
        xp = self._xp
        source, axis, last = _layout(x)
        shape = (*source.shape[:axis], *out, *source.shape[axis + len(out) :])
        result = xp.empty(shape, dtype=x.dtype)
        winners = xp.empty(shape, dtype="uint8" if math.prod(kernel) <= 256 else "int64")
        lead = (slice(None),) * axis
        places = [
            ((*lead, *o), (*lead, *i)) for o, i in _places(x.shape[2:], out, kernel, stride, padding, dilation)
        ]
        for images in self._images(source):
            self._max_block(source[images], result[images], winners[images], places, out)
        return _first(result, last), _first(winners, last)

    def _max_block(self, x: Array, best: Array, who: Array, places: list[tuple[Slices, Slices]], out: Shape) -> None:
        xp = self._xp
        who.fill(0)
        outputs, inputs = places[0]
        whole = tuple(slice(0, n) for n in out)
        if outputs[-len(out) :] == whole:
            best[...] = x[inputs]
            begin = 1
        else:
            best.fill(-math.inf if best.dtype.kind in "fV" else xp.iinfo(best.dtype).min)
            begin = 0
        mask = self._scratch("pool.mask", best.shape, "bool")
        # On a CPU, short runs of memory that lie apart are copied faster than they are compared.
        short = self._block is not None and (inputs[-1].step or 1) > 1
        apart = self._scratch("pool.apart", best.shape, x.dtype) if short else None
        for number in range(begin, len(places)):
            outputs, inputs = places[number]
            here, now, wins = best[outputs], x[inputs], mask[outputs]
            if apart is not None:
                apart[outputs] = now
                now = apart[outputs]
            xp.greater(now, here, out=wins)
            xp.maximum(here, now, out=here)
            if who.dtype.itemsize == 1:  # later places have larger numbers
                code = wins.view("uint8")
                xp.multiply(code, xp.uint8(number), out=code)
                xp.maximum(who[outputs], code, out=who[outputs])
            else:
                who[outputs][wins] = number

    def max_backward(
        self, g: Array, winners: Array, shape: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape
    ) -> Array:
        """Each output's gradient at the place that won: (N, C, ...) of `shape`."""
        xp = self._xp
        who, axis, last = _layout(winners)
        source = _last(g) if last else g
        full = (shape[0], *shape[2:], shape[1]) if last else shape
        out = winners.shape[2:]
        tiled = _tiles(shape[2:], out, kernel, stride, padding, dilation)
        result = (xp.empty if tiled else xp.zeros)(full, dtype=g.dtype)
        lead = (slice(None),) * axis
        places = [
            ((*lead, *o), (*lead, *i)) for o, i in _places(shape[2:], out, kernel, stride, padding, dilation)
        ]
        for images in self._images(result):
            part, gradient, numbers = result[images], source[images], who[images]
            mask = self._scratch("pool.mask", numbers.shape, "bool")
            terms = None if tiled else self._scratch("pool.product", numbers.shape, g.dtype)
            for number, (outputs, inputs) in enumerate(places):
                mine = xp.equal(numbers[outputs], number, out=mask[outputs])
                if terms is None:
                    xp.multiply(gradient[outputs], mine, out=part[inputs])
                else:
                    target = part[inputs]
                    target += xp.multiply(gradient[outputs], mine, out=terms[outputs])
        return _first(result, last)

    def max_indices(
        self, winners: Array, size: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape
    ) -> Array:
        """The flat position in the input's plane of each winner: int64 (N, C, *out)."""
        xp = self._xp
        taps = xp.unravel_index(winners.astype("int64"), kernel)
        out = winners.shape[2:]
        result = xp.zeros(winners.shape, dtype="int64")
        for axis, (n, m, s, p, d) in enumerate(zip(size, out, stride, padding, dilation, strict=True)):
            start = (xp.arange(m) * s - p).reshape(-1, *(1,) * (len(out) - axis - 1))
            result *= n
            result += start + taps[axis] * d
        return result

    def sum_forward(self, x: Array, out: Shape, kernel: Shape, stride: Shape, padding: Shape) -> Array:
        """The sum over each window of x (N, C, ...): (N, C, *out)."""
        source, axis, last = _layout(x)
        shape = (*source.shape[:axis], *out, *source.shape[axis + len(out) :])
        result = self._xp.zeros(shape, dtype=x.dtype)
        lead = (slice(None),) * axis
        places = list(_places(x.shape[2:], out, kernel, stride, padding, (1,) * len(out)))
        for images in self._images(source):
            for outputs, inputs in places:
                target = result[images][(*lead, *outputs)]
                target += source[images][(*lead, *inputs)]
        return _first(result, last)

    def sum_backward(self, g: Array, shape: Shape, kernel: Shape, stride: Shape, padding: Shape) -> Array:
        """The adjoint of `sum_forward`."""
        source, axis, last = _layout(g)
        full = (shape[0], *shape[2:], shape[1]) if last else shape
        out = g.shape[2:]
        result = self._xp.zeros(full, dtype=g.dtype)
        lead = (slice(None),) * axis
        places = list(_places(shape[2:], out, kernel, stride, padding, (1,) * len(out)))
        for images in self._images(result):
            for outputs, inputs in places:
                target = result[images][(*lead, *inputs)]
                target += source[images][(*lead, *outputs)]
        return _first(result, last)
