"""Samples of the extremes and of everything that sorts."""

import numpy as np

from tests.ops.samples import BOOL, FLOATS, INTEGERS, Array, Samples, call

NAN = float("nan")


def _numpy_extreme(function, place):
    def reference(x, dim=None, keepdim=False):
        if isinstance(dim, np.ndarray):
            return {"max": np.maximum, "min": np.minimum}[function](x, dim)
        if dim is None:
            return getattr(np, function)(x)
        if x.ndim == 0:
            return x, np.int64(0)
        return getattr(np, function)(x, axis=dim, keepdims=keepdim), getattr(np, place)(x, axis=dim, keepdims=keepdim)

    return reference


def _whole(function):
    return lambda x, dim=(), keepdim=False: function(x, axis=dim if dim != () else None, keepdims=keepdim)


def _extreme_calls():
    return [
        call(Array(2, 3)),
        call(Array(2, 3), 1),
        call(Array(2, 3), dim=-2, keepdim=True),
        call(Array()),
        call(Array(), 0),
        call(Array(0, 3), 1),
        call(Array(2, 3), Array(3)),
    ]


def _running(function):
    def reference(x, dim):
        if x.ndim == 0:
            return x, np.int64(0)
        values = function.accumulate(x, axis=dim)
        steps = np.arange(x.shape[dim]).reshape((-1,) + (1,) * (x.ndim - 1 - dim % x.ndim))
        return values, np.maximum.accumulate(np.where(values == x, steps, 0), axis=dim)

    return reference


def _in_order(x, dim=-1, descending=False, stable=False):
    if x.ndim == 0:
        return np.int64(0)
    if descending:
        return x.shape[dim] - 1 - np.flip(np.argsort(np.flip(x, dim), axis=dim, kind="stable"), dim)
    return np.argsort(x, axis=dim, kind="stable")


def _sorted(x, dim=-1, descending=False, stable=False):
    places = _in_order(x, dim, descending)
    return (np.take_along_axis(x, places, dim), places) if x.ndim else (x, places)


def _picks(expected):
    """A check: the values are the expected ones, and the indices name them."""

    def check(result, x, *args, **kwargs):
        dim, keepdim, values = expected(x, *args, **kwargs)
        if not isinstance(result, tuple):
            np.testing.assert_allclose(result, values)
            return
        np.testing.assert_allclose(result.values, values, rtol=1e-6)
        if x.ndim:
            places = result.indices if keepdim else np.expand_dims(result.indices, dim)
            picked = np.take_along_axis(x, places, dim)
            np.testing.assert_allclose(picked if keepdim else picked.squeeze(dim), values, rtol=1e-6)

    return check


def _topk(x, k, dim=-1, largest=True, sorted=True):
    if x.ndim == 0:
        return dim, True, x
    return (
        dim,
        True,
        np.take(np.sort(x, axis=dim) if not largest else np.flip(np.sort(x, axis=dim), dim), np.arange(k), axis=dim),
    )


def _kth(x, k, dim=-1, keepdim=False):
    if x.ndim == 0:
        return dim, True, x
    values = np.take(np.sort(x, axis=dim), [k - 1], axis=dim)
    return dim, keepdim, values if keepdim else values.squeeze(dim)


