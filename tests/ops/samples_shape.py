"""Samples of what changes shapes, orders elements, joins and splits."""

import numpy as np

from tests.ops.samples import BOOL, FLOATS, Array, Samples, call

SOME = (*FLOATS, "int64", *BOOL)


def reshape(x, *shape):
    return np.reshape(x, shape[0] if shape and isinstance(shape[0], tuple) else shape)


def _squeeze(x, dim=None):
    dims = range(x.ndim) if dim is None else (dim,) if isinstance(dim, int) else dim
    return x.reshape([n for i, n in enumerate(x.shape) if n != 1 or i not in [d % max(x.ndim, 1) for d in dims]])


def _expand(x, *size):
    sizes = size[0] if isinstance(size[0], tuple) else size
    lead = len(sizes) - x.ndim
    return np.broadcast_to(x, [x.shape[i - lead] if n == -1 else n for i, n in enumerate(sizes)])


def _flatten(x, start_dim=0, end_dim=-1):
    if x.ndim == 0:
        return x.reshape(1)
    start, end = start_dim % x.ndim, end_dim % x.ndim
    return x.reshape(*x.shape[:start], int(np.prod(x.shape[start : end + 1])), *x.shape[end + 1 :])


def _unflatten(x, dim, sizes):
    dim %= x.ndim
    return x.reshape(*x.shape[:dim], *sizes, *x.shape[dim + 1 :])


def _interleave(x, repeats=None, dim=None, output_size=None):
    if repeats is None:
        return np.repeat(np.arange(x.size), x)
    return np.repeat(x, repeats, axis=dim)


def _unfold(x, dimension, size, step):
    return np.lib.stride_tricks.sliding_window_view(x, size, dimension)[
        (slice(None),) * (dimension % x.ndim) + (slice(None, None, step),)
    ]


def _as_strided(x, size, stride, storage_offset=None):
    flat = x.reshape(-1)
    places = (storage_offset or 0) + sum(
        np.arange(n).reshape((-1,) + (1,) * (len(size) - i - 1)) * s
        for i, (n, s) in enumerate(zip(size, stride, strict=True))
    )
    return flat[places]


def _cat(tensors, dim=0):
    return np.concatenate([t for t in tensors if t.shape != (0,)] or tensors[:1], dim)


def _block_diag(*matrices):
    rows = [np.atleast_2d(m) for m in matrices]
    result = np.zeros((sum(m.shape[0] for m in rows), sum(m.shape[1] for m in rows)))
    i = j = 0
    for m in rows:
        result[i : i + m.shape[0], j : j + m.shape[1]] = m
        i, j = i + m.shape[0], j + m.shape[1]
    return result


def _split(x, split_size, dim=0):
    if isinstance(split_size, int):
        return np.split(x, range(split_size, x.shape[dim], split_size), dim)
    return np.split(x, np.cumsum(split_size)[:-1], dim)


