"""Tensors on the memory of others: NumPy arrays, buffers, DLPack."""

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from ..autograd._base import TensorBase, wrap
from ..backend import as_dtype, cuda_backend
from ..errors import DeviceError
from ._creation import finish, tensor, values_of
from ._memory import detach, move

if TYPE_CHECKING:
    from .._tensor import Tensor


@runtime_checkable
class _HasDLPack(Protocol):
    """An array of another library."""

    def __dlpack__(self, **options: Any) -> Any: ...
    def __dlpack_device__(self) -> Any: ...


_DLPACK_CUDA = 2  # the device types of DLPack
_DLPACK_HOSTS = (1, 3)  # host memory, and pinned host memory


def from_numpy(ndarray: "np.ndarray[Any, Any]") -> "Tensor":
    """A tensor on the memory of a NumPy array: writes to one show in the other.

    Writing to a tensor on a read-only array is an error, as it is in NumPy.

    Raises:
        TypeError: this is no NumPy array.
        DTypeError: its dtype is not supported.
    """
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(
            f"from_numpy: expected a numpy.ndarray, got {type(ndarray).__name__}; use tensor() for other data"
        )
    array = values_of(ndarray)
    return wrap(array if array.__class__ is np.ndarray else array.view(np.ndarray))


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> "Tensor":
    """`data` as a tensor, without a copy if it is a tensor or NumPy array of this dtype and device already."""
    if isinstance(data, TensorBase):
        return move(data, device, dtype, False)  # type: ignore[no-any-return]
    if isinstance(data, np.ndarray):
        return move(from_numpy(data), device, dtype, False)  # type: ignore[no-any-return]
    return tensor(data, dtype=dtype, device=device)


def asarray(
    obj: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None, requires_grad: bool = False
) -> "Tensor":
    """`obj` as a tensor: a tensor, a NumPy array, an object with DLPack or a buffer, a number or sequence.

    Args:
        obj: the values.
        dtype, device: default: the object's own.
        copy: True always copies, False never does, None where needed.
        requires_grad: record operations on the result.

    Raises:
        ValueError: a copy is needed and `copy` is False.
    """
    shared = _shared(obj)
    if shared is None:
        if copy is False:
            raise ValueError(f"asarray: {type(obj).__name__} has no memory to share, and copy=False forbids a copy")
        return tensor(obj, dtype=dtype, device=device, requires_grad=requires_grad)
    moved = move(shared, device, dtype, bool(copy))
    if copy is False and moved is not shared:
        raise ValueError("asarray: a change of dtype or device needs a copy, which copy=False forbids")
    if requires_grad and not moved.requires_grad:
        return finish(moved._data, True)
    return detach(moved) if moved.requires_grad and not requires_grad else moved


def _shared(obj: Any) -> Any:
    """A tensor on the memory of `obj`, or None where it has none."""
    if isinstance(obj, TensorBase):
        return obj
    if isinstance(obj, np.ndarray):
        return from_numpy(obj)
    if isinstance(obj, (bytes, bytearray, memoryview)):
        return from_numpy(np.asarray(memoryview(obj)))
    return from_dlpack(obj) if isinstance(obj, _HasDLPack) and not isinstance(obj, np.generic) else None


def frombuffer(buffer: Any, *, dtype: Any, count: int = -1, offset: int = 0, requires_grad: bool = False) -> "Tensor":
    """A 1-d tensor on the memory of a buffer (bytes, bytearray, memoryview, array.array, mmap).

    Args:
        buffer: an object with Python's buffer protocol.
        dtype: how to read it.
        count: how many elements; -1 means all.
        offset: where to begin, in bytes.

    Raises:
        ValueError: the buffer is too small, or its size no multiple of the element's.
    """
    array = np.frombuffer(buffer, dtype=as_dtype(dtype).numpy, count=count, offset=offset)
    return finish(array, requires_grad)


def from_dlpack(ext_tensor: Any) -> "Tensor":
    """A tensor on the memory of another library's array, by DLPack, without a copy.

    Raises:
        DeviceError: it lies on a device that cannot be used here.
    """
    try:
        kind = ext_tensor.__dlpack_device__()[0]
    except AttributeError:
        found = type(ext_tensor).__name__
        raise TypeError(f"from_dlpack: expected an array that offers DLPack, got {found}") from None
    if kind in _DLPACK_HOSTS:
        return from_numpy(np.from_dlpack(ext_tensor))
    backend = cuda_backend() if kind == _DLPACK_CUDA else None
    if backend is None:
        raise DeviceError(
            f"from_dlpack: expected an array in host memory, got one on DLPack device type {int(kind)}, which is not "
            "available here"
        )
    return wrap(backend.xp.from_dlpack(ext_tensor))
