"""The stand-in's NCCL: operations that wait in a stream like any other, and meet their peers when they run.

Ranks are threads or processes; they meet in files. As on a GPU, an operation that a peer waits for makes progress by
itself: a thread of each communicator runs its stream as far as an operation that a peer has come to, and no further.
"""

import atexit
import itertools
import pickle
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from tests.backend.fake_cuda import Mark, memory_at, state, stream_at
from tests.backend.fake_cuda import machine as machine

ID_BYTES = 128
_TYPES = {
    "INT8": (0, "int8"), "UINT8": (1, "uint8"), "INT32": (2, "int32"), "UINT32": (3, "uint32"), "INT64": (4, "int64"),
    "UINT64": (5, "uint64"), "FLOAT16": (6, "float16"), "FLOAT32": (7, "float32"), "FLOAT64": (8, "float64"),
    "BFLOAT16": (9, ml_dtypes.bfloat16),
}  # fmt: skip
_DTYPES = {number: np.dtype(name) for number, name in _TYPES.values()}
_OPERATIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "SUM": (0, np.add),
    "PROD": (1, np.multiply),
    "MAX": (2, np.maximum),
    "MIN": (3, np.minimum),
    "AVG": (4, np.add),
}
_REDUCE = dict(_OPERATIONS.values())
_AVG = 4
_POLL = 5e-4  # seconds


class NcclError(RuntimeError):
    """An error of NCCL."""


class _Grouped(threading.local):
    depth = 0

    def __init__(self) -> None:
        self.transfers: list[tuple[NcclCommunicator, str, int, int, int, int]] = []


_grouped = _Grouped()


_living: "weakref.WeakSet[NcclCommunicator]" = weakref.WeakSet()


