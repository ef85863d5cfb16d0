"""torch's old names of tensor types: ``FloatTensor(2, 3)``, ``isinstance(t, FloatTensor)``."""

from typing import Any

import numpy as np

from ._tensor import Tensor
from .backend import (
    as_dtype,
    bfloat16,
    bool_,
    complex64,
    complex128,
    dtype,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
)
from .ops import empty, tensor


class TensorType(type):
    """The class of these names: calling one makes a tensor; host tensors of its dtype are its instances."""

    dtype: dtype | None

    def __call__(cls, *data: Any) -> Tensor:
        """A tensor of the type: of the given sizes and uninitialised, or with the given values."""
        chosen = as_dtype(cls.dtype)  # bfloat16 may be missing, which raises
        if len(data) == 1 and not isinstance(data[0], (int, np.integer)):
            return tensor(data[0], dtype=chosen)
        return empty(*(data or (0,)), dtype=chosen)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor) and not instance.is_cuda and instance.dtype is cls.dtype


class FloatTensor(metaclass=TensorType):
    """float32 tensors."""

    dtype = float32


class DoubleTensor(metaclass=TensorType):
    """float64 tensors."""

    dtype = float64


class HalfTensor(metaclass=TensorType):
    """float16 tensors."""

    dtype = float16


class BFloat16Tensor(metaclass=TensorType):
    """bfloat16 tensors (needs ml_dtypes)."""

    dtype = bfloat16


class LongTensor(metaclass=TensorType):
    """int64 tensors."""

    dtype = int64


class IntTensor(metaclass=TensorType):
    """int32 tensors."""

    dtype = int32


class ShortTensor(metaclass=TensorType):
    """int16 tensors."""

    dtype = int16


class CharTensor(metaclass=TensorType):
    """int8 tensors."""

    dtype = int8


class ByteTensor(metaclass=TensorType):
    """uint8 tensors."""

    dtype = uint8


class BoolTensor(metaclass=TensorType):
    """bool tensors."""

    dtype = bool_


class ComplexFloatTensor(metaclass=TensorType):
    """complex64 tensors."""

    dtype = complex64


class ComplexDoubleTensor(metaclass=TensorType):
    """complex128 tensors."""

    dtype = complex128
