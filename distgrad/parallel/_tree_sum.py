"""A weighted sum over logical shards along one fixed binary tree: the part of it that lies within a rank.

And the part between ranks for a step that goes on without ranks that have died, where a rank has several blocks.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from .._typing import Array
from ..backend import backend_of
from ..comm import Communicator

CHUNK_BYTES = 256 * 1024  # a chunk is weighted, added and written while it is in the cache


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
        self._waiting: list[Array] = []  # sums whose neighbours are yet to come, those of the most leaves first
        self._spare: list[Array] = []
        self._added = 0

    def restart(self) -> None:
        """Begins a new sum."""
        self._added = 0
        self._spare += self._waiting
        self._waiting.clear()

    @property
    def is_complete(self) -> bool:
        """Whether all leaves have come."""
        return self._added == self._leaves

    def add(self, weight: float) -> None:
        """Adds `weight` times what the array holds; whoever wants to use the array for the next leaf may."""
        pairs = (self._added ^ (self._added + 1)).bit_length() - 1  # so many sums wait for this leaf, one each level
        self._added += 1
        begin = len(self._waiting) - pairs
        left = self._waiting[begin:][::-1]
        del self._waiting[begin:]
        target = self._array if self.is_complete else left[0] if left else self._take()
        self._sum(left, weight, target)
        self._spare += [total for total in left if total is not target]
        if not self.is_complete:
            self._waiting.append(target)

    def _sum(self, left: list[Array], weight: float, target: Array) -> None:
        """Writes the weighted leaf plus all on its left, the nearest first, into `target`."""
        xp = backend_of(self._array).xp
        factor = xp.asarray(weight, dtype=self._array.dtype)
        for part, scratch in self._chunks():
            result = target[part]
            xp.multiply(self._array[part], factor, out=scratch if left else result)
            for i, total in enumerate(left, 1):
                xp.add(total[part], scratch, out=result if i == len(left) else scratch)
            if self._keep is not None and self.is_complete:
                self._keep[part] = result

    def add_zero(self) -> None:
        """Adds a leaf that is zero everywhere."""
        self._array[...] = 0
        self.add(1.0)

    def _take(self) -> Array:
        return self._spare.pop() if self._spare else backend_of(self._array).xp.empty_like(self._array)

    def _chunks(self) -> Iterator[tuple[slice, Array]]:
        """Pieces of the array, each with memory for a leaf of its size; on a GPU the whole, over itself."""
        whole = self._array
        if backend_of(whole).type != "cpu":
            yield slice(None), whole
            return
        step = CHUNK_BYTES // whole.itemsize
        scratch = np.empty(step, whole.dtype)  # the array is read only: what is written must go to memory once more
        for start in range(0, whole.size, step):
            yield slice(start, start + step), scratch[: whole.size - start]


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
