"""New tensors from values, and filled ones.

`layout`, `pin_memory` and `memory_format` are accepted where torch has them and have no effect: memory is dense and
pageable.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from .._typing import Array, Shape
from ..autograd._base import LEAF_MARK, TensorBase, check_can_require_grad, wrap
from ..autograd._inplace import check_writable, wrote
from ..backend import (
    CPU,
    OF_NUMPY,
    Backend,
    as_dtype,
    backend_of,
    cuda_backend,
    cuda_problem,
    device,
    get_default_dtype,
)
from ..errors import DeviceError, DTypeError, ShapeError
from ._common import sizes, tensor_of

if TYPE_CHECKING:
    from .._tensor import Tensor


def place(where: Any) -> Backend:
    """The backend of a device; None means the CPU.

    Raises:
        DeviceError: it cannot be used here.
    """
    if where is None or device(where).type == "cpu":
        return CPU
    backend = cuda_backend()
    if backend is None:
        raise DeviceError(f"device {str(where)!r} is not available: {cuda_problem()}")
    return backend


def finish(array: Array, requires_grad: bool) -> "Tensor":
    """A new leaf on `array`."""
    if requires_grad:
        check_can_require_grad(array)
    return wrap(array, LEAF_MARK if requires_grad else None)


def deliver(array: Array, requires_grad: bool = False, out: Any = None, device: Any = None) -> "Tensor":
    """A new leaf on `array`, on the device that is asked for; or `out` with its values.

    Raises:
        ShapeError: `out` is neither empty nor of the array's shape.
    """
    if out is None:
        return finish(array if device is None else _on(array, device), requires_grad)
    result: Tensor = tensor_of(out, "out")
    if result._data.shape != array.shape and result._data.size:
        raise ShapeError(f"out: expected shape {list(array.shape)}, or an empty tensor, got {list(result._data.shape)}")
    check_writable(result)
    if result._data.shape != array.shape:
        result._set_data(array.astype(result._data.dtype, copy=False))
    else:
        result._data[...] = array
    wrote(result, None)
    return result


def _on(array: Array, where: Any) -> Array:
    """The array on the very device `where`: a backend makes new arrays on its current one."""
    backend = backend_of(array)
    target = place(where).resolve(device(where))
    return array if backend.device_of(array) == target else place(where).from_host(backend.to_numpy(array), target)


def dtype_or_default(dtype: Any, out: Any = None) -> Any:
    """The NumPy dtype that is asked for, else that of `out`, else the default."""
    if dtype is None and out is not None:
        return out._data.dtype
    return get_default_dtype().numpy if dtype is None else as_dtype(dtype).numpy


def new_shape(size: tuple[Any, ...]) -> tuple[int, ...]:
    """The shape of a new tensor, from ``f(2, 3)`` and from ``f((2, 3))`` alike.

    Raises:
        TypeError: a size is no integer.
        ShapeError: a size is negative.
    """
    shape = sizes(size)
    if any(n < 0 for n in shape):
        raise ShapeError(f"expected sizes of at least 0, got {list(shape)}")
    return shape


# ---- from values -----------------------------------------------------------------------------------------------------


def values_of(data: Any, exact: bool = False) -> Array:
    """Nested sequences, numbers, arrays and tensors as an array in torch's dtype for them; arrays without a copy.

    Args:
        data: the values.
        exact: leave Python floats in float64, because another dtype than the default one follows.

    Raises:
        ShapeError: the sequences are ragged.
        TypeError: the data is not numeric.
    """
    if isinstance(data, TensorBase):
        return data._data
    if isinstance(data, (np.ndarray, np.generic)):
        return _known(np.asarray(data))
    leaf = _first_leaf(data)
    if isinstance(leaf, TensorBase):
        data = _arrays_within(data)
    try:
        array = np.asarray(data)
    except ValueError:
        raise ShapeError("tensor: expected nested sequences of equal lengths, got ragged ones") from None
    if array.dtype == object or array.dtype.kind in "USmMV":
        raise TypeError(f"tensor: expected numbers, bools or sequences of them, got {_first_other(data)}")
    if exact or isinstance(leaf, (np.ndarray, np.generic, TensorBase)):
        return array
    if array.dtype == np.complex128:
        return array.astype(np.complex128 if get_default_dtype().numpy == np.float64 else np.complex64)
    return array.astype(get_default_dtype().numpy) if array.dtype == np.float64 else array


def _first_leaf(data: Any) -> Any:
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return data


def _first_other(data: Any) -> str:
    """The class of the first value within nested sequences that is no number."""
    if isinstance(data, (list, tuple)):
        found = (_first_other(value) for value in data)
        return next((f"{name} in {type(data).__name__}" for name in found if name), "")
    return "" if isinstance(data, (int, float, complex, np.ndarray, np.generic)) else type(data).__name__


def _arrays_within(data: Any) -> Any:
    if isinstance(data, TensorBase):
        return backend_of(data._data).to_numpy(data._data)
    return [_arrays_within(v) for v in data] if isinstance(data, (list, tuple)) else data


def _known(array: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    if array.dtype in OF_NUMPY:
        return array
    if array.dtype.newbyteorder("=") in OF_NUMPY:
        raise DTypeError(
            f"expected this machine's byte order, got {array.dtype.str}; use .astype({array.dtype.name!r})"
        )
    supported = ", ".join(d.name for d in OF_NUMPY.values())
    raise DTypeError(f"expected an array of a supported dtype ({supported}), got {array.dtype}")


def tensor(
    data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False
) -> "Tensor":
    """A new tensor that holds a copy of `data`.

    Args:
        data: a number, a nested sequence of numbers, a NumPy array, or a tensor.
        dtype: default: the data's own; Python floats give the default dtype, ints int64.
        device: default the CPU, or that of a tensor.
        requires_grad: record operations on it.

    Raises:
        ShapeError: the sequences are ragged.
        TypeError: the data is not numeric.
    """
    values = values_of(data, dtype is not None)
    chosen = values.dtype if dtype is None else as_dtype(dtype).numpy
    array = backend_of(values).xp.array(values, dtype=chosen, copy=True, order="C")
    return deliver(array, requires_grad, None, device)


def scalar_tensor(
    s: Any, *, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False
) -> "Tensor":
    """A 0-d tensor of a number, in the default dtype unless another is given."""
    return full((), s, dtype=dtype_or_default(dtype), device=device, requires_grad=requires_grad)


def number_of(value: Any) -> Any:
    """A Python number; of a 0-d tensor or a NumPy scalar, its value."""
    if isinstance(value, TensorBase):
        return value._data.item()
    return value.item() if isinstance(value, (np.generic, np.ndarray)) else value


# ---- filled ----------------------------------------------------------------------------------------------------------


def zeros(
    *size: Any,
    out: Any = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> "Tensor":
    """Zeros of a shape, given as ``zeros(2, 3)`` or ``zeros((2, 3))``."""
    return deliver(place(device).xp.zeros(new_shape(size), dtype_or_default(dtype, out)), requires_grad, out, device)


def ones(
    *size: Any,
    out: Any = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> "Tensor":
    """Ones of a shape."""
    return deliver(place(device).xp.ones(new_shape(size), dtype_or_default(dtype, out)), requires_grad, out, device)


def empty(
    *size: Any,
    out: Any = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
    memory_format: Any = None,
) -> "Tensor":
    """A tensor of a shape whose values are whatever was in memory."""
    return deliver(place(device).xp.empty(new_shape(size), dtype_or_default(dtype, out)), requires_grad, out, device)


def full(
    size: Any,
    fill_value: Any,
    *,
    out: Any = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> "Tensor":
    """A tensor of a shape with one value everywhere, whose type decides the dtype (Python floats: the default one)."""
    value = number_of(fill_value)
    chosen = values_of(value).dtype if dtype is None and out is None else dtype_or_default(dtype, out)
    return deliver(place(device).xp.full(new_shape((size,)), value, chosen), requires_grad, out, device)


def empty_strided(
    size: Any,
    stride: Any,
    *,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> "Tensor":
    """An uninitialised tensor of a shape whose elements lie `stride` elements apart."""
    backend, shape, steps = place(device), sizes((size,)), sizes((stride,))
    if len(shape) != len(steps) or any(n < 0 for n in (*shape, *steps)):
        raise ShapeError(f"empty_strided: expected as many strides >= 0 as sizes, got {list(shape)} and {list(steps)}")
    extent = 1 + sum((n - 1) * step for n, step in zip(shape, steps, strict=True)) if all(shape) else 0
    memory = backend.xp.empty(extent, dtype_or_default(dtype))
    strides = tuple(step * memory.itemsize for step in steps)
    array = backend.xp.lib.stride_tricks.as_strided(memory, shape, strides)
    return deliver(array, requires_grad, None, device)


# ---- like another ----------------------------------------------------------------------------------------------------


def like(input: Any, dtype: Any, device: Any, name: str) -> tuple[Backend, Array, Any]:
    """What a ``*_like`` function starts from: the backend, an array of the shape and layout, the NumPy dtype."""
    data = tensor_of(input, name)._data
    backend = backend_of(data) if device is None else place(device)
    chosen = data.dtype if dtype is None else as_dtype(dtype).numpy
    return backend, data if backend is backend_of(data) else backend.xp.empty(data.shape, chosen), chosen


def zeros_like(
    input: "Tensor",
    *,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> "Tensor":
    """Zeros of the shape, dtype and device of `input`."""
    backend, model, chosen = like(input, dtype, device, "zeros_like")
    return deliver(backend.xp.zeros_like(model, dtype=chosen), requires_grad, None, device)


def ones_like(
    input: "Tensor",
    *,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> "Tensor":
    """Ones of the shape, dtype and device of `input`."""
    backend, model, chosen = like(input, dtype, device, "ones_like")
    return deliver(backend.xp.ones_like(model, dtype=chosen), requires_grad, None, device)


def empty_like(
    input: "Tensor",
    *,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> "Tensor":
    """An uninitialised tensor of the shape, dtype and device of `input`."""
    backend, model, chosen = like(input, dtype, device, "empty_like")
    return deliver(backend.xp.empty_like(model, dtype=chosen), requires_grad, None, device)


def full_like(
    input: "Tensor",
    fill_value: Any,
    *,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> "Tensor":
    """A tensor of the shape, dtype and device of `input` with one value everywhere."""
    backend, model, chosen = like(input, dtype, device, "full_like")
    value = number_of(fill_value)
    return deliver(backend.xp.full_like(model, value, dtype=chosen), requires_grad, None, device)


# ---- methods: of the dtype and device of self ------------------------------------------------------------------------


def _own(self: Any, dtype: Any, device: Any) -> tuple[Any, Any]:
    data = self._data
    return data.dtype if dtype is None else dtype, backend_of(data).device_of(data) if device is None else device


def new_tensor(
    self: "Tensor", data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> "Tensor":
    """A tensor that holds a copy of `data`, of this tensor's dtype and device."""
    chosen, where = _own(self, dtype, device)
    return tensor(data, dtype=chosen, device=where, requires_grad=requires_grad)


