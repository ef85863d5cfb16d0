"""Who takes part in the comparison of all-reduces: our backends, MPI itself, torch's gloo."""

import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import comm, cuda
from .._typing import Array
from ..backend import cuda_backend
from ..comm import Communicator, Options, ReduceOp, Topology
from ..comm._mpi import MpiCommunicator, load
from ..errors import CommError
from ._errors import BenchError


class Contender(ABC):
    """One way to combine the buffers of all ranks. Every rank has one, and calls the same methods in the same order.

    Args:
        name: in the table.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def prepare(self, n: int) -> None:
        """Make ready for buffers of `n` elements."""

    @abstractmethod
    def check(self) -> bool:
        """Combine once and tell whether the result is right; afterwards the buffer holds zeros."""

    @abstractmethod
    def seconds(self, repeats: int) -> float:
        """The time that this many all-reduces take on this rank, from a meeting of all on."""

    @abstractmethod
    def close(self) -> None:
        """End what was started for it."""


class Local(Contender):
    """An all-reduce that runs in this process.

    Args:
        name: in the table.
        group: the ranks.
        op: what `reduce` does.
        allocate: gives a buffer of n elements.
        reduce: combines the buffers of all ranks, in place.
    """

    def __init__(
        self,
        name: str,
        group: Communicator,
        op: ReduceOp,
        allocate: Callable[[int], Array],
        reduce: Callable[[Array], None],
    ) -> None:
        super().__init__(name)
        self._group, self._op = group, op
        self._allocate, self._reduce = allocate, reduce
        self._buffer: Array = None

    def prepare(self, n: int) -> None:
        """Allocate; the buffer before is freed first."""
        self._buffer = None
        self._buffer = self._allocate(n)

    def check(self) -> bool:
        """Combine rank + 1 over the ranks. Zeros are left because sums of them stay what they are."""
        self._buffer[...] = self._group.rank + 1
        self._reduce(self._buffer)
        expected = expected_result(self._op, self._group.size)
        off = max(abs(float(self._buffer.max()) - expected), abs(float(self._buffer.min()) - expected))
        self._buffer[...] = 0
        return off <= 1e-2 * expected

    def seconds(self, repeats: int) -> float:
        """Time the calls, and on a GPU what they left it to do."""
        buffer, reduce = self._buffer, self._reduce
        on_device = not isinstance(buffer, np.ndarray)
        if on_device:
            cuda.synchronize()
        self._group.barrier()
        started = time.perf_counter()
        for _ in range(repeats):
            reduce(buffer)
        if on_device:
            cuda.synchronize()
        return time.perf_counter() - started

    def close(self) -> None:
        """Free the buffer."""
        self._buffer = None


class Gloo(Contender):
    """torch's all-reduce over gloo: every rank has a child with torch in it, which sleeps while others are timed.

    Args:
        command: starts the child of this rank; it obeys lines on its standard input.
    """

    def __init__(self, command: Sequence[str]) -> None:
        super().__init__("torch gloo")
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._ask("hello")

    def prepare(self, n: int) -> None:
        """Let the child allocate."""
        self._ask(f"prepare {n}")

    def check(self) -> bool:
        """Let the child check."""
        return self._ask("check") == 1.0

    def seconds(self, repeats: int) -> float:
        """Let the child measure; the children meet before they begin."""
        return self._ask(f"seconds {repeats}")

    def close(self) -> None:
        """End the child."""
        self._child.communicate("quit\n", timeout=30)

    def _ask(self, line: str) -> float:
        assert self._child.stdin is not None and self._child.stdout is not None
        try:
            self._child.stdin.write(line + "\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, and the answer will be missing
        answer = self._child.stdout.readline()
        if not answer:
            raise BenchError(f"the child with torch ended at {line!r} with status {self._child.wait()}; see above")
        return float(answer)


def expected_result(op: ReduceOp, size: int) -> float:
    """What 1, 2, ... `size` are combined to."""
    total = size * (size + 1) / 2
    return {ReduceOp.SUM: total, ReduceOp.AVG: total / size, ReduceOp.MAX: size, ReduceOp.MIN: 1.0}[op]


def our_backends(
    group: Communicator, dtype: "np.dtype[Any]", op: ReduceOp, shared: Sequence[bool], on_gpu: bool
) -> tuple[list[Contender], dict[str, str]]:
    """Our backends that work here, and why the others do not. A collective call.

    Args:
        group: the default group, which takes part with its backend.
        dtype: of the buffers.
        op: how to combine.
        shared: True for buffers that the communicator gives out, False for any; or both.
        on_gpu: whether the buffers are on this rank's GPU.
    """
    communicators, reasons = _communicators(group)
    found: list[Contender] = []
    for communicator in communicators:
        for given_out in shared:
            name = communicator.name if given_out or len(shared) == 1 else f"{communicator.name} private"
            allocate = _allocator(communicator, dtype, given_out, on_gpu)
            found.append(Local(name, group, op, allocate, _reducer(communicator, op)))
    return found, reasons


def _communicators(group: Communicator) -> tuple[list[Communicator], dict[str, str]]:
    """The default group and one more for each other backend that works on these ranks."""
    made, reasons = [group], dict[str, str]()
    if group.size == 1:
        return made, reasons
    topology = Topology.discover(group)
    for backend in comm.BACKENDS:
        if backend.name == group.name:
            continue
        reason = backend.unavailable(topology)
        if reason is None:
            try:
                made.append(backend.create(MpiCommunicator.world(Options())))
            except CommError as error:  # on every rank alike
                reason = str(error)
        if reason is not None:
            reasons[backend.name] = reason
    return made, reasons


def _reducer(communicator: Communicator, op: ReduceOp) -> Callable[[Array], None]:
    def reduce(buffer: Array) -> None:
        communicator.all_reduce(buffer, op)

    return reduce


def _allocator(
    communicator: Communicator, dtype: "np.dtype[Any]", shared: bool, on_gpu: bool
) -> Callable[[int], Array]:
    def allocate(n: int) -> Array:
        gpu = cuda_backend() if on_gpu else None
        if gpu is not None:
            return gpu.xp.empty(n, dtype)
        return communicator.empty(n, dtype) if shared else np.empty(n, dtype)

    return allocate


def mpi_itself(group: Communicator, dtype: "np.dtype[Any]", op: ReduceOp) -> list[Contender]:
    """The Allreduce of the MPI library, in place and without anything of ours around it.

    For the mean there are two: the sum alone, which is less than what ours do, and the sum with the division after it.
    """
    world, mpi = load().COMM_WORLD, load()
    mpi_op = {ReduceOp.SUM: mpi.SUM, ReduceOp.AVG: mpi.SUM, ReduceOp.MAX: mpi.MAX, ReduceOp.MIN: mpi.MIN}[op]

    def allocate(n: int) -> Array:
        return np.empty(n, dtype)

    def reduce(buffer: Array) -> None:
        world.Allreduce(mpi.IN_PLACE, buffer, op=mpi_op)

    def reduce_and_divide(buffer: Array) -> None:
        world.Allreduce(mpi.IN_PLACE, buffer, op=mpi_op)
        np.multiply(buffer, dtype.type(1 / group.size), out=buffer)

    alone = ReduceOp.SUM if op is ReduceOp.AVG else op
    found: list[Contender] = [Local("MPI" if alone is op else "MPI sum", group, alone, allocate, reduce)]
    if op is ReduceOp.AVG:
        found.append(Local("MPI sum, division", group, op, allocate, reduce_and_divide))
    return found
