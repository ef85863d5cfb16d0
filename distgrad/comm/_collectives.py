"""What carries collectives out: the methods below the public ones of `Communicator`, whose arguments were checked."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from .._typing import Array
from ._tree import Tree, add_along
from ._types import ReduceOp, Work

_ALL_TO_ALL_TAG = 32001  # apart from the tags that users choose


class Collectives(ABC):
    """Collectives on flat buffers of one kind of memory: that of the host, or that of a device.

    A group of ranks has one for the host, which is its `Communicator` itself, and gets one for its GPUs when a buffer
    on a GPU first comes along (see `_transports`).
    """

    rank: int
    size: int

    @abstractmethod
    def _all_reduce(self, buffer: Array, op: ReduceOp) -> None: ...

    @abstractmethod
    def _broadcast(self, buffer: Array, root: int) -> None: ...

    @abstractmethod
    def _all_gather(self, output: Array, input: Array) -> None: ...

    @abstractmethod
    def _reduce(self, buffer: Array, root: int, op: ReduceOp) -> None: ...

    @abstractmethod
    def _reduce_scatter(self, output: Array, input: Array, op: ReduceOp) -> None: ...

    @abstractmethod
    def _gather(self, output: Array | None, input: Array, root: int) -> None: ...

    @abstractmethod
    def _scatter(self, output: Array, input: Array | None, root: int) -> None: ...

    @abstractmethod
    def _all_to_all(self, output: Array, input: Array, gets: Sequence[int], puts: Sequence[int]) -> None: ...


class HostCollectives(Collectives):
    """Collectives on host memory: a backend implements the abstract methods, and replaces what it can do faster."""

    @abstractmethod
    def _isend(self, buffer: Array, dest: int, tag: int) -> Work: ...

    @abstractmethod
    def _irecv(self, buffer: Array, source: int, tag: int) -> Work: ...

    def _barrier(self) -> None:
        self._all_reduce(np.zeros(1, np.uint8), ReduceOp.MAX)

    def _reduce(self, buffer: Array, root: int, op: ReduceOp) -> None:
        result = buffer if self.rank == root else buffer.copy()
        self._all_reduce(result, op)

    def _reduce_scatter(self, output: Array, input: Array, op: ReduceOp) -> None:
        result = input.copy()
        self._all_reduce(result, op)
        output[...] = result[self.rank * output.size : (self.rank + 1) * output.size]

    def _gather(self, output: Array | None, input: Array, root: int) -> None:
        everything = np.empty(self.size * input.size, input.dtype) if output is None else output
        self._all_gather(everything, input)

    def _scatter(self, output: Array, input: Array | None, root: int) -> None:
        everything = np.empty(self.size * output.size, output.dtype) if input is None else input
        self._broadcast(everything, root)
        output[...] = everything[self.rank * output.size : (self.rank + 1) * output.size]

    def _all_to_all(self, output: Array, input: Array, gets: Sequence[int], puts: Sequence[int]) -> None:
        self._barrier()
        targets = np.split(output, np.cumsum(gets)[:-1])
        sources = np.split(input, np.cumsum(puts)[:-1])
        peers = [peer for peer in range(self.size) if peer != self.rank]
        works = [self._irecv(targets[peer], peer, _ALL_TO_ALL_TAG) for peer in peers]
        works += [self._isend(sources[peer], peer, _ALL_TO_ALL_TAG) for peer in peers]
        targets[self.rank][...] = sources[self.rank]
        for work in works:
            work.wait()

    def _tree_sum(self, buffer: Array, tree: Tree) -> None:
        """Each rank gets a slice of all buffers, adds it up, and all collect the sums."""
        share = -(-buffer.size // self.size)
        counts = [min(max(buffer.size - r * share, 0), share) for r in range(self.size)]
        slices = np.empty((self.size, counts[self.rank]), buffer.dtype)
        self._all_to_all(slices.reshape(-1), buffer, [counts[self.rank]] * self.size, counts)
        total = np.zeros(share, buffer.dtype)
        add_along(tree, list(slices), [total[: counts[self.rank]]])
        sums = np.empty(self.size * share, buffer.dtype)
        self._all_gather(sums, total)
        buffer[...] = sums[: buffer.size]

    def _empty(self, n: int, dtype: "np.dtype[np.generic]") -> Array:
        self._barrier()
        return np.empty(n, dtype)
