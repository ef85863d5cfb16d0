"""Python objects as flat byte buffers, and how buffers whose sizes differ between ranks travel."""

import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._typing import Array
from ._collectives import HostCollectives


def encode(value: Any) -> Array:
    """The pickled object as a uint8 array of shape (nbytes,)."""
    return np.frombuffer(pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL), np.uint8)


def decode(data: Array) -> Any:
    """The object that `encode` turned into these bytes."""
    return pickle.loads(data.tobytes())


def share_bytes(group: HostCollectives, data: Array, root: int = 0) -> Array:
    """The bytes of rank `root` on every rank."""
    length = np.array([data.size], np.int64)
    group._broadcast(length, root)
    data = data.copy() if group.rank == root else np.empty(int(length[0]), np.uint8)
    group._broadcast(data, root)
    return data


def gather_bytes(group: HostCollectives, data: Array) -> list[Array]:
    """The bytes of all ranks, in rank order, on every rank."""
    lengths, width = _gather_lengths(group, data)
    gathered = np.empty(group.size * width, np.uint8)
    group._all_gather(gathered, _padded(data, width))
    return _cut(gathered, lengths, width)


def gather_bytes_on(group: HostCollectives, data: Array, root: int) -> list[Array] | None:
    """The bytes of all ranks, in rank order, on rank `root`; None elsewhere."""
    lengths, width = _gather_lengths(group, data)
    gathered = np.empty(group.size * width, np.uint8) if group.rank == root else None
    group._gather(gathered, _padded(data, width), root)
    return None if gathered is None else _cut(gathered, lengths, width)


def scatter_bytes(group: HostCollectives, parts: Sequence[Array], root: int) -> Array:
    """Part r of those that rank `root` has, on rank r; the others have none."""
    lengths = np.array([part.size for part in parts] or [0] * group.size, np.int64)
    group._broadcast(lengths, root)
    width = int(lengths.max())
    data = np.empty(width, np.uint8)
    group._scatter(data, np.concatenate([_padded(part, width) for part in parts]) if parts else None, root)
    return data[: int(lengths[group.rank])]


def _gather_lengths(group: HostCollectives, data: Array) -> tuple[Array, int]:
    """The number of bytes of each rank, and the largest."""
    lengths = np.empty(group.size, np.int64)
    group._all_gather(lengths, np.array([data.size], np.int64))
    return lengths, int(lengths.max())


def _padded(data: Array, width: int) -> Array:
    """`data` followed by zeros up to `width` bytes, so that all ranks hold buffers of one size."""
    padded = np.zeros(width, np.uint8)
    padded[: data.size] = data
    return padded


def _cut(gathered: Array, lengths: Array, width: int) -> list[Array]:
    """The rows without the zeros behind them."""
    return [row[:n] for row, n in zip(gathered.reshape(lengths.size, width), lengths, strict=True)]