def _median(x, dim=None, keepdim=False):
    if dim is None or x.ndim == 0:
        return 0, True, np.sort(x.reshape(-1))[(x.size - 1) // 2]
    return _kth(x, (x.shape[dim] + 1) // 2, dim, keepdim)


def _nanmedian(x, dim=None, keepdim=False):
    if dim is None:
        valid = x[~np.isnan(x)]
        return 0, True, np.sort(valid)[(valid.size - 1) // 2]
    values = np.apply_along_axis(lambda v: np.sort(v)[(np.sum(~np.isnan(v)) - 1) // 2], dim, x)
    return dim, keepdim, np.expand_dims(values, dim) if keepdim else values


def _mode(x, dim=-1, keepdim=False):
    if x.ndim == 0:
        return dim, True, x

    def most(v):
        values, counts = np.unique(v, return_counts=True)
        return values[np.argmax(counts)]

    values = np.apply_along_axis(most, dim, x)
    return dim, keepdim, np.expand_dims(values, dim) if keepdim else values


def _unique(x, sorted=True, return_inverse=False, return_counts=False, dim=None):
    values, inverse, counts = np.unique(x, return_inverse=True, return_counts=True, axis=dim)
    results = [values] + [inverse.reshape(x.shape if dim is None else -1)] * return_inverse + [counts] * return_counts
    return results if len(results) > 1 else values


def _consecutive(x, return_inverse=False, return_counts=False, dim=None):
    lines = x.reshape(-1) if dim is None else np.moveaxis(x, dim, 0)
    groups = []
    inverse = []
    for line in lines:
        if not groups or not np.array_equal(groups[-1][0], line):
            groups.append([line, 0])
        groups[-1][1] += 1
        inverse.append(len(groups) - 1)
    values = np.stack([g[0] for g in groups]) if dim is None else np.moveaxis(np.stack([g[0] for g in groups]), 0, dim)
    inverse = np.array(inverse).reshape(x.shape) if dim is None else np.array(inverse)
    results = [values] + [inverse] * return_inverse + [np.array([g[1] for g in groups])] * return_counts
    return results if len(results) > 1 else values


def _search(sequence, values, out_int32=False, right=False, side=None, sorter=None):
    if sequence.ndim == 1:
        return np.searchsorted(sequence, values, side=side or ("right" if right else "left"))
    return np.stack([_search(s, v, right=right, side=side) for s, v in zip(sequence, values, strict=True)])


REPEATED = Array(values=[[1, 2, 2, 1], [3, 3, 1, 0], [1, 2, 2, 1]], grad=False)
LINE = Array(values=[0, 1, 3, 5])

SAMPLES = {
    "max": Samples(_numpy_extreme("max", "argmax"), _extreme_calls(), dtypes=FLOATS + INTEGERS),
    "min": Samples(_numpy_extreme("min", "argmin"), _extreme_calls(), dtypes=FLOATS + INTEGERS),
    "amax": Samples(
        _whole(np.max),
        [
            call(Array(2, 3)),
            call(Array(2, 3), 1),
            call(Array(2, 3, 2), (0, 2), True),
            call(Array()),
            call(Array(values=[[1.0, 1.0, 0.0]], grad=False), 1),
        ],
        dtypes=FLOATS + INTEGERS,
    ),
    "amin": Samples(
        _whole(np.min),
        [call(Array(2, 3)), call(Array(2, 3), 1), call(Array(2, 3, 2), (0, 2), True), call(Array())],
        dtypes=FLOATS + INTEGERS,
    ),
    "aminmax": Samples(
        lambda x, dim=None, keepdim=False: (
            np.min(x, axis=dim, keepdims=keepdim),
            np.max(x, axis=dim, keepdims=keepdim),
        ),
        [call(Array(2, 3)), call(Array(2, 3), dim=1), call(Array(2, 3), dim=0, keepdim=True), call(Array())],
        dtypes=FLOATS + INTEGERS,
    ),
    "argmax": Samples(
        lambda x, dim=None, keepdim=False: np.argmax(x, axis=dim if x.ndim else None, keepdims=keepdim),
        [
            call(Array(2, 3)),
            call(Array(2, 3), 1),
            call(Array(2, 3), -2, True),
            call(Array(2, 3), keepdim=True),
            call(Array(), 0),
            call(REPEATED, 1),
        ],
        dtypes=FLOATS + INTEGERS,
    ),
    "argmin": Samples(
        lambda x, dim=None, keepdim=False: np.argmin(x, axis=dim if x.ndim else None, keepdims=keepdim),
        [call(Array(2, 3)), call(Array(2, 3), 1), call(Array(2, 3), -2, True), call(Array(), 0), call(REPEATED, 1)],
        dtypes=FLOATS + INTEGERS,
    ),
    "cummax": Samples(
        _running(np.maximum),
        [call(Array(2, 4), 1), call(Array(3, 2), 0), call(Array(), 0), call(REPEATED, -1)],
        dtypes=FLOATS + INTEGERS,
    ),
    "cummin": Samples(
        _running(np.minimum),
        [call(Array(2, 4), 1), call(Array(3, 2), 0), call(Array(), 0), call(REPEATED, -1)],
        dtypes=FLOATS + INTEGERS,
    ),
    "sort": Samples(
        _sorted,
        [
            call(Array(2, 4)),
            call(Array(3, 2), 0, True),
            call(Array(2, 3), dim=1, descending=False, stable=True),
            call(Array()),
            call(REPEATED, -1, True, stable=True),
            call(Array(0, 2), 0),
        ],
        dtypes=FLOATS + INTEGERS + BOOL,
    ),
    "argsort": Samples(
        _in_order,
        [call(Array(2, 4)), call(Array(3, 2), 0, True), call(Array()), call(REPEATED, 1, True)],
        dtypes=FLOATS + INTEGERS,
    ),
    "msort": Samples(lambda x: np.sort(x, axis=0), [call(Array(3, 2)), call(Array(4))]),
    "topk": Samples(
        None,
        [
            call(Array(2, 5), 2),
            call(Array(4, 3), 3, 0),
            call(Array(2, 5), 2, largest=False),
            call(Array(3), 3),
            call(Array(3), 0),
            call(Array(), 1),
            call(REPEATED, 3, 1),
        ],
        dtypes=FLOATS + INTEGERS,
        check=_picks(_topk),
    ),
    "kthvalue": Samples(
        None,
        [call(Array(2, 5), 2), call(Array(4, 3), 3, 0, True), call(Array(3), 1), call(Array(), 1)],
        dtypes=FLOATS + INTEGERS,
        check=_picks(_kth),
    ),
    "median": Samples(
        None,
        [call(Array(5)), call(Array(2, 4)), call(Array(2, 4), 1), call(Array(3, 2), 0, True), call(Array())],
        dtypes=FLOATS + INTEGERS,
        check=_picks(_median),
    ),
    "nanmedian": Samples(
        None,
        [
            call(Array(5)),
            call(Array(2, 4), 1),
            call(Array(values=[[1.0, NAN, 3.0, 2.0], [NAN, 5.0, 4.0, NAN]], grad=False), 1, True),
        ],
        check=_picks(_nanmedian),
    ),
    "mode": Samples(
        None,
        [call(REPEATED), call(REPEATED, 0, True), call(Array(2, 3)), call(Array())],
        dtypes=FLOATS + INTEGERS,
        check=_picks(_mode),
    ),
    "unique": Samples(
        _unique,
        [
            call(REPEATED),
            call(REPEATED, return_inverse=True, return_counts=True),
            call(REPEATED, dim=0),
            call(REPEATED, True, True, dim=1),
            call(Array(0)),
            call(Array()),
        ],
        dtypes=FLOATS + INTEGERS,
    ),
    "unique_consecutive": Samples(
        _consecutive,
        [call(REPEATED), call(REPEATED, True, True), call(REPEATED, dim=0), call(REPEATED, return_counts=True, dim=1)],
        dtypes=FLOATS + INTEGERS,
    ),
    "searchsorted": Samples(
        _search,
        [
            call(LINE, Array(2, 3, low=-1, high=6)),
            call(LINE, Array(values=[1, 3]), right=True),
            call(LINE, Array(values=[1, 3]), side="left"),
            call(Array(values=[[0, 1], [2, 5]]), Array(values=[[1, 0, 2], [2, 6, 1]])),
            call(LINE, 4),
            call(LINE, Array(0)),
        ],
        dtypes=(*FLOATS, "int64"),
    ),
    "bucketize": Samples(
        lambda x, b, out_int32=False, right=False: _search(b, x, right=right),
        [call(Array(2, 3), LINE), call(Array(3), LINE, right=True)],
        dtypes=FLOATS,
    ),
    "isin": Samples(
        lambda x, y, assume_unique=False, invert=False: np.isin(x, y, invert=invert),
        [call(REPEATED, Array(values=[1, 0])), call(REPEATED, 2, invert=True), call(REPEATED, Array(0))],
        dtypes=FLOATS + INTEGERS,
    ),
}
