"""The default group: which backend it uses, how it begins and ends.

Read from the environment, all optional: DISTGRAD_BACKEND (as the argument `backend`), DISTGRAD_TIMEOUT and
DISTGRAD_STALL_WARN (seconds), which the launcher sets, DISTGRAD_ELASTIC (1: the group outlives its ranks, see
`_elastic`) and DISTGRAD_SPARES (so many ranks wait for one to die), which `launch --elastic` sets, DISTGRAD_CUDA_AWARE
(1: MPI takes addresses on GPUs; 0: it does not; else a trial decides), and DISTGRAD_TOPOLOGY, for tests: "2x2" lets the
four ranks of one machine take themselves for two nodes of two, "1,3" for nodes of one and of three.
"""

import atexit
import functools
import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

from .._environment import job
from ..errors import BackendUnavailableError, CommError
from . import _abort, _solo
from ._communicator import Communicator
from ._elastic import ElasticCommunicator
from ._groups import groups
from ._hierarchical import HierarchicalCommunicator
from ._mpi import MpiCommunicator, load, never_finalize
from ._serial import SerialCommunicator
from ._shm import ShmCommunicator
from ._statistics import Measurement, Statistics
from ._topology import Topology, parse_layout, pretend
from ._types import DEFAULT_STALL_WARN, DEFAULT_TIMEOUT, Options
from ._wishes import parse_backend
from .device._nccl import nccl_problem
from .diagnosis._board import leave, part


class Backend(NamedTuple):
    """One way to communicate.

    Args:
        name: what `init_process_group` calls it.
        unavailable: why it cannot serve the ranks of this topology; None if it can.
        create: makes the default group from a group over MPI, which it owns from then on.
    """

    name: str
    unavailable: Callable[[Topology], str | None]
    create: Callable[[MpiCommunicator], Communicator]


def _shm_unavailable(topology: Topology) -> str | None:
    if topology.spans_nodes:
        return f"shm needs all ranks on one node, and they are on {len(topology.nodes)}"
    return None


def _hierarchical_unavailable(topology: Topology) -> str | None:
    return None if topology.spans_nodes else "hierarchical is for ranks on several nodes, and all are on one"


# The backends of a job with more than one rank, in the order of preference. A single process needs none of them.
BACKENDS = (
    Backend("shm", _shm_unavailable, ShmCommunicator),
    Backend("hierarchical", _hierarchical_unavailable, HierarchicalCommunicator),
    Backend("mpi", lambda topology: None, lambda base: base),
)
NAMES = ("serial", *(backend.name for backend in BACKENDS))


def init_process_group(
    backend: str | None = None,
    init_method: str | None = None,
    timeout: timedelta | float | None = None,
    world_size: int = -1,
    rank: int = -1,
    store: Any = None,
    group_name: str = "",
    pg_options: Any = None,
    device_id: Any = None,
) -> None:
    """Join the default group of all ranks that the launcher started. A collective call.

    Programs may leave it out: the first collective does the same. Without a launcher the group has one rank.

    Args:
        backend: "shm" (all ranks on one node), "hierarchical" (several nodes), "mpi" (both), or None for the best
            that works; torch's "gloo" means None. "nccl" asks for NCCL between GPUs, beside the best for host memory;
            as in torch, "cpu:shm,cuda:nccl" names both. "cuda:staged" goes through host memory, "cuda:mpi" relies on
            MPI being CUDA-aware.
        init_method: accepted as in torch; the launcher has told the ranks already where they meet.
        timeout: how long a rank waits for its peers, as a timedelta or in seconds; 5 minutes by default.
        world_size: checked against the launcher's, if given.
        rank: checked against the launcher's, if given.
        store: accepted as in torch, not used; so are group_name, pg_options and device_id.

    Raises:
        BackendUnavailableError: the backend that was asked for cannot run here.
        CommError: there is a default group already, or the job is not of this size; raised on every rank.

    Example:
        >>> import distgrad.comm as dist
        >>> dist.init_process_group()
        >>> dist.get_rank(), dist.get_world_size(), dist.get_backend()
        (0, 1, 'serial')
        >>> dist.destroy_process_group()
    """
    mine = groups()
    if mine.explicit:
        raise CommError("init_process_group was called twice; call destroy_process_group() before the second time")
    mine.close()  # one that a collective made without being asked to
    mine.world = _create(backend, options_for(timeout), world_size, rank)
    mine.explicit = True


