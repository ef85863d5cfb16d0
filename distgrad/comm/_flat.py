"""Tensors and arrays of any shape as the flat buffers that communicators take, and checks of lists of them."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from .._typing import Array, HasArray
from ..backend import backend_of
from ..errors import CommError
from ._communicator import Communicator
from .device._buffers import DeviceArray

Buffer: TypeAlias = HasArray | Array


class Flat:
    """A Tensor or an array as the contiguous 1-D buffer that communicators take: a view where possible, else a copy."""

    def __init__(self, tensor: Buffer, write: bool) -> None:
        self.given = tensor
        self.array: Array = tensor.__distgrad_array__(write=write) if isinstance(tensor, HasArray) else tensor
        _check_array(self.array)
        self.is_view = bool(self.array.flags.c_contiguous)
        self.buffer: Array = (self.array if self.is_view else self.array.copy()).reshape(-1)

    def write_back(self) -> None:
        """Move the result to where the caller wants it, if it is not there already."""
        if not self.is_view:
            self.array[...] = self.buffer.reshape(self.array.shape)

    def fill(self, values: Array) -> None:
        """Overwrite with a flat array of the same kind of memory."""
        self.buffer[...] = values
        self.write_back()

    def rows(self, count: int) -> Array:
        """New memory of the same kind for `count` such buffers, shape (count, n)."""
        made: Array = backend_of(self.buffer).xp.empty((count, self.buffer.size), self.buffer.dtype)
        return made


def _check_array(array: object) -> None:
    if not isinstance(array, np.ndarray) and not isinstance(array, DeviceArray):
        raise CommError(f"expected a Tensor or an array, got {type(array).__name__}")


def joined(parts: Sequence[Flat]) -> Array:
    """The buffers one after the other, in new memory of the same kind."""
    made: Array = backend_of(parts[0].buffer).xp.concatenate([part.buffer for part in parts])
    return made


def flats(tensors: Sequence[Buffer], count: int, write: bool, name: str) -> list[Flat]:
    """The buffers of a list; raises CommError unless it has `count` entries."""
    if len(tensors) != count:
        raise CommError(f"expected `{name}` to be a list of {count} tensors, one for each rank, got {len(tensors)}")
    return [Flat(tensor, write) for tensor in tensors]


def check_entries(entries: Sequence[Flat], single: Flat, name: str) -> None:
    """Raise CommError unless each entry of a list is like the tensor that is passed beside it."""
    like = single.buffer
    for i, entry in enumerate(entries):
        if entry.buffer.size != like.size or entry.buffer.dtype != like.dtype:
            raise CommError(
                f"expected each entry of `{name}` to have {like.size} elements of {like.dtype}, as the tensor beside "
                f"it, got {entry.buffer.size} of {entry.buffer.dtype} in entry {i}"
            )


def count_on_root(found: Communicator, root: int) -> int:
    """The length that a list has which only the root passes."""
    return found.size if found.rank == root else 0


def on_root(values: Sequence[Any] | None, is_root: bool, name: str) -> Sequence[Any]:
    """The list that only the root passes; empty elsewhere."""
    if is_root and values is None:
        raise CommError(f"expected `{name}` on the rank that it is for, got None")
    if not is_root and values:
        raise CommError(f"expected no `{name}` on this rank, got one; pass it on the root alone")
    return values or []


def check_length(values: Sequence[Any], length: int, name: str) -> None:
    """Raise CommError unless a list has so many entries."""
    if len(values) != length:
        raise CommError(f"expected `{name}` of length {length}, got {len(values)}")


def elements(rows: Sequence[int] | None, array: Array) -> list[int] | None:
    """Numbers of rows as numbers of elements."""
    if not rows:
        return None
    width = int(np.prod(array.shape[1:], dtype=np.int64))
    return [int(count) * width for count in rows]
