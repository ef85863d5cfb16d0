"""The CPU backend: NumPy arrays."""

from typing import Any

import numpy as np

from ..._typing import Array
from .._backend import Backend
from . import _optim, _special
from ._namespace import NumpyNamespace


class _NumpyKernels:
    special = _special
    optim = _optim


def _asarray(value: Any) -> Array:
    """A plain ndarray: NumPy's operations return scalars for 0-d results, and subclasses keep their class."""
    array = np.asarray(value)
    return array if array.__class__ is np.ndarray else array.view(np.ndarray)


CPU = Backend("cpu", np, NumpyNamespace(), _NumpyKernels(), np.ndarray, _asarray)
