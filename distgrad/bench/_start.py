"""How a benchmark becomes a job: the same command line again, on every rank.

The variables that force a BLAS kernel are taken away, as on a user's machine, and each rank has a stated number of
threads. Inside a job that somebody else has started, both stay as they are; the result tells which they were.
"""

import subprocess
import sys
from collections.abc import Sequence

from .._environment import THREAD_VARIABLES

FORCED_KERNEL = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def job_command(
    ranks: int, arguments: Sequence[str], threads: int | None = 1, topology: str | None = None
) -> list[str]:
    """The command line that runs `python -m distgrad.bench` on `ranks` ranks of this machine.

    Args:
        ranks: how many processes.
        arguments: of the benchmark.
        threads: of each rank; None leaves them to distgrad.
        topology: such as "2x2": ranks take themselves for ranks of several nodes.
    """
    unset = [word for name in FORCED_KERNEL for word in ("-u", name)]
    values = [] if threads is None else [f"{name}={threads}" for name in THREAD_VARIABLES]
    values += [f"DISTGRAD_TOPOLOGY={topology}"] if topology else []
    launcher = ["-m", "distgrad.launch", "-n", str(ranks), "-m", "distgrad.bench"]
    return ["env", *unset, *values, sys.executable, *launcher, *arguments]


def run_job(command: Sequence[str]) -> int:
    """Run it to its end, its output on this screen; returns its status."""
    return subprocess.run(command, check=False).returncode
