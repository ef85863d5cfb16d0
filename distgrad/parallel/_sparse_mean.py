"""The mean over the ranks of gradients that are sparse: each rank gets the rows of all."""

from collections.abc import Iterable

import numpy as np

from .._tensor import Tensor
from .._typing import Array
from ..autograd._base import wrap
from ..autograd._sparse import SparseRows, SparseTensor
from ..backend import backend_of
from ..comm import Communicator, ReduceOp
from ..nn import Embedding, EmbeddingBag, Module

_NONE, _SPARSE, _DENSE = range(3)


def sparse_weights(module: Module) -> set[Tensor]:
    """The parameters whose gradients are sparse, as their layers say."""
    layers = (m for m in module.modules() if isinstance(m, Embedding | EmbeddingBag))
    return {layer.weight for layer in layers if layer.sparse}


def scale_rows(parameters: Iterable[Tensor], factor: float) -> None:
    """Multiplies the gradients that are sparse."""
    for p in parameters:
        if p._grad is not None and p._grad.is_sparse:
            rows = p._grad.rows
            values = rows.values * factor if factor else backend_of(rows.values).xp.zeros_like(rows.values)
            p._grad = SparseTensor(SparseRows(rows.indices, values, rows.count, rows.is_coalesced))


def average_rows(group: Communicator, parameters: Iterable[Tensor]) -> None:
    """Replaces the gradients of such parameters by their means over the ranks. A collective call.

    A parameter that is used on no rank keeps None; one whose gradient is dense on some rank, because it is used
    elsewhere in the model too, gets a dense mean.
    """
    for p in parameters:
        rows = p._grad.rows.coalesced() if p._grad is not None and p._grad.is_sparse else None
        kind = _NONE if p._grad is None else _DENSE if rows is None else _SPARSE
        said = np.empty(2 * group.size, np.int64)
        group.all_gather(said, np.array([kind, 0 if rows is None else rows.indices.size], np.int64))
        kinds, counts = said.reshape(-1, 2).T.tolist()
        if _DENSE in kinds:
            p._grad = _dense_mean(group, p)
        elif _SPARSE in kinds:
            p._grad = SparseTensor(_rows_of_all(group, p, rows, counts))


def _dense_mean(group: Communicator, p: Tensor) -> Tensor:
    xp = backend_of(p._data).xp
    if p._grad is None:
        dense = xp.zeros_like(p._data)
    else:
        dense = p._grad.to_dense()._data if p._grad.is_sparse else xp.array(p._grad._data, order="C")
    group.all_reduce(dense.reshape(-1), ReduceOp.AVG)
    return wrap(dense)


def _rows_of_all(group: Communicator, p: Tensor, rows: SparseRows | None, counts: list[int]) -> SparseRows:
    """The rows of all ranks, divided by their number, and coalesced in the order of the ranks."""
    xp = backend_of(p._data).xp
    width = max(counts)
    shape = (width, *p._data.shape[1:])
    indices, values = xp.zeros(width, "int64"), xp.zeros(shape, p._data.dtype)
    if rows is not None:
        indices[: rows.indices.size] = rows.indices
        xp.divide(rows.values, group.size, out=values[: rows.indices.size])
    every_index: Array = xp.empty((group.size, width), "int64")
    every_value: Array = xp.empty((group.size, *shape), p._data.dtype)
    group.all_gather(every_index.reshape(-1), indices)
    group.all_gather(every_value.reshape(-1), values.reshape(-1))
    of_ranks = range(group.size)
    joined = SparseRows(
        xp.concatenate([every_index[rank, : counts[rank]] for rank in of_ranks]),
        xp.concatenate([every_value[rank, : counts[rank]] for rank in of_ranks]),
        p._data.shape[0],
    )
    return joined.coalesced()