def destroy_process_group(group: Communicator | None = None) -> None:
    """Close a group, or the default group and all that were made from it. A collective call of its members."""
    mine = groups()
    if group is None or group is mine.world:
        mine.close()
        return
    group.close()
    mine.made = [other for other in mine.made if other is not group]


def get_default() -> Communicator:
    """The default group. The first call in a job with several ranks joins it, which is collective."""
    mine = groups()
    if mine.world is None:
        mine.world = _create(None, options_for(None), -1, -1)
    return mine.world


def is_available() -> bool:
    """True: communication is part of every distgrad, even where it has one rank only."""
    return True


def is_mpi_available() -> bool:
    """Whether mpi4py is installed."""
    return importlib.util.find_spec("mpi4py") is not None


def is_gloo_available() -> bool:
    """True: torch's name for communication between CPUs stands for the best backend here."""
    return True


def is_nccl_available() -> bool:
    """Whether this process has a GPU, CuPy and the NCCL library."""
    return nccl_problem() is None


def is_initialized() -> bool:
    """Whether the process belongs to a default group: after `init_process_group`, or after a first collective."""
    mine = groups()
    return mine.explicit or (mine.world is not None and mine.world.size > 1)


def statistics() -> Statistics:
    """Time, calls and bytes of communication so far, over the default group and all groups made from it."""
    return get_default().statistics.copy()


def measure() -> Measurement:
    """Measure the share of communication in a block.

    Example:
        >>> import distgrad.comm as dist
        >>> with dist.measure() as measured:
        ...     dist.barrier()
        >>> measured.calls
        1
    """
    return Measurement(get_default().statistics)


def options_for(timeout: timedelta | float | None, device: str | None = None) -> Options:
    """What a group waits for: `timeout` as a timedelta or in seconds, or what the environment says.

    `device` is how buffers on GPUs go.

    Raises:
        CommError: the time is not positive, or a variable is no number.
    """
    if isinstance(timeout, timedelta):
        timeout = timeout.total_seconds()
    if timeout is None:
        timeout = _seconds("DISTGRAD_TIMEOUT", DEFAULT_TIMEOUT)
    if timeout <= 0:
        raise CommError(f"expected a timeout of more than 0 seconds, got {timeout:g}")
    cuda_aware = {"1": True, "0": False}.get(os.environ.get("DISTGRAD_CUDA_AWARE", ""))
    return Options(timeout, _seconds("DISTGRAD_STALL_WARN", DEFAULT_STALL_WARN), device, cuda_aware)


def _seconds(variable: str, default: float) -> float:
    text = os.environ.get(variable, "")
    try:
        return float(text) if text else default
    except ValueError:
        raise CommError(f"expected {variable} in the environment to be a number of seconds, got {text!r}") from None


def _create(backend: str | None, options: Options, world_size: int, rank: int) -> Communicator:
    wanted, device = parse_backend(backend or os.environ.get("DISTGRAD_BACKEND"), NAMES)
    options = replace(options, device=device)
    if not job.in_mpi_job or job.world_size == 1:
        _check_place([(world_size, rank)], 1)
        return SerialCommunicator(options=options)
    if wanted == "serial":
        raise BackendUnavailableError(
            f'backend "serial" is for a single process, and this job has {job.world_size}; leave the backend out'
        )
    with _abort.end_after(options.timeout):
        base = _meet(options)
    if isinstance(base, ElasticCommunicator):
        return base
    wishes = base.all_gather_object((wanted, world_size, rank))
    _check_place([wish[1:] for wish in wishes], base.size)
    world = _start([wish[0] for wish in wishes], base, Topology.discover(base))
    world.statistics.reset()  # what it took to start is not the program's
    return world


