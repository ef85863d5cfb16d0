"""Images as oneDNN's primitives and the NumPy kernels take them: (N, C, ...) in channels-last memory."""

from typing import Any

import numpy as np

from ..._typing import Array, Shape
from .._numpy._channels import channels_first, channels_last
from ._core import DST, SRC, Core, Primitive, Thread, row_major
from ._library import Handle, Library


def channels_last_layout(library: Library, shape: Shape) -> Handle:
    """The memory descriptor of (N, C, ...) that lies as (N, ..., C)."""
    n, c, *spatial = shape
    first, *rest, last = row_major((n, *spatial, c))
    return library.layout(shape, (first, last, *rest))


def is_packed(x: Array) -> bool:
    """Whether (N, C, ...) lies as (N, ..., C), without gaps."""
    return channels_last(x).flags.c_contiguous  # type: ignore[no-any-return]


class _Packing:
    """The copy of (N, C, ...) as it is commonly given into channels-last memory."""

    def __init__(self, local: Thread, shape: Shape) -> None:
        plain = local.library.layout(shape, row_major(shape))
        target = channels_last_layout(local.library, shape)
        self.run = Primitive(local, local.library.describe_reorder(plain, target), {SRC: plain, DST: target})


def packed(core: Core, x: Array) -> Array:
    """(N, C, ...) as a contiguous (N, ..., C), copied if it lies in another way."""
    last = channels_last(x)
    if last.flags.c_contiguous:
        return last
    if not x.flags.c_contiguous or x.dtype != np.float32:
        return np.ascontiguousarray(last)
    plan = core.plan(_Packing, x.shape)
    if plan is None:
        return np.ascontiguousarray(last)
    out, _ = new_images(x.shape)
    plan.run(x, out)
    return out


def new_images(shape: Shape, dtype: Any = np.float32) -> tuple[Array, Array]:
    """An uninitialised array (N, ..., C), and its view (N, C, ...) of the given shape."""
    n, c, *spatial = shape
    out = np.empty((n, *spatial, c), dtype=dtype)
    return out, channels_first(out)
