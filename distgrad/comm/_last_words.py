"""What a rank says when it ends before its time, and how that reaches the user although the job is about to end."""

import array
import fcntl
import os
import stat
import sys
import termios
import time
from contextlib import suppress
from dataclasses import dataclass

from .._reports import Report, post, with_rank

READER_PATIENCE = 0.5  # seconds for mpirun to read a rank's last words
READER_MARGIN = 0.01  # seconds for it to pass them on


@dataclass
class _Outputs:
    """Where this rank's words go: with `launch --log-dir`, descriptors 1 and 2 lead to a log."""

    log: int | None = None
    screens: tuple[int, ...] = (1, 2)  # the last one is for errors


_outputs = _Outputs()


def log_to(log: int, screens: tuple[int, ...]) -> None:
    """Write last words to this log too; `screens` are what descriptors 1 and 2 were before they led there."""
    _outputs.log, _outputs.screens = log, screens


def deliver(report: Report, inbox: int | None) -> None:
    """Hand a report to the launcher's parent through its inbox, else to the screen, after all that went before."""
    drain() if _outputs.log is not None else _flush()
    text = with_rank(report).encode()
    if _outputs.log is not None:
        _write(_outputs.log, text)
    if inbox is None or not post(report, inbox):
        _write(_outputs.screens[-1], text)


def announce(text: str) -> None:
    """Show a message about the whole job: on the screen, wherever sys.stderr of this rank leads."""
    _flush()
    if _outputs.log is not None:
        _write(_outputs.log, text.encode())
    _write(_outputs.screens[-1], text.encode())


def drain() -> None:
    """Return when mpirun has read what this rank wrote: MPICH drops what is still in the pipes when it aborts."""
    _flush()
    deadline = time.monotonic() + READER_PATIENCE
    while any(map(_unread, (1, 2, *_outputs.screens))) and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(READER_MARGIN)


def _write(descriptor: int, data: bytes) -> None:
    """Write without sys.stderr, which the script may have replaced."""
    with suppress(OSError):
        while data:
            data = data[os.write(descriptor, data) :]


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # closed, or its reader is gone: what follows matters more
            stream.flush()


def _unread(descriptor: int) -> int:
    """Bytes that were written to this pipe and not read yet; 0 where it is no pipe."""
    with suppress(OSError):
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            count = array.array("i", [0])
            fcntl.ioctl(descriptor, termios.FIONREAD, count)
            return count[0]
    return 0
