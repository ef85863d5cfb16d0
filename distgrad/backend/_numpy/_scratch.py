"""Working memory that kernels use again and again, so that the system need not hand out fresh pages each time."""

import math
import threading
from typing import Any

import numpy as np

from ..._typing import Array, Shape

BLOCK = 1 << 17  # elements of a block that, in float32, fits in a core's second-level cache
KEEP = 1 << 26  # bytes: larger buffers are given back at once


class _Pool(threading.local):
    def __init__(self) -> None:
        self.buffers: dict[str, Array] = {}


_pool = _Pool()


def scratch(name: str, shape: Shape, dtype: Any) -> Array:
    """An uninitialised array on this thread's buffer `name`, valid until the same name is asked for again."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    buffer = _pool.buffers.get(name)
    if buffer is None or buffer.size < size:
        buffer = np.empty(size, dtype=np.uint8)
        if size <= KEEP:
            _pool.buffers[name] = buffer
    return buffer[:size].view(dtype).reshape(shape)
