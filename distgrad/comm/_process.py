"""Whether another process of this node still lives, and where in a user's program a call was made."""

import os
import sys
import threading
from typing import NamedTuple

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep

DEAD = "X"
STOPPED = "Tt"

_STATES = {
    "R": "running",
    "S": "sleeping",
    "D": "waiting for a disk",
    "T": "stopped",
    "t": "stopped by a debugger",
    DEAD: "dead",
}


class Process(NamedTuple):
    """A process that cannot be mistaken for a later one with the same id: `started` is its start time in ticks."""

    pid: int
    started: int

    @classmethod
    def current(cls) -> "Process":
        """This process."""
        stat = _read_stat(os.getpid())
        return cls(os.getpid(), stat[1] if stat else 0)

    def is_alive(self) -> bool:
        """Whether it runs; a dead process that its parent has not yet reaped does not."""
        return self.letter() != DEAD

    def letter(self) -> str:
        """The kernel's letter for what the process does, such as "R", "S", "D", "T"; `DEAD` where it has ended."""
        if not os.path.isdir("/proc/self"):
            return "?" if _can_signal(self.pid) else DEAD
        stat = _read_stat(self.pid)
        if stat is None or stat[1] != self.started or stat[0] in "ZXx":
            return DEAD
        return stat[0]

    def state(self) -> str:
        """What the process does: "running", "sleeping", "stopped", "dead" ..."""
        return describe_state(self.letter())


def describe_state(letter: str) -> str:
    """What a process with this state letter does."""
    return _STATES.get(letter, "alive")


def _read_stat(pid: int) -> tuple[str, int] | None:
    """State letter and start time of a process; None where there is none (or no /proc)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return fields[0].decode(), int(fields[19])


def _can_signal(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def shown_path(path: str) -> str:
    """A short name for a source file: from our package on, else its last part."""
    inside = path.startswith(_PACKAGE)
    return os.path.join("distgrad", path.removeprefix(_PACKAGE)) if inside else os.path.basename(path)


class _PerThread(threading.local):
    site = "a background thread"


_thread = _PerThread()


def set_call_site(site: str) -> None:
    """What `call_site` says in this thread, where no line of the program is on its stack."""
    _thread.site = site


def call_site() -> str:
    """The innermost line outside distgrad on the stack of this thread, as "train.py:31 in step"."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    code = frame.f_code
    if code.co_filename == threading.__file__:
        return _thread.site
    return f"{os.path.basename(code.co_filename)}:{frame.f_lineno} in {code.co_name}"
