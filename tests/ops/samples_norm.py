"""Samples of linear maps, normalisation, dropout and embeddings."""

from typing import Any

import numpy as np

from tests.ops.samples import Array, Samples, call, only

_LOOSE = {"float32": 2e-4}


def _channels(v: Any, x: Any) -> Any:
    return v.reshape(-1, *(1,) * (x.ndim - 2))


def _affine(y: Any, weight: Any, bias: Any) -> Any:
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _batch_norm(
    x: Any,
    mean: Any,
    var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    if training:
        axes = (0, *range(2, x.ndim))
        mean, var = x.mean(axes), x.var(axes)
    y = (x - _channels(mean, x)) / np.sqrt(_channels(var, x) + eps)
    return _affine(y, None if weight is None else _channels(weight, x), None if bias is None else _channels(bias, x))


def _layer_norm(x: Any, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    axes = tuple(range(x.ndim - (len(shape) if isinstance(shape, tuple) else 1), x.ndim))
    return _affine((x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps), weight, bias)


def _rms_norm(x: Any, shape: Any, weight: Any = None, eps: float | None = None) -> Any:
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    return _affine(x / np.sqrt((x * x).mean(axes, keepdims=True) + (eps or 0)), weight, None)


def _group_norm(x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    rows = x.reshape(x.shape[0], groups, -1)
    y = ((rows - rows.mean(2, keepdims=True)) / np.sqrt(rows.var(2, keepdims=True) + eps)).reshape(x.shape)
    return _affine(y, None if weight is None else _channels(weight, x), None if bias is None else _channels(bias, x))


def _instance_norm(
    x: Any,
    mean: Any = None,
    var: Any = None,
    weight: Any = None,
    bias: Any = None,
    own: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    return (
        _group_norm(x, x.shape[1], weight, bias, eps)
        if own
        else _batch_norm(x, mean, var, weight, bias, False, momentum, eps)
    )


def _local_response_norm(x: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Any:
    padded = np.pad(x * x, [(0, 0), (size // 2, (size - 1) // 2)] + [(0, 0)] * (x.ndim - 2))
    sums = sum(padded[:, i : i + x.shape[1]] for i in range(size))
    return x / (k + alpha / size * sums) ** beta


def _dropout(per_channel: bool, single: int = 0) -> Any:
    def check(result: Any, x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> None:
        if not training or p == 0:
            np.testing.assert_array_equal(result, x)
            return
        if p == 1:
            assert not result.any()
            return
        kept = result != 0
        np.testing.assert_allclose(result[kept], (x / (1 - p))[kept], rtol=1e-5)
        assert kept.any() and not kept.all()
        if per_channel:
            lead = kept.ndim if not single else 1 if kept.ndim == single else 2
            planes = kept.reshape(*kept.shape[: min(2, lead)], -1)
            assert np.all(planes == planes[..., :1])

    return check


def _check_alpha(result: Any, x: Any, p: float = 0.5, training: bool = False, inplace: bool = False) -> None:
    if not training:
        np.testing.assert_array_equal(result, x)
        return
    low = -1.7580993408473766
    a = ((1 - p) * (1 + p * low**2)) ** -0.5
    kept = np.isclose(result, a * x - a * p * low, atol=1e-6)
    np.testing.assert_allclose(result[~kept], a * low - a * p * low, rtol=1e-5)
    assert kept.any() and not kept.all()


def _embedding(
    i: Any,
    w: Any,
    padding_idx: Any = None,
    max_norm: Any = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Any:
    return w[i]


def _embedding_bag(i: Any, w: Any, offsets: Any = None, **options: Any) -> Any:
    mode, padding, factors = options.get("mode", "mean"), options.get("padding_idx"), options.get("per_sample_weights")
    if i.ndim == 2:
        bags = [np.arange(n * i.shape[1], (n + 1) * i.shape[1]) for n in range(len(i))]
    else:
        ends = [*offsets[1:], *([] if options.get("include_last_offset") else [len(i)])]
        bags = [np.arange(a, b) for a, b in zip(offsets, ends, strict=False)]
    flat = i.reshape(-1)
    scale = np.ones(flat.size) if factors is None else factors.reshape(-1)
    result = np.zeros((len(bags), w.shape[1]))
    for row, bag in zip(result, bags, strict=True):
        rows = [w[flat[j]] * scale[j] for j in bag if flat[j] != padding]
        if rows:
            row[...] = {"sum": np.sum, "mean": np.mean, "max": np.max}[mode](rows, axis=0)
    return result


def _bilinear(x: Any, y: Any, w: Any, b: Any = None) -> Any:
    result = np.einsum("...i,kij,...j->...k", x, w, y)
    return result if b is None else result + b


_INDICES = Array(values=[[0, 3, 3], [1, 4, 0]], dtype="int64")
_LINE = Array(values=[0, 3, 3, 1, 4, 0], dtype="int64")
_OFFSETS = Array(values=[0, 2, 2, 5], dtype="int64")

SAMPLES = {
    "linear": Samples(
        lambda x, w, b=None: _affine(x @ w.T, None, b),
        [
            call(Array(3, 4), Array(2, 4), Array(2)),
            call(Array(2, 3, 4), Array(2, 4)),
            call(Array(4), Array(2, 4), Array(2)),
            call(Array(2, 4), Array(4)),
            call(Array(0, 4), Array(2, 4), Array(2)),
        ],
    ),
    "bilinear": Samples(
        _bilinear,
        [
            call(Array(3, 2), Array(3, 4), Array(2, 2, 4), Array(2)),
            call(Array(2, 2, 2), Array(2, 2, 3), Array(2, 2, 3)),
        ],
    ),
    "batch_norm": Samples(
        _batch_norm,
        [
            only(call(Array(3, 2, 2), None, None, Array(2), Array(2), True)),
            only(call(Array(4, 3), None, None, training=True)),
            only(call(Array(3, 2, 2, 2), None, None, Array(2), None, training=True, eps=0.1)),
            call(Array(3, 2, 2), Array(2, grad=False), Array(2, low=0.5, grad=False), Array(2), Array(2)),
            call(Array(3, 2), Array(2, grad=False), Array(2, low=0.5, grad=False)),
        ],
        tolerance=_LOOSE,
    ),
    "layer_norm": Samples(
        _layer_norm,
        [
            call(Array(3, 4), (4,), Array(4), Array(4)),
            call(Array(2, 3, 2), (3, 2), Array(3, 2)),
            call(Array(3, 4), 4, eps=0.1),
            only(call(Array(0, 4), (4,)), grad=False),
        ],
        tolerance=_LOOSE,
    ),
    "rms_norm": Samples(
        _rms_norm,
        [call(Array(3, 4), (4,), Array(4)), call(Array(2, 3, 2), (3, 2)), call(Array(3, 4), (4,), None, 0.1)],
        tolerance=_LOOSE,
    ),
    "group_norm": Samples(
        _group_norm,
        [
            call(Array(2, 4, 3), 2, Array(4), Array(4)),
            call(Array(2, 4, 2, 2), 4),
            call(Array(2, 4, 3), 1, Array(4), eps=0.1),
        ],
        tolerance=_LOOSE,
    ),
    "instance_norm": Samples(
        _instance_norm,
        [
            call(Array(2, 3, 4)),
            call(Array(2, 3, 2, 2), weight=Array(3), bias=Array(3)),
            call(Array(2, 3, 4), Array(3, grad=False), Array(3, low=0.5, grad=False), None, None, False),
        ],
        tolerance=_LOOSE,
    ),
    "local_response_norm": Samples(
        _local_response_norm, [call(Array(2, 5, 2), 3, 0.5), call(Array(1, 4, 2, 2), 2, 1.0, 0.5, 2.0)]
    ),
    "dropout": Samples(
        None,
        [call(Array(4, 5)), call(Array(4, 5), 0.2), call(Array(4, 5), training=False), call(Array(3, 3), 1.0)],
        check=_dropout(False),
        random=True,
    ),
    "dropout1d": Samples(None, [call(Array(4, 5, 2)), call(Array(9, 2))], check=_dropout(True, 2), random=True),
    "dropout2d": Samples(None, [call(Array(4, 5, 2, 2), 0.3), call(Array(4, 5, 2))], check=_dropout(True), random=True),
    "dropout3d": Samples(
        None, [call(Array(4, 3, 1, 2, 2), 0.3), call(Array(9, 2, 1, 2))], check=_dropout(True, 4), random=True
    ),
    "alpha_dropout": Samples(
        None,
        [call(Array(4, 5), training=True), call(Array(4, 5), 0.3, True), call(Array(4, 5))],
        check=_check_alpha,
        random=True,
    ),
    "feature_alpha_dropout": Samples(None, [call(Array(4, 5, 2), training=True)], check=_check_alpha, random=True),
    "embedding": Samples(
        _embedding,
        [
            call(_INDICES, Array(5, 2)),
            call(_LINE, Array(5, 2)),
            call(Array(values=2, dtype="int64"), Array(5, 2)),
            call(Array(0, dtype="int64"), Array(5, 2)),
        ],
    ),
    "embedding_bag": Samples(
        _embedding_bag,
        [
            call(_INDICES, Array(5, 2)),
            call(_INDICES, Array(5, 2), mode="sum", padding_idx=3),
            call(_INDICES, Array(5, 2), mode="sum", per_sample_weights=Array(2, 3)),
            call(_LINE, Array(5, 2), _OFFSETS, mode="max"),
            call(_LINE, Array(5, 2), _OFFSETS, mode="mean", padding_idx=0),
            call(_LINE, Array(5, 2), Array(values=[0, 2, 6], dtype="int64"), mode="sum", include_last_offset=True),
        ],
    ),
}
