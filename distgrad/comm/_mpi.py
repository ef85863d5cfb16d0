"""Groups over MPI, with any library that mpi4py was given.

Before it enters MPI, every collective meets all ranks in a place where waiting can end: on the diagnosis board where
the ranks share a node, by a small non-blocking all-reduce of the call itself where they do not. Once all ranks are
known to be in the same call, MPI's blocking function runs (measured: a polled Iallreduce costs Open MPI 2.7 times as
much at 25 MiB). So a rank never blocks inside MPI for a peer that is elsewhere, has left or is dead.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from .._typing import Array
from ..errors import CommError, CommTimeoutError
from ._calls import Call, Message
from ._checks import is_own_part
from ._communicator import Communicator
from ._dtypes import lookup
from ._mpi_files import forget as forget_mpi_files
from ._reduce import divide
from ._statistics import Statistics
from ._types import Options, ReduceOp, Work
from ._wait import Patience
from .diagnosis._meeting import Meeting, Watcher, WireMeeting, create_meeting


def load() -> Any:
    """The module mpi4py.MPI; importing it initialises MPI.

    Raises:
        ImportError, RuntimeError: there is no mpi4py, or no MPI library.
    """
    from mpi4py import MPI

    return MPI


def never_finalize() -> None:
    """Let the program end without MPI_Finalize, which may wait for dead ranks; to be called before MPI is loaded."""
    import mpi4py

    mpi4py.rc.finalize = False


class MpiCommunicator(Communicator):
    """A group over an MPI communicator, which it owns.

    Args:
        comm: an mpi4py communicator of this group alone.
        meeting: where the ranks meet before each collective.
    """

    name: ClassVar[str] = "mpi"
    sums_in_order = False  # MPI chooses its algorithm by the size of the message

    def __init__(
        self,
        comm: Any,
        ranks: Sequence[int] | None = None,
        options: Options | None = None,
        statistics: Statistics | None = None,
    ) -> None:
        super().__init__(comm.Get_rank(), comm.Get_size(), ranks, options, statistics)
        self._mpi = load()
        self._comm = comm
        self._wire = WireMeeting(comm, self.options, self._mpi)
        self._meeting: Meeting = self._wire
        self._messages: Meeting = self._wire

    @classmethod
    def world(cls, options: Options) -> Self:
        """A group over all ranks of the MPI job. A collective call."""
        group = cls(load().COMM_WORLD.Dup(), options=options)
        group._comm.Barrier()
        forget_mpi_files()
        group.use_board()
        return group

    @property
    def mpi_comm(self) -> Any:
        """The mpi4py communicator, which this group owns."""
        return self._comm

    def use_board(self) -> None:
        """Meet where peers can be seen from now on (see `create_meeting`). A collective call."""
        if self.size > 1:
            self._meeting = create_meeting(self, self._comm, self._wire)
            self._messages = self._meeting

    def watch_messages_on(self, meeting: Meeting) -> None:
        """Let ranks that wait for a message say so on the board of a group of the same ranks, built on this one."""
        self._messages = meeting

    # ---- required ----------------------------------------------------------------------------------------------

    def _check_peers(self, waited: float, doing: str) -> None:
        for peer in range(self.size):
            if peer != self.rank:
                self._meeting.check(peer, waited, doing)

    def _over_mpi(self) -> "MpiCommunicator":
        return self

    def _begin(self, call: Call) -> None:
        self._meeting.announce(call)

    def _fail(self, reason: str) -> None:
        self._meeting.fail(reason)

    def _all_reduce(self, buffer: Array, op: ReduceOp) -> None:
        self._meeting.meet()
        self._reduced(buffer, op, lambda data, mpi_op: self._comm.Allreduce(self._mpi.IN_PLACE, data, op=mpi_op))

    def _broadcast(self, buffer: Array, root: int) -> None:
        self._meeting.meet()
        self._comm.Bcast(_as_words(buffer), root)

    def _all_gather(self, output: Array, input: Array) -> None:
        self._meeting.meet()
        own = self._mpi.IN_PLACE if is_own_part(output, input, self.rank) else _as_words(input)
        self._comm.Allgather(own, _as_words(output))

    def _isend(self, buffer: Array, dest: int, tag: int) -> Work:
        message = Message(dest, tag, False, buffer.size, lookup(buffer.dtype).code)
        return RequestWork(self._comm.Isend(_as_words(buffer), dest, tag), self, buffer, message)

    def _irecv(self, buffer: Array, source: int, tag: int) -> Work:
        message = Message(source, tag, True, buffer.size, lookup(buffer.dtype).code)
        return RequestWork(self._comm.Irecv(_as_words(buffer), source, tag), self, buffer, message)

    def _split(self, color: int | None, key: int, options: Options) -> "MpiCommunicator | None":
        self._meeting.meet()
        comm = self._comm.Split(self._mpi.UNDEFINED if color is None else color, key)
        if comm == self._mpi.COMM_NULL:
            return None
        members = [self.ranks[rank] for rank in comm.allgather(self.rank)]
        group = MpiCommunicator(comm, members, options, self.statistics)
        group.use_board()
        return group

    def _close(self) -> None:
        self._meeting.finish()
        self._comm.Free()

    # ---- faster than the defaults ------------------------------------------------------------------------------

    def _barrier(self) -> None:
        self._meeting.meet()

    def _reduce(self, buffer: Array, root: int, op: ReduceOp) -> None:
        self._meeting.meet()

        def reduce(data: Any, mpi_op: Any) -> None:
            if self.rank == root:
                self._comm.Reduce(self._mpi.IN_PLACE, data, op=mpi_op, root=root)
            else:
                self._comm.Reduce(data, None, op=mpi_op, root=root)

        if self.rank == root:
            self._reduced(buffer, op, reduce)
        else:
            self._reduced(buffer.copy(), op, reduce)

    def _gather(self, output: Array | None, input: Array, root: int) -> None:
        self._meeting.meet()
        self._comm.Gather(_as_words(input), None if output is None else _as_words(output), root)

    def _scatter(self, output: Array, input: Array | None, root: int) -> None:
        self._meeting.meet()
        self._comm.Scatter(None if input is None else _as_words(input), _as_words(output), root)

    def _all_to_all(self, output: Array, input: Array, gets: Sequence[int], puts: Sequence[int]) -> None:
        self._meeting.meet()
        words = -(-input.itemsize // 8)  # complex128 takes two
        target = [_as_words(output), [count * words for count in gets]]
        self._comm.Alltoallv([_as_words(input), [count * words for count in puts]], target)

    # ---- how MPI reduces our dtypes ----------------------------------------------------------------------------

    def _reduced(self, buffer: Array, op: ReduceOp, reduce: Callable[[Any, Any], None]) -> None:
        """Call `reduce` with a message specification and an MPI operation that together compute `op` on the buffer."""
        row = lookup(buffer.dtype)
        if row.kind == "b":  # the bytes of a bool are 0 and 1
            reduce([buffer.view(np.uint8), self._mpi.UINT8_T], self._operation(_BOOL_OPS.get(op, op)))
            return
        wide = buffer if row.mpi else buffer.astype(row.accumulate)
        reduce([wide, getattr(self._mpi, lookup(wide.dtype).mpi)], self._operation(op))
        if op is ReduceOp.AVG:
            divide(wide, self.size)
        if wide is not buffer:
            buffer[...] = wide

    def _operation(self, op: ReduceOp) -> Any:
        return getattr(self._mpi, _OPERATIONS[op])


_OPERATIONS = {
    ReduceOp.SUM: "SUM",
    ReduceOp.AVG: "SUM",
    ReduceOp.PRODUCT: "PROD",
    ReduceOp.MIN: "MIN",
    ReduceOp.MAX: "MAX",
    ReduceOp.BAND: "BAND",
    ReduceOp.BOR: "BOR",
    ReduceOp.BXOR: "BXOR",
}
_BOOL_OPS = {ReduceOp.SUM: ReduceOp.BOR, ReduceOp.PRODUCT: ReduceOp.BAND}


def _as_words(buffer: Array) -> Array:
    """The same memory as unsigned integers of its item size, for transfers that need not know what they mean.

    Not as bytes: before MPI 4 no message has 2**31 elements or more, which would be only 2 GiB.
    """
    return buffer.view(f"u{min(buffer.itemsize, 8)}")


class RequestWork(Work):
    """An MPI request that is polled, so that waiting for a dead peer ends, and that stands on the board.

    Args:
        request: the mpi4py request.
        group: whose message it is.
        buffer: what is sent, or where it is received.
        message: what the board says about it.
    """

    def __init__(self, request: Any, group: MpiCommunicator, buffer: Array, message: Message) -> None:
        self._request = request
        self._group = group
        self._buffer = buffer
        self._message = message
        self._meeting = group._messages
        self._place = self._meeting.post(message)
        self._done = False
        self._error: BaseException | None = None

    def wait(self, timeout: float | None = None) -> bool:
        """Poll until the request is done."""
        started = time.monotonic()
        watch: Watcher | None = None  # most waits are too short for one

        def look(waited: float) -> None:
            nonlocal watch
            watch = watch or self._meeting.watch(self._message)
            watch.look(waited)
            if timeout is not None and time.monotonic() - started > timeout:
                raise CommTimeoutError(f"rank {self._group.rank} was still in {self._message} after {timeout:g} s")

        patience = Patience(look)
        try:
            while not self.is_completed():
                patience.pause()
        finally:
            if watch is not None:
                watch.end()
        if self._error is not None:
            raise self._error
        return True

    def is_completed(self) -> bool:
        """Ask MPI, which may move data while it is asked."""
        if not self._done:
            status = self._group._mpi.Status()
            try:
                self._done = self._request.Test(status)
            except self._group._mpi.Exception as error:
                self._done = True
                self._error = CommError(
                    f"rank {self._group.rank} failed in {self._message}: {error.Get_error_string()}; expected both "
                    "ranks to pass buffers of one size"
                )
            else:
                if self._done and self._message.receives:
                    self._check_size(status)
            if self._done:
                self._meeting.settle(self._place)
        return self._done

    def exception(self) -> BaseException | None:
        """What the transfer failed with."""
        return self._error

    def result(self) -> list[Array]:
        """The buffer."""
        return [self._buffer]

    def _check_size(self, status: Any) -> None:
        words = _as_words(self._buffer)
        datatype = getattr(self._group._mpi, f"UINT{8 * words.itemsize}_T")
        if status.Get_count(datatype) != words.size:
            self._error = CommError(
                f"rank {self._group.rank} was in {self._message}: expected {self._buffer.nbytes:,} bytes, got "
                f"{status.Get_count(self._group._mpi.BYTE):,}; make both ranks pass buffers of one size and dtype"
            )
