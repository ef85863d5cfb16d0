"""Processes that end with the one that started them."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # from <sys/prctl.h>


def die_with_parent(signal_number: int = signal.SIGKILL, parent: int | None = None) -> None:
    """Ask the kernel to end this process when its parent dies: Open MPI's ranks would go on without their mpirun.

    The signal follows the death of the thread that started us, so this is only for parents that start processes from
    a thread which lives as long as they do.

    Args:
        signal_number: what the kernel sends.
        parent: the process id of the parent where that is known, so that its death before this call counts, too.
    """
    if sys.platform != "linux":
        return
    parent = os.getppid() if parent is None else parent
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal_number)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)
