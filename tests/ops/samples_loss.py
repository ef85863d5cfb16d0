"""Samples of the losses."""

import itertools
from typing import Any

import numpy as np
import scipy.special

from tests.ops.samples import Array, Samples, call, only

_CLASSES = Array(values=[0, 2, 1, 2], dtype="int64")
_MANY = Array(values=[[0, 2], [1, 1], [-100, 2]], dtype="int64")
_SIGNS = Array(values=[1.0, -1.0, 1.0], grad=False)


def _reduced(losses: Any, reduction: str) -> Any:
    return {"mean": np.mean, "sum": np.sum, "none": lambda v: v}[reduction](losses)


def _pair(function: Any) -> Any:
    def reference(
        x: Any, y: Any, size_average: Any = None, reduce: Any = None, reduction: str = "mean", **extra: Any
    ) -> Any:
        weight = extra.pop("weight", None)
        losses = function(x - y, **extra)
        if weight is None:
            return _reduced(losses, reduction)
        weight = np.broadcast_to(weight, losses.shape)
        return _reduced(losses * weight, reduction) if reduction != "mean" else (losses * weight).sum() / weight.sum()

    return reference


def _huber(d: Any, delta: float = 1.0) -> Any:
    return np.where(np.abs(d) < delta, d * d / 2, delta * (np.abs(d) - delta / 2))


def _smooth_l1(d: Any, beta: float = 1.0) -> Any:
    return np.where(np.abs(d) < beta, d * d / 2 / max(beta, 1e-30), np.abs(d) - beta / 2)


def _nll(
    x: Any,
    t: Any,
    weight: Any = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
) -> Any:
    if x.ndim == 1:
        return _nll(x[None], t[None], weight, None, ignore_index, None, "sum" if reduction != "mean" else "mean")
    if reduce is False:
        reduction = "none"
    w = np.ones(x.shape[1]) if weight is None else weight
    losses, weights = np.zeros(t.shape), np.zeros(t.shape)
    for place in np.ndindex(t.shape):
        c = t[place]
        if c != ignore_index:
            losses[place], weights[place] = -w[c] * x[(place[0], c, *place[1:])], w[c]
    return losses.sum() / weights.sum() if reduction == "mean" else _reduced(losses, reduction)


