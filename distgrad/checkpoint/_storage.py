"""Which bytes hold a set of arrays: views of one memory share their bytes in a file, too.

A parameter in an arena is a view of flat memory with many others. So what is stored is not the whole memory behind an
array, but the bytes that it covers, joined with those of the arrays that overlap it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..backend import OF_NUMPY

HostArray = Any  # numpy.ndarray


class Placed(NamedTuple):
    """One array's place in a storage.

    Attributes:
        storage: its number.
        offset: bytes from the storage's beginning to the first element.
        strides: in bytes.
    """

    storage: int
    offset: int
    strides: tuple[int, ...]


class Storage(NamedTuple):
    """Bytes to be written once.

    Attributes:
        data: flat, uint8.
        dtype: of an array that covers all of it in order; None if there is none.
        shape: of that array.
        owner: the number of that array, or of the first.
    """

    data: HostArray
    dtype: str | None
    shape: tuple[int, ...]
    owner: int


def arrange(arrays: Sequence[HostArray]) -> tuple[list[Storage], list[Placed]]:
    """The storages that hold these arrays, and where in them each is."""
    bounds = [_bounds(a) for a in arrays]
    order = sorted(range(len(arrays)), key=lambda i: bounds[i])
    storages: list[Storage] = []
    placed: dict[int, Placed] = {}
    group: list[int] = []
    end = 0
    for i in order:
        if group and bounds[i][0] >= end:
            _close(group, arrays, bounds, storages, placed)
            group = []
        end = max(end, bounds[i][1]) if group else bounds[i][1]
        group.append(i)
    if group:
        _close(group, arrays, bounds, storages, placed)
    return storages, [placed[i] for i in range(len(arrays))]


def _bounds(a: HostArray) -> tuple[int, int]:
    """The addresses of the first byte of an array and of the byte after its last."""
    low: int = a.__array_interface__["data"][0]
    if a.size == 0:
        return low, low
    steps = [(n - 1) * stride for n, stride in zip(a.shape, a.strides, strict=True)]
    return low + sum(s for s in steps if s < 0), low + sum(s for s in steps if s > 0) + a.itemsize


def _close(
    group: list[int],
    arrays: Sequence[HostArray],
    bounds: list[tuple[int, int]],
    storages: list[Storage],
    placed: dict[int, Placed],
) -> None:
    """Makes one storage of arrays that overlap."""
    number = len(storages)
    first = arrays[group[0]]
    start, stop = bounds[group[0]][0], max(bounds[i][1] for i in group)
    if len(group) == 1 and (stop - start > first.nbytes or first.flags.c_contiguous):
        first = np.ascontiguousarray(first).reshape(first.shape)
        storages.append(Storage(_bytes(first), OF_NUMPY[first.dtype].name, first.shape, group[0]))
        placed[group[0]] = Placed(number, 0, first.strides)
        return
    for i in group:
        a = arrays[i]
        placed[i] = Placed(number, int(a.__array_interface__["data"][0]) - start, a.strides)
    data = _memory(start, stop - start, [arrays[i] for i in group])
    for i in sorted(group):
        if bounds[i] == (start, stop) and arrays[i].flags.c_contiguous:
            storages.append(Storage(data, OF_NUMPY[arrays[i].dtype].name, arrays[i].shape, i))
            return
    storages.append(Storage(data, None, data.shape, min(group)))


def _bytes(a: HostArray) -> HostArray:
    """The bytes of a contiguous array, flat."""
    return a.reshape(-1).view(np.uint8)


class _Memory:
    """A stretch of memory for NumPy; it keeps alive what the memory belongs to."""

    def __init__(self, address: int, size: int, owners: list[HostArray]) -> None:
        self.owners = owners
        self.__array_interface__ = {"shape": (size,), "typestr": "|u1", "data": (address, True), "version": 3}


def _memory(address: int, size: int, owners: list[HostArray]) -> HostArray:
    return np.asarray(_Memory(address, size, owners)) if size else np.empty(0, np.uint8)
