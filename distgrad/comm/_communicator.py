"""The contract of every communication backend: collectives over flat raw buffers."""

import os
import weakref
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from .._typing import Array
from ..errors import CommError, CommTimeoutError
from . import _solo
from ._calling import Calling
from ._calls import ANY, Call, Kind
from ._checks import check_counts, check_counts_agree, check_flat, check_pair, check_peer, check_rank, check_root_buffer
from ._collectives import Collectives, HostCollectives
from ._dtypes import check_reducible, lookup
from ._objects import decode, encode, gather_bytes, gather_bytes_on, scatter_bytes, share_bytes
from ._progress import Fifo
from ._statistics import Statistics
from ._tree import Tree
from ._types import CompletedWork, Options, ReduceOp, Work
from .device._buffers import Beside, DeviceReceive, DeviceTransport, device_buffer
from .device._transports import choose

# Every group of this process.
_groups: "weakref.WeakSet[Communicator]" = weakref.WeakSet()


class Communicator(HostCollectives):
    """A group of ranks that work on contiguous 1-D buffers together; torch calls it a process group.

    Every rank of the group calls the same methods in the same order, from one thread. Buffers are NumPy arrays, or
    arrays on a GPU: then the work is in order with that of the caller's current stream. The public methods check
    arguments, keep time and order; a backend implements the underscored ones. Seven are required; the rest have
    defaults built on those.

    Args:
        rank: the place of this process in the group, from 0.
        size: the number of ranks in the group.
        ranks: the rank of each member in the default group; None means that this is the default group.
        options: timeout and stall warning.
        statistics: where time is counted; a group split from another shares that of its parent.
    """

    name: ClassVar[str]

    # Whether what an all-reduce makes of one element is independent of the rest of the buffer: always summed in the
    # order of the ranks. Then the cut of gradients into buckets changes no bit.
    sums_in_order: bool = True

    def __init__(
        self,
        rank: int,
        size: int,
        ranks: Sequence[int] | None = None,
        options: Options | None = None,
        statistics: Statistics | None = None,
    ) -> None:
        self.rank = rank
        self.size = size
        self.ranks = tuple(range(size) if ranks is None else ranks)
        self.options = options or Options()
        self.statistics = statistics or Statistics()
        self._fifo: Fifo | None = None
        self._beside = Beside()
        self._transport: DeviceTransport | None = None  # of buffers on a device, once there was one
        self._broken: str | None = None  # why the group cannot be used any more
        self._failure = ""
        _groups.add(self)
        self._call = Call(Kind.NONE)

    @property
    def workers(self) -> int:
        """How many ranks, from 0 on, own logical shards: all, unless some are spares."""
        return self.size

    def __repr__(self) -> str:
        return f"<{type(self).__name__} rank {self.rank} of {self.size}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> "Communicator":
        """Itself: a copied model goes on in the same group."""
        return self

    def describe(self) -> str:
        """In words: the backend, the number of ranks, and how buffers on GPUs go, once one was passed."""
        devices = "none passed yet"
        if self._transport is not None:
            others = [f"; not {name}: {reason}" for name, reason in self._transport.passed_over.items()]
            devices = self._transport.describe() + "".join(others)
        return f"{self.name} group of {self.size}; buffers on GPUs: {devices}"

    # ---- collectives -------------------------------------------------------------------------------------------

    def all_reduce(self, buffer: Array, op: ReduceOp = ReduceOp.SUM) -> None:
        """Combine the buffers of all ranks, in place: every rank ends with the same result in its own memory.

        Args:
            buffer: shape (n,), the same n and dtype on every rank. 16-bit floats are accumulated in float32.
            op: how to combine; AVG is the sum divided by the size of the group.
        """
        check_flat(buffer)
        check_reducible(buffer.dtype, op)
        with Calling(self, Kind.ALL_REDUCE, buffer, op=op):
            self._route(buffer)._all_reduce(buffer, op)

    def tree_sum(self, buffer: Array, tree: Tree) -> None:
        """Add up the buffers of all ranks along a tree, in place: every rank ends with the same sum.

        Each addition rounds to the dtype of the buffer, as additions within a rank do; so it makes no difference to the
        result which parts of a larger tree lie within a rank and which between ranks.

        Args:
            buffer: shape (n,), the same n and dtype on every rank.
            tree: how to group the ranks, the same on every rank: ``(0, (1, 2))`` adds rank 1 and 2 first.
        """
        check_flat(buffer)
        check_reducible(buffer.dtype, ReduceOp.SUM)
        with Calling(self, Kind.TREE_SUM, buffer):
            if self.size == 1 or isinstance(buffer, np.ndarray):
                self._tree_sum(buffer, tree)
            else:
                host = buffer.get()
                self._tree_sum(host, tree)
                buffer.set(host)

    def start_all_reduce(self, buffer: Array, op: ReduceOp = ReduceOp.SUM) -> Work:
        """Begin `all_reduce`; the buffer may be read or changed once the returned work was waited for.

        It runs in the background thread of the group, or in NCCL's own queue on the GPU. For a buffer on a GPU, waiting
        lets the current stream wait, and returns when the operation is in the GPU's queue.
        """
        return self.submit(lambda: self.all_reduce(buffer, op), [buffer])

    def broadcast(self, buffer: Array, root: int = 0) -> None:
        """Copy the buffer of rank `root` into that of every rank.

        Args:
            buffer: shape (n,), the same n and dtype on every rank.
            root: a rank of this group.
        """
        check_flat(buffer)
        check_rank(root, self.size, "root")
        with Calling(self, Kind.BROADCAST, buffer, root=root):
            self._route(buffer)._broadcast(buffer, root)

    def all_gather(self, output: Array, input: Array) -> None:
        """Collect the inputs of all ranks, in rank order, into the output of every rank.

        Args:
            output: shape (size * n,).
            input: shape (n,), the same n and dtype on every rank. It may be this rank's own part of the output, on
                all ranks alike; then nothing else is read or written.
        """
        check_pair(output, input, self.size, 1)
        with Calling(self, Kind.ALL_GATHER, input):
            self._route(input)._all_gather(output, input)

    def barrier(self) -> None:
        """Return when every rank has called this."""
        with Calling(self, Kind.BARRIER):
            self._barrier()

    def reduce(self, buffer: Array, root: int = 0, op: ReduceOp = ReduceOp.SUM) -> None:
        """Combine the buffers of all ranks into that of rank `root`; the others keep theirs.

        Args:
            buffer: shape (n,), the same n and dtype on every rank.
            root: the rank of this group that receives the result.
            op: how to combine.
        """
        check_flat(buffer)
        check_reducible(buffer.dtype, op)
        check_rank(root, self.size, "root")
        with Calling(self, Kind.REDUCE, buffer, op=op, root=root):
            self._route(buffer)._reduce(buffer, root, op)

    def reduce_scatter(self, output: Array, input: Array, op: ReduceOp = ReduceOp.SUM) -> None:
        """Combine the inputs of all ranks and leave part r of the result on rank r.

        Args:
            output: shape (n,).
            input: shape (size * n,), the same n and dtype on every rank; it is not changed.
            op: how to combine.
        """
        check_pair(output, input, 1, self.size)
        check_reducible(input.dtype, op)
        with Calling(self, Kind.REDUCE_SCATTER, input, op=op):
            self._route(input)._reduce_scatter(output, input, op)

    def gather(self, output: Array | None, input: Array, root: int = 0) -> None:
        """Collect the inputs of all ranks, in rank order, on rank `root`.

        Args:
            output: shape (size * n,) on rank `root`, None elsewhere.
            input: shape (n,), the same n and dtype on every rank.
            root: a rank of this group.
        """
        check_root_buffer(output, input, root, self.rank, self.size, "output")
        with Calling(self, Kind.GATHER, input, root=root):
            self._route(input)._gather(output, input, root)

    def scatter(self, output: Array, input: Array | None, root: int = 0) -> None:
        """Hand out the input of rank `root`: part r goes to rank r.

        Args:
            output: shape (n,), the same n and dtype on every rank.
            input: shape (size * n,) on rank `root`, None elsewhere.
            root: a rank of this group.
        """
        check_root_buffer(input, output, root, self.rank, self.size, "input")
        with Calling(self, Kind.SCATTER, output, root=root):
            self._route(output)._scatter(output, input, root)

    def all_to_all(
        self,
        output: Array,
        input: Array,
        output_counts: Sequence[int] | None = None,
        input_counts: Sequence[int] | None = None,
    ) -> None:
        """Send part r of the input to rank r; part r of the output is what rank r sent here.

        Args:
            output: shape (sum of output_counts,).
            input: shape (sum of input_counts,), of the same dtype on every rank.
            output_counts: elements that come from each rank; None means equal parts.
            input_counts: elements that go to each rank; None means equal parts.
        """
        even = output_counts is None and input_counts is None
        gets = check_counts(output, output_counts, self.size, "output")
        puts = check_counts(input, input_counts, self.size, "input")
        with Calling(self, Kind.ALL_TO_ALL, input, elements=input.size if even else ANY):
            if not even:
                check_counts_agree(self, gets, puts)
            self._route(input)._all_to_all(output, input, gets, puts)

    # ---- Python objects ----------------------------------------------------------------------------------------

    def broadcast_object(self, value: Any, root: int = 0) -> Any:
        """The object that rank `root` passed, on every rank (pickled: only from peers that you trust)."""
        check_rank(root, self.size, "root")
        data = encode(value) if self.rank == root else np.empty(0, np.uint8)
        with Calling(self, Kind.BROADCAST_OBJECT, root=root):
            data = share_bytes(self, data, root)
        return decode(data)

    def all_gather_object(self, value: Any) -> list[Any]:
        """The objects of all ranks, in rank order, on every rank (pickled: only from peers that you trust)."""
        data = encode(value)
        with Calling(self, Kind.ALL_GATHER_OBJECT):
            parts = gather_bytes(self, data)
        return [decode(part) for part in parts]

    def gather_object(self, value: Any, root: int = 0) -> list[Any] | None:
        """The objects of all ranks, in rank order, on rank `root`; None elsewhere."""
        check_rank(root, self.size, "root")
        data = encode(value)
        with Calling(self, Kind.GATHER_OBJECT, root=root):
            parts = gather_bytes_on(self, data, root)
        return None if parts is None else [decode(part) for part in parts]

    def scatter_object(self, values: Sequence[Any] | None, root: int = 0) -> Any:
        """Entry r of the list that rank `root` passed, on rank r."""
        check_rank(root, self.size, "root")
        parts: list[Array] = []
        if self.rank == root:
            if values is None or len(values) != self.size:
                got = "None" if values is None else str(len(values))
                raise CommError(f"expected a list of {self.size} objects on rank {root}, one for each rank, got {got}")
            parts = [encode(value) for value in values]
        with Calling(self, Kind.SCATTER_OBJECT, root=root):
            data = scatter_bytes(self, parts, root)
        return decode(data)

    # ---- point to point ----------------------------------------------------------------------------------------

    def send(self, buffer: Array, dest: int, tag: int = 0) -> None:
        """Send the buffer to rank `dest` and return when it may be changed again."""
        self.isend(buffer, dest, tag).wait()

    def recv(self, buffer: Array, source: int, tag: int = 0) -> None:
        """Fill the buffer with what rank `source` sends under the same tag."""
        self.irecv(buffer, source, tag).wait()

    def isend(self, buffer: Array, dest: int, tag: int = 0) -> Work:
        """Start to send; the buffer must not change before the returned work is done."""
        self._check_usable()
        check_peer(buffer, dest, self.rank, self.size, "dest")
        host = buffer if isinstance(buffer, np.ndarray) else buffer.get()
        return self._isend(host, dest, tag)

    def irecv(self, buffer: Array, source: int, tag: int = 0) -> Work:
        """Start to receive; the buffer holds the data once the returned work is done."""
        self._check_usable()
        check_peer(buffer, source, self.rank, self.size, "source")
        if not isinstance(buffer, np.ndarray):
            host = np.empty(buffer.size, buffer.dtype)
            return DeviceReceive(self._irecv(host, source, tag), buffer, host)
        return self._irecv(buffer, source, tag)

    # ---- groups, memory, life ----------------------------------------------------------------------------------

    def split(self, color: int | None, key: int = 0, options: Options | None = None) -> "Communicator | None":
        """A communicator over the ranks that pass the same color, ordered by key, then by rank; None for color None.

        Args:
            color: an integer that the members of one new group have in common.
            key: the order of the ranks in it.
            options: its timeout and stall warning; those of this group by default.
        """
        with Calling(self, Kind.SPLIT):
            return self._split(color, key, self.options if options is None else options)

    def empty(self, n: int, dtype: Any) -> Array:
        """A flat array of shape (n,) on which this communicator's collectives can work without copying.

        A collective call: every rank passes the same n and dtype. The memory lives as long as arrays on it live.
        """
        kind = np.dtype(dtype)
        with Calling(self, Kind.EMPTY, elements=n, code=lookup(kind).code):
            return self._empty(n, kind)

    def submit(self, function: Callable[[], None], arrays: Sequence[Any] = ()) -> Work:
        """Run `function`, which calls collectives of this communicator, in the background, in order of submission.

        Args:
            function: called in the background thread; later calls from this thread wait until it is done.
            arrays: Tensors or arrays that it writes, which the returned work gives as its result.
        """
        _solo.refuse("a collective in the background")
        self._check_usable()
        buffer = device_buffer(arrays)
        if buffer is None:
            return self._submit_on_host(function, list(arrays), self.size == 1)
        needs_no_thread = self.size == 1 or (self._transport is not None and self._transport.runs_ahead)
        task = self._beside.prepare(function, list(arrays), buffer)
        return task.work(self._submit_on_host(task.run, list(arrays), needs_no_thread))

    def close(self) -> None:
        """Free what the communicator holds. A collective call; the communicator cannot be used afterwards."""
        if self._fifo is not None:
            self._fifo.close()
            self._fifo = None
        if self._transport is not None:
            self._transport.close(abort=self._broken is not None)
            self._transport = None
        if self._broken is None:
            self._close()
        self._broken = self._broken or "it was closed (by destroy_process_group, or by close)"

    # ---- what a backend implements, besides `HostCollectives` --------------------------------------------------

    @abstractmethod
    def _split(self, color: int | None, key: int, options: Options) -> "Communicator | None": ...

    @abstractmethod
    def _close(self) -> None: ...

    def _begin(self, call: Call) -> None:
        """Announce a collective, in which the backend then meets all ranks at least once and compares their calls."""

    def _fail(self, reason: str) -> None:
        """A collective failed on this rank; a backend that can tell the peers does."""
        self._failure = reason

    def _check_peers(self, waited: float, doing: str) -> None:
        """Raise if a peer cannot answer any more, or after the timeout: for waits outside the host's collectives."""
        if waited > self.options.timeout:
            raise CommTimeoutError(f"rank {self.rank} gave up {doing} after {waited:.1f} s")

    def _over_mpi(self) -> "Communicator | None":
        """The group over MPI that this one stands on, if any: itself, or what it owns."""
        return None

    # ---- what collectives stand on -----------------------------------------------------------------------------

    def _route(self, buffer: Array) -> Collectives:
        """Who works on this buffer: this backend in host memory, else the transport for devices.

        Within a call on all ranks; the first one with a buffer on a device agrees on the transport.
        """
        if isinstance(buffer, np.ndarray):
            return self
        if self._transport is None:
            self._transport = choose(self, buffer)
            self.sums_in_order = self.sums_in_order and self._transport.sums_in_order
        return self._transport

    def _submit_on_host(self, function: Callable[[], None], arrays: list[Any], at_once: bool) -> Work:
        """Run a function in the background thread, or at once."""
        if at_once:
            function()
            return CompletedWork(arrays)
        if self._fifo is None:
            self._fifo = Fifo(f"distgrad-{self.name}-{self.rank}", self.options.timeout)
        return self._fifo.submit(function, arrays)

    def _check_usable(self) -> None:
        if self._broken is not None:
            raise CommError(f"this process group of {self.size} ranks cannot be used any more: {self._broken}")


def _disown() -> None:
    """A forked child would speak for its parent in memory that ranks share, and both would come to every meeting."""
    for group in list(_groups):
        if group.size > 1:
            group._broken = f"this process was forked from rank {group.rank} and is no rank; use it in that one only"


os.register_at_fork(after_in_child=_disown)
