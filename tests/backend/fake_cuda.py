"""The stand-in's queues: streams and events whose work runs as late as CUDA allows, and no later.

What a stream is given runs when somebody waits for it: the host, by `synchronize`; another stream, by an event; or an
operation of the stand-in that computes at once, which first runs all that its own stream was given before. So what
forgets to wait sees old values, every time. `state.late` lets in-place operations wait in the queue as well, and lets
memory that was freed be overwritten, in the order of the stream that it came from, as by the next array there.
"""

import ctypes
import itertools
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

Task = Callable[[], None]


class _Thread(threading.local):
    """CUDA's current device and CuPy's current streams are those of a thread."""

    device = 0

    def __init__(self) -> None:
        self.streams: dict[int, list[Stream]] = {}  # by device, the current one last


class State:
    """What the stand-in counts and is told.

    Attributes:
        syncs: how often the program had to wait for the device.
        linalg: what happens to singular matrices, see `cupyx.seterr`.
        late: see the module.
        pins: whether host memory that exists can be pinned.
    """

    def __init__(self) -> None:
        self.thread = _Thread()
        self.reset()

    def reset(self) -> None:
        """Back to the start."""
        self.syncs, self.linalg, self.late, self.pins = 0, "ignore", False, True
        self.thread.device = 0

    @property
    def device(self) -> int:
        """The number of the thread's current device."""
        return self.thread.device

    @device.setter
    def device(self, number: int) -> None:
        self.thread.device = number


state = State()


class CUDARuntimeError(RuntimeError):
    """An error of CUDA."""


class Mark:
    """A place in a queue."""

    __slots__ = ("passed", "queue")

    def __init__(self, queue: "Queue") -> None:
        self.queue, self.passed = queue, False


class Queue:
    """Tasks in order, run by whoever needs them first."""

    def __init__(self) -> None:
        self._tasks: deque[Task | Mark] = deque()
        self._lock = threading.RLock()
        self._running = False

    def add(self, task: Task) -> None:
        """Append a task."""
        self._tasks.append(task)

    def mark(self) -> Mark:
        """A mark behind all tasks."""
        mark = Mark(self)
        self._tasks.append(mark)
        return mark

    def run(self, until: Mark | None = None) -> None:
        """Run tasks up to the mark, or all there are."""
        while not self._lock.acquire(timeout=1e-3):  # another thread runs it, and may need what this one holds
            if until is not None and until.passed:
                return
        try:
            if not self._running:  # else a task of this queue computes something itself
                self._run_tasks(until)
        finally:
            self._lock.release()

    def _run_tasks(self, until: Mark | None) -> None:
        self._running = True
        try:
            while self._tasks and not (until is not None and until.passed and not isinstance(self._tasks[0], Mark)):
                task = self._tasks.popleft()
                if isinstance(task, Mark):
                    task.passed = True
                else:
                    task()
        finally:
            self._running = False

    def is_empty(self) -> bool:
        """Whether there is nothing left to run."""
        return not self._tasks


_null_queues: dict[int, Queue] = {}
_streams: "weakref.WeakValueDictionary[int, Stream]" = weakref.WeakValueDictionary()
_numbers = itertools.count(1)


class Stream:
    """A stream. Only those that do not wait for the default stream by themselves are imitated, and that one."""

    null: "Stream"

    def __init__(
        self, null: bool = False, non_blocking: bool = False, ptds: bool = False, priority: int | None = None
    ) -> None:
        if not null and (ptds or not non_blocking):
            raise NotImplementedError("the stand-in has only streams with non_blocking=True, and the default one")
        self.ptr = 0 if null else next(_numbers)
        self.device_id = -1 if null else state.device
        self.priority = priority or 0
        self._queue = None if null else Queue()
        if self._queue is not None:
            _streams[self.ptr] = self

    @property
    def queue(self) -> Queue:
        """Its tasks; the default stream has a queue on each device."""
        return _null_queues.setdefault(state.device, Queue()) if self._queue is None else self._queue

    def _check_device(self) -> None:
        if self.device_id not in (-1, state.device):
            raise RuntimeError(f"the stream is of device {self.device_id}, the current one is {state.device}")

    def use(self) -> "Stream":
        self._check_device()
        state.thread.streams[state.device] = [self]
        return self

    def __enter__(self) -> "Stream":
        self._check_device()
        state.thread.streams.setdefault(state.device, []).append(self)
        return self

    def __exit__(self, *error: Any) -> None:
        state.thread.streams[state.device].pop()

    def synchronize(self) -> None:
        state.syncs += 1
        self.queue.run()

    @property
    def done(self) -> bool:
        return self.queue.is_empty()

    def record(self, event: "Event | None" = None) -> "Event":
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: "Event") -> None:
        mark = event._mark
        if mark is not None:  # an event that was never recorded counts as done
            self.queue.add(lambda: mark.queue.run(mark))


