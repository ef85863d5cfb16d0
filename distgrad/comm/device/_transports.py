"""Which way buffers on GPUs go between the ranks of a group; all ranks choose the same.

NCCL is the best where each rank has a GPU of its own. MPI is next, if it can be given addresses on a GPU: to know that
takes more than its word (see `_probe`), since what cannot crashes the process. Through host memory it always works.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from ..._typing import Array
from ...backend import cuda_problem
from ...errors import CommError
from .._objects import decode, encode, gather_bytes, share_bytes
from .._topology import node_name
from ._buffers import DeviceTransport, number_of, streams
from ._cuda_aware import CudaAware
from ._nccl import Nccl, nccl_problem, nccl_version
from ._probe import cuda_aware_problem
from ._staged import Staged

if TYPE_CHECKING:
    from .._communicator import Communicator


def device_transports() -> dict[str, str | None]:
    """How buffers on GPUs can go from this process, best first, and what is against it; None for nothing.

    Asking about "mpi" initialises MPI and, where the library claims to be CUDA-aware, starts a process for the proof.
    """
    return {"nccl": nccl_problem(), "mpi": cuda_aware_problem(), "staged": cuda_problem()}


class Facts(NamedTuple):
    """What one rank tells the others before they choose.

    Args:
        node: see `node_name`.
        gpu: the place of its GPU in the node.
        nccl: why it cannot use NCCL, or the version that it would use.
        cuda_aware: what its user said about MPI and addresses on a GPU; None for nothing.
    """

    node: str
    gpu: str
    nccl: str | int
    cuda_aware: bool | None


def choose(group: "Communicator", buffer: Array) -> DeviceTransport:
    """The transport of a group whose ranks have all come with a buffer on a device. Collective, within a call."""
    asked = group.options.device
    mine = Facts(
        node_name(), streams().bus_id(number_of(buffer)), nccl_problem() or nccl_version(), group.options.cuda_aware
    )
    facts = [decode(part) for part in gather_bytes(group, encode(mine))]
    reasons: dict[str, str] = {}
    for name, problem, create in _WAYS:
        if asked not in (None, name):
            continue
        reason = problem(group, facts)
        if reason is None:
            transport, reason = _try(group, buffer, create)
            if transport is not None:
                transport.passed_over = reasons
                return transport
        reasons[name] = reason
    if asked not in (None, "staged") and group.rank == 0:
        warnings.warn(
            f'buffers on GPUs go through host memory instead of "{asked}": {reasons[asked]}',
            RuntimeWarning,
            stacklevel=2,
        )
    transport = Staged(group, buffer)
    transport.passed_over = reasons
    return transport


def _try(
    group: "Communicator", buffer: Array, create: Callable[["Communicator", Array], DeviceTransport]
) -> tuple[DeviceTransport | None, str]:
    """The transport, if every rank could create it, else the first reason why one could not."""
    made, reason = None, ""
    try:
        made = create(group, buffer)
    except CommError as error:
        reason = str(error)
    reasons = [decode(part) for part in gather_bytes(group, encode(reason))]
    if not any(reasons):
        return made, ""
    if made is not None:
        made.close(abort=True)
    return None, next(f"rank {rank}: {text}" for rank, text in enumerate(reasons) if text)


def _against_nccl(group: "Communicator", facts: Sequence[Facts]) -> str | None:
    """Why these ranks cannot use NCCL together; None if they can."""
    for rank, fact in enumerate(facts):
        if isinstance(fact.nccl, str):
            return f"rank {rank}: {fact.nccl}"
    versions = sorted({fact.nccl for fact in facts})
    if len(versions) > 1:
        return f"the ranks have different versions of it, {versions}"
    owners: dict[tuple[str, str], int] = {}
    for rank, fact in enumerate(facts):
        other = owners.setdefault((fact.node, fact.gpu), rank)
        if other != rank:
            return f"ranks {other} and {rank} share the GPU {fact.gpu}, which NCCL does not allow"
    return None


def _against_mpi(group: "Communicator", facts: Sequence[Facts]) -> str | None:
    """Why MPI cannot be given addresses on these ranks' GPUs; None if it can."""
    if group._over_mpi() is None:
        return "the group does not stand on MPI"
    if any(fact.cuda_aware is False for fact in facts):
        return "DISTGRAD_CUDA_AWARE=0"
    if group.options.device == "mpi" or all(fact.cuda_aware for fact in facts):
        return None
    own = cuda_aware_problem() if group.rank == 0 else None
    problem: str | None = decode(share_bytes(group, encode(own)))
    return problem


Problem: TypeAlias = Callable[["Communicator", Sequence[Facts]], str | None]
_WAYS: tuple[tuple[str, Problem, Callable[["Communicator", Array], DeviceTransport]], ...] = (
    ("nccl", _against_nccl, Nccl),
    ("mpi", _against_mpi, CudaAware),
)
