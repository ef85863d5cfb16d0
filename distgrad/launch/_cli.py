"""The launcher's entry: reads the command line and hands it to whoever does the work.

The parent of `-n` starts mpirun and waits: it loads neither NumPy nor MPI nor what a rank needs (`_run`).
"""

import sys
from collections.abc import Sequence

from .._environment import job
from .._lifeline import hold
from .._pages import page
from .._reports import KEYBOARD_INTERRUPT_CODE, is_gone
from ..errors import LaunchError
from . import _env
from ._request import Request, parse
from ._spawn import USAGE_ERROR, spawn

_run = page(f"{__package__}._run")
_doctor = page(f"{__package__}._doctor")


def main(argv: Sequence[str]) -> int:
    """Run `python -m distgrad.launch` with these arguments.

    Returns:
        The exit status: the script's own, or 2 where the command line or its surroundings cannot work.
    """
    try:
        return _launch(argv)
    except LaunchError as error:
        text = f"distgrad.launch: error: {error}"
    if job.in_mpi_job:
        _run.refuse(USAGE_ERROR, text)
    print(text, file=sys.stderr)
    return USAGE_ERROR


def _launch(argv: Sequence[str]) -> int:
    request = parse(argv)
    if request.inbox is not None:
        if is_gone(request.inbox):
            print("distgrad.launch: the process that started this job has ended; this rank ends, too", file=sys.stderr)
            return 1
        hold(request.inbox.rpartition(":")[2], job.rank)
    if job.in_mpi_job and request.inbox is None:
        _check_inside_a_job(request)
    if request.doctor and (status := _doctor.examine(request)) is not None:
        return int(status)
    if not request.starts_a_job:
        _hint_at_allocation(request)
        return int(_run.run(request))
    try:
        return spawn(request)
    except KeyboardInterrupt:  # before there was a job, or a second time while it ended
        print("distgrad.launch: KeyboardInterrupt", file=sys.stderr)
        return KEYBOARD_INTERRUPT_CODE


def _check_inside_a_job(request: Request) -> None:
    """Refuse what only who starts the ranks can do, and mpirun has started them already."""
    if request.nproc is not None or request.hosts:
        raise LaunchError("expected no -n inside an MPI job: mpirun has started the ranks already; leave it out")
    if request.max_restarts:
        raise LaunchError("expected --max-restarts with -n, got it inside an MPI job, which only mpirun could restart")
    if request.env:
        raise LaunchError("expected --env with -n, got it inside an MPI job: give the variable to mpirun (-x, -genv)")


def _hint_at_allocation(request: Request) -> None:
    """One process, where a scheduler has granted room for several, may be meant or not."""
    allocation = _env.allocation()
    if job.in_mpi_job or request.nproc is not None or request.inbox or allocation is None or allocation.slots <= 1:
        return
    print(
        f"distgrad.launch: running one process, and this {allocation.scheduler} job has room for {allocation.slots} "
        f"ranks on {len(allocation.hosts)} nodes; write -n auto to use them, or -n 1 to be told nothing",
        file=sys.stderr,
    )
