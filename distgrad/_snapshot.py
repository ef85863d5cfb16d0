"""A file without a name that outlives the ranks: what the job needs to go on where it was, should it start again.

The parent of `launch -n --elastic` holds it (a memfd: memory, which goes with the parent), the ranks of the same host
open it through /proc. There is room for two snapshots. What all ranks have alike is written once, a part by each; the
rest is each rank's own. The number of a snapshot is written last by each rank, so one that a death has cut short is
none, and the one before is whole: a rank begins the next one only when all have ended this one.

Nothing here needs NumPy or MPI: the launcher's parent loads this module and starts quickly.
"""

import mmap
import os
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

SLOTS = 2

_TOKEN_ROOM = 4096  # bytes, before the heads
_HEAD = struct.Struct("<QQ")  # the number of the snapshot, and the bytes of this rank's own part
_LIMIT = 1024  # buffers that Linux takes in one call

# The file has holes, which take no memory, so each part has more room than there will ever be bytes.
_SHARED_ROOM = 1 << 58  # of what all ranks have alike, for each slot
_OWN_START, _OWN_ROOM = 1 << 60, 1 << 40  # of what one rank has, for each slot
_SIZE = 1 << 62


class Snapshot:
    """The file, in the parent or in a rank.

    Args:
        descriptor: of the open file.
        ranks: how many write to it.
    """

    def __init__(self, descriptor: int, ranks: int) -> None:
        self._file = descriptor
        self._ranks = ranks
        self._windows: dict[int, tuple[tuple[int, int], memoryview]] = {}  # by slot: which bytes, and where they are

    @classmethod
    def create(cls, ranks: int) -> "Snapshot":
        """A new file, of this process.

        Raises:
            OSError: the system has no such files.
        """
        if not hasattr(os, "memfd_create"):
            raise OSError("this system has no memfd_create")
        descriptor = os.memfd_create("distgrad-snapshot", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, _SIZE)  # so that all of it can be mapped
        os.pwrite(descriptor, f"distgrad-snapshot-{os.urandom(8).hex()}".encode(), 0)
        return cls(descriptor, ranks)

    @classmethod
    def open(cls, address: str, ranks: int) -> "Snapshot | None":
        """The file at an address; None where it is not: on another host, the path may lead to anything."""
        path, _, token = address.rpartition(":")
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            if os.pread(descriptor, len(token), 0) == token.encode():
                return cls(descriptor, ranks)
            os.close(descriptor)
        return None

    @property
    def address(self) -> str:
        """What a rank needs to find the file: a path, and a word by which it knows it."""
        token = os.pread(self._file, _TOKEN_ROOM, 0).rstrip(b"\0").decode()
        return f"/proc/{os.getpid()}/fd/{self._file}:{token}"

    # ---- writing -------------------------------------------------------------------------------------------------

    def write(self, rank: int, number: int, own: bytes, shared: Sequence[memoryview]) -> None:
        """Write one rank's part of a snapshot: its own bytes, and its share of what all ranks have alike."""
        slot = number % SLOTS
        self._put_head(rank, slot, 0, 0)
        total = sum(buffer.nbytes for buffer in shared)
        start, stop = rank * total // self._ranks, (rank + 1) * total // self._ranks
        if start < stop:
            _copy(_between(shared, start, stop), self._window(slot, start, stop))
        _write_all(self._file, [memoryview(own)], self._own_start(rank, slot))
        self._put_head(rank, slot, number, len(own))

    def _window(self, slot: int, start: int, stop: int) -> memoryview:
        """The bytes from `start` to `stop` of what all ranks have alike: a copy takes half as long as os.pwritev."""
        if self._windows.get(slot, ((0, 0), None))[0] != (start, stop):
            first = slot * _SHARED_ROOM + _shared_start(self._ranks) + start
            before = first % mmap.ALLOCATIONGRANULARITY
            mapped = mmap.mmap(self._file, before + stop - start, offset=first - before)
            self._windows[slot] = (start, stop), memoryview(mapped)[before:]
        return self._windows[slot][1]

    def drop_incomplete(self) -> int:
        """Forget what is newer than the newest whole snapshot, whose number this returns; 0 where there is none."""
        newest = self.newest()
        for rank in range(self._ranks):
            for slot in range(SLOTS):
                if self._head(rank, slot)[0] > newest:
                    self._put_head(rank, slot, 0, 0)
        return newest

    # ---- reading -------------------------------------------------------------------------------------------------

    def newest(self) -> int:
        """The number of the newest snapshot of which all ranks have written their part; 0 where there is none."""
        numbers = [{self._head(rank, slot)[0] for slot in range(SLOTS)} for rank in range(self._ranks)]
        return max(set.intersection(*numbers), default=0)

    def own(self, rank: int, number: int) -> bytes:
        """What a rank wrote of its own."""
        slot = number % SLOTS
        found, size = self._head(rank, slot)
        if found != number:
            raise ValueError(f"expected snapshot {number} of rank {rank}, got {found}")
        return os.pread(self._file, size, self._own_start(rank, slot))

    def shared(self, number: int, sizes: Iterable[int]) -> list[bytearray]:
        """What all ranks had alike, as buffers of these sizes."""
        buffers = [bytearray(size) for size in sizes]
        start = number % SLOTS * _SHARED_ROOM + _shared_start(self._ranks)
        for i in range(0, len(buffers), _LIMIT):
            start += _read_all(self._file, buffers[i : i + _LIMIT], start)
        return buffers

    def close(self) -> None:
        """Forget everything, when no rank has the file open."""
        os.close(self._file)

    def _head(self, rank: int, slot: int) -> tuple[int, int]:
        found = os.pread(self._file, _HEAD.size, _TOKEN_ROOM + _HEAD.size * (SLOTS * rank + slot))
        number, size = _HEAD.unpack(found.ljust(_HEAD.size, b"\0"))
        return number, size

    def _put_head(self, rank: int, slot: int, number: int, size: int) -> None:
        os.pwrite(self._file, _HEAD.pack(number, size), _TOKEN_ROOM + _HEAD.size * (SLOTS * rank + slot))

    def _own_start(self, rank: int, slot: int) -> int:
        return _OWN_START + (SLOTS * rank + slot) * _OWN_ROOM


