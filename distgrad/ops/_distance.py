"""Distances and similarities of vectors."""

from typing import TYPE_CHECKING, Any

from ..autograd._op import result_dtype
from ..errors import ShapeError
from ._common import axis_of, cast, floating, tensor_of
from ._spec import op
from ._vector_norm import vector_norm

if TYPE_CHECKING:
    from .._tensor import Tensor


@op(method=False)
def normalize(
    input: "Tensor", p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: "Tensor | None" = None
) -> "Tensor":
    """The input divided by its p-norm along `dim` (by `eps` where that is larger).

    Args:
        input: a tensor of any shape.
        p: the norm's exponent.
        dim: the dimension of the vectors.
        eps: the least divisor.
        out: a tensor for the result.
    """
    x = tensor_of(input, "normalize")
    result = x / vector_norm(x, p, dim, True).clamp(min=eps)
    return result if out is None else out.copy_(result)


@op(method=False)
def cosine_similarity(x1: "Tensor", x2: "Tensor", dim: int = 1, eps: float = 1e-8) -> "Tensor":
    """The cosine of the angle between vectors along `dim`; each length counts as `eps` at least."""
    a, b = floating(x1, "cosine_similarity"), floating(x2, "cosine_similarity")
    dtype = result_dtype((a, b))
    a, b = cast(a, dtype), cast(b, dtype)
    shape = (a.detach() + b.detach())._data.shape if a._data.shape != b._data.shape else a._data.shape
    a, b = a.expand(shape), b.expand(shape)
    axis = axis_of(dim, len(shape), "cosine_similarity")
    length = vector_norm(a, 2, axis, True).clamp(min=eps), vector_norm(b, 2, axis, True).clamp(min=eps)
    return ((a / length[0]) * (b / length[1])).sum(axis)


@op(method=False)
def pairwise_distance(x1: "Tensor", x2: "Tensor", p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> "Tensor":
    """The p-norm of ``x1 - x2 + eps`` along the last dimension.

    Args:
        x1, x2: (..., D), broadcast.
        p: the norm's exponent.
        eps: added to each difference.
        keepdim: keep the last dimension as 1.
    """
    difference = tensor_of(x1, "pairwise_distance") - tensor_of(x2, "pairwise_distance") + eps
    return vector_norm(difference, p, -1, keepdim)


@op(method=False)
def cdist(x1: "Tensor", x2: "Tensor", p: float = 2.0, compute_mode: Any = None) -> "Tensor":
    """The p-norm of the difference of each row of (..., P, D) and each row of (..., R, D): (..., P, R)."""
    a, b = tensor_of(x1, "cdist"), tensor_of(x2, "cdist")
    if a._data.shape[-1] != b._data.shape[-1]:
        raise ShapeError(f"cdist: expected rows of one length, got {list(a._data.shape)} and {list(b._data.shape)}")
    return vector_norm(a.unsqueeze(-2) - b.unsqueeze(-3), p, -1, False)


@op(method=False)
def pdist(input: "Tensor", p: float = 2.0) -> "Tensor":
    """The p-norm of the difference of each pair of rows of (N, D), as the upper triangle row by row."""
    x = tensor_of(input, "pdist")
    if x._data.ndim != 2:
        raise ShapeError(f"pdist: expected an input of 2 dimensions (N, D), got {list(x._data.shape)}")
    n = x._data.shape[0]
    first = [i for i in range(n) for _ in range(i + 1, n)]
    second = [j for i in range(n) for j in range(i + 1, n)]
    if not first:
        return x.new_zeros(0)
    return vector_norm(x[first] - x[second], p, -1, False)
