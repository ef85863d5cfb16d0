"""Rows of a table, by their numbers."""

from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._node import LEAF, Node
from ..autograd._op import Op, apply
from ..autograd._sparse import SparseRows
from ..errors import DTypeError, ShapeError
from ._common import tensor_of
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


class Embedding(Op):
    """Inputs: weight (V, D), indices (...); ``params = (padding_idx or None, scale_grad_by_freq)``."""

    @staticmethod
    def forward(ctx: Node, weight: Array, indices: Array, padding: int | None, by_frequency: bool) -> Array:
        ctx.aux = indices
        return ctx.xp.take(weight, indices, axis=0)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        padding, by_frequency = ctx.params
        return xp.call(EmbeddingGradient, (g,), (ctx.aux, ctx.shapes[0], padding, by_frequency)), None


class SparseEmbedding(Embedding):
    """`Embedding` whose gradient holds the rows that were used, where it goes to a leaf."""

    @staticmethod
    def backward_fast(xp: Any, ctx: Node, g: Array) -> Any:
        indices, (padding, _) = ctx.aux.reshape(-1), ctx.params
        if ctx.edges[0].kind != LEAF:
            return Embedding.backward(xp, ctx, g)
        rows = g.reshape(indices.size, -1)
        if padding is not None:
            used = indices != padding
            indices, rows = indices[used], rows[used]
        return SparseRows(indices, rows, ctx.shapes[0][0]), None


class EmbeddingGradient(Op):
    """The adjoint of `Embedding`: ``params = (indices, shape of the weight, padding, by_frequency)``."""

    name = "EmbeddingDense"

    @staticmethod
    def forward(ctx: Node, g: Array, indices: Array, shape: Any, padding: int | None, by_frequency: bool) -> Array:
        flat = indices.reshape(-1)
        rows = g.reshape(flat.size, shape[1])
        if by_frequency:
            rows = rows / ctx.xp.bincount(flat, minlength=shape[0])[flat].astype(g.dtype).reshape(-1, 1)
        result = ctx.kernels.loss.sum_rows(rows, flat, shape[0])
        if padding is not None:
            result[padding] = 0
        return result

    @staticmethod
    def backward(xp: Any, ctx: Node, h: Any) -> Any:
        indices, shape, padding, by_frequency = ctx.params
        factor = ctx.xp.ones(shape[0], dtype=h.dtype if isinstance(h, ctx.backend.array_type) else h._data.dtype)
        if by_frequency:
            factor /= ctx.xp.maximum(ctx.xp.bincount(indices.reshape(-1), minlength=shape[0]), 1)
        if padding is not None:
            factor[padding] = 0
        return xp.getitem(h * factor.reshape(-1, 1), (indices,))


def _check(name: str, indices: Array, weight: Array) -> None:
    if weight.ndim != 2:
        raise ShapeError(f"{name}: expected a weight of shape (number of embeddings, size), got {list(weight.shape)}")
    if indices.dtype.kind not in "iu":
        raise DTypeError(
            f"{name}: expected indices of an integer dtype, got {indices.dtype}; convert them with .long()"
        )
    if indices.size and not bool((indices.min() >= 0) & (indices.max() < weight.shape[0])):
        raise IndexError(
            f"{name}: index out of range: expected indices in [0, {weight.shape[0] - 1}], got {indices.min()} to "
            f"{indices.max()}"
        )


