"""Looks at the machine for the doctor: everything but MPI, which may hang or crash (see `_mpi_trial`)."""

import importlib.metadata
import importlib.util
import os
import platform
import resource
import shutil
import sys
from pathlib import Path

import numpy as np

from .. import cuda
from .._environment import BlasConfig, blas_config, cpu_quota, job, kernel_warning, node_cores, pool, threads
from .._version import __version__
from ..backend import cuda_problem, onednn_state
from ..errors import LaunchError
from . import _env
from ._findings import Blas, Cores, Facts, Gpus, Launcher, Memory, Mpi, OneDnn, Software
from ._library import family_of
from ._mpirun import command_of
from ._request import parse

SHARED_MEMORY = "/dev/shm"
memfd_create = getattr(os, "memfd_create", None)  # Linux alone has it


def look() -> Facts:
    """What this process can tell about itself and its machine."""
    return Facts(
        job=job,
        node=platform.node(),
        scheduler=_scheduler(),
        software=Software(platform.python_version(), __version__, np.__version__, _installed("mpi4py")),
        cores=_cores(),
        blas=_blas(),
        memory=_memory(),
        gpus=_gpus(),
        mpi=Mpi(chosen=_env.value("MPI4PY_LIBMPI"), asked=_env.value("DISTGRAD_BACKEND") or None),
        onednn=OneDnn(*onednn_state()),
    )


def _scheduler() -> str | None:
    allocation = _env.allocation()
    if allocation is None:
        return None
    return f"{allocation.scheduler}, room for {allocation.slots} ranks on {len(allocation.hosts)} nodes"


def _installed(name: str) -> str | None:
    """The version of a package, which is not imported for that; None where it is not installed."""
    if importlib.util.find_spec(name) is None:
        return None
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


def _cores() -> Cores:
    quota = cpu_quota()
    own = frozenset(os.sched_getaffinity(0)) if sys.platform == "linux" else pool
    return Cores(own, node_cores(), os.cpu_count() or 1, None if quota == sys.maxsize else quota)


def _blas() -> Blas:
    library, kernel, count = (blas_config() or [BlasConfig("?", "?", "?")])[0]
    known = int(count) if count.isdecimal() else threads
    return Blas(library, kernel, known, _env.value("OPENBLAS_CORETYPE"), kernel_warning())


def _memory() -> Memory:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    usage = shutil.disk_usage(SHARED_MEMORY) if os.path.isdir(SHARED_MEMORY) else None
    open_files = sys.maxsize if files == resource.RLIM_INFINITY else files
    return Memory(_memfd_problem(), usage.free if usage else None, usage.total if usage else 0, open_files)


def _memfd_problem() -> str | None:
    """Why ranks cannot share memory that has no name; None if they can: as `comm/_segment.py` does it."""
    if memfd_create is None:
        return "only Linux has it"
    try:
        descriptor = memfd_create("distgrad")
    except OSError as error:
        return str(error)
    try:
        os.posix_fallocate(descriptor, 0, 1)
        os.close(os.open(f"/proc/{os.getpid()}/fd/{descriptor}", os.O_RDWR))
    except OSError as error:
        return str(error)
    finally:
        os.close(descriptor)
    return None


def _gpus() -> Gpus:
    driver = any(Path(name).exists() for name in ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg"))
    names = tuple(cuda.get_device_name(index) for index in range(cuda.device_count()))
    return Gpus(driver or bool(names), names, cuda_problem())


def find_launcher(library: str) -> Launcher:
    """What `-n auto` would do here, with this MPI library."""
    request = parse(["-n", "auto", "--doctor"])
    ranks, nodes = request.nproc or 1, len(request.hosts) or 1
    try:
        family = family_of(library)
    except LaunchError as error:  # its own launcher may start jobs
        return Launcher(ranks, nodes, None, str(error))
    try:
        return Launcher(ranks, nodes, " ".join(command_of(family, request)))
    except LaunchError as error:
        return Launcher(ranks, nodes, None, str(error), stops=True)
