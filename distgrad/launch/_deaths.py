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
from contextlib import suppress
from socket import socket
from typing import NamedTuple

from .._environment import Job, read_job
from .._lifeline import accept, listen

_LOOK = 0.02  # seconds between two looks for ranks that have not been seen yet, at first
_LONGEST_LOOK = 1.0

_AT_ONCE = 0.1  # seconds that mpirun needs at most to end the other ranks

_BY_MPIRUN = (None, signal.SIGKILL, signal.SIGTERM)  # statuses that ranks have because of another one

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


class Look(NamedTuple):
    """A moment, in seconds, and what had ended then and not at the look before."""

    time: float
    deaths: list[Death]


class Deaths:
    """Watches the ranks of a job on this host.

    Args:
        mpirun: the process that starts them.
        name: where ranks connect that know it, see `_lifeline`.
    """

    def __init__(self, mpirun: int, name: str) -> None:
        self._mpirun = mpirun
        self._name = name
        self._poll = select.poll()
        self._processes: dict[int, tuple[int, int]] = {}  # rank: its process, and a descriptor of that
        self._ranks: dict[int, int] = {}  # descriptor of a process or a connection: rank
        self._connections: list[socket] = []
        self._missing = True  # there may be ranks that were not seen yet
        self._look = _LOOK
        self._ended: list[tuple[float, list[int]]] = []  # time of a look, and the ranks that it found ended
        self._thread = threading.Thread(target=self._watch, name="ends of ranks", daemon=True)
        with suppress(OSError, AttributeError):  # before Linux 5.3, or a Python built on such; or another system
            self._launcher = os.pidfd_open(mpirun)
            self._thread.start()

    def first(self) -> Death | None:
        """The rank whose end ended the job; None where that is not known. To be called when mpirun has ended."""
        if self._thread.ident is None:
            return None
        self._thread.join()
        self._await_statuses()
        seen = [(at, [rank for rank in ranks if rank in self._processes]) for at, ranks in self._ended]
        looks = [Look(at, [self._death(rank) for rank in ranks]) for at, ranks in seen]
        for descriptor in (self._launcher, *(descriptor for _, descriptor in self._processes.values())):
            os.close(descriptor)
        for connection in self._connections:
            connection.close()
        return _cause(looks)

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
        self._poll.register(self._launcher, select.POLLIN)
        if listener is not None:
            self._connections.append(listener)
            self._poll.register(listener, select.POLLIN)
        over = False
        while not over:
            if self._missing:
                self._look_for_ranks()
            ready = [descriptor for descriptor, _ in self._poll.poll(self._look * 1000 if self._missing else None)]
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
            self._poll.register(connection, select.POLLIN)

    def _look_for_ranks(self) -> None:
        for pid, job in _ranks_below(self._mpirun):
            if job.rank not in self._processes:
                with suppress(OSError):  # it has ended meanwhile
                    descriptor = os.pidfd_open(pid)
                    self._processes[job.rank] = pid, descriptor
                    self._ranks[descriptor] = job.rank
                    self._missing = len(self._processes) < job.local_size
                    self._poll.register(descriptor, select.POLLIN)
        self._look = min(self._look * 1.2, _LONGEST_LOOK)

    def _note(self, descriptors: list[int]) -> None:
        """Write down which ranks have ended: the first sign counts, of the connection or of the process."""
        for descriptor in descriptors:
            self._poll.unregister(descriptor)
        known = {rank for _, ranks in self._ended for rank in ranks}
        new = sorted({self._ranks[descriptor] for descriptor in descriptors} - known)
        if new:
            self._ended.append((time.monotonic(), new))


def _cause(looks: list[Look]) -> Death | None:
    """The death that led to the others; None where several may be it."""
    first = next((look for look in looks if any(death.status != 0 for death in look.deaths)), None)
    if first is None:
        return None
    near = [death for look in looks if abs(look.time - first.time) < _AT_ONCE for death in look.deaths]
    for candidates in (
        [death for death in near if death.status not in (0, *_BY_MPIRUN)],
        [death for death in near if death.status == 0],  # os._exit(0), which mpirun takes for a crash
        [death for death in first.deaths if death.status != 0],
    ):
        if candidates:
            return candidates[0] if len(candidates) == 1 else None
    return None


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
    """The ranks among the descendants of a process."""
    found = []
    for child in _children(pid):
        job = read_job(_environment_of(child))
        if job.in_mpi_job:
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
