"""A weighted sum over logical shards along one fixed binary tree: the part of it that lies within a rank."""

from collections.abc import Iterator

from .._typing import Array
from ..backend import backend_of

CHUNK_BYTES = 128 * 1024  # a chunk is weighted, added and written while it is in the cache


class TreeSum:
    """Sums leaves that come one after the other in one array.

    A binary counter: the sum of two neighbours is formed as soon as both are there, that of two pairs likewise, so at
    any time one array for each level of the tree is held, at most.

    Args:
        array: shape (n,): where each leaf is when it is added, and in the end the sum.
        leaves: how many will come, a power of two.
    """

    def __init__(self, array: Array, leaves: int) -> None:
        self._array = array
        self._leaves = leaves
        self._levels: list[Array] = []  # level k: a sum of 2**k leaves that waits for its neighbour
        self._added = 0

    def restart(self) -> None:
        """Begins a new sum."""
        self._added = 0

    def add(self, weight: float) -> None:
        """Adds `weight` times what the array holds; whoever wants to use the array for the next leaf may."""
        waiting = (self._added ^ (self._added + 1)).bit_length() - 1  # so many levels hold a neighbour of this leaf
        self._added += 1
        is_last = self._added == self._leaves
        target = self._array if is_last else self._level(waiting)
        xp = backend_of(self._array).xp
        factor = xp.asarray(weight, dtype=self._array.dtype)
        for part in self._chunks():
            x, result = self._array[part], target[part]
            xp.multiply(x, factor, out=x if waiting else result)
            for level in range(waiting):
                xp.add(self._levels[level][part], x, out=result if level == waiting - 1 else x)

    def add_zero(self) -> None:
        """Adds a leaf that is zero everywhere."""
        self._array[...] = 0
        self.add(1.0)

    def _level(self, number: int) -> Array:
        while len(self._levels) <= number:
            self._levels.append(backend_of(self._array).xp.empty_like(self._array))
        return self._levels[number]

    def _chunks(self) -> Iterator[slice]:
        step = CHUNK_BYTES // self._array.itemsize if backend_of(self._array).type == "cpu" else self._array.size
        for start in range(0, self._array.size, max(step, 1)):
            yield slice(start, start + step)
