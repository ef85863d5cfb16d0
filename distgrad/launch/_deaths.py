"""Which rank of a job ended first, and how, for ranks that leave no word: seen from the parent of `-n`.

mpirun ends all ranks within milliseconds after the first has died, and its own status is a mixture of theirs. So a
thread finds the ranks of this host among mpirun's descendants and waits on them through Linux's process descriptors,
which also tell how a process ended that is another one's child (since Linux 6.15).
"""

import fcntl
import os
import select
import signal
import struct
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from socket import socket
from typing import NamedTuple

from .._environment import Job, read_job
from .._lifeline import accept, listen

_LOOK = 0.02  # seconds between two looks for ranks that have not been seen yet, at first
_LONGEST_LOOK = 1.0

_AT_ONCE = 0.1  # seconds within which the ends of several ranks may be seen in another order
_SOON = 3.0  # seconds that mpirun needs at most to end the other ranks

_BY_MPIRUN = (None, signal.SIGKILL, signal.SIGTERM)  # statuses that ranks have because of another one
_BY_MPI = 15 << 8  # and the one with which MPICH gives up in MPI_Init, where a peer is gone (MPI_ERR_OTHER)

# From <linux/pidfd.h>: ioctl PIDFD_GET_INFO with a struct pidfd_info of 64 bytes, its mask for the exit status, and
# the place of the two.
_GET_INFO = 3 << 30 | 64 << 16 | 0xFF << 8 | 11
_INFO_EXIT = 1 << 3
_MASK_AT, _STATUS_AT = 0, 60


class Death(NamedTuple):
    """The end of a rank; `status` as os.wait has it, None where the kernel does not tell."""

    rank: int
    pid: int
    status: int | None

    @property
    def code(self) -> int | None:
        """The exit status that a shell would show."""
        if self.status is None:
            return None
        code = os.waitstatus_to_exitcode(self.status)
        return code if code >= 0 else 128 - code

    def __str__(self) -> str:
        who = f"rank {self.rank} (process {self.pid}) ended first, without a word"
        if self.status is None:
            return f"{who}: killed from outside (out of memory?), crashed in native code, or in os._exit"
        code = os.waitstatus_to_exitcode(self.status)
        if code >= 0:
            return f"{who}: with status {code}, by os._exit or the like"
        name = signal.Signals(-code).name
        reasons = {"SIGKILL": "from outside (out of memory?)", "SIGTERM": "from outside"}
        return f"{who}: killed by {name}, {reasons.get(name, 'a crash in native code')}"


class Deaths:
    """Watches the ranks of a job on this host.

    Args:
        mpirun: the process that starts them.
        name: where ranks connect that know it, see `_lifeline`.
    """

    def __init__(self, mpirun: int, name: str) -> None:
        self._mpirun = mpirun
        self._name = name
        self._processes: dict[int, tuple[int, int]] = {}  # rank: its process, and a descriptor of that
        self._ranks: dict[int, int] = {}  # descriptor of a process or a connection: rank
        self._connections: list[socket] = []
        self._missing = True  # there may be ranks that were not seen yet
        self._look = _LOOK
        self._ended: dict[int, float] = {}  # rank: when its end was seen; in the order of the ends
        self._thread = threading.Thread(target=self._watch, name="ends of ranks", daemon=True)
        with suppress(OSError, AttributeError):  # before Linux 5.3, or a Python built on such; or another system
            self._launcher = os.pidfd_open(mpirun)
            self._poll = select.epoll()  # which tells events in the order in which they happened
            self._thread.start()

    @property
    def began_to_end(self) -> float | None:
        """When the first end of a rank was seen, in seconds since the epoch; None where there was none."""
        seen = min(self._ended.values(), default=None)
        return None if seen is None else time.time() - (time.monotonic() - seen)

    def any_ended(self) -> bool:
        """Whether a rank has ended so far."""
        return bool(self._ended)

    def first(self, done: Collection[int] = ()) -> Death | None:
        """The rank whose end ended the job; None where that is not known. To be called when mpirun has ended.

        Args:
            done: the ranks that have said that they came to the end of their program.
        """
        if self._thread.ident is None:
            return None
        self._thread.join()
        self._await_statuses()
        ends = [(at, self._death(rank)) for rank, at in self._ended.items() if rank in self._processes]
        for descriptor in (self._launcher, *(descriptor for _, descriptor in self._processes.values())):
            os.close(descriptor)
        for connection in self._connections:
            connection.close()
        self._poll.close()
        return _cause(ends, done)

    def _await_statuses(self) -> None:
        """Give init a moment to take note of ranks that mpirun has left to it."""
        deadline = time.monotonic() + _AT_ONCE
        while time.monotonic() < deadline and any(_status(one) is None for _, one in self._processes.values()):
            time.sleep(0.005)

    def _death(self, rank: int) -> Death:
        process, descriptor = self._processes[rank]
        return Death(rank, process, _status(descriptor))

    def _watch(self) -> None:
        listener = listen(self._name)
        self._poll.register(self._launcher, select.EPOLLIN)
        if listener is not None:
            self._connections.append(listener)
            self._poll.register(listener, select.EPOLLIN)
        over = False
        while not over:
            if self._missing:
                self._look_for_ranks()
            ready = [descriptor for descriptor, _ in self._poll.poll(self._look if self._missing else None)]
            over = self._launcher in ready
            self._note([descriptor for descriptor in ready if descriptor in self._ranks])
            if listener is not None and listener.fileno() in ready:
                self._connect(listener)

    def _connect(self, listener: socket) -> None:
        accepted = accept(listener)
        if accepted is not None:
            connection, rank = accepted
            self._connections.append(connection)
            self._ranks[connection.fileno()] = rank
            self._poll.register(connection, select.EPOLLIN)

    def _look_for_ranks(self) -> None:
        for pid, job in _ranks_below(self._mpirun):
            if job.rank not in self._processes:
                with suppress(OSError):  # it has ended meanwhile
                    descriptor = os.pidfd_open(pid)
                    self._processes[job.rank] = pid, descriptor
                    self._ranks[descriptor] = job.rank
                    self._missing = len(self._processes) < job.local_size
                    self._poll.register(descriptor, select.EPOLLIN)
        self._look = min(self._look * 1.2, _LONGEST_LOOK)

    def _note(self, descriptors: list[int]) -> None:
        """Write down which ranks have ended: the first sign counts, of the connection or of the process."""
        for descriptor in descriptors:
            self._poll.unregister(descriptor)
        for descriptor in descriptors:
            rank = self._ranks[descriptor]
            if rank not in self._ended:
                self._ended[rank] = time.monotonic()


