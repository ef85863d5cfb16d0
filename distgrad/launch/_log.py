"""`--log-dir`: what a rank prints goes to a file of its own; below Python, so crashes in native code do too."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from ..errors import LaunchError

_TEE = str(Path(__file__).with_name("_tee.py"))


class Log(NamedTuple):
    """A rank's log; `screens` are descriptors of what its output and errors were before."""

    path: str
    file: int
    screens: tuple[int, int]


def redirect(directory: str, rank: int, append: bool) -> Log:
    """Let what this process prints go to `directory/rankN.log`; that of rank 0 stays on the screen as well.

    Args:
        append: keep what is there, of the time before a restart.

    Raises:
        LaunchError: the file cannot be written.
    """
    path = os.path.join(os.path.abspath(directory), f"rank{rank}.log")
    try:
        os.makedirs(directory, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | (0 if append else os.O_TRUNC), 0o644)
    except OSError as error:
        raise LaunchError(f"expected a --log-dir that can be written to, got {directory!r}: {error}") from error
    log = Log(path, file, (os.dup(1), os.dup(2)))
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    targets = _start_tee(log) if rank == 0 else (file, file)
    for descriptor, target in zip((1, 2), targets, strict=True):
        os.dup2(target, descriptor)
        if target != file:
            os.close(target)
    return log


def _start_tee(log: Log) -> tuple[int, int]:
    """Start the process that writes to both; returns where to write. It outlives us by what it has not yet written."""
    (output, output_end), (errors, errors_end) = os.pipe(), os.pipe()
    subprocess.Popen(
        [sys.executable, "-I", "-S", _TEE, log.path, str(errors)],
        stdin=output,
        stdout=log.screens[0],
        stderr=log.screens[1],
        pass_fds=(errors,),
        start_new_session=True,  # out of reach of Ctrl-C, and of what mpirun does to a rank's processes
    )
    os.close(output)
    os.close(errors)
    return output_end, errors_end
