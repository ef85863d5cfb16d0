"""Streams, events and pinned memory: what copies need to run beside the computation, in the right order."""

from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from ..._typing import Array

_URGENT = -100  # lower is more urgent; CUDA takes the most urgent that there is


class CupyStreams:
    """CUDA's queues, through one module `cupy`.

    Streams and events are CuPy's own objects: ``event.record(stream)``, ``stream.wait_event(event)``,
    ``event.synchronize()``. They belong to the device that is current when they are made, hence `on`.

    Args:
        cupy: the module.
    """

    def __init__(self, cupy: Any) -> None:
        self._cuda = cupy.cuda

    def on(self, number: int) -> AbstractContextManager[Any]:
        """A context in which the device of this number is the current one of the thread."""
        return self._cuda.Device(number)  # type: ignore[no-any-return]

    def current(self) -> Any:
        """The stream that work of this thread on the current device goes to."""
        return self._cuda.get_current_stream()

    def stream(self, urgent: bool = False) -> Any:
        """A new stream, which nothing but events orders with others; `urgent` work goes before that of others."""
        return self._cuda.Stream(non_blocking=True, priority=_URGENT if urgent else 0)

    def event(self) -> Any:
        """A new event; a thread that synchronizes with it sleeps."""
        return self._cuda.Event(block=True, disable_timing=True)

    def mark(self, stream: Any) -> Any:
        """A new event, recorded on a stream: it is done when all that the stream was given so far is done."""
        event = self.event()
        event.record(stream)
        return event

    def pinned(self, nbytes: int) -> Array:
        """Host memory, uint8 of shape (nbytes,), that a GPU copies from and to by itself."""
        return np.frombuffer(self._cuda.alloc_pinned_memory(nbytes), np.uint8, nbytes)

    def pin(self, array: Array) -> bool:
        """Pins host memory that exists, for as long as until `unpin`; False where CUDA cannot."""
        try:
            self._cuda.runtime.hostRegister(array.ctypes.data, array.nbytes, 0)
        except self._cuda.runtime.CUDARuntimeError:
            return False
        return True

    def unpin(self, array: Array) -> None:
        """Undoes `pin`; nothing may be copied from or to it any more."""
        self._cuda.runtime.hostUnregister(array.ctypes.data)

    def bus_id(self, number: int) -> str:
        """The place of a device in this machine, such as ``0000:1b:00.0``."""
        return str(self._cuda.runtime.deviceGetPCIBusId(number))
