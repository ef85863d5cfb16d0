"""Diagonals and triangles of matrices."""

from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._node import Node
from ..autograd._op import Op, apply, apply1
from ..errors import ShapeError
from ._common import axis_of, tensor_of
from ._spec import op
from ._write import WriteOp, write_in_place

if TYPE_CHECKING:
    from .._tensor import Tensor


class Diagonal(Op):
    """A view: ``params = (offset, axis1, axis2)``."""

    view = True

    @staticmethod
    def forward(ctx: Node, x: Array, offset: int, axis1: int, axis2: int) -> Array:
        return _diagonal_of(ctx.xp, x, offset, axis1, axis2)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return xp.call(FromDiagonal, (g,), (ctx.shapes[0], *ctx.params))


def _diagonal_of(xp: Any, x: Array, offset: int, axis1: int, axis2: int) -> Array:
    """The diagonal as a view that can be written to, which NumPy's own cannot."""
    moved = xp.moveaxis(x, (axis1, axis2), (-2, -1))
    rows, columns = moved.shape[-2:]
    first = moved[..., max(-offset, 0) :, max(offset, 0) :]
    n = max(min(rows + min(offset, 0), columns - max(offset, 0)), 0)
    strides = (*first.strides[:-2], first.strides[-2] + first.strides[-1])
    return xp.lib.stride_tricks.as_strided(first, (*first.shape[:-2], n), strides)


class FromDiagonal(Op):
    """The adjoint of `Diagonal`: ``params = (shape, offset, axis1, axis2)``."""

    @staticmethod
    def forward(ctx: Node, g: Array, shape: Any, offset: int, axis1: int, axis2: int) -> Array:
        result = ctx.xp.zeros(shape, g.dtype)
        _diagonal_of(ctx.xp, result, offset, axis1, axis2)[...] = g
        return result

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return xp.call(Diagonal, (g,), ctx.params[1:])


class PutDiagonal(WriteOp):
    """``diagonal(x)[...] = v``: ``params = (offset, axis1, axis2)``."""

    name = "DiagonalScatter"

    @staticmethod
    def write(ctx: Node, data: Array, value: Any, offset: int, axis1: int, axis2: int) -> None:
        _diagonal_of(ctx.xp, data, offset, axis1, axis2)[...] = value

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        rest = xp.call(PutDiagonal, (g, 0), ctx.params) if ctx.needs[0] else None
        return rest, xp.call(Diagonal, (g,), ctx.params) if ctx.needs[1] else None


class Tril(Op):
    """``params = (k,)``."""

    @staticmethod
    def forward(ctx: Node, x: Array, k: int) -> Array:
        return ctx.xp.tril(x, k)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return xp.tril(g, k=ctx.params[0])


class Triu(Op):
    """``params = (k,)``."""

    @staticmethod
    def forward(ctx: Node, x: Array, k: int) -> Array:
        return ctx.xp.triu(x, k)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return xp.triu(g, k=ctx.params[0])


def _plane(input: Any, dim1: int, dim2: int, name: str) -> tuple[int, int]:
    ndim = tensor_of(input, name)._data.ndim
    if ndim < 2:
        raise ShapeError(f"{name}: expected at least 2 dimensions, got {ndim}")
    first, second = axis_of(dim1, ndim, name), axis_of(dim2, ndim, name)
    if first == second:
        raise ShapeError(f"{name}: expected two different dimensions, got {dim1} and {dim2}")
    return first, second


@op()
def diagonal(input: "Tensor", offset: int = 0, dim1: int = 0, dim2: int = 1) -> "Tensor":
    """A view of the diagonals of the matrices in two dimensions; they become the last dimension.

    Args:
        input: a tensor of at least 2 dimensions.
        offset: which diagonal: 0 the main one, positive above it, negative below.
        dim1, dim2: the rows and the columns.
    """
    return apply1(Diagonal, input, offset, *_plane(input, dim1, dim2, "diagonal"))


