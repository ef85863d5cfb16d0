"""Collectives of MPI on addresses on a GPU, where the library can take them.

MPI knows nothing of streams: what a buffer waits for must be done before the call, and its results are in place when
the call returns. Only the blocking collectives are used; the others crash on device buffers in Open MPI (issue 9845).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from ..._typing import Array
from ...errors import CommError
from .._dtypes import lookup
from .._types import ReduceOp
from ._buffers import DeviceTransport, number_of, streams
from ._staged import Staged

if TYPE_CHECKING:
    from .._communicator import Communicator


class CudaAware(DeviceTransport):
    """CUDA-aware MPI. Creating it is a collective call, within a call.

    What is seldom needed, and dtypes that MPI does not reduce, goes through host memory.

    Args:
        group: the ranks.
        buffer: an array on this rank's GPU.
    """

    name: ClassVar[str] = "mpi"
    sums_in_order = False

    def __init__(self, group: "Communicator", buffer: Array) -> None:
        self.rank = group.rank
        self.size = group.size
        base = group._over_mpi()
        if base is None:
            raise CommError("the group does not stand on MPI")
        self._group = group
        self._mpi = base
        self._staged = Staged(group, buffer)

    def describe(self) -> str:
        """What it is, in words."""
        return "CUDA-aware MPI"

    def close(self, abort: bool = False) -> None:
        """Give the memory back."""
        self._staged.close(abort)

    # ---- collectives -------------------------------------------------------------------------------------------

    def _all_reduce(self, buffer: Array, op: ReduceOp) -> None:
        if not lookup(buffer.dtype).mpi:
            self._staged._all_reduce(buffer, op)
            return
        self._await(buffer)
        self._mpi._all_reduce(buffer, ReduceOp.SUM if op is ReduceOp.AVG else op)
        if op is ReduceOp.AVG:
            with streams().on(number_of(buffer)):
                buffer /= self.size

    def _broadcast(self, buffer: Array, root: int) -> None:
        self._await(buffer)
        self._mpi._broadcast(buffer, root)

    def _all_gather(self, output: Array, input: Array) -> None:
        self._staged._all_gather(output, input)

    def _reduce(self, buffer: Array, root: int, op: ReduceOp) -> None:
        self._staged._reduce(buffer, root, op)

    def _reduce_scatter(self, output: Array, input: Array, op: ReduceOp) -> None:
        self._staged._reduce_scatter(output, input, op)

    def _gather(self, output: Array | None, input: Array, root: int) -> None:
        self._staged._gather(output, input, root)

    def _scatter(self, output: Array, input: Array | None, root: int) -> None:
        self._staged._scatter(output, input, root)

    def _all_to_all(self, output: Array, input: Array, gets: Sequence[int], puts: Sequence[int]) -> None:
        self._staged._all_to_all(output, input, gets, puts)

    def _await(self, buffer: Array) -> None:
        """Meet the peers, and wait until all that the current stream was given is done."""
        self._group._barrier()
        cuda = streams()
        with cuda.on(number_of(buffer)):
            cuda.current().synchronize()
