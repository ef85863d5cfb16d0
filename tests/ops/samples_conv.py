"""Samples of convolutions, windows and pooling; the references go tap by tap, as in the definitions."""

import itertools
from typing import Any

import numpy as np

from tests.ops.samples import Array, Samples, call, only


def _many(value: Any, rank: int) -> tuple[int, ...]:
    return tuple(value) * (rank if len(value) == 1 else 1) if isinstance(value, (tuple, list)) else (value,) * rank


def _taps(kernel: Any, out: Any, stride: Any, dilation: Any) -> Any:
    """For each place of the window, the index (without lead) of what the outputs see there."""
    for tap in itertools.product(*map(range, kernel)):
        yield (
            tap,
            tuple(
                slice(t * d, t * d + (m - 1) * s + 1, s) for t, m, s, d in zip(tap, out, stride, dilation, strict=True)
            ),
        )


def _grouped(x: Any, w: Any, groups: int) -> Any:
    """(N, O, ...) from one tap: x (N, C, ...) and w (O, C / groups)."""
    parts = zip(np.split(x, groups, 1), np.split(w, groups, 0), strict=True)
    return np.concatenate([np.einsum("nc...,oc->no...", a, b) for a, b in parts], 1)


def _conv(x: Any, w: Any, b: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Any:
    rank = w.ndim - 2
    if x.ndim == rank + 1:
        return _conv(x[None], w, b, stride, padding, dilation, groups)[0]
    stride, dilation, kernel = _many(stride, rank), _many(dilation, rank), w.shape[2:]
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        pads = [(t // 2, t - t // 2) for t in total]
    else:
        pads = [(p, p) for p in _many(0 if padding == "valid" else padding, rank)]
    x = np.pad(x, [(0, 0), (0, 0), *pads])
    sizes = zip(x.shape[2:], kernel, stride, dilation, strict=True)
    out = tuple((n - d * (k - 1) - 1) // s + 1 for n, k, s, d in sizes)
    result = np.zeros((x.shape[0], w.shape[0], *out))
    for tap, place in _taps(kernel, out, stride, dilation):
        result += _grouped(x[(slice(None), slice(None), *place)], w[(slice(None), slice(None), *tap)], groups)
    return result if b is None else result + b.reshape(-1, *(1,) * rank)


def _conv_transpose(
    x: Any,
    w: Any,
    b: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    rank = w.ndim - 2
    if x.ndim == rank + 1:
        return _conv_transpose(x[None], w, b, stride, padding, output_padding, groups, dilation)[0]
    stride, dilation, padding, extra = (_many(v, rank) for v in (stride, dilation, padding, output_padding))
    kernel, size = w.shape[2:], x.shape[2:]
    full = [
        (n - 1) * s + d * (k - 1) + 1 + e for n, s, k, d, e in zip(size, stride, kernel, dilation, extra, strict=True)
    ]
    result = np.zeros((x.shape[0], w.shape[1] * groups, *full))
    for tap, place in _taps(kernel, size, stride, dilation):
        plane = np.concatenate([p.swapaxes(0, 1) for p in np.split(w[(slice(None), slice(None), *tap)], groups, 0)], 0)
        result[(slice(None), slice(None), *place)] += _grouped(x, plane, groups)
    inner = tuple(slice(p, n - p) for p, n in zip(padding, full, strict=True))
    result = result[(slice(None), slice(None), *inner)]
    return result if b is None else result + b.reshape(-1, *(1,) * rank)


def _windows(x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool, fill: float) -> Any:
    """(N, C, taps, *out): what each window sees, `fill` beyond the edge."""
    rank = len(kernel)
    out = []
    for n, k, s, p, d in zip(x.shape[-rank:], kernel, stride, padding, dilation, strict=True):
        free = n + 2 * p - d * (k - 1) - 1
        m = (-(-free // s) if ceil_mode else free // s) + 1
        out.append(m - (ceil_mode and (m - 1) * s >= n + p))
    lead = [(0, 0)] * (x.ndim - rank)
    wide = np.pad(
        x.astype(float),
        lead + [(p, p + s + d * k) for p, s, d, k in zip(padding, stride, dilation, kernel, strict=True)],
        constant_values=fill,
    )
    return np.stack([wide[(..., *place)] for _, place in _taps(kernel, out, stride, dilation)], x.ndim - rank)


def _max_pool(rank: int) -> Any:
    def reference(
        x: Any,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        kernel, padding, dilation = _many(kernel_size, rank), _many(padding, rank), _many(dilation, rank)
        steps = kernel if stride is None else _many(stride, rank)
        windows = _windows(x, kernel, steps, padding, dilation, ceil_mode, -np.inf)
        values = windows.max(x.ndim - rank)
        if not return_indices:
            return values
        numbers = np.arange(np.prod(x.shape[-rank:])).reshape((1,) * (x.ndim - rank) + x.shape[-rank:])
        seen = _windows(np.broadcast_to(numbers, x.shape), kernel, steps, padding, dilation, ceil_mode, -1)
        best = windows.argmax(x.ndim - rank)
        return values, np.take_along_axis(seen, np.expand_dims(best, x.ndim - rank), x.ndim - rank).squeeze(
            x.ndim - rank
        ).astype(int)

    return reference


def _avg_pool(rank: int) -> Any:
    def reference(
        x: Any,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: Any = None,
    ) -> Any:
        kernel, padding = _many(kernel_size, rank), _many(padding, rank)
        steps = kernel if stride is None else _many(stride, rank)
        axis = x.ndim - rank
        total = _windows(x, kernel, steps, padding, (1,) * rank, ceil_mode, 0).sum(axis)
        if divisor_override is not None:
            return total / divisor_override
        ones = np.ones(x.shape[-rank:])
        if count_include_pad:
            ones = np.pad(ones, [(p, p) for p in padding], constant_values=1)
            counts = _windows(ones, kernel, steps, (0,) * rank, (1,) * rank, True, 0).sum(0)
            return total / counts[tuple(slice(n) for n in total.shape[-rank:])]
        return total / _windows(ones, kernel, steps, padding, (1,) * rank, ceil_mode, 0).sum(0)

    return reference


def _adaptive(rank: int, function: Any) -> Any:
    def reference(x: Any, output_size: Any, return_indices: bool = False) -> Any:
        size = x.shape[-rank:]
        out = tuple(n if m is None else m for n, m in zip(size, _many(output_size, rank), strict=True))
        result = np.zeros(x.shape[:-rank] + out)
        places = np.zeros(result.shape, dtype=int)
        numbers = np.arange(np.prod(size)).reshape(size)
        for cell in np.ndindex(out):
            window = tuple(slice(i * n // m, -(-(i + 1) * n // m)) for i, n, m in zip(cell, size, out, strict=True))
            seen = x[(..., *window)].reshape(*x.shape[:-rank], -1)
            result[(..., *cell)] = function(seen, axis=-1)
            places[(..., *cell)] = numbers[window].reshape(-1)[seen.argmax(-1)]
        return (result, places) if return_indices else result

    return reference


def _unfold(x: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    kernel, dilation, padding, stride = (_many(v, 2) for v in (kernel_size, dilation, padding, stride))
    windows = _windows(x, kernel, stride, padding, dilation, False, 0)
    return windows.reshape(*x.shape[:-3], x.shape[-3] * windows.shape[-3], -1)


def _fold(x: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """The adjoint of `_unfold`, from its matrix."""
    size, taps = _many(output_size, 2), int(np.prod(_many(kernel_size, 2)))
    pixels = int(np.prod(size))
    matrix = _unfold(np.eye(pixels).reshape(pixels, 1, *size), kernel_size, dilation, padding, stride).reshape(
        pixels, -1
    )
    columns = x.reshape(*x.shape[:-2], x.shape[-2] // taps, -1)
    return (columns @ matrix.T).reshape(*columns.shape[:-1], *size)


def _lp_pool(rank: int) -> Any:
    def reference(x: Any, p: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Any:
        kernel = _many(kernel_size, rank)
        windows = _windows(
            x, kernel, kernel if stride is None else _many(stride, rank), (0,) * rank, (1,) * rank, ceil_mode, 0
        )
        return (windows**p).sum(x.ndim - rank) ** (1 / p)

    return reference


def _max_unpool(rank: int) -> Any:
    def reference(
        x: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
    ) -> Any:
        kernel = _many(kernel_size, rank)
        steps = kernel if stride is None else _many(stride, rank)
        size = output_size or [(n - 1) * s + k for n, s, k in zip(x.shape[-rank:], steps, kernel, strict=True)]
        result = np.zeros((*x.shape[:-rank], int(np.prod(size))))
        np.put_along_axis(result, indices.reshape(*x.shape[:-rank], -1), x.reshape(*x.shape[:-rank], -1), -1)
        return result.reshape(*x.shape[:-rank], *size)

    return reference


_CONV2D = [
    call(Array(2, 2, 4, 4), Array(3, 2, 3, 2), Array(3)),
    call(Array(2, 2, 5, 4), Array(3, 2, 3, 3), None, 1, 1),
    call(Array(1, 2, 6, 5), Array(2, 2, 3, 3), Array(2), (2, 1), (1, 0)),
    call(Array(1, 2, 6, 6), Array(2, 2, 2, 2), stride=2, dilation=2, padding=1),
    call(Array(1, 4, 3, 3), Array(4, 2, 2, 2), Array(4), padding=1, groups=2),
    call(Array(1, 2, 4, 3), Array(4, 1, 3, 3), Array(4), padding=1, groups=2),
    call(Array(1, 3, 5, 5), Array(3, 1, 3, 3), stride=2, groups=3),
    call(Array(1, 2, 4, 5), Array(2, 2, 2, 3), padding="same"),
    call(Array(1, 2, 4, 5), Array(2, 2, 2, 3), padding="valid"),
    call(Array(2, 2, 3, 3), Array(3, 2, 1, 1), Array(3)),
    call(Array(1, 3, 4, 4), Array(3, 3, 1, 1), stride=2),
    call(Array(2, 4, 4), Array(3, 2, 2, 2)),
    only(call(Array(0, 2, 4, 4), Array(3, 2, 2, 2)), grad=False),
]
_TRANSPOSE2D = [
    call(Array(1, 3, 3, 4), Array(3, 2, 3, 2), Array(2)),
    call(Array(1, 2, 3, 3), Array(2, 2, 3, 3), Array(2), 2, 1, 1),
    call(Array(1, 4, 3, 3), Array(4, 1, 2, 2), stride=2, groups=2),
    call(Array(1, 2, 3, 3), Array(2, 1, 2, 2), dilation=2, padding=1),
    call(Array(1, 2, 2, 2), Array(2, 1, 2, 2), dilation=3, padding=1, output_padding=2),
    call(Array(2, 3, 3), Array(2, 2, 2, 2)),
]
_MAX2D = [
    call(Array(2, 2, 4, 6), 2),
    call(Array(1, 2, 5, 5), 3, 2, 1),
    call(Array(1, 2, 5, 6), (3, 2), (1, 2), (1, 0)),
    call(Array(1, 1, 6, 6), 2, 1, 1, 2),
    call(Array(1, 2, 5, 5), 2, ceil_mode=True),
    call(Array(2, 4, 4), 2, return_indices=True),
    call(Array(1, 2, 5, 5), 3, 2, 1, return_indices=True),
]
_AVG2D = [
    call(Array(2, 2, 4, 6), 2),
    call(Array(1, 2, 5, 5), 3, 2, 1),
    call(Array(1, 2, 5, 5), 3, 2, 1, False, False),
    call(Array(1, 2, 5, 6), (2, 3), 2, (1, 0), True, False),
    call(Array(1, 2, 5, 6), (2, 3), 2, (1, 1), True, True),
    call(Array(2, 5, 6), 2, divisor_override=3),
    only(call(Array(1, 2, 4, 4, low=0, high=4, dtype="int64"), 1), dtypes=("float32",), grad=False),
]

SAMPLES = {
    "conv1d": Samples(
        _conv,
        [call(Array(2, 3, 6), Array(4, 3, 3), Array(4)), call(Array(2, 6), Array(2, 1, 2), None, 2, 1, 2, 2)],
        tolerance={"float32": 1e-4},
    ),
    "conv2d": Samples(_conv, _CONV2D, tolerance={"float32": 1e-4}),
    "conv3d": Samples(
        _conv,
        [
            call(Array(1, 2, 3, 3, 3), Array(2, 2, 2, 2, 2), Array(2)),
            call(Array(1, 2, 3, 4, 3), Array(2, 1, 2, 2, 1), None, 2, 1, 1, 2),
        ],
        tolerance={"float32": 1e-4},
    ),
    "conv_transpose1d": Samples(
        _conv_transpose,
        [call(Array(2, 3, 4), Array(3, 2, 3), Array(2)), call(Array(2, 4), Array(2, 1, 2), None, 2, 1, 1, 2)],
    ),
    "conv_transpose2d": Samples(_conv_transpose, _TRANSPOSE2D, tolerance={"float32": 1e-4}),
    "conv_transpose3d": Samples(_conv_transpose, [call(Array(1, 2, 2, 2, 3), Array(2, 1, 2, 2, 2), Array(1), 2)]),
    "max_pool1d": Samples(
        _max_pool(1), [call(Array(2, 2, 6), 2), call(Array(2, 7), 3, 2, 1), call(Array(1, 2, 7), 2, ceil_mode=True)]
    ),
    "max_pool2d": Samples(_max_pool(2), _MAX2D),
    "max_pool3d": Samples(
        _max_pool(3), [call(Array(1, 2, 4, 4, 2), 2), call(Array(1, 3, 4, 3), (2, 2, 1), 1, (1, 0, 0))]
    ),
    "avg_pool1d": Samples(_avg_pool(1), [call(Array(2, 2, 6), 2), call(Array(2, 7), 3, 2, 1, True, False)]),
    "avg_pool2d": Samples(_avg_pool(2), _AVG2D, same_dtype=False),
    "avg_pool3d": Samples(
        _avg_pool(3), [call(Array(1, 2, 4, 4, 2), 2), call(Array(1, 3, 4, 3), (2, 2, 1), 1, (1, 0, 0))]
    ),
    "adaptive_avg_pool1d": Samples(_adaptive(1, np.mean), [call(Array(2, 2, 7), 3), call(Array(2, 6), 2)]),
    "adaptive_avg_pool2d": Samples(
        _adaptive(2, np.mean),
        [
            call(Array(2, 2, 4, 6), (2, 3)),
            call(Array(1, 2, 5, 4), 3),
            call(Array(2, 3, 3), 1),
            call(Array(1, 2, 4, 5), (None, 2)),
        ],
    ),
    "adaptive_avg_pool3d": Samples(
        _adaptive(3, np.mean), [call(Array(1, 2, 3, 4, 2), (2, 3, 1)), call(Array(1, 2, 2, 2), 1)]
    ),
    "adaptive_max_pool1d": Samples(
        _adaptive(1, np.max), [call(Array(2, 2, 7), 3), call(Array(2, 6), 2, return_indices=True)]
    ),
    "adaptive_max_pool2d": Samples(
        _adaptive(2, np.max),
        [call(Array(2, 2, 4, 6), (2, 3), True), call(Array(1, 2, 5, 4), 3), call(Array(2, 3, 3), (None, 1))],
    ),
    "adaptive_max_pool3d": Samples(_adaptive(3, np.max), [call(Array(1, 2, 3, 4, 2), (2, 3, 1), True)]),
    "unfold": Samples(
        _unfold, [call(Array(2, 2, 4, 5), 2), call(Array(1, 2, 5, 5), (2, 3), 2, 1, 2), call(Array(2, 4, 4), 2)]
    ),
    "fold": Samples(_fold, [call(Array(2, 8, 12), (4, 5), 2), call(Array(4, 9), 4, 2)]),
    "lp_pool1d": Samples(
        _lp_pool(1),
        [call(Array(2, 2, 6, low=0.1), 2, 2), call(Array(2, 7, low=0.1), 3, 3, 2)],
        tolerance={"float32": 1e-4},
    ),
    "lp_pool2d": Samples(
        _lp_pool(2),
        [call(Array(2, 2, 4, 6, low=0.1), 2, 2), call(Array(2, 5, 5, low=0.1), 3, (3, 2), 2)],
        tolerance={"float32": 1e-4},
    ),
    "lp_pool3d": Samples(_lp_pool(3), [call(Array(1, 2, 2, 4, 2, low=0.1), 2, 2)], tolerance={"float32": 1e-4}),
    "max_unpool1d": Samples(_max_unpool(1), [call(Array(1, 2), Array(values=[[1, 2]], dtype="int64"), 2)]),
    "max_unpool2d": Samples(
        _max_unpool(2),
        [
            call(Array(1, 1, 2, 2), Array(values=[[[[0, 3], [9, 14]]]], dtype="int64"), 2),
            call(Array(1, 1, 2), Array(values=[[[4, 7]]], dtype="int64"), 2, output_size=[3, 4]),
        ],
    ),
    "max_unpool3d": Samples(
        _max_unpool(3), [call(Array(1, 1, 1, 2), Array(values=[[[[3, 7]]]], dtype="int64"), (2, 1, 2))]
    ),
}
