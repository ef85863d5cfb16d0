"""Methods of NumPy's ufuncs that not every array module has."""

from typing import Any

import numpy as np

from ..._typing import Array


def at(name: str, target: Array, index: Any, values: Any) -> None:
    """``target[index] = ufunc(target[index], values)``, one value after the other where places repeat."""
    getattr(np, name).at(target, index, values)


def accumulate(name: str, x: Array, axis: int) -> Array:
    """The ufunc's running result along `axis`."""
    return getattr(np, name).accumulate(x, axis=axis)
