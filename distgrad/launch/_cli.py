"""The launcher's entry: reads the command line and hands it to whoever does the work."""

import sys
from collections.abc import Sequence

from .._environment import job
from ..comm import _abort
from ..errors import LaunchError
from ._request import parse
from ._run import run
from ._spawn import spawn

USAGE_ERROR = 2  # the exit status of a command line that cannot work, as argparse and most tools have it


def main(argv: Sequence[str]) -> int:
    """Run `python -m distgrad.launch` with these arguments.

    Returns:
        The exit status: the script's own, or 2 where the command line or its surroundings cannot work.
    """
    if job.in_mpi_job:
        _abort.install()
    try:
        return _launch(argv)
    except LaunchError as error:
        text = f"distgrad.launch: error: {error}"
    if job.in_mpi_job:
        _abort.refuse(USAGE_ERROR, text)
    print(text, file=sys.stderr)
    return USAGE_ERROR


def _launch(argv: Sequence[str]) -> int:
    request = parse(argv)
    if not request.starts_a_job:
        return run(request)
    if job.in_mpi_job:
        raise LaunchError("expected no -n inside an MPI job: mpirun has started the ranks already; leave it out")
    try:
        return spawn(request)
    except KeyboardInterrupt:  # before there was a job, or a second time while it ended
        print("distgrad.launch: KeyboardInterrupt", file=sys.stderr)
        return _abort.KEYBOARD_INTERRUPT_CODE
