"""Samples of indexing, gathers, scatters and masks."""

import numpy as np

from tests.ops.samples import BOOL, FLOATS, INTEGERS, Array, Samples, call

SOME = (*FLOATS, "int64", *BOOL)
MATRIX = Array(3, 4)
CUBE = Array(2, 3, 4)


def index(*values):
    return Array(values=list(values), dtype="int64")


def mask(*values):
    return Array(values=list(values), dtype="bool")


def _apply(x, places, change):
    result = np.array(x)
    change(result, places)
    return result


def _getitem(x, key):
    """torch's meaning: integers first, then arrays."""
    key = key if isinstance(key, tuple) else (key,)
    key = tuple(
        np.asarray(k)
        if isinstance(k, list)
        else int(k)
        if isinstance(k, np.ndarray) and k.ndim == 0 and k.dtype.kind in "iu"
        else k
        for k in key
    )
    if any(isinstance(k, np.ndarray) for k in key) and any(isinstance(k, int) for k in key):
        first = tuple(slice(None) if isinstance(k, np.ndarray) else k for k in key)
        rest = tuple(slice(None) if k is None or isinstance(k, slice) else k for k in key if not isinstance(k, int))
        return x[first][rest]
    return x[key]


def _along(shape, dim, places):
    grid = list(np.indices(places.shape, sparse=True))
    grid[dim] = places
    return tuple(grid)


def _gather(x, dim, places, sparse_grad=False):
    return x[_along(x.shape, dim, places)] if x.ndim else np.broadcast_to(x, places.shape)


def _source(src, places):
    return src[tuple(slice(n) for n in places.shape)] if np.ndim(src) else src


def _scatter(x, dim, places, src=None, value=None, reduce=None):
    result = np.array(x)
    values = _source(value if src is None else src, places)
    if x.ndim == 0:
        return np.array(values).reshape(()).astype(x.dtype)
    where = _along(x.shape, dim, places)
    if reduce is None:
        result[where] = values
    else:
        {"add": np.add, "multiply": np.multiply}[reduce].at(result, where, values)
    return result


def _scatter_reduce(x, dim, places, src, reduce, include_self=True):
    result = np.array(x, dtype=np.float64)
    groups = {}
    for where in np.ndindex(places.shape):
        target = list(where)
        target[dim] = places[where]
        groups.setdefault(tuple(target), []).append(src[where])
    function = {"sum": np.sum, "prod": np.prod, "mean": np.mean, "amax": np.max, "amin": np.min}[reduce]
    for target, values in groups.items():
        result[target] = function(values + [x[target]] * include_self)
    return result.astype(x.dtype)


def _index_reduce(x, dim, places, source, reduce, include_self=True):
    wide = np.broadcast_to(places.reshape((-1,) + (1,) * (source.ndim - dim - 1)), source.shape)
    return _scatter_reduce(x, dim, wide, source, reduce, include_self)


def _slices(x, dim, places):
    return (slice(None),) * dim + (places,) if x.ndim else ()


def _index_add(x, dim, places, source, alpha=1):
    return _apply(
        x,
        _slices(x, dim, places),
        lambda r, p: np.add.at(r, p, alpha * source) if x.ndim else r.__iadd__(alpha * source),
    )


def _index_copy(x, dim, places, source):
    return _apply(x, _slices(x, dim, places), lambda r, p: r.__setitem__(p, source))


def _index_put(x, indices, values, accumulate=False):
    return _apply(x, tuple(indices), lambda r, p: np.add.at(r, p, values) if accumulate else r.__setitem__(p, values))


def _put(x, places, source, accumulate=False):
    flat = np.array(x).reshape(-1)
    if accumulate:
        np.add.at(flat, places.reshape(-1), source.reshape(-1))
    else:
        flat[places.reshape(-1)] = source.reshape(-1)
    return flat.reshape(x.shape)


def _masked_scatter(x, where, source):
    result = np.array(np.broadcast_to(x, np.broadcast_shapes(x.shape, where.shape)))
    full = np.broadcast_to(where, result.shape)
    result[full] = source.reshape(-1)[: full.sum()]
    return result