def _chunk(x, chunks, dim=0):
    return _split(x, -(-x.shape[dim] // chunks), dim)


def _select(x, dim, index):
    return np.take(x, index, axis=dim)


def _narrow(x, dim, start, length):
    return np.take(x, np.arange(start, start + length), axis=dim)


MATRIX = Array(2, 3)
CUBE = Array(2, 3, 4)

SAMPLES = {
    "reshape": Samples(
        reshape,
        [
            call(CUBE, 6, 4),
            call(CUBE, (4, -1)),
            call(Array(), 1),
            call(Array(0, 2), 2, 0),
            call(MATRIX, -1),
            call(Array(1), ()),
        ],
        dtypes=SOME,
    ),
    "view": Samples(
        reshape, [call(CUBE, 6, 4), call(CUBE, (4, -1)), call(Array(), 1), call(Array(0, 2), 0)], dtypes=SOME
    ),
    "view_as": Samples(lambda x, y: x.reshape(y.shape), [call(MATRIX, Array(6, grad=False))]),
    "reshape_as": Samples(lambda x, y: x.reshape(y.shape), [call(MATRIX, Array(3, 2, grad=False))]),
    "flatten": Samples(
        _flatten,
        [
            call(CUBE),
            call(CUBE, 1),
            call(CUBE, 0, 1),
            call(CUBE, -2, -1),
            call(Array()),
            call(Array(3)),
            call(CUBE, 1, 1),
        ],
    ),
    "ravel": Samples(np.ravel, [call(CUBE), call(Array())]),
    "unflatten": Samples(
        _unflatten, [call(Array(2, 6), 1, (2, 3)), call(Array(6), 0, (2, -1)), call(Array(2, 6), -1, (3, 2))]
    ),
    "permute": Samples(
        lambda x, *dims: np.transpose(x, dims[0] if dims and isinstance(dims[0], tuple) else dims),
        [call(CUBE, 2, 0, 1), call(CUBE, (0, -1, 1)), call(Array(), ())],
        dtypes=SOME,
    ),
    "transpose": Samples(
        lambda x, a, b: np.swapaxes(x, a, b) if x.ndim else x,
        [call(CUBE, 0, 2), call(CUBE, -1, 1), call(MATRIX, 0, 1), call(Array(), 0, -1)],
        dtypes=SOME,
    ),
    "t": Samples(np.transpose, [call(MATRIX), call(Array(3)), call(Array())]),
    "mT": Samples(lambda x: np.swapaxes(x, -1, -2), [call(CUBE), call(MATRIX)]),
    "adjoint": Samples(
        lambda x: np.conj(np.swapaxes(x, -1, -2)), [call(CUBE), call(MATRIX)], dtypes=(*FLOATS, "complex128")
    ),
    "conj": Samples(np.conj, [call(MATRIX), call(Array())], dtypes=(*FLOATS, "complex64", "complex128")),
    "movedim": Samples(np.moveaxis, [call(CUBE, 0, 2), call(CUBE, (0, 1), (-1, 0)), call(CUBE, -1, 0)]),
    "expand": Samples(
        _expand,
        [
            call(Array(2, 1), 2, 3),
            call(Array(3), (2, -1)),
            call(Array(1, 3), 4, 2, 3),
            call(Array(), 2),
            call(MATRIX, 2, 3),
            call(Array(1), 0),
        ],
    ),
    "expand_as": Samples(lambda x, y: np.broadcast_to(x, y.shape), [call(Array(2, 1), Array(2, 3, grad=False))]),
    "broadcast_to": Samples(np.broadcast_to, [call(Array(2, 1), (2, 3)), call(Array(), (2, 2))]),
    "broadcast_tensors": Samples(np.broadcast_arrays, [call(Array(2, 1), Array(3)), call(Array(2), Array())]),
    "squeeze": Samples(
        _squeeze,
        [
            call(Array(1, 2, 1)),
            call(Array(1, 2, 1), 0),
            call(Array(1, 2, 1), 1),
            call(Array(1, 2, 1), dim=(0, -1)),
            call(Array()),
            call(Array(), 0),
        ],
        dtypes=SOME,
    ),
    "unsqueeze": Samples(
        np.expand_dims, [call(MATRIX, 0), call(MATRIX, -1), call(MATRIX, 1), call(Array(), 0)], dtypes=SOME
    ),
    "atleast_1d": Samples(np.atleast_1d, [call(Array()), call(MATRIX), call(Array(), Array(2))]),
    "atleast_2d": Samples(np.atleast_2d, [call(Array()), call(Array(3)), call(CUBE)]),
    "atleast_3d": Samples(np.atleast_3d, [call(Array()), call(Array(3)), call(MATRIX), call(CUBE)]),
    "flip": Samples(
        lambda x, *dims: np.flip(x, dims[0] if dims and isinstance(dims[0], tuple) else dims),
        [call(CUBE, 0), call(CUBE, 1, -1), call(CUBE, (0, 2)), call(Array(3), ())],
        dtypes=SOME,
    ),
    "fliplr": Samples(np.fliplr, [call(MATRIX)]),
    "flipud": Samples(np.flipud, [call(MATRIX), call(Array(3))]),
    "roll": Samples(
        np.roll,
        [call(MATRIX, 1), call(MATRIX, 2, 1), call(CUBE, (1, -1), (0, 2)), call(Array(0), 1), call(Array(), 1)],
        dtypes=SOME,
    ),
    "rot90": Samples(
        lambda x, k=1, dims=(0, 1): np.rot90(x, k, dims),
        [
            call(MATRIX),
            call(MATRIX, 2),
            call(MATRIX, -1),
            call(CUBE, 1, (1, 2)),
            call(MATRIX, 4),
            call(MATRIX, 1, [1, 0]),
        ],
    ),
    "repeat": Samples(
        lambda x, *n: np.tile(x, n[0] if isinstance(n[0], tuple) else n),
        [call(MATRIX, 2, 1), call(Array(2), (3, 2)), call(Array(), 2), call(MATRIX, 2, 1, 2), call(MATRIX, 0, 2)],
        dtypes=SOME,
    ),
    "tile": Samples(
        lambda x, *n: np.tile(x, n[0] if n and isinstance(n[0], tuple) else n),
        [call(MATRIX, 2), call(MATRIX, (2, 2)), call(Array(3), 2, 2), call(MATRIX, ())],
    ),
    "repeat_interleave": Samples(
        _interleave,
        [
            call(MATRIX, 2),
            call(MATRIX, 3, 1),
            call(MATRIX, Array(values=[1, 0, 2], dtype="int64"), 1),
            call(Array(values=[2, 0, 3], dtype="int64", grad=False)),
            call(MATRIX, 0, dim=-1),
            call(MATRIX, Array(values=2, dtype="int64"), dim=0),
            call(Array(), 2),
        ],
        dtypes=SOME,
    ),
    "Tensor.unfold": Samples(
        _unfold, [call(Array(7), 0, 3, 2), call(Array(2, 5), 1, 2, 1), call(Array(5, 2), -2, 3, 1), call(CUBE, 1, 2, 2)]
    ),
    "as_strided": Samples(
        _as_strided,
        [call(Array(8), (2, 3), (3, 1), 1), call(Array(3, 3), (2, 2), (1, 2)), call(Array(4), (3,), (0,), 2)],
    ),
    "cat": Samples(
        _cat,
        [
            call([Array(2, 3), Array(1, 3)]),
            call([Array(2, 1), Array(2, 2), Array(2, 0)], 1),
            call((Array(2), Array(0)), dim=-1),
            call([Array(3)]),
            call([Array(0, grad=False), Array(2, 2)], 1),
        ],
        dtypes=SOME,
    ),
    "stack": Samples(
        lambda t, dim=0: np.stack(t, dim),
        [
            call([Array(2), Array(2)]),
            call([Array(2, 2), Array(2, 2)], -1),
            call([Array(), Array()]),
            call((Array(2, 2),), 1),
        ],
        dtypes=SOME,
    ),
    "hstack": Samples(
        np.hstack, [call([Array(2), Array(3)]), call([Array(2, 1), Array(2, 2)]), call([Array(), Array()])]
    ),
    "vstack": Samples(np.vstack, [call([Array(2), Array(2)]), call([Array(1, 2), Array(2, 2)])]),
    "dstack": Samples(np.dstack, [call([Array(2), Array(2)]), call([Array(2, 2), Array(2, 2)])]),
    "column_stack": Samples(np.column_stack, [call([Array(2), Array(2, 2)])]),
    "block_diag": Samples(_block_diag, [call(Array(2, 1), Array(1, 2)), call(Array(2), Array(), Array(1, 1))]),
    "split": Samples(
        _split,
        [call(Array(5, 2), 2), call(Array(2, 4), [1, 3], 1), call(Array(2, 4), (0, 4), dim=-1), call(Array(3), 5)],
        dtypes=SOME,
    ),
    "split_with_sizes": Samples(_split, [call(Array(5), [2, 3])]),
    "chunk": Samples(_chunk, [call(Array(5), 2), call(Array(2, 4), 3, 1), call(Array(2), 4)]),
    "tensor_split": Samples(
        lambda x, n, dim=0: np.array_split(x, n, dim),
        [call(Array(5), 3), call(Array(2, 5), (1, 3), 1), call(Array(2, 4), 2, dim=-1), call(Array(3), [1, 5])],
    ),
    "hsplit": Samples(np.hsplit, [call(Array(4), 2), call(Array(2, 4), [1])]),
    "vsplit": Samples(np.vsplit, [call(Array(4, 2), 2)]),
    "dsplit": Samples(np.dsplit, [call(Array(1, 2, 4), 2)]),
    "unbind": Samples(
        lambda x, dim=0: [np.take(x, i, axis=dim) for i in range(x.shape[dim])],
        [call(MATRIX), call(MATRIX, 1), call(Array(3))],
    ),
    "narrow": Samples(_narrow, [call(MATRIX, 1, 1, 2), call(MATRIX, 0, 0, 1), call(MATRIX, -1, 1, 0)]),
    "select": Samples(_select, [call(MATRIX, 0, 1), call(CUBE, -1, -1), call(Array(3), 0, 2)]),
}