Stream.null = Stream(null=True)


class Event:
    """An event; what waits for it waits for its last record at that time."""

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None:
        self.ptr = next(_numbers)
        self._mark: Mark | None = None

    def record(self, stream: Stream | None = None) -> None:
        self._mark = (stream or current_stream()).queue.mark()

    def synchronize(self) -> None:
        state.syncs += 1
        if self._mark is not None:
            self._mark.queue.run(self._mark)

    @property
    def done(self) -> bool:
        return self._mark is None or self._mark.passed


def current_stream(device_id: int = -1) -> Stream:
    """The thread's current stream."""
    streams = state.thread.streams.get(state.device if device_id < 0 else device_id)
    return streams[-1] if streams else Stream.null


def synchronize_device() -> None:
    """Run all that the current device was given."""
    state.syncs += 1
    Stream.null.queue.run()
    for stream in list(_streams.values()):
        if stream.device_id == state.device:
            stream.queue.run()


def stream_at(ptr: int) -> Stream:
    """The stream of this address."""
    return _streams[ptr] if ptr else Stream.null


def machine() -> str:
    """The part of a GPU's address that tells machines apart; tests may replace it."""
    return "0000"


def settle() -> None:
    """Let what comes now see all that the current stream was given before."""
    current_stream().queue.run()


# ---- host memory -----------------------------------------------------------------------------------------------------

_pinned: dict[int, int] = {}  # address to bytes


def alloc_pinned_memory(size: int) -> Any:
    """Pinned memory with the buffer protocol."""
    memory = (ctypes.c_byte * size)()
    start = ctypes.addressof(memory)
    _pinned[start] = size
    weakref.finalize(memory, _pinned.pop, start, None)
    return memory


def host_register(ptr: int, size: int, flags: int) -> None:
    if not state.pins:
        raise CUDARuntimeError("cudaErrorNotSupported: operation not supported")
    if is_pinned(ptr):
        raise CUDARuntimeError("cudaErrorHostMemoryAlreadyRegistered")
    _pinned[ptr] = size


def host_unregister(ptr: int) -> None:
    if ptr not in _pinned:
        raise CUDARuntimeError("cudaErrorHostMemoryNotRegistered")
    del _pinned[ptr]


def is_pinned(ptr: int) -> bool:
    """Whether an address lies in pinned memory."""
    return any(start <= ptr < start + size for start, size in list(_pinned.items()))


def to_host(source: "np.ndarray[Any, Any]", target: "np.ndarray[Any, Any]", stream: Stream, blocking: bool) -> None:
    """A copy down, in the order of the stream; memory that is not pinned makes the caller wait."""
    stream.queue.add(lambda: np.copyto(target, source))
    if blocking or not is_pinned(target.ctypes.data):
        stream.synchronize()


def to_device(source: "np.ndarray[Any, Any]", target: "np.ndarray[Any, Any]", stream: Stream) -> None:
    """A copy up, in the order of the stream; of memory that is not pinned, CUDA takes a copy at once."""
    source = source if is_pinned(source.ctypes.data) else source.copy()
    stream.queue.add(lambda: np.copyto(target, source))


# ---- device memory ---------------------------------------------------------------------------------------------------

_live: dict[int, int] = {}  # arrays on each piece of memory, by the identity of NumPy's array that owns it
_live_lock = threading.RLock()
_owners: "weakref.WeakValueDictionary[int, np.ndarray[Any, Any]]" = weakref.WeakValueDictionary()


def owner_of(array: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """NumPy's array that owns the memory of this one."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def memory_at(ptr: int, nbytes: int) -> "np.ndarray[Any, Any]":
    """The bytes at an address on the device, which must belong to an array that is alive."""
    with _live_lock:
        owners = list(_owners.values())
    for owner in owners:
        start = owner.ctypes.data
        if start <= ptr and ptr + nbytes <= start + owner.nbytes:
            flat = owner.reshape(-1, order="A").view(np.uint8)
            return flat[ptr - start : ptr - start + nbytes]
    raise CUDARuntimeError("cudaErrorIllegalAddress: no array on the device lies there")


class Hold:
    """One device array's hold on its memory; what is let go by all is overwritten, as by the next array there."""

    __slots__ = ("_owner", "_stream_queue")

    def __init__(self, array: "np.ndarray[Any, Any]") -> None:
        self._owner = owner_of(array)
        self._stream_queue = current_stream().queue
        with _live_lock:
            _live[id(self._owner)] = _live.get(id(self._owner), 0) + 1
            _owners[id(self._owner)] = self._owner

    def __del__(self) -> None:
        owner = self._owner
        with _live_lock:
            left = _live.get(id(owner), 1) - 1
            if left:
                _live[id(owner)] = left
                return
            _live.pop(id(owner), None)
        if state.late and owner.flags.writeable and owner.dtype.kind in "fiu":
            self._stream_queue.add(lambda: owner.fill(77))
