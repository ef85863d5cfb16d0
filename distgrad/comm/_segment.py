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
from typing import NamedTuple, TypeAlias

import numpy as np

from .._typing import Array
from ..errors import CommError
from ._communicator import Communicator

PAGE = mmap.PAGESIZE


def padded(nbytes: int) -> int:
    """`nbytes` rounded up to whole pages, and at least one."""
    return max(1, -(-nbytes // PAGE)) * PAGE


class Segment(mmap.mmap):
    """A mapping of shared memory. Arrays on it keep it alive; it is unmapped with the last of them.

    `start` is the address at which this process sees the first byte.
    """

    start: int

    @classmethod
    def attach(cls, path: str, nbytes: int, reserve: range) -> "Segment":
        """Map the memory that has this name, after reserving the space of the bytes in `reserve`."""
        descriptor = os.open(path, os.O_RDWR)
        try:
            if reserve:
                os.posix_fallocate(descriptor, reserve.start, len(reserve))
            segment = cls(descriptor, nbytes)
        finally:
            os.close(descriptor)
        segment.start = int(np.frombuffer(segment, np.uint8, 1).ctypes.data)
        return segment

    def array(self, offset: int, n: int, dtype: "np.dtype[np.generic]") -> Array:
        """`n` elements of the segment from byte `offset` on."""
        return np.frombuffer(self, dtype, n, offset)


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
        os.ftruncate(named.descriptor, nbytes)
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
