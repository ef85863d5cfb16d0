"""The mpirun line: which mpirun belongs to the MPI that mpi4py uses, and what it wants to be told."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ..errors import LaunchError
from . import _env
from ._library import INSTALL, mpi_family
from ._request import Request


def mpirun_command(request: Request) -> list[str]:
    """The command that starts the ranks, up to the program that each rank runs; nothing for one process.

    Raises:
        LaunchError: there is no MPI library, or no mpirun that belongs to it.
    """
    return [] if request.is_alone else command_of(mpi_family(), request)


def command_of(family: str, request: Request) -> list[str]:
    """The same, for an MPI of this family.

    Raises:
        LaunchError: there is no mpirun that belongs to it, or it cannot do what was asked for.
    """
    mpirun = find_mpirun(family)
    if family == "openmpi":
        return [mpirun, *_open_mpi_options(request), *(_GUARD if request.elastic else ())]
    return [mpirun, *_hydra_options(request)]


def goes_on_in_place(request: Request) -> bool:
    """Whether the ranks that live go on when one has died; an MPI that cannot ends them all."""
    return request.elastic and mpi_family() == "openmpi"


# Open MPI does not notice a rank that ends with a status other than 0 (5.0.11); one that a signal ends it does.
# The shell would say "Killed" where the rank has said more.
_GUARD = ("sh", "-c", 'exec 3>&2 2>/dev/null; (exec 2>&3 3>&-; exec "$@"); test $? = 0 || kill -9 $$', "sh")


def find_mpirun(family: str) -> str:
    """The path of an mpirun of this family: beside this Python first, as in a virtual environment, then on PATH."""
    beside = str(Path(sys.executable).parent)
    wrong = []
    for name in ("mpirun", "mpiexec", "mpiexec.hydra"):
        for path in (shutil.which(name, path=beside), shutil.which(name)):
            if path is not None and family_of_mpirun(path) == family:
                return path
            wrong += [path] if path else []
    found = f"found only {', '.join(dict.fromkeys(wrong))} of another MPI" if wrong else "found none"
    wanted = {"openmpi": "Open MPI", "hydra": "MPICH"}[family]
    raise LaunchError(f"expected an mpirun of {wanted}, the MPI that mpi4py uses, and {found}; {INSTALL}")


def family_of_mpirun(mpirun: str) -> str | None:
    """The family of an mpirun by what it says about itself; None where it is neither."""
    try:
        answer = subprocess.run([mpirun, "--version"], capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    if "Open MPI" in answer or "OpenRTE" in answer:
        return "openmpi"
    return "hydra" if "HYDRA" in answer.upper() or "Intel(R) MPI" in answer else None


def _hosts(request: Request) -> str:
    return ",".join(map(str, request.hosts))


def _hydra_options(request: Request) -> list[str]:
    options = ["-n", str(request.nproc)]
    if request.hosts:
        options += ["-hosts", _hosts(request)]  # Hydra takes all variables to all hosts
    return options


def _open_mpi_options(request: Request) -> list[str]:
    # By default Open MPI binds each of two ranks to one core, where our BLAS threads would then queue.
    ranks = None if request.nproc is None else request.nproc + request.spares
    options = ["-n", str(ranks), "--bind-to", "none"]
    if request.elastic:
        options += ["--with-ft", "ulfm"]
    if os.geteuid() == 0:
        options.append("--allow-run-as-root")
    allocation = _env.allocation()
    if request.hosts:
        options += ["--host", _hosts(request)]
        for name in _env.for_ranks(request.env, request.bind):
            options += ["-x", name]
    elif allocation is None or len(allocation.hosts) == 1:
        # One node: more ranks than cores are meant, and looking for networks takes a second at start-up.
        options += ["--oversubscribe", "--mca", "pml", "ob1", "--mca", "btl", "self,sm"]
    return options
