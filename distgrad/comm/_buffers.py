"""How memory of a device reaches a communicator that works on host memory: by a copy there and back."""

from types import TracebackType
from typing import Any, Protocol, runtime_checkable

import numpy as np

from .._typing import Array
from ._types import Work


@runtime_checkable
class DeviceArray(Protocol):
    """An array on a device that can be copied to and from the host: a CuPy array, for instance."""

    ndim: int
    shape: tuple[int, ...]
    flags: Any

    def get(self) -> Array:
        """A copy on the host."""
        ...

    def set(self, array: Array) -> None:
        """Overwrite with the contents of a host array."""
        ...


class OnHost:
    """`with OnHost(buffer) as host`: host memory to work on. For an array on a device a copy, written back at the end.

    Args:
        buffer: a NumPy array, which is used as it is, or an array on a device.
        write: whether the operation changes the buffer.
    """

    __slots__ = ("_device", "_host", "_write")

    def __init__(self, buffer: Array, write: bool = True) -> None:
        self._device: DeviceArray | None = None if isinstance(buffer, np.ndarray) else buffer
        self._host = buffer if self._device is None else buffer.get()
        self._write = write

    def __enter__(self) -> Array:
        return self._host

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._device is not None and self._write and error is None:
            self._device.set(self._host)


class DeviceWork(Work):
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

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the receive, then copy to the device."""
        done = self._work.wait(timeout)
        if not self._copied:
            self._device.set(self._host)
            self._copied = True
        return done

    def is_completed(self) -> bool:
        """Whether the receive has ended."""
        return self._work.is_completed()

    def exception(self) -> BaseException | None:
        """What the receive failed with."""
        return self._work.exception()

    def result(self) -> list[Array]:
        """The array on the device."""
        return [self._device]
