"""Samples of matrix decompositions, matrix norms and statistics."""

import numpy as np

from tests.ops.samples import FLOATS, Array, Samples, call

INF = float("inf")
# Well-conditioned, with distinct singular values.
SQUARE = Array(values=[[2.0, 0.5, -1.0], [0.3, 1.5, 0.7], [-0.4, 0.2, 3.0]])
STACK = Array(values=[[[2.0, 1.0], [0.5, 3.0]], [[1.0, -0.5], [0.7, 2.0]]])
POSITIVE = Array(values=[[4.0, 1.0, 0.5], [1.0, 3.0, -0.3], [0.5, -0.3, 2.0]], grad=False)
TALL = Array(values=[[2.0, 0.5], [0.3, 1.5], [-0.4, 0.2]])
MATRIX = Array(2, 3)


def _solve(a, b, left=True):
    if b.ndim == 1 or b.shape == a.shape[:-1]:
        return np.linalg.solve(a, b[..., None])[..., 0]
    return (
        np.linalg.solve(a, b)
        if left
        else np.swapaxes(np.linalg.solve(np.swapaxes(a, -1, -2), np.swapaxes(b, -1, -2)), -1, -2)
    )


def _logdet(x):
    sign, size = np.linalg.slogdet(x)
    return np.where(sign < 0, np.nan, size)


def _check_eigh(result, x, triangle="L"):
    w, v = result
    np.testing.assert_allclose(v @ (w[..., None] * np.swapaxes(v, -1, -2)), x, atol=1e-5)
    assert (np.diff(w) >= 0).all()


def _check_qr(result, x, mode="reduced"):
    q, r = result
    np.testing.assert_allclose(q @ r, x, atol=1e-5)
    np.testing.assert_allclose(
        np.swapaxes(q, -1, -2) @ q,
        np.broadcast_to(np.eye(q.shape[-1]), (*q.shape[:-2], q.shape[-1], q.shape[-1])),
        atol=1e-5,
    )


def _check_svd(result, x, full_matrices=True):
    u, s, vh = result
    k = s.shape[-1]
    np.testing.assert_allclose((u[..., :k] * s[..., None, :]) @ vh[..., :k, :], x, atol=1e-5)
    assert u.shape[-1] == (x.shape[-2] if full_matrices else k)


def _matrix_norm(x, ord="fro", dim=(-2, -1), keepdim=False, dtype=None):
    return np.linalg.norm(x, ord, axis=tuple(dim), keepdims=keepdim)


def _norm(x, ord=None, dim=None, keepdim=False, dtype=None):
    if ord is None:
        axes = tuple(range(x.ndim)) if dim is None else dim
        return np.sqrt((x * x).sum(axis=axes, keepdims=keepdim))
    return np.linalg.norm(x, ord, axis=dim, keepdims=keepdim)


def _torch_norm(x, p="fro", dim=None, keepdim=False, dtype=None):
    if p == "nuc":
        return np.linalg.norm(x, "nuc", axis=dim, keepdims=keepdim)
    p = 2 if p == "fro" else p
    axes = tuple(range(x.ndim)) if dim is None else dim
    if np.isinf(p):
        return np.abs(x).max(axis=axes, keepdims=keepdim)
    return (np.abs(x) ** p).sum(axis=axes, keepdims=keepdim) ** (1 / p)


def _quantile(function):
    def reference(x, q, dim=None, keepdim=False, interpolation="linear"):
        return function(x, q, axis=dim, keepdims=keepdim, method=interpolation)

    return reference


def _histc(x, bins=100, min=0, max=0):
    low, high = (x.min(), x.max()) if min == max else (min, max)
    return np.histogram(x, bins, (low, high))[0].astype(x.dtype)


def _one_hot(x, num_classes=-1):
    return np.eye(num_classes if num_classes >= 0 else x.max() + 1, dtype=np.int64)[x]


CLASSES = Array(values=[[0, 2], [1, 1]], dtype="int64")
VECTOR = Array(3)

