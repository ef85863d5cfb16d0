"""Samples of the reductions, of softmax and its relatives, and of norms."""

import numpy as np
import scipy.special

from tests.ops.samples import ALL_FLOATS, BOOL, FLOATS, INTEGERS, Array, Samples, call

NAN = float("nan")
INF = float("inf")


def _axes(dim, x):
    return tuple(range(x.ndim)) if dim is None or dim == () or x.ndim == 0 else dim


def sum(x, dim=None, keepdim=False, dtype=None):
    return np.sum(x, axis=_axes(dim, x), keepdims=keepdim, dtype="int64" if x.dtype.kind in "biu" else None)


def mean(x, dim=None, keepdim=False, dtype=None):
    return np.mean(x, axis=_axes(dim, x), keepdims=keepdim)


def var(x, dim=None, unbiased=None, keepdim=False, correction=None):
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if correction is None:
        correction = 0 if unbiased is False else 1
    axes = _axes(dim, x)
    n = np.prod([x.shape[a] for a in ((axes,) if isinstance(axes, int) else axes)])
    deviations = (x - x.mean(axis=axes, keepdims=True)) ** 2
    return deviations.sum(axis=axes, keepdims=keepdim) / np.float64(max(n - correction, 0))


def std(x, *args, **kwargs):
    return np.sqrt(var(x, *args, **kwargs))


def _var_calls():
    return [
        call(Array(2, 3)),
        call(Array(2, 3), 1),
        call(Array(2, 3, 2), (0, 2), keepdim=True),
        call(Array(2, 3), -1, correction=0),
        call(Array(2, 3), 0, unbiased=False),
        call(Array(5), False),
        call(Array(4, 3), dim=0, correction=2),
    ]


def _with_zeros(*values):
    return Array(values=list(values))


def _cumulative(function):
    def reference(x, dim, dtype=None):
        return (
            function(x, axis=dim if x.ndim else None)
            .reshape(x.shape)
            .astype("int64" if x.dtype.kind in "biu" else x.dtype)
        )

    return reference


def _logical(function):
    def reference(x, dim=None, keepdim=False):
        result = function(x != 0, axis=_axes(dim, x), keepdims=keepdim)
        return result.astype("uint8") if x.dtype == np.uint8 else result

    return reference


def _reduction_calls():
    return [
        call(Array(2, 3)),
        call(Array(2, 3), 1),
        call(Array(2, 3), -2, True),
        call(Array(2, 3, 2), (0, 2)),
        call(Array(2, 3, 2), dim=(-1, 0), keepdim=True),
        call(Array(3), ()),
        call(Array()),
        call(Array(), 0),
        call(Array(2, 0), 0),
    ]


def softmax(x, dim, dtype=None):
    return np.exp(log_softmax(x, dim))


def log_softmax(x, dim, dtype=None):
    top = x.max(axis=dim, keepdims=True) if x.size else 0
    with np.errstate(all="ignore"):
        shifted = x - top
        return shifted - np.log(np.exp(shifted).sum(axis=dim, keepdims=True))


def _softmax_calls():
    return [
        call(Array(2, 3), 1),
        call(Array(2, 3), 0),
        call(Array(2, 3, 2), dim=-2),
        call(Array(2, 40), 1),
        call(Array(3), -1),
        call(Array(0, 3), 1),
        call(Array(values=[[100.0, 0.0, -100.0], [90.0, 90.0, 89.0]]), 1),
        call(Array(values=[[-INF, 0.0, 1.0], [-INF, -INF, 2.0], [-INF, -INF, -INF]], grad=False), 1),
        call(Array(values=[[INF, 0.0], [NAN, 1.0]], grad=False), 1),
    ]


def logsumexp(x, dim, keepdim=False):
    if x.size == 0:
        return np.full(np.sum(x, axis=dim, keepdims=keepdim).shape, -INF)
    if x.ndim == 0:
        return x
    return scipy.special.logsumexp(x.astype("float64"), axis=_axes(dim, x), keepdims=keepdim)


def vector_norm(x, ord=2, dim=None, keepdim=False, dtype=None):
    axes = _axes(dim, x)
    size = np.abs(x)
    if ord == 0:
        return (x != 0).sum(axis=axes, keepdims=keepdim).astype(x.dtype)
    if np.isinf(ord):
        return (size.max if ord > 0 else size.min)(axis=axes, keepdims=keepdim)
    return (size**ord).sum(axis=axes, keepdims=keepdim) ** (1 / ord)


