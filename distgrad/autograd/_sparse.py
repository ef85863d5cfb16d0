"""Gradients of a few rows: what a table of embeddings receives that asked for it, without zeros for the other rows."""

from typing import TYPE_CHECKING, Any, ClassVar

from .._typing import Array, Shape
from ..backend import backend_of
from ..errors import AutogradError
from ._base import TensorBase, wrap

if TYPE_CHECKING:
    from .._tensor import Tensor


class SparseRows:
    """Rows of a matrix that is zero elsewhere; where an index occurs several times, its rows are added.

    Args:
        indices: (n,), of rows.
        values: (n, D), in the order of the indices.
        count: the number of rows of the matrix.
    """

    __slots__ = ("count", "indices", "is_coalesced", "values")
    __array_ufunc__ = None  # an array that adds one leaves it to us

    def __init__(self, indices: Array, values: Array, count: int, is_coalesced: bool = False) -> None:
        self.indices = indices
        self.values = values
        self.count = count
        self.is_coalesced = is_coalesced  # each index once, in order

    @property
    def shape(self) -> Shape:
        """That of the matrix."""
        return (self.count, *self.values.shape[1:])

    @property
    def dtype(self) -> Any:
        """That of the values."""
        return self.values.dtype

    def astype(self, dtype: Any) -> "SparseRows":
        """The same in another dtype."""
        return SparseRows(self.indices, self.values.astype(dtype), self.count, self.is_coalesced)

    def coalesced(self) -> "SparseRows":
        """The same with each index once, in order."""
        if self.is_coalesced:
            return self
        backend = backend_of(self.values)
        indices, places = backend.xp.unique(self.indices, return_inverse=True)
        values = backend.kernels.loss.sum_rows(self.values, places.reshape(-1), indices.size)
        return SparseRows(indices, values.astype(self.values.dtype, copy=False), self.count, True)

    def to_dense(self) -> Array:
        """The whole matrix."""
        return backend_of(self.values).kernels.loss.sum_rows(self.values, self.indices, self.count)

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, SparseRows):
            return other + self.to_dense()
        xp = backend_of(self.values).xp
        indices = xp.concatenate([self.indices, other.indices])
        return SparseRows(indices, xp.concatenate([self.values, other.values]), self.count)

    __radd__ = __add__


class SparseTensor(TensorBase):
    """A gradient of rows as users see it, with the methods of torch's sparse tensors. Optimizers know what to do.

    Args:
        rows: the contents.
    """

    __slots__ = ("rows",)
    is_sparse: ClassVar[bool] = True
    requires_grad: ClassVar[bool] = False

    def __init__(self, rows: SparseRows) -> None:
        self.rows = rows
        self._target = self._base = self._grad = self._extra = None
        self._cell = [0, 0]

    @property
    def _data(self) -> Array:
        raise AutogradError(
            f"expected a dense tensor, got a sparse gradient of shape {list(self.rows.shape)}; call to_dense(), use "
            "SGD, Adagrad or SparseAdam, or leave sparse=True out of the embedding"
        )

    @property
    def shape(self) -> Shape:
        """That of the parameter."""
        return self.rows.shape

    def indices(self) -> "Tensor":
        """Which rows there are, shape (1, n)."""
        return wrap(self.rows.indices.reshape(1, -1))

    def values(self) -> "Tensor":
        """The rows, shape (n, D)."""
        return wrap(self.rows.values)

    _indices, _values = indices, values

    def is_coalesced(self) -> bool:
        """Whether each row occurs once, in order."""
        return self.rows.is_coalesced

    def coalesce(self) -> "SparseTensor":
        """The same with each row once, in order."""
        return SparseTensor(self.rows.coalesced())

    def to_dense(self) -> "Tensor":
        """An ordinary tensor with zeros in the other rows."""
        return wrap(self.rows.to_dense())

    def detach(self) -> "SparseTensor":
        """The same."""
        return SparseTensor(self.rows)

    def __repr__(self) -> str:
        return f"SparseTensor(shape={list(self.shape)}, rows={self.rows.indices.size}, dtype={self.rows.dtype})"


def accumulate_sparse(leaf: Any, g: SparseRows) -> None:
    """Adds rows to ``leaf.grad``, which becomes sparse if it was None."""
    before = leaf._grad
    if before is None:
        leaf._grad = SparseTensor(g)
    elif before.is_sparse:
        leaf._grad = SparseTensor(before.rows + g)
    elif before._target is not None:
        leaf._grad = wrap(before._data + g.to_dense())
    else:
        before._data += g.to_dense()
        before._cell[0] += 1