def _cause(ends: list[tuple[float, Death]], done: Collection[int] = ()) -> Death | None:
    """The death that led to the others, of all with their times, in the order in which they happened."""
    # Before Linux 6.15 there are no statuses: then only what a rank has said tells a good end from a bad one.
    ends = [(at, death) for at, death in ends if death.rank not in done or death.status not in (0, None)]
    first = next(((at, death) for at, death in ends if death.status != 0), None)
    if first is None:
        return None
    near = [death for at, death in ends if abs(at - first[0]) < _AT_ONCE]
    crashed = [death for death in near if death.status not in (0, _BY_MPI, *_BY_MPIRUN)]
    # os._exit(0), which mpirun takes for a crash: otherwise ranks end together, see comm/diagnosis/_farewell.py
    left = [death for at, death in ends if death.status == 0 and 0 <= first[0] - at < _SOON]
    odd = _odd_one([death for death in near if death.status != _BY_MPI])
    return (crashed or left or odd or [first[1]])[0]


def _odd_one(deaths: list[Death]) -> list[Death]:
    """The one that ended in another way than all others, of three or more: mpirun ends all ranks by the same signal."""
    by_status: dict[int | None, list[Death]] = {}
    for death in deaths:
        by_status.setdefault(death.status, []).append(death)
    alone = [group for group in by_status.values() if len(group) == 1]
    return alone[0] if len(by_status) == 2 and len(alone) == 1 else []


def _status(descriptor: int) -> int | None:
    """How the process ended, as os.wait has it; None where the kernel does not tell."""
    info = bytearray(64)
    struct.pack_into("Q", info, _MASK_AT, _INFO_EXIT)
    try:
        fcntl.ioctl(descriptor, _GET_INFO, info)
    except OSError:
        return None
    if not struct.unpack_from("Q", info, _MASK_AT)[0] & _INFO_EXIT:
        return None
    return int(struct.unpack_from("i", info, _STATUS_AT)[0])


def _ranks_below(pid: int) -> list[tuple[int, Job]]:
    """The ranks among the descendants of mpirun.

    What only Slurm has numbered is none of them, but a helper of mpirun: srun starts one on each node.
    """
    found = []
    for child in _children(pid):
        job = read_job(_environment_of(child))
        if job.in_mpi_job and job.kind != "slurm":
            found.append((child, job))
        else:
            found += _ranks_below(child)
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):  # it has ended
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                found += map(int, file.read().split())
    return found


def _environment_of(pid: int) -> dict[str, str]:
    with suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
        pairs = (entry.partition(b"=") for entry in file.read().split(b"\0"))
        return {os.fsdecode(name): os.fsdecode(value) for name, equals, value in pairs if equals}
    return {}