def _meet(options: Options) -> MpiCommunicator:
    """Initialise MPI, and return when all ranks have."""
    if os.environ.get("DISTGRAD_ELASTIC") == "1":
        never_finalize()
    problem = _mpi_problem()
    if problem:
        raise BackendUnavailableError(f"this job has {job.world_size} ranks, which cannot communicate: {problem}")
    layout = os.environ.get("DISTGRAD_TOPOLOGY")
    pretend(parse_layout(layout, job.world_size) if layout else ())
    _solo.refuse("the first meeting of all ranks, which begins the default group")
    if os.environ.get("DISTGRAD_ELASTIC") != "1":
        base = MpiCommunicator.world(options)
        _announce_leaving()
        return base
    elastic = ElasticCommunicator.world(options)
    elastic.look_around()
    elastic.reserve(int(os.environ.get("DISTGRAD_SPARES", "0")))
    _abort.survive(elastic.settle)
    return elastic


@functools.cache
def _announce_leaving() -> None:
    """Let peers know when this process ends, whether or not it was started with the launcher's rules."""
    atexit.register(leave)
    _abort.on_leave(part)


def _start(wanted: Sequence[str | None], base: MpiCommunicator, topology: Topology) -> Communicator:
    """The default group on the best backend that works. All ranks see the same wishes, topology and failures."""
    reasons: dict[str, str] = {}
    for backend in _candidates(wanted):
        reason = backend.unavailable(topology)
        if reason is None:
            try:
                return backend.create(base)
            except CommError as error:  # on every rank alike
                reason = str(error)
        reasons[backend.name] = reason
    raise BackendUnavailableError("; ".join(f"backend {name}: {reason}" for name, reason in reasons.items()))


def _candidates(wanted: Sequence[str | None]) -> Sequence[Backend]:
    """The backends to try, by what each rank asked for."""
    if len(set(wanted)) > 1:
        lines = "".join(f"\n  rank {rank}: {name}" for rank, name in enumerate(wanted))
        raise BackendUnavailableError(f"expected the same backend on every rank, got:{lines}")
    return [backend for backend in BACKENDS if wanted[0] in (None, backend.name)]


def _check_place(places: Sequence[tuple[int, int]], size: int) -> None:
    """Compare the arguments world_size and rank of every rank with what the launcher set up."""
    for actual, (world_size, rank) in enumerate(places):
        if world_size not in (-1, size):
            raise CommError(
                f"expected world_size={world_size} (from the call on rank {actual}), got a job of {size}: start it "
                f"with `mpirun -n {world_size}` or `python -m distgrad.launch -n {world_size}`, or leave world_size out"
            )
        if rank not in (-1, actual):
            raise CommError(
                f"expected rank={rank} (from the call), got rank {actual} from the launcher; leave rank out"
            )


def _join() -> None:
    """Meet the other ranks if this one never did."""
    if job.world_size > 1:
        get_default()


def launcher_problem() -> str | None:
    """Why what started the ranks cannot connect them, as far as the environment tells; None if it can."""
    if job.kind == "slurm" and not any(name.startswith("PMI") for name in os.environ):  # Open MPI would stop with 1
        return f"srun offers its tasks no PMI, through which MPI connects them; {_SRUN}"
    return None


def _mpi_problem() -> str | None:
    """Why the ranks of this job cannot use MPI; None if they can. Initialises MPI."""
    if (problem := launcher_problem()) is not None:
        return problem
    try:
        mpi = load()
    except (ImportError, RuntimeError) as error:
        return f"{error}; install mpi4py and an MPI library, for instance with `pip install 'distgrad[mpich]'`"
    if mpi.COMM_WORLD.Get_size() == job.world_size:
        return None
    library = mpi.Get_library_version().splitlines()[0].strip("\0 ")
    return (
        f"the launcher ({job.kind}) started {job.world_size} ranks, but the MPI library that mpi4py loaded ({library}) "
        f"sees {mpi.COMM_WORLD.Get_size()}; {_SRUN if job.kind == 'slurm' else _MPIRUN}"
    )


_MPIRUN = "use the mpirun that belongs to that library"
_SRUN = (
    "start them with `srun --mpi=pmix` (Open MPI) or `srun --mpi=pmi2` (MPICH, Intel MPI); `srun --mpi=list` shows "
    "what this Slurm has. Or let mpirun start them, in the batch script: `python -m distgrad.launch -n auto train.py`"
)


_abort.join_with(_join)
