"""A connection from each rank of this host to the parent of `launch -n`, that tells when the rank ends.

The kernel closes what a dying process has open, the last first, before it tells anybody that the process has ended. So
the parent sees the end of a rank before mpirun does, and can tell it from those that mpirun brings about.
"""

import fcntl
import os
import socket
import sys
from contextlib import suppress

_HIGH = 512  # a descriptor beyond those that a process usually has
_PATIENCE = 0.1  # seconds for the first word of a rank that has connected


def listen(name: str) -> socket.socket | None:
    """Where ranks that know this name can connect; None where the system has no sockets of that kind."""
    if sys.platform != "linux":
        return None
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"\0{name}")  # a name in no folder, which goes with the socket
    listener.listen(1024)
    listener.setblocking(False)
    return listener


def accept(listener: socket.socket) -> tuple[socket.socket, int] | None:
    """The connection of a rank, and its number; None where it has ended already."""
    with suppress(OSError, ValueError):
        connection, _ = listener.accept()
        connection.settimeout(_PATIENCE)
        return connection, int(connection.recv(32))
    return None


def hold(name: str, rank: int) -> None:
    """Connect to the parent for as long as this process lives; does nothing where there is none."""
    if sys.platform != "linux":
        return
    connection = _last(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    try:
        connection.connect(f"\0{name}")
        connection.send(str(rank).encode())
    except OSError:  # the parent is on another host, or does not listen
        connection.close()
        return
    held = connection.detach()  # closed by the kernel alone: Python would do so before the rank has ended
    owner = os.getpid()

    def let_go() -> None:
        if os.getppid() == owner:  # a child must not seem to be the rank; a child's child has no line any more
            os.close(held)

    os.register_at_fork(after_in_child=let_go)


def _last(low: socket.socket) -> socket.socket:
    """The same socket under a high number, so that it is among the first to be closed: before mpirun's own."""
    with suppress(OSError):  # this process may open fewer files
        high = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, _HIGH)
        low.close()
        return socket.socket(fileno=high)
    return low
