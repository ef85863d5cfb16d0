"""The CPU backend: NumPy arrays."""

from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from ..._typing import Array
from .._array_namespace import ArrayNamespace
from .._array_optim import ArrayOptim
from .._array_pool import ArrayPool
from .._array_products import ArrayProducts
from .._array_rnn import ArrayRnn
from .._backend import Backend
from .._device import device
from .._onednn import choose
from . import _activation, _conv, _loss, _norm, _softmax, _special, _ufuncs
from ._attention import BlockAttention, NumpySteps
from ._blocks import in_blocks
from ._memory import keep_freed_memory
from ._scratch import BLOCK, scratch


class _NumpyKernels:
    activation = _activation
    attention = BlockAttention(NumpySteps())
    conv = _conv
    loss = _loss
    norm = _norm
    pool = ArrayPool(np, scratch, 2 * BLOCK)
    products = ArrayProducts(np)
    rnn = ArrayRnn(np)
    softmax = _softmax
    special = _special
    ufuncs = _ufuncs
    optim = ArrayOptim(np, in_blocks)


NUMPY_KERNELS = _NumpyKernels()


class CpuBackend(Backend):
    """NumPy arrays in host memory."""

    type = "cpu"
    xp = np
    array_type = np.ndarray

    def __init__(self) -> None:
        self.kernels = choose(NUMPY_KERNELS)
        self.namespace = ArrayNamespace(np, _special, self.kernels.products)

    def asarray(self, value: Any) -> Array:
        """A plain ndarray: NumPy's operations return scalars for 0-d results, and subclasses keep their class."""
        array = np.asarray(value)
        return array if array.__class__ is np.ndarray else array.view(np.ndarray)

    def device_of(self, array: Array) -> device:
        """The CPU."""
        return _CPU

    def resolve(self, where: device) -> device:
        """The CPU; it has no number."""
        return _CPU

    def to_numpy(self, array: Array) -> "np.ndarray[Any, Any]":
        """The array itself."""
        return array  # type: ignore[no-any-return]

    def from_host(self, array: "np.ndarray[Any, Any]", where: device) -> Array:
        """A copy."""
        return np.array(array)

    def address(self, array: Array) -> int:
        """The address of the first element."""
        return int(array.ctypes.data)

    def is_writable(self, array: Array) -> bool:
        """NumPy's flag, which it clears on what it broadcast."""
        return array.flags.writeable  # type: ignore[no-any-return]

    def quiet(self) -> AbstractContextManager[Any]:
        """NumPy's `errstate` with everything ignored."""
        return np.errstate(all="ignore")


keep_freed_memory()
_CPU = device("cpu")
CPU = CpuBackend()