@op()
def diag_embed(input: "Tensor", offset: int = 0, dim1: int = -2, dim2: int = -1) -> "Tensor":
    """Matrices with the vectors of the last dimension on their diagonals, and zeros elsewhere; arguments as for
    `diagonal`."""
    x = tensor_of(input, "diag_embed")._data
    ndim = x.ndim + 1
    first, second = axis_of(dim1, ndim, "diag_embed"), axis_of(dim2, ndim, "diag_embed")
    if first == second or x.ndim == 0:
        raise ShapeError(f"diag_embed: expected a vector at least and two different dimensions, got {dim1} and {dim2}")
    n = x.shape[-1] + abs(offset)
    rest = list(x.shape[:-1])
    for axis in sorted((first, second)):
        rest.insert(axis, n)
    return apply1(FromDiagonal, input, tuple(rest), offset, first, second)


@op()
def diag(input: "Tensor", diagonal: int = 0) -> "Tensor":
    """The matrix with a vector on its diagonal, or the diagonal of a matrix (a copy)."""
    ndim = tensor_of(input, "diag")._data.ndim
    if ndim not in (1, 2):
        raise ShapeError(f"diag: expected a vector or a matrix, got {ndim} dimensions")
    return diag_embed(input, diagonal) if ndim == 1 else apply1(Diagonal, input, diagonal, 0, 1).clone()


@op()
def diagflat(input: "Tensor", offset: int = 0) -> "Tensor":
    """The matrix with all elements of a tensor on its diagonal."""
    return diag_embed(tensor_of(input, "diagflat").reshape(-1), offset)


@op()
def diagonal_scatter(input: "Tensor", src: "Tensor", offset: int = 0, dim1: int = 0, dim2: int = 1) -> "Tensor":
    """A copy of `input` whose `diagonal` is `src`; other arguments as for `diagonal`.

    Raises:
        ShapeError: `src` has not the shape of that diagonal.
    """
    input, src = tensor_of(input, "diagonal_scatter"), tensor_of(src, "diagonal_scatter")
    plane = _plane(input, dim1, dim2, "diagonal_scatter")
    shape = input._data.diagonal(offset, *plane).shape
    if src._data.shape != shape:
        raise ShapeError(
            f"diagonal_scatter: expected src of the diagonal's shape {list(shape)}, got {list(src._data.shape)}"
        )
    return apply(PutDiagonal, (input, src), (offset, *plane))  # type: ignore[no-any-return]


def fill_diagonal_(input: "Tensor", fill_value: float, wrap: bool = False) -> "Tensor":
    """Sets the main diagonal to a number, in place.

    Args:
        fill_value: the number.
        wrap: for a tall matrix, start again after each block of as many rows as columns and one.
    """
    x = input._data
    if x.ndim < 2 or (x.ndim > 2 and len(set(x.shape)) > 1):
        raise ShapeError(
            f"fill_diagonal_: expected a matrix, or equal sizes of all dimensions, got shape {list(x.shape)}"
        )
    return write_in_place(input, FillDiagonal, (fill_value,), (wrap,))  # type: ignore[no-any-return]


class FillDiagonal(WriteOp):
    """``x[i, i, ...] = v``: ``params = (wrap,)``."""

    @staticmethod
    def write(ctx: Node, data: Array, value: Any, wrap: bool) -> None:
        ctx.xp.fill_diagonal(data, value, wrap)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return xp.call(FillDiagonal, (g, 0), ctx.params), None


@op()
def trace(input: "Tensor") -> "Tensor":
    """The sum of a matrix's diagonal."""
    input = tensor_of(input, "trace")
    if input._data.ndim != 2:
        raise ShapeError(f"trace: expected a matrix, got {input._data.ndim} dimensions")
    return diagonal(input).sum()


@op(inplace=True)
def tril(input: "Tensor", diagonal: int = 0) -> "Tensor":
    """The lower triangles of matrices: zeros above the given diagonal."""
    _plane(input, -2, -1, "tril")
    return apply1(Tril, input, diagonal)


@op(inplace=True)
def triu(input: "Tensor", diagonal: int = 0) -> "Tensor":
    """The upper triangles of matrices: zeros below the given diagonal."""
    _plane(input, -2, -1, "triu")
    return apply1(Triu, input, diagonal)