def _take_along(x, places, dim=None):
    return x.reshape(-1)[places.reshape(-1)] if dim is None else np.take_along_axis(x, places, dim)


def _nonzero(x, as_tuple=False):
    if x.ndim == 0:
        return np.zeros((int(bool(x)), 0), dtype=np.int64)
    return list(np.nonzero(x)) if as_tuple else np.argwhere(x)


def _static(x, size, fill_value=-1):
    found = np.argwhere(x)[:size]
    return np.concatenate([found, np.full((size - len(found), x.ndim), fill_value)])


COLUMNS = index([0, 2, 1, 2], [1, 1, 0, 0])
ROWS = index(0, 2, 0)
PAIR = index(0, 1)
HOLES = mask([True, False, True, False], [False, False, True, True], [True, True, False, False])

SAMPLES = {
    "__getitem__": Samples(
        _getitem,
        [
            call(MATRIX, 1),
            call(MATRIX, -1),
            call(MATRIX, (0, 2)),
            call(Array(3), 1),
            call(MATRIX, slice(1, 3)),
            call(MATRIX, (slice(None), slice(0, 4, 2))),
            call(MATRIX, (..., 1)),
            call(MATRIX, None),
            call(MATRIX, (slice(None), None, 2)),
            call(Array(), ()),
            call(Array(), ...),
            call(Array(), None),
            call(MATRIX, [0, 2]),
            call(MATRIX, ROWS),
            call(MATRIX, (ROWS, index(1, 1, 3))),
            call(MATRIX, (slice(None), ROWS)),
            call(MATRIX, HOLES),
            call(MATRIX, mask(True, False, True)),
            call(CUBE, (0, slice(None), ROWS)),
            call(CUBE, (PAIR, slice(None), index(1, 3))),
            call(CUBE, (1, [0, 2])),
            call(CUBE, (..., index([0, 1], [2, 3]))),
            call(MATRIX, Array(values=2, dtype="int64")),
            call(CUBE, (slice(None), mask(True, False, True), 2)),
            call(MATRIX, True),
            call(MATRIX, slice(2, 2)),
            call(Array(0, 3), slice(None)),
            call(CUBE, (PAIR, None, slice(1, 3))),
            call(MATRIX, (ROWS, ..., 1)),
            call(MATRIX, (slice(1, None), [1, 3])),
        ],
        dtypes=SOME,
    ),
    "index_put": Samples(
        _index_put,
        [
            call(MATRIX, (PAIR,), Array(4)),
            call(MATRIX, (index(0, 2), index(1, 1)), Array(2)),
            call(MATRIX, (ROWS, index(1, 1, 1)), Array(3), accumulate=True),
            call(MATRIX, (HOLES,), Array()),
            call(MATRIX, [ROWS], Array(3, 4), True),
        ],
    ),
    "gather": Samples(
        _gather,
        [
            call(MATRIX, 0, COLUMNS),
            call(MATRIX, 1, COLUMNS),
            call(MATRIX, -1, index([3], [0], [1])),
            call(Array(3), 0, ROWS),
            call(Array(), 0, index(0, 0)),
            call(MATRIX, 1, Array(0, 2, dtype="int64")),
        ],
        dtypes=SOME,
    ),
    "take_along_dim": Samples(
        _take_along,
        [call(MATRIX, COLUMNS), call(MATRIX, index([3, 0], [1, 2], [0, 0]), 1), call(MATRIX, index([0, 1, 2, 0]), 0)],
    ),
    "scatter": Samples(
        _scatter,
        [
            call(MATRIX, 0, index([0, 2, 1, 2]), Array(2, 4)),
            call(MATRIX, 1, index([0, 2], [1, 3], [3, 1]), Array(3, 2)),
            call(MATRIX, 1, index([0], [1], [3]), 3),
            call(MATRIX, 0, COLUMNS, value=2),
            call(MATRIX, 0, COLUMNS, Array(2, 4, grad=False), reduce="add"),
            call(Array(3), 0, index(1), Array(1)),
        ],
        dtypes=(*FLOATS, "int64"),
    ),
    "scatter_add": Samples(
        lambda x, dim, places, src: _scatter(x, dim, places, src, reduce="add"),
        [
            call(MATRIX, 0, COLUMNS, Array(2, 4)),
            call(MATRIX, 1, index([0, 0], [1, 3], [3, 3]), Array(3, 3)),
            call(Array(3), 0, ROWS, Array(3)),
        ],
        dtypes=(*FLOATS, "int64"),
    ),
    "scatter_reduce": Samples(
        _scatter_reduce,
        [
            call(MATRIX, 0, COLUMNS, Array(2, 4), reduce, include_self=own)
            for reduce in ("sum", "prod", "mean", "amax", "amin")
            for own in (True, False)
        ]
        + [call(Array(4), 0, index(0, 1, 0, 1, 1), Array(values=[0.0, 2.0, 3.0, 0.0, 0.0]), "prod")],
        dtypes=FLOATS,
    ),
    "index_reduce": Samples(
        _index_reduce,
        [
            call(MATRIX, 0, ROWS, Array(3, 4), reduce, include_self=own)
            for reduce in ("prod", "mean", "amax", "amin")
            for own in (True, False)
        ],
        dtypes=FLOATS,
    ),
    "index_select": Samples(
        lambda x, dim, i: np.take(x, i, axis=dim) if x.ndim else x,
        [
            call(MATRIX, 0, ROWS),
            call(MATRIX, 1, index(3)),
            call(CUBE, -2, ROWS),
            call(Array(), 0, index(0)),
            call(MATRIX, 0, Array(0, dtype="int64")),
        ],
        dtypes=SOME,
    ),
    "index_add": Samples(
        _index_add,
        [
            call(MATRIX, 0, ROWS, Array(3, 4)),
            call(MATRIX, 1, index(3, 0), Array(3, 2), alpha=2),
            call(Array(), 0, index(0), Array()),
        ],
        dtypes=(*FLOATS, "int64"),
    ),
    "index_copy": Samples(
        _index_copy, [call(MATRIX, 0, index(2, 0), Array(2, 4)), call(MATRIX, 1, index(3), Array(3, 1))]
    ),
    "index_fill": Samples(_index_copy, [call(MATRIX, 0, index(2, 0), 1.5), call(MATRIX, 1, index(3, -2), Array())]),
    "take": Samples(np.take, [call(MATRIX, index([0, 11], [3, -1])), call(Array(), index(0))], dtypes=SOME),
    "put": Samples(_put, [call(MATRIX, index(0, 11, 3), Array(3)), call(MATRIX, index(0, 0, -1), Array(3), True)]),
    "masked_fill": Samples(
        lambda x, m, v: np.where(m, v, x).astype(x.dtype),
        [
            call(MATRIX, HOLES, 2),
            call(MATRIX, mask(True, False, False, True), Array()),
            call(MATRIX, HOLES, 0),
            call(Array(4), HOLES, 1),
        ],
        dtypes=(*FLOATS, "int64"),
    ),
    "masked_select": Samples(
        lambda x, m: np.broadcast_to(x, np.broadcast_shapes(x.shape, m.shape))[
            np.broadcast_to(m, np.broadcast_shapes(x.shape, m.shape))
        ],
        [call(MATRIX, HOLES), call(MATRIX, mask(True, False, False, True)), call(Array(4), HOLES)],
        dtypes=SOME,
    ),
    "masked_scatter": Samples(
        _masked_scatter,
        [
            call(MATRIX, HOLES, Array(8)),
            call(MATRIX, mask(True, False, False, True), Array(3, 2)),
            call(Array(4), HOLES, Array(2, 4)),
        ],
    ),
    "nonzero": Samples(
        _nonzero,
        [call(MATRIX), call(HOLES), call(HOLES, as_tuple=True), call(Array(values=[0, 1, 0])), call(Array())],
        dtypes=FLOATS + INTEGERS + BOOL,
    ),
    "argwhere": Samples(np.argwhere, [call(MATRIX), call(HOLES)]),
    "nonzero_static": Samples(_static, [call(HOLES, size=4), call(HOLES, size=9, fill_value=-2)]),
    "fill": Samples(
        lambda x, v: np.full_like(x, v),
        [call(MATRIX, 2), call(MATRIX, Array()), call(Array(), 1)],
        dtypes=(*FLOATS, "int64"),
    ),
}
