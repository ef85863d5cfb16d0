"""Whether there is a GPU to use, found out once and only when it is asked for: importing CuPy takes 0.15 s."""

import importlib
from functools import cache
from typing import Any

from ..._environment import job
from .._backend import register_backend
from ._backend import CudaBackend


@cache
def _find() -> tuple[Any, str | None]:
    """The module cupy and None, or None and why it cannot be used."""
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        return None, f"CuPy is not installed ({error}); pip install 'distgrad[cuda]'"
    if not cupy.is_available():
        return None, "CuPy is installed, but found no usable NVIDIA GPU and driver"
    return cupy, None


def cuda_problem() -> str | None:
    """Why no GPU can be used here; None if one can."""
    return _find()[1]


@cache
def cuda_backend() -> CudaBackend | None:
    """The GPU backend, with this rank's GPU made current; None if there is none."""
    cupy, problem = _find()
    if problem is not None:
        return None
    own = job.local_rank % cupy.cuda.runtime.getDeviceCount()
    cupy.cuda.Device(own).use()
    # All work goes to the default stream, which every thread shares: a reduction in another thread waits by itself for
    # the kernels that were launched before it.
    importlib.import_module("cupyx").seterr(linalg="raise")  # a singular matrix is an error, as on the CPU
    backend = CudaBackend(cupy, importlib.import_module("cupyx.scipy.special"), own)
    register_backend(backend)
    return backend
