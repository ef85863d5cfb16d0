"""Parameters as one vector, and back."""

from collections.abc import Iterable

from .. import ops
from .._tensor import Tensor
from ..errors import ShapeError


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All elements of all parameters, one behind the other."""
    return ops.cat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Sets the parameters' values to those of a vector that `parameters_to_vector` made.

    Raises:
        TypeError: it is no Tensor.
        ShapeError: it has another number of elements.
    """
    if not isinstance(vec, Tensor):
        raise TypeError(f"expected Tensor, but got: {type(vec).__name__}")
    listed = list(parameters)
    total = sum(p.numel() for p in listed)
    if vec.ndim != 1 or vec.numel() != total:
        raise ShapeError(f"vector_to_parameters: expected a vector of {total} elements, got shape {list(vec.shape)}")
    start = 0
    for p in listed:
        p.data = vec.data[start : start + p.numel()].reshape(p.shape).clone()
        start += p.numel()