@op(method=False)
def embedding(
    input: "Tensor",
    weight: "Tensor",
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> "Tensor":
    """The rows of `weight` that `input` names.

    Args:
        input: indices of an integer dtype, of any shape (...).
        weight: (V, D).
        padding_idx: a row that receives no gradient.
        max_norm: rows that are used and longer than this are first shortened to it, in place.
        norm_type: the p of that norm.
        scale_grad_by_freq: divide each row's gradient by how often it is used.
        sparse: let the gradient of a leaf hold only the rows that were used (see `SparseTensor`).

    Returns:
        (..., D).

    Raises:
        IndexError: an index is outside [0, V).
        DTypeError: the indices are not integers.
    """
    indices, w = tensor_of(input, "embedding"), tensor_of(weight, "embedding")
    _check("embedding", indices._data, w._data)
    padding = _padding("embedding", padding_idx, w._data.shape[0])
    if max_norm is not None:
        _shorten(w, indices._data, max_norm, norm_type)
    if sparse and scale_grad_by_freq:
        raise ValueError("embedding: scale_grad_by_freq=True is not supported with sparse=True")
    kind = SparseEmbedding if sparse else Embedding
    return apply(kind, (w, indices), (padding, scale_grad_by_freq))  # type: ignore[no-any-return]


def _padding(name: str, padding_idx: int | None, rows: int) -> int | None:
    if padding_idx is None:
        return None
    if not -rows <= padding_idx < rows:
        raise IndexError(f"{name}: padding_idx must be within the number of embeddings ({rows}), got {padding_idx}")
    return padding_idx % rows


def _shorten(weight: Any, indices: Array, max_norm: float, p: float) -> None:
    """Scales the named rows that are longer than `max_norm` down to it, in place and outside the graph."""
    w = weight._data
    rows = sorted(set(indices.reshape(-1).tolist()))
    used = abs(w[rows])
    norms = used.max(axis=1) if p == float("inf") else (used**p).sum(axis=1) ** (1 / p)
    scale = (max_norm / (norms + 1e-7)).clip(max=1.0)
    if (scale < 1).any():
        w[rows] *= scale.astype(w.dtype).reshape(-1, 1)
        weight._cell[0] += 1


@op(method=False)
def embedding_bag(
    input: "Tensor",
    weight: "Tensor",
    offsets: "Tensor | None" = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: "Tensor | None" = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> "Tensor":
    """The sum, mean or maximum of the rows of each bag of indices.

    Args:
        input: indices (B, L), a bag in each row; or (M,) with `offsets`.
        weight: (V, D).
        offsets: (B,), where each bag begins; with `include_last_offset`, (B + 1,).
        max_norm, norm_type, scale_grad_by_freq, sparse: as `embedding`.
        mode: ``"sum"``, ``"mean"`` or ``"max"``.
        per_sample_weights: a factor for each index, only with ``"sum"``.
        padding_idx: an index that does not count.

    Returns:
        (B, D).
    """
    if mode not in ("sum", "mean", "max"):
        raise ValueError(f"embedding_bag: expected mode to be 'sum', 'mean' or 'max', got {mode!r}")
    if per_sample_weights is not None and mode != "sum":
        raise NotImplementedError(
            f"embedding_bag: per_sample_weights is only supported for mode='sum', got mode={mode!r}"
        )
    indices, w = tensor_of(input, "embedding_bag"), tensor_of(weight, "embedding_bag")
    flat, bags, count = _bags(indices, offsets, include_last_offset)
    padding = _padding("embedding_bag", padding_idx, w._data.shape[0])
    rows = embedding(flat, w, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.reshape(-1, 1)
    keep = bags._data >= 0 if padding is None else flat._data != padding
    if not keep.all():
        rows, bags = rows[keep], bags[keep]
    return _reduce_bags(rows, bags, count, mode)


def _bags(indices: Any, offsets: Any, include_last: bool) -> tuple[Any, Any, int]:
    """The flat indices, the bag of each, and the number of bags."""
    if indices._data.ndim == 2:
        if offsets is not None:
            raise ValueError("embedding_bag: expected offsets to be None for a 2-d input, whose rows are the bags")
        count, length = indices._data.shape
        return indices.reshape(-1), _numbers(indices, count).reshape(-1, 1).expand(count, length).reshape(-1), count
    if offsets is None or indices._data.ndim != 1:
        raise ValueError(
            "embedding_bag: expected a 1-d input with offsets, or a 2-d one without, got "
            f"{indices._data.ndim} dimensions and offsets {'None' if offsets is None else 'given'}"
        )
    starts = offsets[:-1] if include_last else offsets
    count = starts._data.shape[0]
    total = indices._data.shape[0]
    position = _numbers(indices, total)
    bags = (position.reshape(-1, 1) >= starts.reshape(1, -1)).sum(1) - 1
    return indices, bags, count


def _numbers(like: Any, n: int) -> Any:
    return (like.new_ones(n) if n else like.new_zeros(0)).long().cumsum(0) - 1


def _reduce_bags(rows: Any, bags: Any, count: int, mode: str) -> "Tensor":
    width = rows._data.shape[1]
    places = bags.reshape(-1, 1).expand(rows._data.shape)
    empty = rows.new_zeros((count, width))
    if mode == "max":
        return empty.scatter_reduce(0, places, rows, "amax", include_self=False)  # type: ignore[no-any-return]
    total = empty.scatter_add(0, places, rows)
    if mode == "sum":
        return total  # type: ignore[no-any-return]
    sizes = rows.new_zeros(count).scatter_add(0, bags, rows.new_ones(bags._data.shape[0]))
    return total / sizes.clamp(min=1).reshape(-1, 1)  # type: ignore[no-any-return]
