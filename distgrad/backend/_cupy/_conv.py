"""Convolution on CuPy arrays: all windows copied to rows, and one two-dimensional product, which is a cuBLAS call.

Products of more dimensions are avoided: CuPy copies their operands, and computes 16-bit ones in float32.
"""

import math
from typing import Any

from ..._typing import Array, Shape

Pads = tuple[tuple[int, int], ...]


class CupyConv:
    """Convolutions of any number of spatial dimensions: x (N, C, ...), w (O, C / groups, *kernel), g (N, O, ...)."""

    def __init__(self, cupy: Any) -> None:
        self._cp = cupy

    def _padded(self, x: Array, padding: Pads) -> Array:
        """x with zeros around; a negative padding behind only means that the last rows are not looked at."""
        pads = tuple((a, max(b, 0)) for a, b in padding)
        return self._cp.pad(x, ((0, 0), (0, 0), *pads)) if any(map(any, pads)) else x

    def _windows(self, padded: Array, kernel: Shape, out: Shape, stride: Shape, dilation: Shape) -> Array:
        """A view (N, *out, C, *kernel)."""
        n, c, *spatial = padded.strides
        steps = [s * k for s, k in zip(spatial, stride, strict=True)]
        taps = [s * d for s, d in zip(spatial, dilation, strict=True)]
        shape = (padded.shape[0], *out, padded.shape[1], *kernel)
        return self._cp.lib.stride_tricks.as_strided(padded, shape, (n, *steps, c, *taps))

    def _rows(self, padded: Array, w: Shape, out: Shape, stride: Shape, dilation: Shape, group: slice) -> Array:
        """(N * out, C / groups * taps)."""
        windows = self._windows(padded[:, group], w[2:], out, stride, dilation)
        return self._cp.ascontiguousarray(windows).reshape(-1, math.prod(w[1:]))

    def forward(
        self, x: Array, w: Array, bias: Array | None, stride: Shape, padding: Pads, dilation: Shape, groups: int
    ) -> Array:
        """The convolution (N, O, ...)."""
        padded = self._padded(x, padding)
        out = _out(x.shape[2:], w.shape[2:], stride, padding, dilation)
        parts = []
        for inputs, outputs in _groups(x.shape[1], w.shape[0], groups):
            rows = self._rows(padded, w.shape, out, stride, dilation, inputs)
            parts.append(rows @ w[outputs].reshape(outputs.stop - outputs.start, -1).T)
        y = parts[0] if groups == 1 else self._cp.concatenate(parts, axis=1)
        if bias is not None:
            y += bias
        return self._cp.moveaxis(y.reshape(len(x), *out, w.shape[0]), -1, 1)

    def grad_input(
        self, g: Array, w: Array, size: Shape, stride: Shape, padding: Pads, dilation: Shape, groups: int
    ) -> Array:
        """The gradient of x, whose spatial sizes are `size`: each tap's part is added where it came from."""
        cp, out = self._cp, g.shape[2:]
        padded = tuple(n + a + max(b, 0) for n, (a, b) in zip(size, padding, strict=True))
        result = cp.zeros((len(g), w.shape[1] * groups, *padded), g.dtype)
        for inputs, outputs in _groups(result.shape[1], w.shape[0], groups):
            flat = cp.moveaxis(g[:, outputs], 1, -1).reshape(-1, outputs.stop - outputs.start)
            rows = flat @ w[outputs].reshape(flat.shape[1], -1)  # (N * out, C / groups * taps)
            rows = cp.moveaxis(rows.reshape(len(g), *out, *w.shape[1:]), 1 + len(out), 1)  # (N, C, *out, *kernel)
            target = result[:, inputs]
            for tap in _taps(w.shape[2:]):
                target[(..., *_seen(out, stride, dilation, tap))] += rows[(..., *tap)]
        inner = tuple(slice(a, a + n) for (a, _), n in zip(padding, size, strict=True))
        return result[(..., *inner)]

    def grad_weight(
        self, g: Array, x: Array, shape: Shape, stride: Shape, padding: Pads, dilation: Shape, groups: int
    ) -> Array:
        """The gradient of w, which has the given shape."""
        cp = self._cp
        padded = self._padded(x, padding)
        parts = []
        for inputs, outputs in _groups(x.shape[1], shape[0], groups):
            rows = self._rows(padded, shape, g.shape[2:], stride, dilation, inputs)
            flat = cp.moveaxis(g[:, outputs], 1, -1).reshape(-1, outputs.stop - outputs.start)
            parts.append((flat.T @ rows).reshape(-1, *shape[1:]))
        return parts[0] if groups == 1 else cp.concatenate(parts, axis=0)

    def backward(
        self, g: Array, x: Array, w: Array, stride: Shape, padding: Pads, dilation: Shape, groups: int
    ) -> tuple[Array, Array]:
        """`grad_input` and `grad_weight` together."""
        rest = (stride, padding, dilation, groups)
        return self.grad_input(g, w, x.shape[2:], *rest), self.grad_weight(g, x, w.shape, *rest)

    def channel_sums(self, x: Array) -> Array:
        """The sum over all axes but the second."""
        return x.sum(axis=(0, *range(2, x.ndim)), dtype=x.dtype)


def _out(size: Shape, kernel: Shape, stride: Shape, padding: Pads, dilation: Shape) -> Shape:
    sizes = zip(size, kernel, stride, padding, dilation, strict=True)
    return tuple((n + a + b - d * (k - 1) - 1) // s + 1 for n, k, s, (a, b), d in sizes)


def _groups(channels: int, outputs: int, groups: int) -> list[tuple[slice, slice]]:
    """The input and output channels of each group."""
    c, o = channels // groups, outputs // groups
    return [(slice(k * c, (k + 1) * c), slice(k * o, (k + 1) * o)) for k in range(groups)]


def _taps(kernel: Shape) -> list[Shape]:
    """The places of a window."""
    places: list[Shape] = [()]
    for n in kernel:
        places = [(*place, i) for place in places for i in range(n)]
    return places


def _seen(out: Shape, stride: Shape, dilation: Shape, tap: Shape) -> list[slice]:
    """What all outputs see at one place of their windows."""
    return [
        slice(t * d, t * d + (n - 1) * s + 1, s) if n else slice(0, 0)
        for n, s, d, t in zip(out, stride, dilation, tap, strict=True)
    ]
