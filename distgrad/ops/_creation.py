"""New tensors from values."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .._typing import Array
from ..autograd._base import LEAF_MARK, TensorBase, check_can_require_grad, wrap
from ..backend import Backend, as_dtype, device, get_default_dtype, registered
from ..errors import DeviceError, ShapeError
from ._common import sizes

if TYPE_CHECKING:
    from .._tensor import Tensor


def place(where: Any) -> Backend:
    """The backend of a device; None means the CPU.

    Raises:
        DeviceError: it cannot be used here.
    """
    kind = "cpu" if where is None else device(where).type
    backend = registered(kind)
    if backend is None:
        raise DeviceError(f"device {str(where)!r} is not available: no CUDA GPU and CuPy were found; use 'cpu', or install distgrad[cuda] on a machine with a GPU")
    return backend


def finish(array: Array, requires_grad: bool) -> "Tensor":
    """A new leaf on `array`."""
    if requires_grad:
        check_can_require_grad(array)
    return wrap(array, LEAF_MARK if requires_grad else None)  # type: ignore[no-any-return]


def _values(data: Any) -> Array:
    """Nested sequences, numbers, arrays and tensors as a NumPy array in torch's dtype for them."""
    if isinstance(data, TensorBase):
        return data._data
    if isinstance(data, (np.ndarray, np.generic)):
        return np.asarray(data)
    if isinstance(data, (list, tuple)) and any(isinstance(v, TensorBase) for v in data):
        data = [v._data if isinstance(v, TensorBase) else v for v in data]
    try:
        array = np.asarray(data)
    except ValueError:
        raise ShapeError("tensor: expected nested sequences of equal lengths, got ragged ones") from None
    if array.dtype == object or array.dtype.kind in "USmM":
        raise TypeError(f"tensor: expected numbers, bools or sequences of them, got {type(data).__name__} of dtype {array.dtype}")
    return array.astype(get_default_dtype().numpy) if array.dtype == np.float64 and not _holds_numpy(data) else array


def _holds_numpy(data: Any) -> bool:
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return isinstance(data, (np.ndarray, np.generic))


def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> "Tensor":
    """A new tensor that holds a copy of `data`.

    Args:
        data: a number, a nested sequence of numbers, a NumPy array, or a tensor.
        dtype: default: the data's own; Python floats give the default dtype, ints int64.
        device: default the CPU.
        requires_grad: record operations on it.

    Raises:
        ShapeError: the sequences are ragged.
        TypeError: the data is not numeric.
    """
    backend = place(device)
    values = _values(data)
    array = backend.xp.array(values, dtype=None if dtype is None else as_dtype(dtype).numpy, copy=True, order="C")
    return finish(array, requires_grad)


def zeros(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> "Tensor":
    """Zeros of a shape, given as ``zeros(2, 3)`` or ``zeros((2, 3))``."""
    return finish(place(device).xp.zeros(sizes(size), _dtype(dtype)), requires_grad)


def ones(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> "Tensor":
    """Ones of a shape."""
    return finish(place(device).xp.ones(sizes(size), _dtype(dtype)), requires_grad)


def _dtype(dtype: Any) -> Any:
    return get_default_dtype().numpy if dtype is None else as_dtype(dtype).numpy
