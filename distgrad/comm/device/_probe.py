"""Whether MPI may be given addresses on a GPU: asked of the library, then tried in a process that may crash.

A library that cannot take such an address dies of a segmentation fault, and some that say they can are set up so that
they do. MPI cannot be started twice in one process, and a child of a rank must not take itself for that rank. So the
trial is a program of its own, without the variables of the job around it: an MPI job of one process. It sends a
message to itself and reduces, both from and to the GPU. That the network between two nodes can, it does not show.

    python -m distgrad.comm.device._probe        # prints "cuda-aware", or dies
"""

import ctypes
import functools
import re
import signal
import subprocess
import sys
from typing import Any

import numpy as np

from ..._environment import outside_jobs
from ...backend import cuda_backend, cuda_problem

_DEADLINE = 60.0  # seconds; it takes one or two
_ANSWER = "cuda-aware"


def cuda_aware_problem() -> str | None:
    """Why MPI must not be given addresses on a GPU here; None where the trial went well. MPI must be initialised."""
    return claim_problem() or trial_problem()


def claim_problem() -> str | None:
    """Why there is no need for a trial: the library itself says that it cannot."""
    problem = cuda_problem()
    if problem is not None:
        return problem
    if claims_cuda():
        return None
    return "the MPI library does not say that it is CUDA-aware (DISTGRAD_CUDA_AWARE=1 claims it is)"


def claims_cuda() -> bool:
    """Whether the MPI library says that it takes addresses on GPUs. MPI must be initialised."""
    return any(query() == 1 for query in _queries()) or "cuda" in _memory_kinds()


def _queries() -> list[Any]:
    """The function in which Open MPI and MPICH tell, of every MPI library that this process has loaded."""
    try:
        with open("/proc/self/maps") as file:
            paths = set(re.findall(r"/\S*/libmpi\w*\.so\S*", file.read()))
    except OSError:
        return []
    libraries = [ctypes.CDLL(path) for path in sorted(paths)]  # loaded already, but not for all to see
    return [library.MPIX_Query_cuda_support for library in libraries if _has(library, "MPIX_Query_cuda_support")]


def _has(library: ctypes.CDLL, name: str) -> bool:
    try:
        library[name]
    except AttributeError:
        return False
    return True


def _memory_kinds() -> str:
    """The kinds of memory that the library takes, as MPI 4.1 lets it tell."""
    from mpi4py import MPI

    return MPI.COMM_WORLD.Get_info().Get("mpi_memory_alloc_kinds") or ""


@functools.cache
def trial_problem(command: tuple[str, ...] = (sys.executable, "-m", __name__)) -> str | None:
    """Why the trial in a process of its own failed; None if it went well."""
    try:
        outcome = subprocess.run(
            command,
            env=outside_jobs(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_DEADLINE,
        )
    except subprocess.TimeoutExpired:
        return f"the trial did not end within {_DEADLINE:g} s"
    if outcome.returncode == 0 and _ANSWER in outcome.stdout.split():
        return None
    if outcome.returncode < 0:
        return f"the trial died of {signal.Signals(-outcome.returncode).name}"
    lines = outcome.stderr.strip().splitlines()
    return f"the trial ended with status {outcome.returncode}: {lines[-1] if lines else 'no message'}"


def main() -> None:
    """The trial: exits with status 0 after printing the answer, or not at all."""
    from mpi4py import MPI

    backend = cuda_backend()
    if backend is None:
        raise SystemExit(str(cuda_problem()))
    comm = MPI.COMM_WORLD
    for n in (1, 1 << 14):
        source, target = backend.xp.full(n, 3, np.float32), backend.xp.zeros(n, np.float32)
        backend.streams.current().synchronize()
        comm.Sendrecv(source, 0, 0, target, 0, 0)
        _check(target)
        target[...] = 0
        backend.streams.current().synchronize()
        comm.Allreduce(source, target)
        _check(target)
    print(_ANSWER, flush=True)


def _check(array: Any) -> None:
    values = array.get()
    if not (values == 3).all():
        raise SystemExit(f"expected 3 everywhere, got {values[:4]}")


if __name__ == "__main__":
    main()
