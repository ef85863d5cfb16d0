"""Aliases for arrays, dtypes and shapes, and the protocol by which lower layers see a Tensor's buffer."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

# A numpy.ndarray or a cupy.ndarray. The two share no static type, so the alias names the meaning and not the class.
Array: TypeAlias = Any
Shape: TypeAlias = tuple[int, ...]
IntOrInts: TypeAlias = int | Sequence[int]
Scalar: TypeAlias = bool | int | float


@runtime_checkable
class HasArray(Protocol):
    """Anything that lends its raw array, without a copy: a Tensor, for instance.

    `comm` sees Tensors only through this, so that it need not know them.
    """

    def __distgrad_array__(self, *, write: bool = False) -> Array:
        """The raw array that shares memory with this object; `write` announces that it will be written to."""
        ...