SAMPLES = {
    "linalg.inv": Samples(np.linalg.inv, [call(SQUARE), call(STACK), call(Array(0, 2, 2))]),
    "linalg.solve": Samples(
        _solve,
        [
            call(SQUARE, Array(3, 2)),
            call(SQUARE, VECTOR),
            call(STACK, Array(2, 2, 1)),
            call(SQUARE, Array(2, 3), left=False),
            call(STACK, Array(2, 2)),
            call(SQUARE, Array(2, 3, 1)),
        ],
    ),
    "det": Samples(np.linalg.det, [call(SQUARE), call(STACK)]),
    "slogdet": Samples(np.linalg.slogdet, [call(SQUARE), call(STACK)]),
    "logdet": Samples(_logdet, [call(SQUARE), call(STACK), call(Array(values=[[0.0, 1.0], [1.0, 0.0]], grad=False))]),
    "linalg.cholesky": Samples(
        lambda x, upper=False: np.swapaxes(np.linalg.cholesky(x), -1, -2) if upper else np.linalg.cholesky(x),
        [call(POSITIVE), call(POSITIVE, upper=True)],
    ),
    "linalg.eigh": Samples(None, [call(POSITIVE), call(POSITIVE, "U")], check=_check_eigh),
    "linalg.eigvalsh": Samples(lambda x, triangle="L": np.linalg.eigvalsh(x, triangle), [call(POSITIVE)]),
    "linalg.qr": Samples(None, [call(SQUARE), call(TALL), call(STACK)], check=_check_qr),
    "linalg.svd": Samples(
        None,
        [
            call(SQUARE),
            call(TALL, False),
            call(STACK, full_matrices=False),
            call(Array(values=[[2.0, 0.5]], grad=False)),
        ],
        check=_check_svd,
    ),
    "linalg.svdvals": Samples(lambda x: np.linalg.svd(x, compute_uv=False), [call(SQUARE), call(TALL), call(STACK)]),
    "linalg.pinv": Samples(
        lambda x, atol=None, rtol=None: np.linalg.pinv(x), [call(SQUARE), call(TALL), call(Array(2, 3))]
    ),
    "linalg.matrix_rank": Samples(
        lambda x, atol=None, rtol=None, hermitian=False: np.linalg.matrix_rank(x),
        [call(SQUARE), call(Array(values=[[1.0, 2.0], [2.0, 4.0]]))],
    ),
    "matrix_power": Samples(
        np.linalg.matrix_power,
        [
            call(SQUARE, 3),
            call(STACK, 2),
            call(SQUARE, -2),
            call(Array(values=[[2.0, 1.0], [0.0, 1.0]], grad=False), 0),
            call(SQUARE, 1),
        ],
    ),
    "linalg.multi_dot": Samples(
        np.linalg.multi_dot, [call([Array(2, 3), Array(3, 4), Array(4, 2)]), call([VECTOR, Array(3, 2), Array(2)])]
    ),
    "linalg.matrix_norm": Samples(
        _matrix_norm,
        [
            call(MATRIX),
            *[call(MATRIX, ord) for ord in ("nuc", 1, -1, 2, -2, INF, -INF)],
            call(Array(2, 3, 2), 1, (0, 2), True),
            call(Array(2, 3, 2), "nuc", (0, 1), True),
        ],
    ),
    "linalg.norm": Samples(
        _norm, [call(MATRIX), call(VECTOR, 3), call(MATRIX, 1), call(MATRIX, 2, 1, True), call(Array(2, 2, 2))]
    ),
    "norm": Samples(
        _torch_norm,
        [
            call(MATRIX),
            call(MATRIX, 2),
            call(MATRIX, 1, 0),
            call(MATRIX, 3, (0, 1), True),
            call(MATRIX, INF, dim=1),
            call(MATRIX, "nuc"),
            call(MATRIX, p="fro", dim=1, keepdim=True),
        ],
    ),
    "cross": Samples(np.cross, [call(Array(2, 3), Array(2, 3)), call(VECTOR, VECTOR)]),
    "linalg.cross": Samples(np.cross, [call(Array(2, 3), Array(2, 3)), call(Array(2, 3), VECTOR)]),
    "diff": Samples(
        lambda x, n=1, dim=-1, prepend=None, append=None: np.diff(
            x,
            n,
            dim,
            **({} if prepend is None else {"prepend": prepend}),
            **({} if append is None else {"append": append}),
        ),
        [call(Array(4)), call(MATRIX, 2), call(MATRIX, dim=0), call(MATRIX, prepend=Array(2, 1), append=Array(2, 2))],
        dtypes=(*FLOATS, "int64"),
    ),
    "quantile": Samples(
        _quantile(np.quantile),
        [
            call(Array(5), 0.3),
            call(MATRIX, Array(values=[0.0, 0.4, 1.0], grad=False), 1),
            call(MATRIX, Array(values=[0.4, 0.7]), 1),
            call(MATRIX, 0.5, 0, True),
            call(MATRIX, Array(values=[0.25], grad=False), keepdim=True),
        ]
        + [call(Array(4), 0.4, interpolation=how) for how in ("lower", "higher", "midpoint", "nearest")],
    ),
    "nanquantile": Samples(
        _quantile(np.nanquantile),
        [call(Array(5), 0.3), call(Array(values=[[1.0, np.nan, 2.0, 4.0]], grad=False), 0.6, 1)],
    ),
    "cov": Samples(
        lambda x, correction=1, fweights=None, aweights=None: np.cov(
            x, ddof=correction, fweights=fweights, aweights=aweights
        ),
        [
            call(Array(2, 4)),
            call(Array(4)),
            call(Array(2, 4), correction=0),
            call(
                Array(2, 3),
                fweights=Array(values=[1, 2, 1], dtype="int64"),
                aweights=Array(values=[0.5, 1.0, 2.0], grad=False),
            ),
        ],
    ),
    "corrcoef": Samples(np.corrcoef, [call(Array(2, 4))]),
    "histc": Samples(_histc, [call(Array(2, 5), 4, -1, 1), call(Array(6), bins=3)]),
    "bincount": Samples(
        lambda x, weights=None, minlength=0: np.bincount(x, weights, minlength),
        [
            call(Array(values=[0, 2, 2], dtype="int64")),
            call(Array(values=[0, 1], dtype="int64"), Array(2, grad=False)),
            call(Array(values=[1], dtype="int64"), minlength=4),
        ],
    ),
    "one_hot": Samples(_one_hot, [call(CLASSES), call(CLASSES, 4), call(Array(0, dtype="int64"), 3)]),
}
