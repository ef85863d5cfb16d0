"""How the optimizers' updates go over flat arrays: in blocks that stay in the cache.

A pass over 64 Ki elements with all its intermediate results in two scratch blocks runs in the second-level cache; a
pass over a whole model writes each intermediate result to memory and takes about twice as long.
"""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from ..._typing import Array

BLOCK = 1 << 16  # elements


class _Scratch(threading.local):
    """Two blocks for each dtype and, by length, views of them; ranks can be threads, so each has its own."""

    def __init__(self) -> None:
        self.blocks: dict[Any, tuple[Array, Array]] = {}
        self.views: dict[tuple[Any, int], tuple[Array, Array]] = {}

    def make(self, dtype: Any, size: int) -> tuple[Array, Array]:
        if dtype not in self.blocks:
            self.blocks[dtype] = (np.empty(BLOCK, dtype), np.empty(BLOCK, dtype))
        if len(self.views) >= 256:
            self.views.clear()
        first, second = self.blocks[dtype]
        views = self.views[dtype, size] = (first[:size], second[:size])
        return views


_scratch = _Scratch()


def in_blocks(update: Callable[..., None], arrays: tuple[Array | None, ...], *options: Any) -> None:
    """Calls ``update(*pieces, scratch, scratch, *options)`` for one block after the other; None stays None."""
    param = arrays[0]
    assert param is not None
    size, dtype = param.size, param.dtype
    views = _scratch.views
    if size <= BLOCK:
        s, t = views.get((dtype, size)) or _scratch.make(dtype, size)
        update(*arrays, s, t, *options)
        return
    for start in range(0, size, BLOCK):
        pieces = [None if a is None else a[start : start + BLOCK] for a in arrays]
        n = min(BLOCK, size - start)
        s, t = views.get((dtype, n)) or _scratch.make(dtype, n)
        update(*pieces, s, t, *options)
