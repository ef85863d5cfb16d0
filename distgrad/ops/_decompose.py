"""Inverses, determinants and decompositions of stacks of matrices (..., n, m), by LAPACK.

The gradients are those collected in M. Giles, "Collected matrix derivative results for forward and reverse mode
algorithmic differentiation" (2008); for singular values of matrices that are not square, J. Townsend's note of 2016.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._typing import Array
from ..autograd._node import Node
from ..autograd._op import Op, apply, apply1
from ..errors import LinAlgError, ShapeError
from ._common import need_same_dtype, tensor_of
from ._linalg import matmul
from ._reduce import sum as sum_of
from ._shape import mT, squeeze, unsqueeze
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


class SVD(NamedTuple):
    """``A = U @ diag(S) @ Vh``."""

    U: Any
    S: Any
    Vh: Any


class QR(NamedTuple):
    """``A = Q @ R``."""

    Q: Any
    R: Any


class Eigh(NamedTuple):
    """``A = V @ diag(values) @ V.mT``."""

    eigenvalues: Any
    eigenvectors: Any


class SignLogDet(NamedTuple):
    """The sign of a determinant, and the logarithm of its size."""

    sign: Any
    logabsdet: Any


def _t(xp: Any, x: Any) -> Any:
    return xp.swapaxes(x, -1, -2)


def _column(xp: Any, x: Any) -> Any:
    return xp.expand_dims(x, axis=-1)


def _row(xp: Any, x: Any) -> Any:
    return xp.expand_dims(x, axis=-2)


def _lapack(name: str, function: Any, *arrays: Array, **options: Any) -> Any:
    """A function of `xp.linalg`, with its error as ours."""
    try:
        return function(*arrays, **options)
    except np.linalg.LinAlgError as error:
        raise LinAlgError(f"linalg.{name}: {error}") from None


class Inverse(Op):
    name = "LinalgInvEx"
    saves_output = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return _lapack("inv", ctx.xp.linalg.inv, x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, y: Any) -> Any:
        return -xp.matmul(_t(xp, y), xp.matmul(g, _t(xp, y)))


class Solve(Op):
    """``A X = B`` with matrices on the right."""

    name = "LinalgSolveEx"
    saves = ((0,), (0,))
    saves_output = True
    broadcasts = True

    @staticmethod
    def forward(ctx: Node, a: Array, b: Array) -> Array:
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        if a.shape[:-2] != lead or b.shape[:-2] != lead:  # CuPy does not broadcast here
            a, b = (ctx.xp.broadcast_to(m, (*lead, *m.shape[-2:])) for m in (a, b))
        return _lapack("solve", ctx.xp.linalg.solve, a, b)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, a: Any, x: Any) -> Any:
        gb = xp.call(Solve, (_t(xp, a), g))
        return -xp.matmul(gb, _t(xp, x)) if ctx.needs[0] else None, gb


class Det(Op):
    name = "LinalgDet"
    saves = ((0,),)
    saves_output = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return ctx.xp.linalg.det(x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        return _column(xp, _column(xp, g * y)) * _t(xp, xp.call(Inverse, (x,)))


class SlogDet(Op):
    name = "LinalgSlogdet"
    saves = ((0,),)
    non_differentiable = (0,)

    @staticmethod
    def forward(ctx: Node, x: Array) -> Any:
        return tuple(ctx.xp.linalg.slogdet(x))

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        return _column(xp, _column(xp, g[1])) * _t(xp, xp.call(Inverse, (x,)))


class Cholesky(Op):
    name = "LinalgCholeskyEx"
    saves_output = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return _lapack("cholesky", ctx.xp.linalg.cholesky, x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, y: Any) -> Any:
        inner = xp.tril(xp.matmul(_t(xp, y), g))
        inner = inner + _t(xp, xp.tril(inner, k=-1))
        inverse = xp.call(Inverse, (y,))
        return xp.matmul(_t(xp, inverse), xp.matmul(inner, inverse)) * 0.5


class EighOp(Op):
    """``params = (triangle,)``: which one is read, L or U."""

    name = "LinalgEigh"
    saves_output = True

    @staticmethod
    def forward(ctx: Node, x: Array, triangle: str) -> Any:
        return tuple(_lapack("eigh", ctx.xp.linalg.eigh, x, UPLO=triangle))

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, w: Any, v: Any) -> Any:
        inner = None
        if g[1] is not None:
            gaps = _row(xp, w) - _column(xp, w)
            same = gaps == 0
            inner = xp.where(
                same, xp.zeros_like(gaps), xp.matmul(_t(xp, v), g[1]) / xp.where(same, xp.ones_like(gaps), gaps)
            )
        scaled = v * _row(xp, g[0]) if g[0] is not None else None
        result = xp.matmul(v, inner) if scaled is None else scaled if inner is None else xp.matmul(v, inner) + scaled
        return xp.matmul(result, _t(xp, v))


class QrOp(Op):
    """The reduced form, for matrices at least as high as wide."""

    name = "LinalgQr"
    saves_output = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Any:
        return tuple(ctx.xp.linalg.qr(x, mode="reduced"))

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, q: Any, r: Any) -> Any:
        if q.shape[-1] != r.shape[-1]:
            raise LinAlgError("linalg.qr: gradients need a matrix at least as high as wide")
        gq = xp.zeros_like(q) if g[0] is None else g[0]
        inner = -xp.matmul(_t(xp, gq), q)
        if g[1] is not None:
            inner = inner + xp.matmul(r, _t(xp, g[1]))
        lower = xp.tril(inner, k=-1)
        symmetric = xp.tril(inner) + _t(xp, lower)
        return xp.matmul(gq + xp.matmul(q, symmetric), _t(xp, xp.call(Inverse, (r,))))


class SvdOp(Op):
    """The reduced form."""

    name = "LinalgSvd"
    saves_output = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Any:
        return tuple(_lapack("svd", ctx.xp.linalg.svd, x, full_matrices=False))

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, u: Any, s: Any, vh: Any) -> Any:
        gu, gs, gvh = g
        v = _t(xp, vh)
        gaps = _row(xp, s * s) - _column(xp, s * s)
        same = gaps == 0
        factor = xp.where(same, xp.zeros_like(gaps), xp.ones_like(gaps) / xp.where(same, xp.ones_like(gaps), gaps))
        inner = xp.zeros_like(gaps)
        inverse = 1 / s
        result = None
        if gu is not None:
            turn = factor * xp.matmul(_t(xp, u), gu)
            inner = inner + (turn + _t(xp, turn)) * _row(xp, s)
            if u.shape[-2] > u.shape[-1]:
                outside = gu - xp.matmul(u, xp.matmul(_t(xp, u), gu))
                result = xp.matmul(outside * _row(xp, inverse), vh)
        if gvh is not None:
            gv = _t(xp, gvh)
            turn = factor * xp.matmul(vh, gv)
            inner = inner + _column(xp, s) * (turn + _t(xp, turn))
            if v.shape[-2] > v.shape[-1]:
                outside = gv - xp.matmul(v, xp.matmul(vh, gv))
                part = xp.matmul(u * _row(xp, inverse), _t(xp, outside))
                result = part if result is None else result + part
        main = xp.matmul(u, inner)
        if gs is not None:
            main = main + u * _row(xp, gs)
        main = xp.matmul(main, vh)
        return main if result is None else result + main


def matrices(t: Any, name: str, square: bool = True) -> Any:
    """The argument of linalg.`name` as a tensor of (square) matrices."""
    t = tensor_of(t, f"linalg.{name}")
    shape = t._data.shape
    if len(shape) < 2 or (square and shape[-1] != shape[-2]):
        kind = "square matrices (..., n, n)" if square else "matrices (..., n, m)"
        raise ShapeError(f"linalg.{name}: expected {kind}, got shape {list(shape)}")
    return t


@op(name="linalg.inv", method=False)
def inv(A: "Tensor") -> "Tensor":
    """The inverses of square matrices.

    Raises:
        LinAlgError: one is singular.
    """
    return apply1(Inverse, matrices(A, "inv"))


@op(name="linalg.solve", method=False)
def solve(A: "Tensor", B: "Tensor", *, left: bool = True) -> "Tensor":
    """The solution X of ``A @ X = B`` (of ``X @ A = B`` with ``left=False``).

    Args:
        A: (..., n, n).
        B: (..., n, k), or vectors (..., n) with A's leading dimensions, or one vector (n,).
        left: on which side A is.

    Raises:
        LinAlgError: a matrix is singular.
    """
    a, b = matrices(A, "solve"), tensor_of(B, "linalg.solve")
    need_same_dtype("linalg.solve", A=a, B=b)
    is_vector = b._data.ndim == 1 or b._data.shape == a._data.shape[:-1]
    rows = b._data.shape[-1 if is_vector or not left else -2] if b._data.ndim else 0
    if rows != a._data.shape[-1]:
        raise ShapeError(
            f"linalg.solve: expected B to have {a._data.shape[-1]} {'rows' if left else 'columns'}, as A of shape "
            f"{list(a._data.shape)} has, got B of shape {list(b._data.shape)}"
        )
    if is_vector:
        return squeeze(apply(Solve, (a, unsqueeze(b, -1))), -1)
    return apply(Solve, (a, b)) if left else mT(apply(Solve, (mT(a), mT(b))))


@op()
def det(input: "Tensor") -> "Tensor":
    """The determinants of square matrices."""
    return apply1(Det, matrices(input, "det"))


@op()
def slogdet(input: "Tensor") -> SignLogDet:
    """The sign of the determinants and the logarithms of their sizes, as ``(sign, logabsdet)``."""
    return SignLogDet(*apply(SlogDet, (matrices(input, "slogdet"),)))


@op()
def logdet(input: "Tensor") -> "Tensor":
    """The logarithms of the determinants; nan where one is negative."""
    sign, size = slogdet(input)
    return size.masked_fill(sign < 0, float("nan"))  # type: ignore[no-any-return]


@op(name="linalg.cholesky", method=False)
def cholesky(A: "Tensor", *, upper: bool = False) -> "Tensor":
    """The triangular L with ``A = L @ L.mT`` of symmetric positive-definite matrices (the upper one if `upper`).

    Raises:
        LinAlgError: a matrix is not positive-definite.
    """
    lower = apply1(Cholesky, matrices(A, "cholesky"))
    return mT(lower) if upper else lower


@op(name="linalg.eigh", method=False)
def eigh(A: "Tensor", UPLO: str = "L") -> Eigh:
    """The eigenvalues, ascending, and eigenvectors (columns) of symmetric matrices, as ``(eigenvalues, eigenvectors)``.

    Args:
        A: (..., n, n).
        UPLO: which triangle is read, ``"L"`` or ``"U"``.
    """
    return Eigh(*apply(EighOp, (matrices(A, "eigh"),), (UPLO,)))


@op(name="linalg.eigvalsh", method=False)
def eigvalsh(A: "Tensor", UPLO: str = "L") -> "Tensor":
    """The eigenvalues of symmetric matrices, ascending."""
    return eigh(A, UPLO).eigenvalues  # type: ignore[no-any-return]


@op(name="linalg.qr", method=False)
def qr(A: "Tensor", mode: str = "reduced") -> QR:
    """The orthonormal Q and the upper triangular R with ``A = Q @ R``, in reduced form."""
    if mode != "reduced":
        raise ValueError(f"linalg.qr: expected mode='reduced', got {mode!r}; the other forms are not supported")
    return QR(*apply(QrOp, (matrices(A, "qr", square=False),)))


class FullSvdOp(Op):
    """With all columns of U and rows of Vh; gradients flow through S alone."""

    name = "LinalgSvd"
    saves_output = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Any:
        return tuple(_lapack("svd", ctx.xp.linalg.svd, x, full_matrices=True))

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, u: Any, s: Any, vh: Any) -> Any:
        if g[0] is not None or g[2] is not None:
            raise LinAlgError("linalg.svd: U and Vh have gradients only in the reduced form; pass full_matrices=False")
        k = s.shape[-1]
        first = xp.getitem(u, (..., slice(0, k)))
        return xp.matmul(first * _row(xp, g[1]), xp.getitem(vh, (..., slice(0, k), slice(None))))


@op(name="linalg.svd", method=False)
def svd(A: "Tensor", full_matrices: bool = True) -> SVD:
    """The singular value decomposition ``A = U @ diag(S) @ Vh``, as ``(U, S, Vh)``.

    Gradients through U and Vh exist only where the singular values differ, and for a matrix that is not square only in
    the reduced form.

    Args:
        A: (..., n, m).
        full_matrices: whether U is (n, n) and Vh (m, m), or U (n, k) and Vh (k, m) with ``k = min(n, m)``: the
        reduced form.
    """
    t = matrices(A, "svd", square=False)
    full = full_matrices and t._data.shape[-1] != t._data.shape[-2]
    return SVD(*apply(FullSvdOp if full else SvdOp, (t,)))


@op(name="linalg.svdvals", method=False)
def svdvals(A: "Tensor") -> "Tensor":
    """The singular values, descending."""
    return svd(A, False).S  # type: ignore[no-any-return]


@op(name="linalg.pinv", method=False)
def pinv(A: "Tensor", *, atol: float | None = None, rtol: float | None = None) -> "Tensor":
    """The pseudo-inverse by singular values; those at most ``max(atol, rtol * largest)`` count as 0.

    Args:
        A: (..., n, m).
        atol: default 0.
        rtol: default ``max(n, m) * eps`` unless `atol` is given.
    """
    u, s, vh = svd(A, False)
    tiny = _threshold(A, s, atol, rtol)
    small = s <= tiny
    inverse = s.masked_fill(small, 1).reciprocal().masked_fill(small, 0)
    return matmul(mT(vh) * unsqueeze(inverse, -2), mT(u))


def _threshold(t: Any, s: Any, atol: Any, rtol: Any) -> Any:
    if rtol is None:
        rtol = max(t._data.shape[-2:]) * float(np.finfo(t._data.dtype).eps) if not atol else 0.0
    largest = s.detach().amax(-1, True) if s._data.shape[-1] else s.detach()
    return (largest * rtol).clamp(min=atol or 0.0)


@op(name="linalg.matrix_rank", method=False, differentiable=False)
def matrix_rank(
    A: "Tensor", *, atol: float | None = None, rtol: float | None = None, hermitian: bool = False
) -> "Tensor":
    """How many singular values are above the threshold of `pinv`."""
    s = svdvals(A).detach()
    return sum_of(s > _threshold(A, s, atol, rtol), -1)
