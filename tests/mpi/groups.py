"""Groups over all ranks of a test job, of every backend, on one node or on ranks that take themselves for two."""

import dataclasses
import time

import pytest
from mpi4py import MPI

from distgrad.comm import Communicator, _topology
from distgrad.comm._communicator import Options
from distgrad.comm._hierarchical import HierarchicalCommunicator
from distgrad.comm._mpi import MpiCommunicator
from distgrad.comm._shm import ShmCommunicator
from distgrad.comm._types import DEFAULT_TIMEOUT
from tests.comm.nodes import small_windows

RANK, SIZE = MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size
LAST = SIZE - 1
NODE = [0 if rank < SIZE / 2 else 1 for rank in range(SIZE)]  # 1 and 1 rank, 2 and 1, 2 and 2

SLOW = (
    pytest.mark.slow,
    pytest.mark.skipif(
        "'slow' not in config.option.markexpr",
        reason="each backend on some numbers of ranks; every cell: pytest -m slow tests/test_mpi.py",
    ),
)


def on_ranks(*sizes: int) -> tuple[pytest.MarkDecorator, ...]:
    """The marks of a test that all jobs but those of these sizes leave to the slow tests."""
    return () if SIZE in sizes else SLOW


def meet() -> None:
    """Wait for all ranks, asleep: MPI's own barrier turns in a loop, and takes the processor from who is late."""
    request = MPI.COMM_WORLD.Ibarrier()
    while not request.Test():
        time.sleep(1e-3)


def make(backend: str, options: Options) -> Communicator:
    """A group over all ranks, which have all the time they need to make it.

    Args:
        backend: "mpi", "shm"; "wire", which is mpi without any board; "mpi 2 nodes", "hierarchical".
        options: its timeout and stall warning.
    """
    patient = dataclasses.replace(options, timeout=DEFAULT_TIMEOUT)
    group = _make(backend, patient)
    object.__setattr__(patient, "timeout", options.timeout)  # all parts of the group hold this one object
    return group


def _make(backend: str, options: Options) -> Communicator:
    if backend == "wire":
        return MpiCommunicator(MPI.COMM_WORLD.Dup(), options=options)
    try:
        _topology.pretend(NODE if backend in ("mpi 2 nodes", "hierarchical") else ())
        base = MpiCommunicator.world(options)
        if backend == "hierarchical":
            with small_windows():
                return HierarchicalCommunicator(base)
    finally:
        _topology.pretend(())
    return ShmCommunicator(base) if backend == "shm" else base
