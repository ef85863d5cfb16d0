"""A Backend is one kind of array memory: its array module, its gradient namespace and its kernels."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from .._typing import Array
from ..errors import DeviceError
from ._device import device
from ._kernels import Kernels
from ._namespace import Namespace


class Backend(ABC):
    """What the layers above know of a kind of device.

    Attributes:
        type: the device type, ``"cpu"`` or ``"cuda"``.
        xp: the array module whose functions `Op.forward` calls: numpy or cupy.
        namespace: the functions that `Op.backward` calls, on raw arrays.
        kernels: the hot loops (convolution, pooling, optimizers ...).
        array_type: the class of its arrays.
    """

    type: str
    xp: Any
    namespace: Namespace
    kernels: Kernels
    array_type: Any

    @abstractmethod
    def asarray(self, value: Any) -> Array:
        """What an operation returned (an array, or NumPy's scalar for a 0-d result) as an array of this backend."""

    @abstractmethod
    def device_of(self, array: Array) -> device:
        """The device on which `array` lies."""

    @abstractmethod
    def resolve(self, where: device) -> device:
        """The device meant by `where`: a bare ``"cuda"`` is this rank's GPU.

        Raises:
            DeviceError: there is no such device.
        """

    @abstractmethod
    def to_numpy(self, array: Array) -> "np.ndarray[Any, Any]":
        """The array's values in host memory; no copy on the CPU."""

    @abstractmethod
    def from_host(self, array: "np.ndarray[Any, Any]", where: device) -> Array:
        """A copy of host memory on the device `where`, which is one of this backend's."""

    @abstractmethod
    def address(self, array: Array) -> int:
        """The address of the first element."""

    @abstractmethod
    def is_writable(self, array: Array) -> bool:
        """Whether each element has memory of its own that may be written to; not so where an axis was expanded."""

    @abstractmethod
    def quiet(self) -> AbstractContextManager[Any]:
        """A context without warnings of inf and nan."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


# The engine's hot path looks here itself, without a call.
backends_by_array_type: dict[Any, Backend] = {}


def register_backend(backend: Backend) -> None:
    """Makes a backend known by its array class."""
    backends_by_array_type[backend.array_type] = backend


def backend_of(array: Array) -> Backend:
    """The backend whose array this is."""
    try:
        return backends_by_array_type[array.__class__]
    except KeyError:
        for array_type, backend in backends_by_array_type.items():
            if isinstance(array, array_type):
                return backend
        raise DeviceError(f"expected an array of a known backend, got {type(array).__name__}") from None


silenced = np.errstate(all="ignore")
"""Decorates a function in which NumPy is not to warn of inf and nan (CuPy never does): half the cost of a ``with``."""


def as_array(value: Any) -> Array:
    """An array as it is; NumPy's scalar, which its operations return for 0-d results, as a 0-d array."""
    return value if value.__class__ in backends_by_array_type else np.asarray(value)