class NcclCommunicator:
    """One rank of a group of GPUs."""

    def __init__(self, ndev: int, commId: bytes, rank: int, config: Any = None) -> None:
        if len(commId) != ID_BYTES:
            raise ValueError(f"commId length {len(commId)} != {ID_BYTES}.")
        assert state.late, "the stand-in's NCCL needs fake_cupy.installed(late=True)"
        self._folder = Path(commId.rstrip(b"\0").decode())
        self._size, self._rank, self._device = ndev, rank, state.device
        self._marks: list[Mark] = []  # of the operations that were given to a stream
        self._ran = 0
        self._ended = self._aborted = False
        self.error: NcclError | None = None
        self._put("hello", (machine(), self._device))
        if len({self._take("hello", peer) for peer in range(ndev)}) < ndev:
            raise NcclError("NCCL_ERROR_INVALID_USAGE: Duplicate GPU detected")
        threading.Thread(target=self._progress, name=f"fake-nccl-{rank}", daemon=True).start()
        _living.add(self)

    # ---- operations ----
    def allReduce(self, sendbuf: int, recvbuf: int, count: int, datatype: int, op: int, stream: int) -> None:
        self._reduction(sendbuf, recvbuf, count, datatype, op, stream, lambda whole: whole)

    def reduce(self, sendbuf: int, recvbuf: int, count: int, datatype: int, op: int, root: int, stream: int) -> None:
        target = recvbuf if self._rank == root else 0
        self._reduction(sendbuf, target, count, datatype, op, stream, lambda whole: whole)

    def reduceScatter(self, sendbuf: int, recvbuf: int, recvcount: int, datatype: int, op: int, stream: int) -> None:
        mine = slice(self._rank * recvcount, (self._rank + 1) * recvcount)
        self._reduction(sendbuf, recvbuf, recvcount * self._size, datatype, op, stream, lambda whole: whole[mine])

    def broadcast(self, sendbuff: int, recvbuff: int, count: int, datatype: int, root: int, stream: int) -> None:
        nbytes = count * _DTYPES[datatype].itemsize
        source = memory_at(sendbuff, nbytes) if self._rank == root else None
        target = memory_at(recvbuff, nbytes)
        self._enqueue(
            stream,
            lambda: None if source is None else source.tobytes(),
            lambda parts: np.copyto(target, np.frombuffer(parts[root], np.uint8)),
        )

    def allGather(self, sendbuf: int, recvbuf: int, count: int, datatype: int, stream: int) -> None:
        nbytes = count * _DTYPES[datatype].itemsize
        source, target = memory_at(sendbuf, nbytes), memory_at(recvbuf, nbytes * self._size)
        self._enqueue(stream, source.tobytes, lambda parts: np.copyto(target, np.frombuffer(b"".join(parts), np.uint8)))

    def send(self, sendbuf: int, count: int, datatype: int, peer: int, stream: int) -> None:
        self._transfer("send", sendbuf, count * _DTYPES[datatype].itemsize, peer, stream)

    def recv(self, recvbuf: int, count: int, datatype: int, peer: int, stream: int) -> None:
        self._transfer("recv", recvbuf, count * _DTYPES[datatype].itemsize, peer, stream)

    # ---- life ----
    def check_async_error(self) -> None:
        if self.error is not None:
            raise self.error

    def abort(self) -> None:
        self._aborted = True
        self.destroy()

    def destroy(self) -> None:
        if self._ended:
            return
        self._ended = True
        if self._folder.is_dir():
            self._put("bye", None)
            if all(self._path("bye", peer).exists() for peer in range(self._size)):
                shutil.rmtree(self._folder, ignore_errors=True)

    # ---- how ----
    def _reduction(
        self, send: int, receive: int, count: int, datatype: int, op: int, stream: int, part: Callable[[Any], Any]
    ) -> None:
        dtype = _DTYPES[datatype]
        source = memory_at(send, count * dtype.itemsize).view(dtype)
        size = part(source).nbytes
        target = memory_at(receive, size).view(dtype) if receive else None

        def finish(parts: list[bytes]) -> None:
            values = [np.frombuffer(data, dtype) for data in parts]
            total = values[0]
            for other in values[1:]:
                total = _REDUCE[op](total, other)
            if target is not None:
                np.copyto(target, part((total / self._size).astype(dtype) if op == _AVG else total))

        self._enqueue(stream, source.tobytes, finish)

    def _transfer(self, what: str, at: int, nbytes: int, peer: int, stream: int) -> None:
        assert _grouped.depth, "send and receive outside a group can wait for each other without end"
        _grouped.transfers.append((self, what, at, nbytes, peer, stream))

    def _run_transfers(self, transfers: list[tuple[str, int, int, int]], stream: int) -> None:
        sends = [(memory_at(at, n), peer) for what, at, n, peer in transfers if what == "send"]
        receives = [(memory_at(at, n), peer) for what, at, n, peer in transfers if what == "recv"]

        def finish(parts: list[dict[int, bytes]]) -> None:
            for target, peer in receives:
                np.copyto(target, np.frombuffer(parts[peer][self._rank], np.uint8))

        self._enqueue(stream, lambda: {peer: source.tobytes() for source, peer in sends}, finish)

    def _enqueue(self, stream: int, give: Callable[[], Any], finish: Callable[[Any], None]) -> None:
        if self._ended:
            raise NcclError("NCCL_ERROR_INVALID_ARGUMENT: the communicator was destroyed")
        number, queue = len(self._marks), stream_at(stream).queue

        def task() -> None:
            self._put(str(number), give())
            parts = [self._take(str(number), peer) for peer in range(self._size)]
            if not self._aborted:
                finish(parts)
            self._ran = number + 1
            self._path(str(number - 1), self._rank).unlink(missing_ok=True)  # all peers have come further

        queue.add(task)
        self._marks.append(queue.mark())

    def _progress(self) -> None:
        """Run the stream as far as peers have come."""
        while not self._ended:
            number = self._ran
            if number < len(self._marks) and any(self._path(str(number), p).exists() for p in range(self._size)):
                self._marks[number].queue.run(self._marks[number])
            time.sleep(_POLL)

    def _path(self, name: str, rank: int) -> Path:
        return self._folder / f"{name}.{rank}"

    def _put(self, name: str, value: Any) -> None:
        if self._aborted and name != "bye":
            return
        new = self._folder / f"new-{name}.{self._rank}"
        with suppress(FileNotFoundError):  # the folder is gone with its owner, and nobody is left to read this
            new.write_bytes(pickle.dumps(value))
            new.rename(self._path(name, self._rank))

    def _take(self, name: str, rank: int) -> Any:
        path = self._path(name, rank)
        while not path.exists():
            if self._aborted:
                return None
            time.sleep(_POLL)
        return pickle.loads(path.read_bytes())


def get_unique_id() -> bytes:
    folder = tempfile.mkdtemp(prefix="fake-nccl-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder.encode().ljust(ID_BYTES, b"\0")


def group_start() -> None:
    _grouped.depth += 1


def group_end() -> None:
    _grouped.depth -= 1
    transfers, _grouped.transfers = _grouped.transfers, []
    for (comm, stream), entries in itertools.groupby(transfers, lambda entry: (entry[0], entry[5])):
        comm._run_transfers([entry[1:5] for entry in entries], stream)


def abort_all() -> None:
    """End what a test has left, and with it the threads."""
    for comm in list(_living):
        comm.abort()


class _Module:
    """The module cupy.cuda.nccl."""

    available = True
    NcclCommunicator = NcclCommunicator
    NcclError = NcclError
    get_unique_id = staticmethod(get_unique_id)
    get_version = staticmethod(lambda: 22707)
    groupStart = staticmethod(group_start)
    groupEnd = staticmethod(group_end)


for _name, (_number, _) in _TYPES.items():
    setattr(_Module, f"NCCL_{_name}", _number)
for _name, (_number, _) in _OPERATIONS.items():
    setattr(_Module, f"NCCL_{_name}", _number)

module = _Module()
