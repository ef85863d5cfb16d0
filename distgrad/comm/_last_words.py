"""What a rank says when it ends before its time, and how that reaches the user although the job is about to end."""

import array
import fcntl
import json
import os
import stat
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

READER_PATIENCE = 0.5  # seconds for mpirun to read a rank's last words
READER_MARGIN = 0.01  # seconds for it to pass them on


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


def deliver(report: Report, directory: Path | None) -> None:
    """Hand a report to the launcher's parent through `directory`, else to the screen, after all that went before."""
    _flush()
    if directory is None or not _write_file(report, directory):
        _write_screen(with_rank(report).encode())


def drain() -> None:
    """Return when mpirun has read what this rank wrote: MPICH drops what is still in the pipes when it aborts."""
    _flush()
    deadline = time.monotonic() + READER_PATIENCE
    while any(_unread(descriptor) for descriptor in (1, 2)) and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(READER_MARGIN)


def read_reports(directory: Path) -> list[Report]:
    """The reports in `directory`: the error that began it first, then by time."""
    reports = [Report(*json.loads(path.read_text())) for path in directory.glob("rank*.json")]
    return sorted(reports, key=lambda report: (report.secondary, report.time))


def _write_file(report: Report, directory: Path) -> bool:
    path = directory / f"rank{report.rank}.json"
    try:
        path.with_suffix(".part").write_text(json.dumps(report))
        path.with_suffix(".part").replace(path)  # a rank may be ended at any moment: whole reports only
    except OSError:
        return False
    return True


def _write_screen(data: bytes) -> None:
    """Write without sys.stderr, which the script may have replaced."""
    with suppress(OSError):
        while data:
            data = data[os.write(2, data) :]


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
