"""A weighted sum over logical shards along one fixed binary tree: the part of it that lies within a rank.

And the part between ranks for a step that goes on without ranks that have died, where a rank has several blocks.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from .._typing import Array
from ..backend import backend_of
from ..comm import Communicator

CHUNK_BYTES = 128 * 1024  # a chunk is weighted, added and written while it is in the cache


class TreeSum:
    """Sums leaves that come one after the other in one array.

    A binary counter: the sum of two neighbours is formed as soon as both are there, that of two pairs likewise, so at
    any time one array for each level of the tree is held, at most.

    Args:
        array: shape (n,): where each leaf is when it is added, and in the end the sum.
        leaves: how many will come, a power of two.
        keep: the sum is written there, too.
    """

    def __init__(self, array: Array, leaves: int, keep: Array | None = None) -> None:
        self._array = array
        self._leaves = leaves
        self._keep = keep
        self._levels: list[Array] = []  # level k: a sum of 2**k leaves that waits for its neighbour
        self._added = 0

    def restart(self) -> None:
        """Begins a new sum."""
        self._added = 0

    @property
    def is_complete(self) -> bool:
        """Whether all leaves have come."""
        return self._added == self._leaves

    def add(self, weight: float) -> None:
        """Adds `weight` times what the array holds; whoever wants to use the array for the next leaf may."""
        waiting = (self._added ^ (self._added + 1)).bit_length() - 1  # so many levels hold a neighbour of this leaf
        self._added += 1
        target = self._array if self.is_complete else self._level(waiting)
        keep = self._keep if self.is_complete else None
        xp = backend_of(self._array).xp
        factor = xp.asarray(weight, dtype=self._array.dtype)
        for part in self._chunks():
            x, result = self._array[part], target[part]
            xp.multiply(x, factor, out=x if waiting else result)
            for level in range(waiting):
                xp.add(self._levels[level][part], x, out=result if level == waiting - 1 else x)
            if keep is not None:
                keep[part] = result

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


def sum_of_blocks(
    group: Communicator, blocks: Sequence[tuple[range, int]], mine: Mapping[range, Array], like: Array
) -> Array:
    """The sum along the tree over blocks of which a rank may have several. A collective call.

    Slower than `Communicator.tree_sum`: each block's sum goes to all ranks, and each rank adds them up.

    Args:
        group: the ranks.
        blocks: which leaves, and who has their sum; they tile the tree.
        mine: the sums that this rank has, shape (n,).
        like: of the shape and dtype of the sums.

    Returns:
        the sum in host memory, shape (n,).
    """

    def below(start: int, stop: int) -> Array:
        inside = [block for block in blocks if start <= block[0].start < stop]
        if len(inside) == 1:
            leaves, rank = inside[0]
            part = np.array(_on_host(mine[leaves])) if rank == group.rank else np.empty(like.size, like.dtype)
            group.broadcast(part, rank)
            return part
        middle = (start + stop) // 2
        left, right = below(start, middle), below(middle, stop)
        with np.errstate(all="ignore"):
            return np.add(left, right, out=left)

    return below(0, blocks[-1][0].stop)


def _on_host(array: Array) -> Array:
    return array if isinstance(array, np.ndarray) else backend_of(array).to_numpy(array)
