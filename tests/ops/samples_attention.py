"""Samples of attention, recurrent layers, distances, resizing and sampling at places."""

import itertools
import math
from typing import Any

import numpy as np
import scipy.spatial.distance
import scipy.special

from tests.ops.samples import Array, Samples, call, only

# ---- attention -------------------------------------------------------------------------------------------------------


def _attention(
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    if enable_gqa:
        k, v = (np.repeat(t, q.shape[-3] // t.shape[-3], -3) for t in (k, v))
    scores = q @ k.swapaxes(-1, -2) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if is_causal:
        mask = np.tri(*scores.shape[-2:], dtype=bool)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    return np.nan_to_num(scipy.special.softmax(scores, -1)) @ v


_SEEN = Array(values=[[True, False, True], [False, False, False]], dtype="bool")
_ATTENTION = [
    call(Array(1, 2, 3, 2), Array(1, 2, 4, 2), Array(1, 2, 4, 3)),
    call(Array(2, 3, 2), Array(2, 3, 2), Array(2, 3, 2), is_causal=True),
    call(Array(2, 2), Array(3, 2), Array(3, 2), Array(2, 3)),
    call(Array(1, 2, 2), Array(1, 3, 2), Array(1, 3, 2), _SEEN, scale=0.5),
    call(Array(1, 2, 2, 2), Array(1, 1, 3, 2), Array(1, 1, 3, 2), enable_gqa=True),
    call(Array(1, 2, 2, 2), Array(2, 1, 3, 2), Array(1, 2, 3, 2)),
    only(call(Array(1, 1, 150, 2), Array(1, 1, 150, 2), Array(1, 1, 150, 2), is_causal=True), grad=False),
]

# ---- recurrent layers ------------------------------------------------------------------------------------------------


def _lstm_cell(x: Any, hx: Any, wi: Any, wh: Any, bi: Any = 0, bh: Any = 0) -> Any:
    i, f, g, o = np.split(x @ wi.T + bi + hx[0] @ wh.T + bh, 4, 1)
    c = scipy.special.expit(f) * hx[1] + scipy.special.expit(i) * np.tanh(g)
    return scipy.special.expit(o) * np.tanh(c), c


def _gru_cell(x: Any, h: Any, wi: Any, wh: Any, bi: Any = 0, bh: Any = 0) -> Any:
    a, b = np.split(x @ wi.T + bi, 3, 1), np.split(h @ wh.T + bh, 3, 1)
    r, z = scipy.special.expit(a[0] + b[0]), scipy.special.expit(a[1] + b[1])
    return (1 - z) * np.tanh(a[2] + r * b[2]) + z * h


def _simple_cell(function: Any) -> Any:
    return lambda x, h, wi, wh, bi=0, bh=0: function(x @ wi.T + bi + h @ wh.T + bh)


def _layers(cell: Any, states: int) -> Any:
    """A whole network of one sequence at a time, so that packed sequences need no thought."""

    def reference(
        x: Any,
        hx: Any,
        params: Any,
        biases: bool,
        layers: int,
        dropout: float,
        train: bool,
        both: bool,
        batch_first: bool = False,
        sizes: Any = None,
    ) -> Any:
        if sizes is None:
            sequences = list(x if batch_first else x.swapaxes(0, 1))
        else:
            starts = np.concatenate(([0], np.cumsum(sizes)))
            sequences = [
                np.stack([x[starts[t] + n] for t in range(len(sizes)) if sizes[t] > n]) for n in range(sizes[0])
            ]
        given = hx if states == 2 else (hx,)
        last = [np.zeros_like(s) for s in given]
        results = []
        for n, sequence in enumerate(sequences):
            for layer in range(layers):
                outputs = []
                for direction in range(2 if both else 1):
                    k = layer * (2 if both else 1) + direction
                    weights = params[k * (4 if biases else 2) : (k + 1) * (4 if biases else 2)]
                    h: Any = tuple(s[k][n : n + 1] for s in given)
                    rows = []
                    for row in sequence[::-1] if direction else sequence:
                        h = cell(row[None], h if states == 2 else h[0], *weights)
                        h = h if states == 2 else (h,)
                        rows.append(h[0][0])
                    outputs.append(np.stack(rows[::-1] if direction else rows))
                    for s, value in zip(last, h, strict=True):
                        s[k][n] = value[0]
                sequence = np.concatenate(outputs, 1)
            results.append(sequence)
        if sizes is not None:
            return (np.stack([results[n][t] for t in range(len(sizes)) for n in range(sizes[t])]), *last)
        out = np.stack(results)
        return (out if batch_first else out.swapaxes(0, 1), *last)

    return reference


def _network(gates: int, states: int) -> list[Any]:
    def weights(inputs: int, hidden: int, biases: bool) -> list[Array]:
        found = [Array(gates * hidden, inputs), Array(gates * hidden, hidden)]
        return [*found, Array(gates * hidden), Array(gates * hidden)] if biases else found

    def hx(count: int, batch: int, hidden: int) -> Any:
        return tuple(Array(count, batch, hidden) for _ in range(states)) if states == 2 else Array(count, batch, hidden)

    def big(*args: Any) -> Any:
        return only(call(*args), twice=False)

    two = [*weights(2, 2, True), *weights(2, 2, True), *weights(4, 2, True), *weights(4, 2, True)]
    pair = [*weights(2, 2, True), *weights(2, 2, True)]
    return [
        call(Array(2, 1, 1), hx(1, 1, 1), weights(1, 1, True), True, 1, 0.0, True, False),
        big(Array(3, 2, 2), hx(1, 2, 2), weights(2, 2, True), True, 1, 0.0, True, False),
        big(Array(2, 3, 2), hx(1, 2, 3), weights(2, 3, False), False, 1, 0.0, False, False, True),
        big(Array(2, 1, 2), hx(4, 1, 2), two, True, 2, 0.0, True, True),
        big(Array(5, 2), hx(2, 2, 2), pair, True, 1, 0.0, True, True, False, [2, 2, 1]),
    ]


def _cell(gates: int, states: int) -> list[Any]:
    def hx(width: int) -> Any:
        return (Array(2, width), Array(2, width)) if states == 2 else Array(2, width)

    return [
        call(Array(2, 1), hx(1), Array(gates, 1), Array(gates, 1), Array(gates), Array(gates)),
        only(call(Array(2, 3), hx(2), Array(gates * 2, 3), Array(gates * 2, 2)), twice=False),
    ]


# ---- distances -------------------------------------------------------------------------------------------------------


def _norm(x: Any, p: float, axis: Any, keepdims: bool = False) -> Any:
    return np.linalg.norm(x, p, axis, keepdims)


def _cosine(a: Any, b: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    a, b = np.broadcast_arrays(a, b)
    return (a * b).sum(dim) / (np.maximum(_norm(a, 2, dim), eps) * np.maximum(_norm(b, 2, dim), eps))


def _cdist(a: Any, b: Any, p: float = 2.0, compute_mode: Any = None) -> Any:
    return _norm(a[..., :, None, :] - b[..., None, :, :], p, -1)


# ---- resizing --------------------------------------------------------------------------------------------------------


def _line(value: Any, n: int, mode: str) -> list[tuple[int, float]]:
    """The pixels, with weights, that count at a position."""
    low = math.floor(value)
    t = value - low
    if mode == "nearest":
        return [(int(np.round(value)), 1.0)]
    if mode == "linear":
        return [(low, 1 - t), (low + 1, t)]
    return [(low + i, _keys(t - i)) for i in range(-1, 3)]


def _keys(d: float, a: float = -0.75) -> float:
    d = abs(d)
    return ((a + 2) * d - (a + 3)) * d * d + 1 if d <= 1 else a * (((d - 5) * d + 8) * d - 4)


def _interpolate(
    x: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: Any = None,
    recompute_scale_factor: Any = None,
    antialias: bool = False,
) -> Any:
    spatial = x.shape[2:]
    many = lambda v: v if isinstance(v, tuple) else (v,) * len(spatial)  # noqa: E731
    out = (
        many(size)
        if size is not None
        else tuple(math.floor(n * s) for n, s in zip(spatial, many(scale_factor), strict=True))
    )
    scales = [None] * len(spatial) if size is not None or recompute_scale_factor else many(scale_factor)
    if mode == "area":
        windows = [
            [slice(i * n // m, -(-(i + 1) * n // m)) for i in range(m)] for n, m in zip(spatial, out, strict=True)
        ]
        result = np.zeros((*x.shape[:2], *out))
        for cell in np.ndindex(out):
            part = x[(..., *(w[i] for w, i in zip(windows, cell, strict=True)))]
            result[(..., *cell)] = part.reshape(*x.shape[:2], -1).mean(-1)
        return result
    for axis, (n, m, s) in enumerate(zip(spatial, out, scales, strict=True), start=2):
        step = 1 / s if s else n / m
        matrix = np.zeros((m, n))
        for i in range(m):
            if mode.startswith("nearest"):
                matrix[i, min(math.floor((i + (0.5 if "exact" in mode else 0)) * step), n - 1)] = 1
                continue
            at = i * (n - 1) / max(m - 1, 1) if align_corners else (i + 0.5) * step - 0.5
            if mode != "bicubic":
                at = max(at, 0)
            for j, weight in _line(at, n, "cubic" if mode == "bicubic" else "linear"):
                matrix[i, min(max(j, 0), n - 1)] += weight
        x = np.moveaxis(np.moveaxis(x, axis, -1) @ matrix.T, -1, axis)
    return x


def _brought_in(at: float, n: int, mode: str, align: bool) -> float:
    if mode == "border":
        return min(max(at, 0), n - 1)
    if mode == "reflection":
        low, high = (0, n - 1) if align else (-0.5, n - 0.5)
        while not low <= at <= high:
            at = 2 * low - at if at < low else 2 * high - at
        return min(max(at, 0), n - 1)
    return at


def _grid_sample(
    x: Any, grid: Any, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: Any = None
) -> Any:
    size, out = x.shape[2:], grid.shape[1:-1]
    kind = {"bilinear": "linear", "nearest": "nearest", "bicubic": "cubic"}[mode]
    result = np.zeros((*x.shape[:2], *out))
    for sample, *cell in np.ndindex((x.shape[0], *out)):
        lines = []
        for g, n in zip(grid[(sample, *cell)][::-1], size, strict=True):
            at = (g + 1) / 2 * (n - 1) if align_corners else ((g + 1) * n - 1) / 2
            if mode == "bicubic":
                lines.append([(_brought_in(j, n, padding_mode, bool(align_corners)), w) for j, w in _line(at, n, kind)])
            else:
                lines.append(_line(_brought_in(at, n, padding_mode, bool(align_corners)), n, kind))
        for corner in itertools.product(*lines):
            place = [int(j) for j, _ in corner]
            if all(0 <= j < n for j, n in zip(place, size, strict=True)):
                result[(sample, slice(None), *cell)] += x[(sample, slice(None), *place)] * math.prod(
                    w for _, w in corner
                )
    return result


def _affine_grid(theta: Any, size: Any, align_corners: Any = None) -> Any:
    spatial = size[2:]
    lines = [np.linspace(-1, 1, n) if align_corners else (2 * np.arange(n) + 1) / n - 1 for n in spatial]
    mesh = np.meshgrid(*lines, indexing="ij")
    base = np.stack([*mesh[::-1], np.ones(spatial)], -1)
    return np.einsum("...k,nik->n...i", base, theta)


def _pixel_shuffle(x: Any, r: int) -> Any:
    c, h, w = x.shape[-3:]
    result = np.zeros((*x.shape[:-3], c // r**2, h * r, w * r))
    for k, i, j in np.ndindex(c // r**2, r, r):
        result[..., k, i::r, j::r] = x[..., k * r * r + i * r + j, :, :]
    return result


def _pixel_unshuffle(x: Any, r: int) -> Any:
    c, h, w = x.shape[-3:]
    result = np.zeros((*x.shape[:-3], c * r**2, h // r, w // r))
    for k, i, j in np.ndindex(c, r, r):
        result[..., k * r * r + i * r + j, :, :] = x[..., k, i::r, j::r]
    return result


def _channel_shuffle(x: Any, groups: int) -> Any:
    width = x.shape[1] // groups
    return x[:, [g * width + i for i in range(width) for g in range(groups)]]


_PLACES = Array(1, 2, 2, 2, low=-0.9, high=0.9)
_OUTSIDE = Array(values=[[[[-1.7, 0.31], [0.47, 1.6]]]])
_LOOSE = {"float32": 2e-4}

SAMPLES = {
    "scaled_dot_product_attention": Samples(_attention, _ATTENTION),
    "lstm": Samples(_layers(_lstm_cell, 2), _network(4, 2), tolerance=_LOOSE),
    "gru": Samples(_layers(_gru_cell, 1), _network(3, 1), tolerance=_LOOSE),
    "rnn_tanh": Samples(_layers(_simple_cell(np.tanh), 1), _network(1, 1), tolerance=_LOOSE),
    "rnn_relu": Samples(_layers(_simple_cell(lambda v: np.maximum(v, 0)), 1), _network(1, 1), tolerance=_LOOSE),
    "lstm_cell": Samples(_lstm_cell, _cell(4, 2)),
    "gru_cell": Samples(_gru_cell, _cell(3, 1)),
    "rnn_tanh_cell": Samples(_simple_cell(np.tanh), _cell(1, 1)),
    "rnn_relu_cell": Samples(_simple_cell(lambda v: np.maximum(v, 0)), _cell(1, 1)),
    "normalize": Samples(
        lambda x, p=2.0, dim=1, eps=1e-12, out=None: x / np.maximum(_norm(x, p, dim, True), eps),
        [call(Array(2, 3)), call(Array(2, 3, 2), 1.0, 2), call(Array(3), dim=0)],
    ),
    "cosine_similarity": Samples(
        _cosine, [call(Array(3, 4), Array(3, 4)), call(Array(3, 4, 2), Array(4, 2), 2), call(Array(4), Array(4), 0)]
    ),
    "pairwise_distance": Samples(
        lambda a, b, p=2.0, eps=1e-6, keepdim=False: _norm(a - b + eps, p, -1, keepdim),
        [call(Array(3, 4), Array(3, 4)), call(Array(3, 4), Array(4), 1.0, keepdim=True), call(Array(4), Array(4))],
    ),
    "cdist": Samples(_cdist, [call(Array(3, 2), Array(4, 2)), call(Array(2, 2, 3), Array(2, 2, 3), 1.0)]),
    "pdist": Samples(
        lambda x, p=2.0: scipy.spatial.distance.pdist(x, "minkowski", p=p), [call(Array(4, 3)), call(Array(3, 2), 1.0)]
    ),
    "interpolate": Samples(
        _interpolate,
        [
            call(Array(1, 2, 3), 5),
            call(Array(1, 2, 3, 4), None, 2.0),
            call(Array(1, 1, 3, 4), None, (1.7, 0.6), "nearest-exact"),
            call(Array(1, 1, 3, 4), (5, 2), None, "bilinear"),
            call(Array(1, 1, 3, 4), None, (1.7, 2.0), "bilinear", False),
            call(Array(1, 1, 3, 4), None, (1.7, 2.0), "bilinear", False, True),
            call(Array(1, 1, 3, 4), (5, 7), None, "bilinear", True),
            call(Array(1, 1, 3, 4), (5, 2), None, "bicubic"),
            call(Array(1, 1, 3, 4), (5, 7), None, "bicubic", True),
            call(Array(1, 1, 3, 4), (2, 3), None, "area"),
            call(Array(1, 2, 3), None, 2.5, "linear"),
            call(Array(1, 1, 2, 2, 3), (3, 2, 4), None, "trilinear"),
        ],
    ),
    "upsample": Samples(
        lambda x, size=None, scale=None, mode="nearest", align=None: _interpolate(x, size, scale, mode, align),
        [call(Array(1, 1, 2, 3), None, 2.0)],
    ),
    "upsample_nearest": Samples(
        lambda x, size=None, scale=None: _interpolate(x, size, scale), [call(Array(1, 1, 2, 3), (4, 4))]
    ),
    "upsample_bilinear": Samples(
        lambda x, size=None, scale=None: _interpolate(x, size, scale, "bilinear", True),
        [call(Array(1, 1, 2, 3), (4, 4))],
    ),
    "grid_sample": Samples(
        _grid_sample,
        [
            *(
                call(Array(1, 2, 3, 4), _PLACES, mode, padding, align)
                for mode, padding, align in [
                    ("bilinear", "zeros", True),
                    ("bilinear", "border", False),
                    ("nearest", "zeros", False),
                    ("bicubic", "zeros", False),
                ]
            ),
            *(
                only(call(Array(1, 2, 3, 4), _OUTSIDE, mode, padding, align), grad=False)
                for mode in ("bilinear", "nearest", "bicubic")
                for padding in ("zeros", "border", "reflection")
                for align in (True, False)
            ),
            only(call(Array(1, 1, 2, 3, 2), Array(1, 1, 2, 2, 3, low=-0.9, high=0.9)), twice=False),
        ],
        tolerance=_LOOSE,
    ),
    "affine_grid": Samples(
        _affine_grid, [call(Array(2, 2, 3), (2, 1, 3, 4)), call(Array(1, 3, 4), (1, 1, 2, 3, 2), True)]
    ),
    "pixel_shuffle": Samples(_pixel_shuffle, [call(Array(1, 8, 2, 3), 2), call(Array(4, 1, 2), 2)]),
    "pixel_unshuffle": Samples(_pixel_unshuffle, [call(Array(1, 2, 4, 6), 2), call(Array(1, 2, 2), 2)]),
    "channel_shuffle": Samples(_channel_shuffle, [call(Array(2, 6, 2), 3), call(Array(1, 4, 2, 2), 2)]),
}
