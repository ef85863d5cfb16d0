"""The softmaxes as `torch.nn.functional` has them, where the dimension may be left out."""

import warnings
from typing import TYPE_CHECKING, Any

from . import _softmax
from ._common import tensor_of

if TYPE_CHECKING:
    from .._tensor import Tensor


def _dim(name: str, dim: int | None, input: Any, level: int) -> int:
    """The dimension, or torch's choice with torch's warning."""
    if dim is not None:
        return dim
    text = f"{name}: implicit dimension choice has been deprecated; pass dim, as in {name}(input, dim=1)"
    warnings.warn(text, UserWarning, stacklevel=level)
    return 0 if tensor_of(input, name)._data.ndim in (0, 1, 3) else 1


def softmax(input: "Tensor", dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> "Tensor":
    """``exp(x) / sum(exp(x))`` along `dim`."""
    return _softmax.softmax(input, _dim("softmax", dim, input, _stacklevel), dtype)


def log_softmax(input: "Tensor", dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> "Tensor":
    """The logarithm of the softmax along `dim`."""
    return _softmax.log_softmax(input, _dim("log_softmax", dim, input, _stacklevel), dtype)


def softmin(input: "Tensor", dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> "Tensor":
    """The softmax of ``-input`` along `dim`."""
    return _softmax.softmin(input, _dim("softmin", dim, input, _stacklevel), dtype)
