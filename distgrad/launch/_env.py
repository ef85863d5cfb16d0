"""The environment variables that the launcher writes for scripts, and those that it reads about its surroundings."""

import os
from collections.abc import Iterable

from .._binding import choose, read_cpus, short_list
from .._environment import (
    BIND_VARIABLE,
    RANK_VARIABLE,
    RECORD_VARIABLE,
    Job,
    bound_by_launcher,
    cpu_quota,
    pool,
    threads,
    user_threads,
)
from ._hosts import Allocation, read_allocation

# What a rank on another host needs from here to find Python, our package, the MPI library and its settings.
_CARRIED = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "CONDA_PREFIX")


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


def export_restarts(count: int, limit: int) -> None:
    """Say how many times this job has been started again, under our names and torchrun's."""
    for prefix in ("", "TORCHELASTIC_"):
        os.environ[f"{prefix}RESTART_COUNT"] = str(count)
        os.environ[f"{prefix}MAX_RESTARTS"] = str(limit)


def export_master(address: str, port: int) -> None:
    """Set the address at which rank 0 can be reached, unless the user has chosen one."""
    os.environ.setdefault("MASTER_ADDR", address)
    os.environ.setdefault("MASTER_PORT", str(port))


def describe_binding(job: Job) -> str | None:
    """Where the ranks of this node stay; None where nobody asked that they stay anywhere."""
    policy = os.environ.get(BIND_VARIABLE, "none")
    if policy == "none":
        return None
    if bound_by_launcher(pool):
        return f"--bind {policy} changes nothing: what started the ranks has bound each of them already"
    places = [choose(policy, read_cpus(pool), rank, job.local_size) for rank in range(job.local_size)]
    if places[0] is None:
        return f"--bind {policy}: ranks are left unbound, {job.local_size} of them on {len(pool)} cores"
    listed = ", ".join(f"rank {rank}: {short_list(place.cpus)}" for rank, place in enumerate(places) if place)
    chosen = f"{threads} BLAS threads each" if threads else "BLAS threads as the environment says"
    return f"--bind {policy}: {chosen}; cores of {listed}"


def export(variables: Iterable[tuple[str, str]]) -> None:
    """Set what the user gave with --env."""
    os.environ.update(variables)


def value(name: str) -> str | None:
    """A variable that the user named."""
    return os.environ.get(name)


def allocation() -> Allocation | None:
    """What a scheduler has given to this job, possibly on several nodes."""
    return read_allocation(os.environ)


def cores() -> int:
    """How many cores this process may use: those that it is bound to, and no more than the CPU quota."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(bound, cpu_quota())


def for_ranks(given: Iterable[tuple[str, str]], bind: str | None) -> dict[str, str]:
    """The variables that ranks on other hosts need from here."""
    ours = {name for name in os.environ if name.startswith("DISTGRAD_")} - {RANK_VARIABLE, RECORD_VARIABLE}
    found = {name: os.environ[name] for name in (*_CARRIED, *sorted(ours)) if name in os.environ}
    chosen = {} if bind is None else {BIND_VARIABLE: bind}
    return {**found, **user_threads(os.environ), **chosen, **dict(given)}


def of_mpirun(given: Iterable[tuple[str, str]], bind: str | None) -> dict[str, str]:
    """The environment of mpirun, which ranks on this host inherit."""
    # Intel MPI binds its ranks by itself, which leaves nothing to choose.
    unbound = {"I_MPI_PIN": "0"} if bind not in (None, "none") else {}
    return {**unbound, **os.environ, **for_ranks(given, bind)}


def chooses_mpi() -> bool:
    """Whether the environment says which MPI library mpi4py is to load."""
    return any(name in os.environ for name in ("MPI4PY_MPIABI", "MPI4PY_LIBMPI", "LD_PRELOAD"))
