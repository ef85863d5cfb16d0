"""Layouts of images: (N, C, ...) in channels-last memory."""

import numpy as np

from ..._typing import Array, Shape
from .._numpy._channels import channels_first, channels_last
from ._core import row_major
from ._library import Handle, Library


def channels_last_layout(library: Library, shape: Shape) -> Handle:
    """The memory descriptor of (N, C, ...) that lies as (N, ..., C)."""
    n, c, *spatial = shape
    first, *rest, last = row_major((n, *spatial, c))
    return library.layout(shape, (first, last, *rest))


def packed(x: Array) -> Array:
    """(N, C, ...) as a contiguous (N, ..., C), copied if it lies in another way."""
    return np.ascontiguousarray(channels_last(x))


def new_images(shape: Shape) -> tuple[Array, Array]:
    """An uninitialised float32 array (N, ..., C), and its view (N, C, ...) of the given shape."""
    n, c, *spatial = shape
    out = np.empty((n, *spatial, c), dtype=np.float32)
    return out, channels_first(out)
