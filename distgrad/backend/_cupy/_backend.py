"""The Backend of CuPy arrays. The module cupy is an argument, so that tests can put a stand-in in its place."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from ..._typing import Array
from ...errors import DeviceError
from .._backend import Backend
from .._device import device
from ._kernels import CupyKernels
from ._namespace import CupyNamespace
from ._streams import CupyStreams


class CudaBackend(Backend):
    """CuPy arrays in GPU memory.

    Args:
        cupy: the module.
        special: the module of special functions, cupyx.scipy.special.
        own: the number of this rank's GPU, which a bare ``"cuda"`` means.
    """

    type = "cuda"

    def __init__(self, cupy: Any, special: Any, own: int) -> None:
        self.xp = cupy
        self.own = own
        self.array_type = cupy.ndarray
        kernels = CupyKernels(cupy, special)
        self.kernels = kernels
        self.streams = CupyStreams(cupy)
        self.namespace = CupyNamespace(cupy, kernels.special, kernels.products, kernels.ufuncs)

    def asarray(self, value: Any) -> Array:
        """A CuPy array."""
        return self.xp.asarray(value)

    def device_of(self, array: Array) -> device:
        """``cuda:<number>``."""
        return device("cuda", int(array.device.id))

    def resolve(self, where: device) -> device:
        """``cuda:<number>``.

        Raises:
            DeviceError: there is no GPU of this number.
        """
        index = self.own if where.index is None else where.index
        count = int(self.xp.cuda.runtime.getDeviceCount())
        if index >= count:
            raise DeviceError(
                f"device 'cuda:{index}' does not exist: expected a number below {count}, the GPUs visible here"
            )
        return device("cuda", index)

    def to_numpy(self, array: Array) -> "np.ndarray[Any, Any]":
        """A copy in host memory, made when all work on the array is done."""
        return self.xp.asnumpy(array)  # type: ignore[no-any-return]

    def from_host(self, array: "np.ndarray[Any, Any]", where: device) -> Array:
        """A copy on the GPU `where`."""
        with self.xp.cuda.Device(where.index):
            return self.xp.array(array)

    def address(self, array: Array) -> int:
        """The address on the GPU."""
        return int(array.data.ptr)

    def is_writable(self, array: Array) -> bool:
        """CuPy has no flag; a stride of 0 shows what was broadcast."""
        return array.size == 0 or all(step or n < 2 for n, step in zip(array.shape, array.strides, strict=True))

    def quiet(self) -> AbstractContextManager[Any]:
        """CuPy never warns."""
        return nullcontext()
