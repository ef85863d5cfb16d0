"""On what a measurement was taken: a number without its machine says nothing."""

import importlib.metadata
import os
import platform
import time
from typing import Any

from .._environment import blas_config, job
from ..backend import onednn_state


def describe(threads: int | None = None) -> dict[str, Any]:
    """The machine, the libraries and the job around this process.

    Args:
        threads: of the BLAS in the processes that were measured, if those are not this one.
    """
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": importlib.metadata.version("numpy"),
        "blas": [f"{blas.library}, kernel {blas.kernel}, threads {threads or blas.threads}" for blas in blas_config()],
        "onednn": onednn_state()[0],
        "launcher": job.kind,
        "time": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def sentence(machine: dict[str, Any]) -> str:
    """The same in a line."""
    blas = machine["blas"][0] if machine["blas"] else "no BLAS"
    dnn = f", oneDNN {machine['onednn']}" if machine.get("onednn") else ""
    mpi = f", {machine['mpi']}" if "mpi" in machine else ""
    place = f"{machine['cpu']}, {machine['cores']} cores"
    return f"{place}; Python {machine['python']}, NumPy {machine['numpy']}, {blas}{dnn}{mpi}"


def _cpu() -> str:
    """The name that the system has for the processor."""
    try:
        with open("/proc/cpuinfo") as file:
            lines = [line for line in file if line.startswith("model name")]
    except OSError:
        lines = []
    return lines[0].partition(":")[2].strip() if lines else platform.processor() or platform.machine()
