"""The environment variables that the launcher writes for scripts, and those that it reads about its surroundings."""

import os

from .._environment import Job

# Set by schedulers inside an allocation, where mpirun may spread ranks over several nodes without being told.
_ALLOCATIONS = ("SLURM_JOB_ID", "PBS_NODEFILE", "LSB_HOSTS", "PE_HOSTFILE")


def export_rank(job: Job, timeout: float | None, stall_warn: float | None) -> None:
    """Set the names by which scripts written for torchrun know their rank, and the options that `comm` reads."""
    names = {
        "RANK": job.rank,
        "LOCAL_RANK": job.local_rank,
        "WORLD_SIZE": job.world_size,
        "LOCAL_WORLD_SIZE": job.local_size,
        "DISTGRAD_TIMEOUT": timeout,
        "DISTGRAD_STALL_WARN": stall_warn,
    }
    os.environ.update({name: str(value) for name, value in names.items() if value is not None})


def export_master(address: str, port: int) -> None:
    """Set the address at which rank 0 can be reached, unless the user has chosen one."""
    os.environ.setdefault("MASTER_ADDR", address)
    os.environ.setdefault("MASTER_PORT", str(port))


def in_allocation() -> bool:
    """Whether a scheduler has given this process nodes, possibly several."""
    return any(name in os.environ for name in _ALLOCATIONS)
