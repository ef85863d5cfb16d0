"""Parameters and buffers as layers make them, before they are given values."""

from typing import Any

from .. import ops
from .._parameter import Parameter


def new_parameter(*shape: int, device: Any = None, dtype: Any = None) -> Parameter:
    """A parameter of a shape whose values are not set."""
    return Parameter(ops.empty(*shape, device=device, dtype=dtype))


def repeated(value: Any, times: int, name: str) -> tuple[int, ...]:
    """A size for each of the spatial dimensions, from one number for all or one for each.

    Raises:
        ValueError: there are too few or too many.
    """
    if not isinstance(value, (tuple, list)):
        return (value,) * times
    if len(value) != times:
        raise ValueError(f"{name}: expected one number or {times}, got {tuple(value)}")
    return tuple(value)
