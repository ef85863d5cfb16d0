"""Python objects as flat byte buffers."""

import pickle
from typing import Any

import numpy as np

from .._typing import Array


def encode(value: Any) -> Array:
    """The pickled object as a uint8 array of shape (nbytes,)."""
    return np.frombuffer(pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL), np.uint8)


def decode(data: Array) -> Any:
    """The object that `encode` turned into these bytes."""
    return pickle.loads(data.tobytes())


def pad(data: Array, width: int) -> Array:
    """`data` followed by zeros up to `width` bytes, so that all ranks hold buffers of one size."""
    padded = np.zeros(width, np.uint8)
    padded[: data.size] = data
    return padded
