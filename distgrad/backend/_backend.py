"""A Backend is one kind of array memory: its array module, its gradient namespace and its kernels."""

from contextlib import nullcontext
from typing import Any

import numpy as np

from .._typing import Array
from ..errors import DeviceError
from ._device import device
from ._kernels import Kernels
from ._namespace import Namespace


class Backend:
    """What the layers above know of a kind of device.

    Attributes:
        type: the device type, ``"cpu"`` or ``"cuda"``.
        xp: the array module whose functions `Op.forward` calls: numpy or cupy.
        namespace: the functions that `Op.backward` calls, on raw arrays.
        kernels: the hot loops (convolution, pooling, optimizers ...).
        array_type: the class of its arrays.
    """

    __slots__ = ("array_type", "asarray", "kernels", "namespace", "type", "xp")

    def __init__(
        self, type: str, xp: Any, namespace: Namespace, kernels: Kernels, array_type: Any, asarray: Any
    ) -> None:
        self.type = type
        self.xp = xp
        self.namespace = namespace
        self.kernels = kernels
        self.array_type = array_type
        self.asarray = asarray  # what an operation returned (an array, or NumPy's scalar for 0-d) -> array_type

    def device_of(self, array: Array) -> device:
        """The device on which `array` lies."""
        return device("cpu") if self.type == "cpu" else device("cuda", int(array.device.id))

    def to_numpy(self, array: Array) -> "np.ndarray[Any, Any]":
        """The array's values in host memory; no copy on the CPU."""
        return array if self.type == "cpu" else array.get()  # type: ignore[no-any-return]

    def from_host(self, array: "np.ndarray[Any, Any]", where: device) -> Array:
        """A copy of host memory on the device `where`, which is one of this backend's."""
        return np.array(array)

    def resolve(self, where: device) -> device:
        """The device meant by `where`: a bare ``"cuda"`` is this rank's GPU."""
        return where

    def quiet(self) -> Any:
        """A context in which NumPy does not warn of inf and nan; CuPy never does."""
        return np.errstate(all="ignore") if self.type == "cpu" else nullcontext()

    def __repr__(self) -> str:
        return f"Backend({self.type!r})"


# The engine's hot path looks here itself, without a call.
backends_by_array_type: dict[Any, Backend] = {}
_BY_DEVICE_TYPE: dict[str, Backend] = {}


def register_backend(backend: Backend) -> None:
    """Makes a backend known by its array class and its device type."""
    backends_by_array_type[backend.array_type] = backend
    _BY_DEVICE_TYPE[backend.type] = backend


def backend_of(array: Array) -> Backend:
    """The backend whose array this is."""
    try:
        return backends_by_array_type[array.__class__]
    except KeyError:
        for array_type, backend in backends_by_array_type.items():
            if isinstance(array, array_type):
                return backend
        raise DeviceError(f"expected an array of a known backend, got {type(array).__name__}") from None


def registered(device_type: str) -> Backend | None:
    """The backend of a device type, if it was registered."""
    return _BY_DEVICE_TYPE.get(device_type)


def as_array(value: Any) -> Array:
    """An array as it is; NumPy's scalar, which its operations return for 0-d results, as a 0-d array."""
    return value if value.__class__ in backends_by_array_type else np.asarray(value)
