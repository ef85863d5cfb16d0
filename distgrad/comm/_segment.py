"""Shared memory between the ranks of one node; this module owns all of it.

A segment is created by one rank and attached by the others while a name for it exists, which is a moment; after that
only the mappings hold it, so the kernel frees it with the last process, however that process ends. Two kinds of memory
are tried. Linux's anonymous memory files (memfd) have no name in any file system and do not count against the size of
/dev/shm, which is 64 MB in a default container. Elsewhere it is a file, in /dev/shm or in the folder of temporary
files, that is removed as soon as everybody has attached. Its space is reserved at once: without that, a full file
system shows itself as a SIGBUS at the first touch (mpich issue 4631).
"""

import errno
import mmap
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, TypeAlias

import numpy as np

from .._typing import Array
from ..errors import CommError
from ._communicator import Communicator

PAGE = mmap.PAGESIZE
HUGE = 2 * 1024 * 1024  # a huge page
_COLLAPSE = 25  # MADV_COLLAPSE of Linux 6.1: make huge pages of small ones, whatever the system's settings are


def padded(nbytes: int) -> int:
    """`nbytes` rounded up to whole pages, and at least one."""
    return max(1, -(-nbytes // PAGE)) * PAGE


class Segment(mmap.mmap):
    """A mapping of shared memory. Arrays on it keep it alive; it is unmapped with the last of them.

    Large ones lie in huge pages where the system has them, as NumPy's own large arrays do: passes over them take 5 to
    10 % less time (measured, 25 MiB). For that, the address and the place in the file must agree modulo `HUGE`. So the
    data begin at `HUGE` in the file, and the mapping at the place before that suits its address.

    `start` is the address at which this process sees the first byte of the data, `nbytes` their number.
    """

    start: int
    nbytes: int
    _before: int  # bytes of the mapping before the data

    @classmethod
    def attach(cls, path: str, nbytes: int, reserve: range) -> "Segment":
        """Map the memory that has this name, after reserving the space of the bytes in `reserve`."""
        descriptor = os.open(path, os.O_RDWR)
        try:
            if reserve:
                os.posix_fallocate(descriptor, _data_offset(nbytes) + reserve.start, len(reserve))
            segment = cls._map(descriptor, nbytes)
        finally:
            os.close(descriptor)
        segment._use_huge_pages(reserve)
        return segment

    @classmethod
    def _map(cls, descriptor: int, nbytes: int) -> "Segment":
        first = _data_offset(nbytes)
        segment = cls(descriptor, first + nbytes)
        offset, attempts = 0, 3 if first else 0
        while attempts and segment._address() % HUGE != offset:  # a second mapping of this length gets the same place
            offset, attempts = segment._address() % HUGE, attempts - 1
            segment.close()
            segment = cls(descriptor, first + nbytes, offset=offset)
        segment._before = first - offset
        segment.start = segment._address() + segment._before
        segment.nbytes = nbytes
        return segment

    def _address(self) -> int:
        return int(np.frombuffer(self, np.uint8, 1).ctypes.data)

    def _use_huge_pages(self, reserved: range) -> None:
        """Turn the pages that this rank has reserved into huge ones, as far as that is possible."""
        begin, end = -(-reserved.start // HUGE) * HUGE, reserved.stop // HUGE * HUGE
        if begin < end and self.start % HUGE == 0 and sys.platform == "linux":
            with suppress(OSError):  # an older Linux, or a file on a disk
                self.madvise(_COLLAPSE, self._before + begin, end - begin)

    def array(self, offset: int, n: int, dtype: "np.dtype[np.generic]") -> Array:
        """`n` elements of the segment from byte `offset` on."""
        return np.frombuffer(self, dtype, n, self._before + offset)


def _data_offset(nbytes: int) -> int:
    """Where in its file the data of a segment of this size begin."""
    return HUGE if nbytes >= 2 * HUGE else 0


class Named(NamedTuple):
    """Memory that the creator holds open under a name: the file to attach to, and whether it must be removed."""

    path: str
    descriptor: int
    is_file: bool

    def release(self) -> None:
        """Take the name away; mappings live on."""
        os.close(self.descriptor)
        if self.is_file:
            os.unlink(self.path)


Store: TypeAlias = Callable[[], Named]


def anonymous() -> Named:
    """Memory without a file; peers attach through the creator's table of open files."""
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, "this system has no memfd_create")
    descriptor = os.memfd_create("distgrad")
    return Named(f"/proc/{os.getpid()}/fd/{descriptor}", descriptor, False)


def file_in(folder: str) -> Store:
    """A store that keeps memory in files of `folder`."""

    def create() -> Named:
        descriptor, path = tempfile.mkstemp(prefix="distgrad-", dir=folder)
        return Named(path, descriptor, True)

    return create


def default_stores() -> list[Store]:
    """The kinds of shared memory to try, best first."""
    folders = [folder for folder in ("/dev/shm",) if os.path.isdir(folder)]
    return [anonymous, *(file_in(folder) for folder in folders), file_in(tempfile.gettempdir())]


def share(group: Communicator, nbytes: int, stores: list[Store] | None = None) -> Segment:
    """Map one new segment into every rank of `group`, zeroed. A collective call.

    Args:
        group: ranks of one node.
        nbytes: size of the segment.
        stores: what to try, best first.

    Raises:
        CommError: on every rank, with the reasons, where no store works.
    """
    problems: list[str] = []
    for store in stores or default_stores():
        named, problem = _create(store, nbytes) if group.rank == 0 else (None, "")
        try:
            path, problem = group.broadcast_object((named.path if named else "", problem))
            segment, problem = _attach(path, nbytes, group) if path else (None, problem)
            found = [entry for entry in group.all_gather_object(problem) if entry]
        finally:
            if named is not None:
                named.release()
        if segment is not None and not found:
            _warn_slow(path, group.rank, problems)
            return segment
        problems += found[:1]
    raise CommError(f"no shared memory of {nbytes:,} bytes between {group.size} ranks: " + "; ".join(problems))


def _create(store: Store, nbytes: int) -> tuple[Named | None, str]:
    try:
        named = store()
        os.ftruncate(named.descriptor, nbytes + 2 * _data_offset(nbytes))
    except OSError as error:
        return None, str(error)
    return named, ""


def _attach(path: str, nbytes: int, group: Communicator) -> tuple[Segment | None, str]:
    """Attach, and reserve this rank's share, so that its pages lie in memory that is near to it."""
    share = padded(-(-nbytes // group.size))
    reserve = range(min(group.rank * share, nbytes), min((group.rank + 1) * share, nbytes))
    try:
        return Segment.attach(path, nbytes, reserve), ""
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.ENOMEM):
            return None, _no_space(path, nbytes)
        return None, f"{error}"


def _no_space(path: str, nbytes: int) -> str:
    folder = os.path.dirname(path)
    free = shutil.disk_usage(folder).free
    return (
        f"expected {nbytes:,} bytes free for shared memory in {folder}, got {free:,}; free some space there, or give "
        "the container more (docker run --shm-size=1g)"
    )


def _warn_slow(path: str, rank: int, problems: list[str]) -> None:
    if rank == 0 and not path.startswith(("/proc/", "/dev/shm/")):
        warnings.warn(
            f"shared memory lies in {os.path.dirname(path)}, which may be a disk and slow: " + "; ".join(problems),
            RuntimeWarning,
            stacklevel=3,
        )