SAMPLES = {
    "sum": Samples(sum, _reduction_calls(), dtypes=ALL_FLOATS + INTEGERS + BOOL),
    "mean": Samples(
        mean,
        [c for c in _reduction_calls() if 0 not in c.args[0].shape],
        dtypes=ALL_FLOATS,
    ),
    "var": Samples(var, [*_var_calls(), call(Array(1, grad=False))]),
    "std": Samples(std, [*_var_calls(), call(Array(values=[2.0, 2.0, 2.0], grad=False))]),
    "var_mean": Samples(
        lambda x, *a, **k: (
            var(x, *a, **k),
            mean(
                x,
                *(() if a and isinstance(a[0], bool) else a[:1]),
                keepdim=k.get("keepdim", False),
                **{n: v for n, v in k.items() if n == "dim"},
            ),
        ),
        _var_calls(),
    ),
    "std_mean": Samples(
        lambda x, *a, **k: (
            std(x, *a, **k),
            mean(
                x,
                *(() if a and isinstance(a[0], bool) else a[:1]),
                keepdim=k.get("keepdim", False),
                **{n: v for n, v in k.items() if n == "dim"},
            ),
        ),
        _var_calls(),
    ),
    "prod": Samples(
        lambda x, dim=None, keepdim=False, dtype=None: np.prod(
            x, axis=dim if x.ndim else None, keepdims=keepdim, dtype="int64" if x.dtype.kind in "biu" else None
        ),
        [
            call(Array(2, 3)),
            call(Array(2, 3), 1),
            call(Array(2, 3), 0, True),
            call(_with_zeros(2.0, 0.0, 3.0)),
            call(_with_zeros([0.0, 1.5, 0.0], [2.0, 0.0, 3.0], [1.0, 2.0, 3.0]), 1),
            call(Array()),
            call(Array(2, 0), 1),
        ],
        dtypes=FLOATS + INTEGERS + BOOL,
    ),
    "cumsum": Samples(
        _cumulative(np.cumsum),
        [call(Array(2, 3), 1), call(Array(2, 3), dim=-2), call(Array(), 0), call(Array(0, 2), 0)],
        dtypes=ALL_FLOATS + INTEGERS + BOOL,
    ),
    "cumprod": Samples(
        _cumulative(np.cumprod),
        [
            call(Array(2, 3), 1),
            call(Array(2, 3), dim=0),
            call(Array(), 0),
            call(_with_zeros([2.0, 0.0, 3.0, 1.5], [0.5, 0.0, 2.0, 0.0], [0.0, 1.0, 2.0, 3.0]), 1),
        ],
        dtypes=FLOATS + INTEGERS,
    ),
    "nansum": Samples(
        lambda x, dim=None, keepdim=False, dtype=None: np.nansum(x, axis=_axes(dim, x), keepdims=keepdim),
        [call(Array(2, 3)), call(Array(values=[[1.0, NAN, 2.0], [NAN, NAN, 3.0]], grad=False), 1, True)],
    ),
    "nanmean": Samples(
        lambda x, dim=None, keepdim=False, dtype=None: np.nanmean(x, axis=_axes(dim, x), keepdims=keepdim),
        [call(Array(2, 3)), call(Array(values=[[1.0, NAN, 2.0], [NAN, NAN, 3.0]], grad=False), 1, True)],
    ),
    "all": Samples(_logical(np.all), _reduction_calls(), dtypes=FLOATS + INTEGERS + BOOL),
    "any": Samples(_logical(np.any), _reduction_calls(), dtypes=FLOATS + INTEGERS + BOOL),
    "count_nonzero": Samples(
        lambda x, dim=None: np.count_nonzero(x, axis=_axes(dim, x)),
        [call(Array(2, 3)), call(Array(2, 3), 1), call(Array(2, 3), (0, 1)), call(Array())],
        dtypes=FLOATS + INTEGERS + BOOL,
    ),
    "softmax": Samples(softmax, _softmax_calls(), dtypes=ALL_FLOATS),
    "log_softmax": Samples(log_softmax, _softmax_calls(), dtypes=ALL_FLOATS),
    "softmin": Samples(lambda x, dim, dtype=None: softmax(-x, dim), [call(Array(2, 3), 1)]),
    "logsumexp": Samples(
        logsumexp,
        [
            call(Array(2, 3), 1),
            call(Array(2, 3), (0, 1), True),
            call(Array(2, 3), -2),
            call(Array(), 0),
            call(Array(2, 0), 1),
            call(Array(values=[[1000.0, 999.0], [-1000.0, -1000.0]]), 1),
            call(Array(values=[[-INF, -INF], [INF, 1.0], [-INF, 1.0]], grad=False), 1),
        ],
    ),
    "logcumsumexp": Samples(
        lambda x, dim: np.logaddexp.accumulate(x, axis=dim) if x.ndim else x,
        [call(Array(2, 3), 1), call(Array(2, 3), 0), call(Array(), 0)],
    ),
    "linalg.vector_norm": Samples(
        vector_norm,
        [
            call(Array(2, 3)),
            call(Array(2, 3), 1, 1),
            call(Array(2, 3), INF, 0),
            call(Array(2, 3), -INF, 0, True),
            call(Array(2, 3), 3, (0, 1)),
            call(Array(2, 3), 0.5, -1),
            call(Array(2, 3), 0),
            call(Array()),
            call(Array(0, 2), 2, 0),
        ],
    ),
    "dist": Samples(
        lambda x, y, p=2: vector_norm(x - y, p), [call(Array(2, 3), Array(2, 3)), call(Array(3), Array(2, 3), 1)]
    ),
}
