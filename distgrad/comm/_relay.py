"""Sums that are carried from node to node, so that the order of summation is that of all ranks.

The first node adds up its ranks and hands the sum to the second, which adds its own ranks to it, and so on; the last
node has the result, which goes back the same way. Many chunks are under way at once, in both directions, so with few
nodes the time is that of one crossing of the wire; each further node adds the time of two messages. In return the bits
of the result depend neither on how ranks are spread over nodes nor on the size of the buffer.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .._typing import Array
from ._communicator import Communicator
from ._reduce import Carried
from ._types import Work

RING = 4  # sums that a node works on or sends on at one time
_UP, _DOWN = 32002, 32003  # tags, apart from those that users choose


class Chunk(NamedTuple):
    """What one node has of a chunk: an input of each of its ranks, and where the result shall be written.

    The first of the outputs is received into. They may be the inputs.
    """

    inputs: Sequence[Array]
    outputs: Sequence[Array]


class Relay:
    """One rank's place in the line along which the sums of a slice travel.

    Args:
        group: a group that can send messages.
        line: the rank in it that carries this slice on each node, in the order of the nodes.
    """

    def __init__(self, group: Communicator, line: Sequence[int]) -> None:
        at = line.index(group.rank)
        self._group = group
        self._before = line[at - 1] if at > 0 else None
        self._after = line[at + 1] if at + 1 < len(line) else None
        self._memory = np.empty((RING, 0), np.uint8)
        self._sending: list[Work | None] = [None] * RING  # out of each row of the memory
        self._sent: list[Work] = []

    def reduce(self, chunks: Sequence[Chunk], carried: Carried) -> None:
        """Reduce chunks over the ranks of all nodes, each of which calls this with chunks of the same sizes."""
        widest = max(chunk.inputs[0].size for chunk in chunks) * carried.dtype.itemsize
        if widest > self._memory.shape[1]:
            self._memory = np.empty((RING, widest), np.uint8)
        returning: deque[tuple[Chunk, Work]] = deque()
        with np.errstate(all="ignore"):  # an overflow is for the caller to look for, as with MPI
            for chunk, total in zip(chunks, self._sums(chunks, carried), strict=True):
                if self._after is None:
                    carried.end(chunk.outputs[0], total)
                    self._publish(chunk)
                else:
                    returning.append((chunk, self._group._irecv(chunk.outputs[0], self._after, _DOWN)))
                self._take(returning)
            self._take(returning, all_of_them=True)
        for work in [*self._sent, *filter(None, self._sending)]:
            work.wait()
        self._sent.clear()
        self._sending = [None] * RING

    def _sums(self, chunks: Sequence[Chunk], carried: Carried) -> Iterator[Array]:
        """The sum of each chunk over the nodes up to this one; it is on its way to the next."""
        coming: deque[tuple[Array, Work]] = deque()
        for number, chunk in enumerate(chunks):
            if self._before is None:
                total = self._buffer(number, chunk, carried)
                carried.begin(total, chunk.inputs)
            else:
                for ahead in range(number + len(coming), min(number + RING // 2, len(chunks))):
                    buffer = self._buffer(ahead, chunks[ahead], carried)
                    coming.append((buffer, self._group._irecv(buffer, self._before, _UP)))
                total, work = coming.popleft()
                work.wait()
                carried.go_on(total, chunk.inputs)
            if self._after is not None:
                self._sending[number % RING] = self._group._isend(total, self._after, _UP)
            yield total

    def _buffer(self, number: int, chunk: Chunk, carried: Carried) -> Array:
        """A row of the ring for the sum of a chunk, as soon as what it held before has been sent."""
        work, self._sending[number % RING] = self._sending[number % RING], None
        if work is not None:
            work.wait()
        nbytes = chunk.inputs[0].size * carried.dtype.itemsize
        return self._memory[number % RING, :nbytes].view(carried.dtype)

    def _take(self, returning: "deque[tuple[Chunk, Work]]", all_of_them: bool = False) -> None:
        """Publish the results that have come back, or wait for all of them."""
        while returning and (all_of_them or returning[0][1].is_completed()):
            chunk, work = returning.popleft()
            work.wait()
            self._publish(chunk)

    def _publish(self, chunk: Chunk) -> None:
        """Hand the result, which is in the first output, to the node before and to the other outputs."""
        result, *others = chunk.outputs
        if self._before is not None:
            self._sent.append(self._group._isend(result, self._before, _DOWN))
        for other in others:
            np.copyto(other, result)
