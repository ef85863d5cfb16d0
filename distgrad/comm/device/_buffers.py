"""Buffers on a device: how work on them keeps its order with that of the caller.

A collective on a device buffer takes its place in the order of the caller's current stream: it begins after what the
stream was given before, and what the stream is given afterwards sees its result. Copies and reductions run on other
streams, so each of the two needs an event. CuPy hands the memory of a freed array to the next one on the same stream,
without knowing of other streams: so an array is kept until the caller's stream waits for those that use it.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from ..._typing import Array, HasArray
from ...backend import CupyStreams, cuda_backend
from ...errors import DeviceError
from .._collectives import Collectives
from .._types import Work


@runtime_checkable
class DeviceArray(Protocol):
    """An array on a device that can be copied to and from the host: a CuPy array."""

    ndim: int
    shape: tuple[int, ...]
    flags: Any
    device: Any

    def get(self) -> Array:
        """A copy on the host."""
        ...

    def set(self, array: Array) -> None:
        """Overwrite with the contents of a host array."""
        ...


def streams() -> CupyStreams:
    """The streams of the GPUs of this process."""
    backend = cuda_backend()
    if backend is None:
        raise DeviceError("expected a buffer on a GPU that distgrad uses, and it has found none")
    return backend.streams


def number_of(buffer: Array) -> int:
    """The number of the device on which a buffer lies."""
    return int(buffer.device.id)


def device_buffer(values: Iterable[Any]) -> Array | None:
    """The first buffer on a device among Tensors and arrays; None where all are in host memory."""
    raw = (value.__distgrad_array__() if isinstance(value, HasArray) else value for value in values)
    return next((array for array in raw if not isinstance(array, np.ndarray)), None)


class DeviceTransport(Collectives):
    """A way for collectives on device buffers; creating one is a collective call.

    Methods are called on all ranks, within one announced call, with buffers on this rank's device.
    """

    name: ClassVar[str]
    sums_in_order: bool = True  # see `Communicator.sums_in_order`
    runs_ahead: ClassVar[bool] = False  # calls return while their work is still in the queue of the device
    passed_over: Mapping[str, str] = {}  # better ways, and why they were not taken

    @abstractmethod
    def describe(self) -> str:
        """What it is, in words."""

    @abstractmethod
    def close(self, abort: bool = False) -> None:
        """End; with `abort` without the peers, who may be gone."""


class Beside:
    """Background work of one group on device buffers; it runs on a stream of its own, beside that of the caller."""

    def __init__(self) -> None:
        self._streams: dict[int, Any] = {}  # by number of the device
        self._alive: list[BesideWork] = []  # so that what they use is not freed, also where nobody waits for them

    def prepare(self, function: Callable[[], None], arrays: list[Any], buffer: Array) -> "BesideTask":
        """Note the place of `function` in the order of the current stream, on the device of `buffer`."""
        cuda, number = streams(), number_of(buffer)
        with cuda.on(number):
            if number not in self._streams:
                self._streams[number] = cuda.stream()
            ready = cuda.mark(cuda.current())
        self._alive = [work for work in self._alive if not work.is_completed()]
        return BesideTask(self, function, arrays, buffer, self._streams[number], ready)

    def keep(self, work: "BesideWork") -> None:
        """Hold on to the arrays of `work` until it is over."""
        self._alive.append(work)

    def release(self, work: "BesideWork") -> None:
        """The caller's stream waits for `work` now."""
        if work in self._alive:
            self._alive.remove(work)


class BesideTask:
    """A function that works on device buffers, to be run once, in any thread.

    Args:
        beside: where the work is kept.
        function: what to run.
        arrays: what it writes.
        buffer: one of them.
        stream: what is current while it runs.
        ready: done when the arrays are.
    """

    def __init__(
        self, beside: Beside, function: Callable[[], None], arrays: list[Any], buffer: Array, stream: Any, ready: Any
    ) -> None:
        self.beside = beside
        self.function = function
        self.arrays = arrays
        self.buffer = buffer
        self.done: Any = None
        self._stream = stream
        self._ready = ready

    def run(self) -> None:
        """Call the function on the stream beside the caller's."""
        cuda = streams()
        with cuda.on(number_of(self.buffer)), self._stream:
            self._stream.wait_event(self._ready)
            self.function()
            self.done = cuda.mark(self._stream)

    def work(self, queued: Work) -> "BesideWork":
        """The handle for the caller; `queued` is done when `run` has returned."""
        work = BesideWork(self, queued)
        self.beside.keep(work)
        return work


class BesideWork(Work):
    """The handle of a function that runs beside the caller's stream.

    Args:
        task: the function with what it uses.
        queued: done when the function has returned.
    """

    def __init__(self, task: BesideTask, queued: Work) -> None:
        self._task = task
        self._queued = queued

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the function has returned, then let the current stream wait for what it began."""
        done = self._queued.wait(timeout)
        cuda = streams()
        with cuda.on(number_of(self._task.buffer)):
            cuda.current().wait_event(self._task.done)
        self._task.beside.release(self)
        return done

    def is_completed(self) -> bool:
        """Whether the results are in place."""
        if not self._queued.is_completed():
            return False
        return self._queued.exception() is not None or bool(self._task.done.done)

    def exception(self) -> BaseException | None:
        """What the function failed with."""
        return self._queued.exception()

    def result(self) -> list[Any]:
        """The arrays that the function wrote."""
        return self._task.arrays


class DeviceReceive(Work):
    """A receive into host memory that ends on the device.

    Args:
        work: the receive.
        device: where the data goes in the end.
        host: where the receive puts it.
    """

    def __init__(self, work: Work, device: Array, host: Array) -> None:
        self._work = work
        self._device = device
        self._host = host
        self._copied = False
        cuda = streams()
        with cuda.on(number_of(device)):
            self._ready = cuda.mark(cuda.current())  # the stream that waits may be another one

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the receive, then copy to the device, in the order of the current stream."""
        done = self._work.wait(timeout)
        if not self._copied:
            cuda = streams()
            with cuda.on(number_of(self._device)):
                cuda.current().wait_event(self._ready)
                self._device.set(self._host)
            self._copied = True
        return done

    def is_completed(self) -> bool:
        """Whether the receive has ended."""
        return self._work.is_completed()

    def exception(self) -> BaseException | None:
        """What the receive failed with."""
        return self._work.exception()

    def result(self) -> list[Any]:
        """The array on the device."""
        return [self._device]
