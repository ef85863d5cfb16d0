"""The last words of a rank that ends before its time, and the inbox in which the launcher's parent finds them.

Nothing here needs NumPy or MPI: the parent of `launch -n` loads this module and starts quickly.
"""

import json
import os
import signal
import sys
from contextlib import suppress
from typing import NamedTuple

KEYBOARD_INTERRUPT_CODE = 128 + signal.SIGINT

_BEGAN = "began"
_DONE = "done "  # before a rank
_SUMMARY = "summary "  # before a line of text
_FOLDER = "/tmp"  # for the inbox where files must have names; Python's tempfile would take long to load


class Report(NamedTuple):
    """The last words of one rank."""

    rank: int
    time: float  # seconds since the epoch
    secondary: bool  # the error only says that another rank is gone
    code: int  # exit status
    text: str


def with_rank(report: Report) -> str:
    """The report as it stands on a screen that several ranks write to: every line says which."""
    return "".join(f"[rank {report.rank}] {line}\n" for line in report.text.rstrip().splitlines())


class Inbox:
    """Where the ranks of one job leave their reports: one line each, in a file without a name.

    Ranks of the same host open it through /proc, so nothing stays behind when this process is killed. Where there is
    no such thing, it is a temporary file.
    """

    def __init__(self) -> None:
        self.token = f"distgrad-launch-{_here()}-{os.urandom(8).hex()}"
        self._path: str | None = None
        if sys.platform == "linux":
            self._file = os.memfd_create(self.token, os.MFD_CLOEXEC)
        else:
            self._path = f"{_FOLDER}/{self.token}"
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        os.write(self._file, f"{self.token}\n".encode())

    @property
    def address(self) -> str:
        """What a rank needs to find the inbox: a path, and a word by which it knows the file (see `open_inbox`)."""
        return f"{self._path or f'/proc/{os.getpid()}/fd/{self._file}'}:{self.token}"

    def read(self) -> list[Report]:
        """The reports so far: the error that began it first, then by time."""
        reports = [Report(*json.loads(line)) for line in self._lines() if line.startswith("[")]
        return sorted(reports, key=lambda report: (report.secondary, report.time))

    def job_began(self) -> bool:
        """Whether a rank has said that it met the others (`post_beginning`)."""
        return _BEGAN in self._lines()

    def done(self) -> list[int]:
        """The ranks that have come to the end of their program (`post_done`)."""
        return sorted(int(line.removeprefix(_DONE)) for line in self._lines() if line.startswith(_DONE))

    def summary(self) -> str | None:
        """What a rank has to say about the whole run; None where it has ended before."""
        return next((line.removeprefix(_SUMMARY) for line in self._lines() if line.startswith(_SUMMARY)), None)

    def _lines(self) -> list[str]:
        text = os.pread(self._file, os.fstat(self._file).st_size, 0).decode()
        return text.split("\n")[1:-1]  # without the token, and what has no end yet

    def close(self) -> None:
        """Forget the reports."""
        os.close(self._file)
        if self._path is not None:
            os.unlink(self._path)


def open_inbox(address: str) -> int | None:
    """A descriptor to `post` to; None where the inbox is not: on another host, the path may lead to anything."""
    path, _, token = address.rpartition(":")
    with suppress(OSError):
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        if os.pread(file, len(token) + 1, 0).decode(errors="replace") == f"{token}\n":
            return file
        os.close(file)
    return None


def is_gone(address: str) -> bool:
    """Whether the launcher's parent whose inbox this was has ended, as far as can be seen from this host.

    mpirun is told when its parent dies, but MPICH's ignores the signal in the first milliseconds of its life, and would
    start ranks for which nobody waits.
    """
    here = _here()
    if not here or f"-{here}-" not in address:
        return False
    file = open_inbox(address)
    if file is not None:
        os.close(file)
    return file is None


def _here() -> str:
    """A word for what /proc shows to this process: the same for all in one boot of a machine, and in one container."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as boot:
            return f"{boot.read(8)}{os.stat('/proc/self/ns/pid').st_ino:x}"
    except OSError:
        return ""


def post(report: Report, inbox: int) -> bool:
    """Append a report; False if it did not work."""
    return _append(json.dumps(report), inbox)


def post_beginning(inbox: int) -> bool:
    """Say that the ranks have met and the script starts."""
    return _append(_BEGAN, inbox)


def post_done(rank: int, inbox: int) -> bool:
    """Say that this rank has come to the end of its program, of which the status of mpirun does not tell."""
    return _append(f"{_DONE}{rank}", inbox)


def post_summary(text: str, inbox: int) -> bool:
    """Say in a line how the run came out."""
    return _append(f"{_SUMMARY}{text}", inbox)


def _append(line: str, inbox: int) -> bool:
    """One write: lines of several ranks do not mix."""
    data = f"{line}\n".encode()
    try:
        return os.write(inbox, data) == len(data)
    except OSError:
        return False