def _cross_entropy(
    x: Any,
    t: Any,
    weight: Any = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    axis = 1 if x.ndim > 1 else 0
    logp, classes = scipy.special.log_softmax(x, axis), x.shape[axis]
    w = np.ones(classes) if weight is None else weight
    scaled = logp * w.reshape(-1, *(1,) * (x.ndim - 1 - axis))
    if t.dtype.kind == "f":
        target = t * (1 - label_smoothing) + label_smoothing / classes
        losses = -(target * scaled).sum(axis)
        return losses.sum() / max(losses.size, 1) if reduction == "mean" else _reduced(losses, reduction)
    hard = _nll(logp, t, weight, None, ignore_index, None, reduction)
    if not label_smoothing:
        return hard
    keep = t != ignore_index
    even = -scaled.sum(axis) * keep
    if reduction == "mean":
        even = even.sum() / (w[np.where(keep, t, 0)] * keep).sum()
    return (1 - label_smoothing) * hard + label_smoothing / classes * (
        even if reduction == "mean" else _reduced(even, reduction)
    )


def _bce(
    x: Any, t: Any, weight: Any = None, size_average: Any = None, reduce: Any = None, reduction: str = "mean"
) -> Any:
    losses = -(t * np.log(x) + (1 - t) * np.log(1 - x))
    return _reduced(losses if weight is None else losses * weight, reduction)


def _bce_logits(
    x: Any,
    t: Any,
    weight: Any = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    pos_weight: Any = 1.0,
) -> Any:
    losses = pos_weight * t * np.logaddexp(0, -x) + (1 - t) * np.logaddexp(0, x)
    return _reduced(losses if weight is None else losses * weight, reduction)


def _kl_div(
    x: Any, t: Any, size_average: Any = None, reduce: Any = None, reduction: str = "mean", log_target: bool = False
) -> Any:
    losses = np.exp(t) * (t - x) if log_target else scipy.special.xlogy(t, t) - t * x
    return losses.sum() / len(x) if reduction == "batchmean" else _reduced(losses, reduction)


def _poisson(
    x: Any,
    t: Any,
    log_input: bool = True,
    full: bool = False,
    size_average: Any = None,
    eps: float = 1e-8,
    reduce: Any = None,
    reduction: str = "mean",
) -> Any:
    losses = np.exp(x) - t * x if log_input else x - t * np.log(x + eps)
    if full:
        losses = losses + np.where(t > 1, t * np.log(t) - t + 0.5 * np.log(2 * np.pi * t), 0)
    return _reduced(losses, reduction)


def _gaussian(x: Any, t: Any, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> Any:
    if np.ndim(var) and var.ndim < x.ndim:
        var = var[..., None]
    losses = 0.5 * (np.log(np.maximum(var, eps)) + (x - t) ** 2 / np.maximum(var, eps)) + (
        0.5 * np.log(2 * np.pi) if full else 0
    )
    return _reduced(losses, reduction)


def _hinge(
    x: Any, t: Any, margin: float = 1.0, size_average: Any = None, reduce: Any = None, reduction: str = "mean"
) -> Any:
    return _reduced(np.where(t == 1, x, np.maximum(0, margin - x)), reduction)


def _ranking(
    a: Any, b: Any, t: Any, margin: float = 0, size_average: Any = None, reduce: Any = None, reduction: str = "mean"
) -> Any:
    return _reduced(np.maximum(0, -t * (a - b) + margin), reduction)


def _cosine(
    a: Any, b: Any, t: Any, margin: float = 0, size_average: Any = None, reduce: Any = None, reduction: str = "mean"
) -> Any:
    cos = (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    return _reduced(np.where(t == 1, 1 - cos, np.maximum(0, cos - margin)), reduction)


def _triplet(
    a: Any,
    p: Any,
    n: Any,
    margin: float = 1.0,
    norm: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
    **_: Any,
) -> Any:
    def distance(u: Any, v: Any) -> Any:
        return (np.abs(u - v + eps) ** norm).sum(-1) ** (1 / norm)

    far = np.minimum(distance(a, n), distance(p, n)) if swap else distance(a, n)
    return _reduced(np.maximum(0, distance(a, p) - far + margin), reduction)


def _soft_margin(x: Any, t: Any, size_average: Any = None, reduce: Any = None, reduction: str = "mean") -> Any:
    return _reduced(np.logaddexp(0, -t * x), reduction)


def _multilabel_soft(
    x: Any, t: Any, weight: Any = None, size_average: Any = None, reduce: Any = None, reduction: str = "mean"
) -> Any:
    losses = t * np.logaddexp(0, -x) + (1 - t) * np.logaddexp(0, x)
    return _reduced((losses if weight is None else losses * weight).mean(-1), reduction)


def _multi_margin(
    x: Any,
    t: Any,
    p: int = 1,
    margin: float = 1.0,
    weight: Any = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Any:
    if x.ndim == 1:
        return _multi_margin(x[None], t[None], p, margin, weight, reduction="sum")
    w = np.ones(x.shape[1]) if weight is None else weight
    losses = [
        sum(w[c] * max(0, margin - row[c] + v) ** p for j, v in enumerate(row) if j != c) / len(row)
        for row, c in zip(x, t, strict=True)
    ]
    return _reduced(np.array(losses), reduction)


def _multilabel_margin(x: Any, t: Any, size_average: Any = None, reduce: Any = None, reduction: str = "mean") -> Any:
    losses = []
    for row, targets in zip(np.atleast_2d(x), np.atleast_2d(t), strict=True):
        chosen = list(itertools.takewhile(lambda c: c >= 0, targets))
        losses.append(
            sum(max(0, 1 - (row[c] - v)) for c in chosen for j, v in enumerate(row) if j not in chosen) / len(row)
        )
    return _reduced(np.array(losses if x.ndim > 1 else losses[0]), reduction)


def _ctc(
    logp: Any,
    targets: Any,
    steps: Any,
    sizes: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Any:
    """By listing every path and collapsing it."""
    losses, begin = [], 0
    for n, (length, size) in enumerate(zip(steps, sizes, strict=True)):
        wanted = targets[n, :size] if targets.ndim == 2 else targets[begin : begin + size]
        begin += size
        total = 0.0
        for path in itertools.product(range(logp.shape[2]), repeat=int(length)):
            if [c for c, _ in itertools.groupby(path) if c != blank] == list(wanted):
                total += np.exp(sum(logp[t, n, c] for t, c in enumerate(path)))
        losses.append(-np.log(total) if total or not zero_infinity else 0.0)
    values = np.array(losses)
    return (values / np.maximum(sizes, 1)).mean() if reduction == "mean" else _reduced(values, reduction)


_PAIR = [
    call(Array(2, 3), Array(2, 3)),
    call(Array(2, 3), Array(2, 3), reduction="sum"),
    call(Array(4), Array(4), reduction="none"),
    call(Array(), Array()),
]
_PROB = Array(2, 3, low=0.1, high=0.9)
_LENGTHS = Array(values=[4, 3], dtype="int64")

SAMPLES = {
    "mse_loss": Samples(_pair(lambda d: d * d), [*_PAIR, call(Array(2, 3), Array(2, 3), weight=Array(3, low=0.1))]),
    "l1_loss": Samples(
        _pair(np.abs), [*_PAIR, call(Array(2, 3), Array(2, 3), reduction="sum", weight=Array(2, 3, low=0.1))]
    ),
    "smooth_l1_loss": Samples(
        _pair(_smooth_l1), [*_PAIR, call(Array(2, 3), Array(2, 3), beta=0.3), call(Array(2, 3), Array(2, 3), beta=0)]
    ),
    "huber_loss": Samples(
        lambda x, y, reduction="mean", delta=1.0, weight=None: _pair(_huber)(
            x, y, None, None, reduction, delta=delta, weight=weight
        ),
        [*_PAIR, call(Array(2, 3), Array(2, 3), delta=0.3)],
    ),
    "cross_entropy": Samples(
        _cross_entropy,
        [
            call(Array(4, 3), _CLASSES),
            call(Array(4, 3), _CLASSES, Array(3, low=0.1, grad=False), reduction="sum", label_smoothing=0.2),
            call(Array(4, 3), _CLASSES, ignore_index=2, reduction="none"),
            call(Array(4, 3), _CLASSES, Array(3, low=0.1, grad=False), ignore_index=1, label_smoothing=0.1),
            call(Array(3, 3, 2), _MANY, Array(3, low=0.1, grad=False), label_smoothing=0.1),
            call(Array(3, 3, 2), _MANY, reduction="none", label_smoothing=0.3),
            call(Array(3), Array(values=1, dtype="int64")),
            call(Array(4, 3), Array(4, 3, low=0)),
            call(
                Array(4, 3, 2),
                Array(4, 3, 2, low=0),
                Array(3, low=0.1, grad=False),
                reduction="none",
                label_smoothing=0.1,
            ),
            only(call(Array(values=[[1000.0, -1000.0, 0.0]]), Array(values=[2], dtype="int64")), grad=False),
        ],
    ),
    "nll_loss": Samples(
        _nll,
        [
            call(Array(4, 3), _CLASSES),
            call(Array(4, 3), _CLASSES, Array(3, low=0.1, grad=False)),
            call(Array(4, 3), _CLASSES, ignore_index=2, reduction="none"),
            call(Array(3, 3, 2), _MANY, reduction="sum"),
            call(Array(3), Array(values=1, dtype="int64")),
            call(Array(4, 3), _CLASSES, reduce=False),
        ],
    ),
    "binary_cross_entropy": Samples(
        _bce,
        [
            call(_PROB, _PROB),
            call(_PROB, _PROB, Array(3, low=0.1, grad=False), reduction="sum"),
            call(_PROB, _PROB, reduction="none"),
        ],
    ),
    "binary_cross_entropy_with_logits": Samples(
        _bce_logits,
        [
            call(Array(2, 3), _PROB),
            call(Array(2, 3), _PROB, Array(3, low=0.1, grad=False), reduction="none"),
            call(Array(2, 3), _PROB, pos_weight=Array(3, low=0.1, grad=False)),
            only(call(Array(values=[800.0, -800.0]), Array(values=[1.0, 1.0])), grad=False),
        ],
    ),
    "kl_div": Samples(
        _kl_div,
        [
            call(Array(2, 3), _PROB),
            call(Array(2, 3), Array(2, 3), log_target=True, reduction="batchmean"),
            call(Array(2, 3), _PROB, reduction="none"),
        ],
    ),
    "poisson_nll_loss": Samples(
        _poisson,
        [
            call(Array(2, 3), Array(2, 3, low=2, high=5)),
            call(Array(2, 3, low=0.5), Array(2, 3, low=0.5, high=0.9), False, True),
            call(Array(4), Array(4, low=2), full=True, reduction="none"),
        ],
    ),
    "gaussian_nll_loss": Samples(
        _gaussian,
        [
            call(Array(2, 3), Array(2, 3), Array(2, 3, low=0.5)),
            call(Array(2, 3), Array(2, 3), Array(2, low=0.5), True),
            call(Array(2, 3), Array(2, 3), 0.7, reduction="none"),
        ],
    ),
    "hinge_embedding_loss": Samples(
        _hinge, [call(Array(3), _SIGNS), call(Array(2, 3), _SIGNS, 0.35, reduction="none")]
    ),
    "margin_ranking_loss": Samples(
        _ranking, [call(Array(3), Array(3), _SIGNS), call(Array(3), Array(3), _SIGNS, 0.35, reduction="none")]
    ),
    "cosine_embedding_loss": Samples(
        _cosine,
        [
            call(Array(3, 4), Array(3, 4), _SIGNS),
            call(Array(3, 4), Array(3, 4), _SIGNS, 0.35, reduction="sum"),
            call(Array(4), Array(4), Array(values=-1.0, grad=False)),
        ],
    ),
    "triplet_margin_loss": Samples(
        lambda a, p, n, margin=1.0, norm=2, eps=1e-6, swap=False, size_average=None, reduce=None, reduction="mean": (
            _triplet(a, p, n, margin, norm, eps, swap, reduction)
        ),
        [
            call(Array(3, 4), Array(3, 4), Array(3, 4)),
            call(Array(3, 4), Array(3, 4), Array(3, 4), 0.7, 1, swap=True, reduction="none"),
        ],
    ),
    "triplet_margin_with_distance_loss": Samples(
        _triplet,
        [
            call(Array(3, 4), Array(3, 4), Array(3, 4)),
            call(Array(3, 4), Array(3, 4), Array(3, 4), margin=0.7, swap=True, reduction="sum"),
        ],
    ),
    "soft_margin_loss": Samples(_soft_margin, [call(Array(3), _SIGNS), call(Array(2, 3), _SIGNS, reduction="none")]),
    "multilabel_soft_margin_loss": Samples(
        _multilabel_soft,
        [
            call(Array(2, 3), _PROB),
            call(Array(2, 3), _PROB, Array(3, low=0.1), reduction="none"),
            call(Array(3), Array(3, low=0)),
        ],
    ),
    "multi_margin_loss": Samples(
        _multi_margin,
        [
            call(Array(4, 3), _CLASSES),
            call(Array(4, 3), _CLASSES, 2, 0.7, Array(3, low=0.1, grad=False), reduction="none"),
            call(Array(3), Array(values=1, dtype="int64")),
        ],
    ),
    "multilabel_margin_loss": Samples(
        _multilabel_margin,
        [
            call(Array(2, 4), Array(values=[[1, 2, -1, 0], [3, -1, 2, 1]], dtype="int64")),
            call(Array(4), Array(values=[0, -1, 2, 1], dtype="int64"), reduction="none"),
        ],
    ),
    "ctc_loss": Samples(
        _ctc,
        # torch's gradient takes the input for the output of a log-softmax, so it is no plain derivative.
        [
            only(
                call(
                    Array(4, 2, 3, high=0),
                    Array(values=[[1, 2], [2, 2]], dtype="int64"),
                    _LENGTHS,
                    Array(values=[2, 1], dtype="int64"),
                ),
                grad=False,
            ),
            only(
                call(
                    Array(4, 2, 3, high=0),
                    Array(values=[1, 1, 2], dtype="int64"),
                    _LENGTHS,
                    Array(values=[2, 1], dtype="int64"),
                    reduction="none",
                ),
                grad=False,
            ),
            only(
                call(
                    Array(4, 2, 3, high=0),
                    Array(values=[[1, 2], [2, 2]], dtype="int64"),
                    Array(values=[4, 2], dtype="int64"),
                    Array(values=[0, 2], dtype="int64"),
                    0,
                    "sum",
                    True,
                ),
                grad=False,
            ),
        ],
    ),
}
