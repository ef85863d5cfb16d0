"""Norms as torch.norm and linalg.norm choose between those of vectors and of matrices."""

import math
from typing import TYPE_CHECKING, Any

from ..errors import ShapeError
from ._common import axis_of, tensor_of, to_dtype
from ._decompose import svdvals
from ._extreme import amax, amin
from ._reduce import sum as sum_of
from ._shape import movedim, reshape, unsqueeze
from ._spec import op
from ._vector_norm import vector_norm

if TYPE_CHECKING:
    from .._tensor import Tensor


@op(name="linalg.matrix_norm", method=False)
def matrix_norm(
    A: "Tensor", ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *, dtype: Any = None
) -> "Tensor":
    """The norms of the matrices in two dimensions.

    Args:
        A: (..., n, m).
        ord: ``"fro"``; ``"nuc"``, the sum of the singular values; 2 or -2, the largest or smallest of them; 1 or -1,
        the
            largest or smallest sum of |a| over a column; inf or -inf, over a row.
        dim: the rows and the columns.
        keepdim: keep both as 1.
        dtype: convert the input to this dtype first.
    """
    t = to_dtype(tensor_of(A, "linalg.matrix_norm"), dtype)
    rows, columns = (axis_of(d, t._data.ndim, "linalg.matrix_norm") for d in dim)
    if rows == columns:
        raise ShapeError(f"linalg.matrix_norm: expected two different dimensions, got {tuple(dim)}")
    if ord == "fro":
        return vector_norm(t, 2, (rows, columns), keepdim)
    if ord in ("nuc", 2, -2):
        values = svdvals(movedim(t, (rows, columns), (-2, -1)))
        result = sum_of(values, -1) if ord == "nuc" else amax(values, -1) if ord == 2 else amin(values, -1)
        if keepdim:
            for axis in sorted((rows, columns)):
                result = unsqueeze(result, axis)
        return result
    if ord not in (1, -1, math.inf, -math.inf):
        raise ValueError(f"linalg.matrix_norm: expected ord 'fro', 'nuc', 1, -1, 2, -2, inf or -inf, got {ord!r}")
    summed, other = (rows, columns) if abs(ord) == 1 else (columns, rows)
    sums = vector_norm(t, 1, summed, True)
    result = amax(sums, other, True) if ord > 0 else amin(sums, other, True)
    return result if keepdim else result.squeeze((rows, columns))


@op(name="linalg.norm", method=False)
def linalg_norm(A: "Tensor", ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> "Tensor":
    """The norm of a vector or of matrices, as `vector_norm` and `matrix_norm` define it.

    Args:
        A: the tensor.
        ord: None: the 2-norm of all elements over `dim`.
        dim: one dimension: vectors; two: matrices; None: all, of which there must be 1 or 2 if `ord` is given.
        keepdim: keep the reduced dimensions as 1.
        dtype: convert the input to this dtype first.
    """
    if ord is None:
        return vector_norm(A, 2, dim, keepdim, dtype=dtype)
    count = A._data.ndim if dim is None else 1 if isinstance(dim, int) else len(dim)
    if count == 2:
        return matrix_norm(A, ord, (0, 1) if dim is None else dim, keepdim, dtype=dtype)
    if count != 1:
        raise ShapeError(f"linalg.norm: with ord={ord!r}, expected 1 or 2 dimensions, got {count}; pass dim=")
    return vector_norm(A, ord, dim, keepdim, dtype=dtype)


@op()
def norm(input: "Tensor", p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: Any = None) -> "Tensor":
    """The norm over the dimensions `dim` (all by default).

    Args:
        input: a floating-point tensor.
        p: a number, for the p-norm of the elements over `dim` as of one vector; ``"fro"``, the same as 2; ``"nuc"``,
        the
            nuclear norm of matrices.
        dim: a dimension or several.
        keepdim: keep each reduced dimension as 1.
        dtype: convert the input to this dtype first.
    """
    t = tensor_of(input, "norm")
    if p == "nuc":
        return matrix_norm(t, "nuc", (-2, -1) if dim is None else dim, keepdim, dtype=dtype)
    order = 2 if p in ("fro", None) else p
    if dim is None and not keepdim:
        return vector_norm(reshape(t, -1), order, dtype=dtype)
    return vector_norm(t, order, dim, keepdim, dtype=dtype)