def new_zeros(
    self: "Tensor",
    *size: Any,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    layout: Any = None,
    pin_memory: bool = False,
) -> "Tensor":
    """Zeros of a shape, of this tensor's dtype and device."""
    chosen, where = _own(self, dtype, device)
    return zeros(*size, dtype=chosen, device=where, requires_grad=requires_grad)


def new_ones(
    self: "Tensor",
    *size: Any,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    layout: Any = None,
    pin_memory: bool = False,
) -> "Tensor":
    """Ones of a shape, of this tensor's dtype and device."""
    chosen, where = _own(self, dtype, device)
    return ones(*size, dtype=chosen, device=where, requires_grad=requires_grad)


def new_empty(
    self: "Tensor",
    *size: Any,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    layout: Any = None,
    pin_memory: bool = False,
) -> "Tensor":
    """An uninitialised tensor of a shape, of this tensor's dtype and device."""
    chosen, where = _own(self, dtype, device)
    return empty(*size, dtype=chosen, device=where, requires_grad=requires_grad)


def new_full(
    self: "Tensor",
    size: Any,
    fill_value: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    layout: Any = None,
    pin_memory: bool = False,
) -> "Tensor":
    """A tensor of a shape with one value everywhere, of this tensor's dtype and device."""
    chosen, where = _own(self, dtype, device)
    return full(size, fill_value, dtype=chosen, device=where, requires_grad=requires_grad)


def new_empty_strided(
    self: "Tensor",
    size: Shape,
    stride: Shape,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    layout: Any = None,
    pin_memory: bool = False,
) -> "Tensor":
    """An uninitialised tensor of a shape and strides (in elements), of this tensor's dtype and device."""
    chosen, where = _own(self, dtype, device)
    return empty_strided(size, stride, dtype=chosen, device=where, requires_grad=requires_grad)
