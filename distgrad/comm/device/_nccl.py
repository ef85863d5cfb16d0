"""Collectives between GPUs over NCCL, through CuPy's binding.

NCCL's operations go to a stream of their own and return at once; events order them with the stream of the caller. An
operation whose peer does not come blocks its GPU for ever, so all ranks meet on the host first, in the same call, as
for every other backend; and a thread watches what is in the queue for peers that end there, and aborts.
"""

import atexit
import functools
import importlib
import sys
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from ..._typing import Array
from ...backend import cuda_problem
from ...errors import CommError
from .._dtypes import lookup
from .._objects import share_bytes
from .._types import ReduceOp
from ._buffers import DeviceTransport, number_of, streams
from ._staged import Staged

if TYPE_CHECKING:
    from .._communicator import Communicator

_OPERATIONS = {
    ReduceOp.SUM: "NCCL_SUM",
    ReduceOp.AVG: "NCCL_AVG",
    ReduceOp.PRODUCT: "NCCL_PROD",
    ReduceOp.MIN: "NCCL_MIN",
    ReduceOp.MAX: "NCCL_MAX",
}
_BOOL = {  # on the bytes 0 and 1
    ReduceOp.SUM: ReduceOp.MAX,
    ReduceOp.PRODUCT: ReduceOp.MIN,
    ReduceOp.MIN: ReduceOp.MIN,
    ReduceOp.MAX: ReduceOp.MAX,
    ReduceOp.BOR: ReduceOp.MAX,
    ReduceOp.BAND: ReduceOp.MIN,
}
_REDUCIBLE = ("int8", "uint8", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64", "bfloat16")
_LONGEST_NAP = 0.05  # seconds between two looks of the watch


def load() -> Any:
    """CuPy's module of NCCL; its attribute `available` tells whether the library was found."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CuPy warns where NCCL is missing; we say so when it is asked for
        return importlib.import_module("cupy.cuda.nccl")


def nccl_problem() -> str | None:
    """Why this process cannot use NCCL; None if it can."""
    problem = cuda_problem()
    if problem is not None:
        return problem
    return None if load().available else "CuPy found no NCCL library; pip install nvidia-nccl-cu13"


def nccl_version() -> int:
    """The version of the library, such as 22707 for 2.27.7."""
    return int(load().get_version())


class _Pending(NamedTuple):
    """An operation in the queue: the event of its end, and what it is."""

    done: Any
    doing: str
    started: float


class Watch:
    """A thread that looks after the operations in NCCL's queue, and aborts when one cannot end.

    Args:
        group: the ranks; it knows whether the peers live.
        comm: CuPy's NCCL communicator.
        device: the number of this rank's device.
    """

    def __init__(self, group: "Communicator", comm: Any, device: int) -> None:
        self.error: BaseException | None = None
        self._group = group
        self._comm = comm
        self._device = device
        self._pending: deque[_Pending] = deque()
        self._changed = threading.Condition()
        self._closed = False
        threading.Thread(target=self._run, name=f"distgrad-nccl-{group.rank}", daemon=True).start()

    def add(self, done: Any, doing: str) -> None:
        """Look after an operation."""
        with self._changed:
            while self._pending and self._pending[0].done.done:
                self._pending.popleft()
            self._pending.append(_Pending(done, doing, time.monotonic()))
            self._changed.notify()

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        with streams().on(self._device):
            while (pending := self._next()) is not None:
                self._await(pending)

    def _next(self) -> _Pending | None:
        with self._changed:
            while not self._closed and not self._pending:
                self._changed.wait()
            return None if self._closed else self._pending[0]

    def _await(self, pending: _Pending) -> None:
        """Return when the operation is done, or after the abort."""
        nap = 1e-3
        try:
            while not self._closed and not pending.done.done:
                time.sleep(nap)
                nap = min(2 * nap, _LONGEST_NAP)
                self._comm.check_async_error()
                self._group._check_peers(time.monotonic() - pending.started, pending.doing)
        except Exception as error:  # whatever it was, the group must not wait any longer
            self._abort(pending, error)
            return
        with self._changed:
            if self._pending and self._pending[0] is pending:
                self._pending.popleft()

    def _abort(self, pending: _Pending, error: Exception) -> None:
        """Free the GPU from operations that cannot end; the next call on the group raises."""
        reason = f"NCCL was aborted while {pending.doing}: {type(error).__name__}: {error}"
        self.error = error
        self._closed = True
        self._group._broken = self._group._broken or reason
        self._group._fail(reason)
        print(f"distgrad: rank {self._group.rank}: {reason}", file=sys.stderr, flush=True)
        self._comm.abort()


class Nccl(DeviceTransport):
    """NCCL between the GPUs of a group. Creating it is a collective call, within a call.

    What NCCL cannot reduce (16-bit integers, bitwise operations) goes through host memory.

    Args:
        group: the ranks, each with a GPU of its own.
        buffer: an array on this rank's GPU.
    """

    name: ClassVar[str] = "nccl"
    sums_in_order = False  # NCCL chooses its algorithm by the size of the message
    runs_ahead: ClassVar[bool] = True

    def __init__(self, group: "Communicator", buffer: Array) -> None:
        self.rank = group.rank
        self.size = group.size
        self._group = group
        self._nccl = load()
        self._device = number_of(buffer)
        self._staged: Staged | None = None
        self._comm = _connect(group, self._device)
        with streams().on(self._device):
            self._stream = streams().stream(urgent=True)
        self._watch = Watch(group, self._comm, self._device)
        _open.add(self)
        _end_all_at_exit()

    def describe(self) -> str:
        """What it is, in words."""
        version = nccl_version()
        return f"NCCL {version // 10000}.{version // 100 % 100}.{version % 100}, this rank on cuda:{self._device}"

    def close(self, abort: bool = False) -> None:
        """End when all ranks have finished; with `abort`, at once."""
        if not abort:
            self._stream.synchronize()
            abort = self._watch.error is not None or not self._meet_at_the_end()
        self._watch.close()
        if abort:
            self._comm.abort()
        else:
            self._comm.destroy()
        if self._staged is not None:
            self._staged.close(abort)
        _open.discard(self)

    def _meet_at_the_end(self) -> bool:
        """Whether all ranks came: nobody leaves while a peer's operation still waits for it."""
        try:
            self._group._barrier()
        except CommError:
            return False
        return True

    def leave(self) -> None:
        """End without meeting the peers, after this rank's part in what they have begun together."""
        self._stream.synchronize()
        self.close(abort=True)

    # ---- collectives -------------------------------------------------------------------------------------------

    def _all_reduce(self, buffer: Array, op: ReduceOp) -> None:
        found = self._reducible(buffer, op)
        if found is None:
            self._fallback(buffer)._all_reduce(buffer, op)
            return
        data, kind, operation = found
        self._launch(
            [buffer],
            lambda stream: self._comm.allReduce(_at(data), _at(data), data.size, kind, operation, stream),
        )

    def _reduce(self, buffer: Array, root: int, op: ReduceOp) -> None:
        found = self._reducible(buffer, op)
        if found is None:
            self._fallback(buffer)._reduce(buffer, root, op)
            return
        data, kind, operation = found
        target = _at(data) if self.rank == root else 0
        self._launch(
            [buffer], lambda stream: self._comm.reduce(_at(data), target, data.size, kind, operation, root, stream)
        )

    def _reduce_scatter(self, output: Array, input: Array, op: ReduceOp) -> None:
        found = self._reducible(input, op)
        if found is None:
            self._fallback(input)._reduce_scatter(output, input, op)
            return
        data, kind, operation = found
        count = data.size // self.size
        self._launch(
            [output, input],
            lambda stream: self._comm.reduceScatter(_at(data), _at(output), count, kind, operation, stream),
        )

    def _broadcast(self, buffer: Array, root: int) -> None:
        at = _at(buffer)
        self._launch([buffer], lambda stream: self._comm.broadcast(at, at, buffer.nbytes, self._byte, root, stream))

    def _all_gather(self, output: Array, input: Array) -> None:
        self._launch(
            [output, input],
            lambda stream: self._comm.allGather(_at(input), _at(output), input.nbytes, self._byte, stream),
        )

    def _gather(self, output: Array | None, input: Array, root: int) -> None:
        sends = [input.nbytes if peer == root else 0 for peer in range(self.size)]
        receives = [0 if output is None else input.nbytes] * self.size
        self._exchange(output, input, receives, sends, same_input=True)

    def _scatter(self, output: Array, input: Array | None, root: int) -> None:
        sends = [0 if input is None else output.nbytes] * self.size
        receives = [output.nbytes if peer == root else 0 for peer in range(self.size)]
        self._exchange(output, input, receives, sends)

    def _all_to_all(self, output: Array, input: Array, gets: Sequence[int], puts: Sequence[int]) -> None:
        width = input.itemsize
        self._exchange(output, input, [n * width for n in gets], [n * width for n in puts])

    # ---- how ---------------------------------------------------------------------------------------------------

    @property
    def _byte(self) -> int:
        return int(self._nccl.NCCL_UINT8)

    def _exchange(
        self,
        output: Array | None,
        input: Array | None,
        receives: Sequence[int],
        sends: Sequence[int],
        same_input: bool = False,
    ) -> None:
        """Send and receive so many bytes to and from each rank, side by side in the buffers."""

        def exchange(stream: int) -> None:
            self._nccl.groupStart()
            try:
                source = 0 if input is None else _at(input)
                target = 0 if output is None else _at(output)
                for peer, (gets, puts) in enumerate(zip(receives, sends, strict=True)):
                    if puts:
                        self._comm.send(source, puts, self._byte, peer, stream)
                    if gets:
                        self._comm.recv(target, gets, self._byte, peer, stream)
                    source += 0 if same_input else puts
                    target += gets
            finally:
                self._nccl.groupEnd()

        self._launch([array for array in (output, input) if array is not None], exchange)

    def _launch(self, arrays: list[Array], enqueue: Callable[[int], None]) -> None:
        """Meet the peers, then put an operation into NCCL's queue, in the order of the current stream."""
        if number_of(arrays[0]) != self._device:
            raise CommError(
                f"expected a buffer on cuda:{self._device}, with which this group's NCCL was set up, got one on "
                f"cuda:{number_of(arrays[0])}; use one GPU a rank, or a group of its own for the other one"
            )
        self._group._barrier()
        if sum(array.size for array in arrays) == 0:
            return
        cuda = streams()
        with cuda.on(self._device):
            current = cuda.current()
            self._stream.wait_event(cuda.mark(current))
            try:
                enqueue(self._stream.ptr)
            except self._nccl.NcclError as error:
                raise CommError(f"NCCL refused {self._group._call} on rank {self.rank}: {error}") from error
            done = cuda.mark(self._stream)
            current.wait_event(done)
        self._watch.add(done, f"waiting for NCCL in {self._group._call}")

    def _reducible(self, buffer: Array, op: ReduceOp) -> tuple[Array, int, int] | None:
        """The buffer as NCCL reduces it, with NCCL's numbers for its dtype and `op`; None where it cannot."""
        row = lookup(buffer.dtype)
        if row.kind == "b":
            op, buffer = _BOOL.get(op, op), buffer.view(np.uint8)
        elif row.kind == "c" and op in (ReduceOp.SUM, ReduceOp.AVG):
            buffer = buffer.view(f"f{buffer.itemsize // 2}")
        name = lookup(buffer.dtype).dtype.name
        if name not in _REDUCIBLE or op not in _OPERATIONS:
            return None
        return buffer, getattr(self._nccl, f"NCCL_{name.upper()}"), getattr(self._nccl, _OPERATIONS[op])

    def _fallback(self, buffer: Array) -> Staged:
        if self._staged is None:
            self._staged = Staged(self._group, buffer)
        return self._staged


def _at(array: Array) -> int:
    return int(array.data.ptr)


def _connect(group: "Communicator", device: int) -> Any:
    """CuPy's communicator; NCCL's set-up waits for all ranks without end, so it runs beside a look at them.

    Raises:
        CommError: NCCL refused; on every rank that it told so.
    """
    nccl = load()
    uid = b""
    if group.rank == 0:
        try:
            uid = nccl.get_unique_id()
        except nccl.NcclError as error:
            print(f"distgrad: NCCL has no unique id: {error}", file=sys.stderr, flush=True)
    uid = share_bytes(group, np.frombuffer(uid, np.uint8)).tobytes()
    if not uid:
        raise CommError("rank 0 got no unique id from NCCL")
    made: list[Any] = []

    def connect() -> None:
        try:
            with streams().on(device):
                made.append(nccl.NcclCommunicator(group.size, uid, group.rank))
        except Exception as error:  # handed to the thread that waits
            made.append(CommError(f"NCCL could not connect {group.size} ranks: {error}"))

    thread = threading.Thread(target=connect, name="distgrad-nccl-connect", daemon=True)
    started = time.monotonic()
    thread.start()
    while not made:
        thread.join(_LONGEST_NAP)
        group._check_peers(time.monotonic() - started, "connecting NCCL")
    if isinstance(made[0], CommError):
        raise made[0]
    return made[0]


# Transports that nobody has closed. CuPy would destroy them in whatever order, which can wait for peers.
_open: "weakref.WeakSet[Nccl]" = weakref.WeakSet()


def _end_all() -> None:
    for transport in list(_open):
        transport.leave()


@functools.cache
def _end_all_at_exit() -> None:
    """At the end of the program finish what peers count on, before they are told that this rank has left.

    What is registered last runs first, hence not before the first transport is there.
    """
    atexit.register(_end_all)
