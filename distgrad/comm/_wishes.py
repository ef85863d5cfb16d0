"""The names by which a user asks for a backend: ours and torch's, for buffers in host memory and on GPUs."""

from collections.abc import Sequence
from typing import NamedTuple

from ..errors import BackendUnavailableError
from .device._nccl import nccl_problem

ANY_HOST = ("gloo", "undefined")  # torch's names that mean the best backend for the CPU
DEVICE_NAMES = {"nccl": "nccl", "mpi": "mpi", "staged": "staged", "gloo": "staged"}


class Wish(NamedTuple):
    """What was asked for.

    Args:
        host: the backend of buffers in host memory; None for the best.
        device: how buffers on GPUs go, see `Options.device`; None for the best.
    """

    host: str | None = None
    device: str | None = None


def parse_backend(text: str | None, names: Sequence[str]) -> Wish:
    """The wish that a name such as "shm", "nccl" or "cpu:gloo,cuda:nccl" stands for.

    Args:
        text: what the user wrote; None for no wish.
        names: the backends of buffers in host memory.

    Raises:
        BackendUnavailableError: there is no such backend, or NCCL was asked for and cannot be used here.

    Example:
        >>> parse_backend("cpu:shm,cuda:staged", ("shm", "mpi"))
        Wish(host='shm', device='staged')
    """
    host = device = None
    for part in text.lower().split(",") if text else ():
        kind, _, name = part.strip().rpartition(":")
        if kind == "cuda" or (not kind and name == "nccl"):
            device = _device_name(name)
        elif kind in ("", "cpu"):
            host = _host_name(name, names)
        else:
            raise BackendUnavailableError(f'expected a backend for "cpu" or "cuda", got {part.strip()!r}')
    return Wish(host, device)


def _host_name(name: str, names: Sequence[str]) -> str | None:
    if name in ANY_HOST:
        return None
    if name not in names:
        raise BackendUnavailableError(f"expected a backend of {', '.join(names)}, got {name!r}")
    return name


def _device_name(name: str) -> str:
    if name not in DEVICE_NAMES:
        raise BackendUnavailableError(f"expected a backend for GPUs of {', '.join(DEVICE_NAMES)}, got {name!r}")
    problem = nccl_problem() if name == "nccl" else None
    if problem is not None:
        raise BackendUnavailableError(
            f'backend "nccl" cannot be used here: {problem}. Or leave the backend out: then buffers on GPUs go the '
            "best way that works"
        )
    return DEVICE_NAMES[name]
