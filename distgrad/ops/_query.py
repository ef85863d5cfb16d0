"""Questions about tensors that torch answers with functions."""

from typing import Any

from ..autograd._base import TensorBase
from ..autograd._op import result_dtype
from ..backend import OF_NUMPY, as_dtype, dtype, get_default_dtype, promote_types
from ..errors import ShapeError
from ._common import tensor_of


def is_tensor(obj: Any) -> bool:
    """Whether `obj` is a Tensor."""
    return isinstance(obj, TensorBase)


def is_floating_point(input: Any) -> bool:
    """Whether the dtype of `input` is a floating-point one."""
    return OF_NUMPY[tensor_of(input, "is_floating_point")._data.dtype].is_floating_point


def is_complex(input: Any) -> bool:
    """Whether the dtype of `input` is a complex one."""
    return OF_NUMPY[tensor_of(input, "is_complex")._data.dtype].is_complex


def is_nonzero(input: Any) -> bool:
    """Whether a tensor of one element is not 0.

    Raises:
        ShapeError: it has more elements, or none.
    """
    data = tensor_of(input, "is_nonzero")._data
    if data.size != 1:
        raise ShapeError(f"is_nonzero: expected a tensor of one element, got {data.size}; use .any() or .all()")
    return bool(data.item())


def numel(input: Any) -> int:
    """The number of elements."""
    return int(tensor_of(input, "numel")._data.size)


def result_type(tensor1: Any, tensor2: Any) -> dtype:
    """The dtype in which two tensors or numbers meet in an operation."""
    if isinstance(tensor1, TensorBase) or isinstance(tensor2, TensorBase):
        return OF_NUMPY[result_dtype((tensor1, tensor2))]
    first, second = (get_default_dtype() if isinstance(v, float) else as_dtype(type(v)) for v in (tensor1, tensor2))
    return promote_types(first, second)