def _shared_start(ranks: int) -> int:
    """Behind the heads, on a page of its own."""
    return (_TOKEN_ROOM + _HEAD.size * SLOTS * ranks + 4095) // 4096 * 4096


def _between(buffers: Sequence[memoryview], start: int, stop: int) -> list[memoryview]:
    """The bytes from `start` to `stop` of buffers that follow each other."""
    found, at = [], 0
    for buffer in buffers:
        first, last = max(start - at, 0), min(stop - at, buffer.nbytes)
        if first < last:
            found.append(buffer[first:last])
        at += buffer.nbytes
    return found


def _copy(buffers: list[memoryview], window: memoryview) -> None:
    for buffer in buffers:
        window[: buffer.nbytes] = buffer
        window = window[buffer.nbytes :]


def _write_all(file: int, buffers: list[memoryview], at: int) -> None:
    while buffers:
        written = os.pwritev(file, buffers[:_LIMIT], at)
        at += written
        buffers = _between(buffers, written, sum(buffer.nbytes for buffer in buffers))


def _read_all(file: int, buffers: Sequence[Any], at: int) -> int:
    """Fills the buffers, and returns their size."""
    rest, total = [memoryview(buffer) for buffer in buffers], sum(map(len, buffers))
    left = total
    while left:
        count = os.preadv(file, rest, at)
        if not count:
            raise OSError(f"expected {total} bytes of a snapshot, and {left} are missing")
        at, left = at + count, left - count
        rest = _between(rest, count, count + left)
    return total
