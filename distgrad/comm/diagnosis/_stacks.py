"""Where in Python a rank is, told to a peer that asks.

A thread of each rank sleeps on a pipe. A peer of the same node rings by writing to that pipe, which it opens through
the table of open files that the kernel shows of every process. The thread then has the stack of the main thread
written on the board. It costs nothing until somebody rings, interrupts no system call (a signal would), and reads the
frames while it holds the interpreter's lock, so they stand still. A rank in native code that keeps this lock does not
answer: then that is the answer.
"""

import linecache
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from .._process import Process, shown_path

FRAMES = 8  # innermost ones that are told

_LAUNCHER = (f"{os.sep}distgrad{os.sep}launch{os.sep}", "<frozen runpy>", f"{os.sep}runpy.py")


class _Listener:
    """The thread of this process, and what it does when somebody rings."""

    def __init__(self) -> None:
        self.owner = 0  # process id: a forked child has the pipe but not the thread
        self.bell = -1

    def start(self, answer: Callable[[str], None]) -> int:
        if self.owner != os.getpid():
            self.owner = os.getpid()
            ear, self.bell = os.pipe()
            os.set_blocking(self.bell, False)
            threading.Thread(target=_listen, args=(ear, answer), name="distgrad-stacks", daemon=True).start()
        return self.bell


_listener = _Listener()


def listen(answer: Callable[[str], None]) -> int:
    """Be ready to tell the stack of this process: call `answer` with it whenever somebody rings.

    Returns:
        The descriptor of the pipe to ring at.
    """
    return _listener.start(answer)


def ring(process: Process, bell: int) -> bool:
    """Ask a process of this node for its stack; False where that is not possible."""
    try:
        descriptor = os.open(f"/proc/{process.pid}/fd/{bell}", os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        with suppress(BlockingIOError):  # it is full: somebody rings already
            os.write(descriptor, b"?")
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def main_stack() -> str:
    """The innermost frames of the main thread, one a line, the innermost last."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    while len(frames) > 1 and any(part in frames[-1].f_code.co_filename for part in _LAUNCHER):
        frames.pop()  # the outermost: what the launcher calls, such as the faults of --chaos, is of interest
    return "\n".join(_describe(frame) for frame in reversed(frames[:FRAMES]))


def _describe(frame: FrameType) -> str:
    name = frame.f_code.co_filename
    source = linecache.getline(name, frame.f_lineno, frame.f_globals).strip()
    return f"{shown_path(name)}:{frame.f_lineno} in {frame.f_code.co_name}{': ' if source else ''}{source}"


def _listen(ear: int, answer: Callable[[str], None]) -> None:
    while os.read(ear, 4096):
        answer(main_stack())
