"""Groups of one node over shared memory, in NumPy alone.

Buffers that `empty` gave out lie at the same place of a shared segment on every rank. A collective works on them where
they are: in an all-reduce the owner of a slice adds it up over the ranks, in rank order and in chunks that stay in its
cache, and writes the result into every rank's own buffer. Other buffers pass through lanes, which are small shared
buffers that every rank writes to and all others read from.
"""

import weakref
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np

from .._typing import Array
from ._calls import Call
from ._checks import is_own_part
from ._communicator import Communicator
from ._mpi import MpiCommunicator
from ._reduce import reduce_into, reduce_to
from ._segment import Segment, padded, share
from ._serial import SerialCommunicator
from ._statistics import Statistics
from ._tree import Tree, add_along
from ._types import Options, ReduceOp, Work
from .diagnosis._board import Board, board_bytes

SMALL_BYTES = 16 * 1024  # what passes through the lane on the control page
STAGE_BYTES = 4 * 1024 * 1024  # what passes at once through the wide lane, which is made when it is first needed
LANE_BYTES = 64 * 1024 * 1024  # at most, of the wide lane; with many ranks less passes at once
_ALIGN = 64  # elements to which slices are rounded, so that two owners never share a cache line
_PLACE_BITS = 40  # offset of a buffer within its segment, below the number of the segment


def aligned_slice(n: int, parts: int, index: int) -> slice:
    """The elements, of `n`, of part `index` of so many nearly equal parts."""
    share = -(-n // (parts * _ALIGN)) * _ALIGN
    return slice(min(index * share, n), min((index + 1) * share, n))


class Lane:
    """Two slots for each rank in shared memory, used in turn.

    A rank may write to a slot again only when all peers have read it. With two slots that needs no meeting of its own:
    whoever comes to the meeting of the next exchange has finished reading this one.

    Args:
        segment: the shared memory.
        offset: where the lane begins in it.
        capacity: bytes of one slot.
        size: number of ranks.
    """

    def __init__(self, segment: Segment, offset: int, capacity: int, size: int) -> None:
        self.capacity = capacity
        self._segment = segment
        slots = [offset + slot * capacity for slot in range(2 * size)]
        self._starts = (slots[::2], slots[1::2])
        self._turn = 0

    def advance(self, n: int, dtype: "np.dtype[np.generic]") -> list[Array]:
        """Turn to the other slots: one array of `n` elements for each rank."""
        self._turn ^= 1
        return [self._segment.array(start, n, dtype) for start in self._starts[self._turn]]


class ShmCommunicator(Communicator):
    """A group of ranks on one node. Creating it is a collective call.

    Args:
        base: a group of the same ranks, which this one owns; it carries messages between two ranks, and the names of
            new segments.
        statistics: where time is counted; None means a new account.
    """

    name: ClassVar[str] = "shm"

    def __init__(self, base: Communicator, statistics: Statistics | None = None) -> None:
        super().__init__(base.rank, base.size, base.ranks, base.options, statistics)
        self._base = base
        lane = board_bytes(self.size)
        control = share(base, padded(lane + 2 * self.size * SMALL_BYTES))
        words = memoryview(control).cast("q")
        self._board = Board(words, self.rank, self.size, self.options, ranks=self.ranks)
        if isinstance(base, MpiCommunicator):
            base.watch_messages_on(self._board)
        self._small = Lane(control, lane, SMALL_BYTES, self.size)
        self._wide: Lane | None = None
        self._segments: dict[int, weakref.ref[Segment]] = {}
        self._made = 0
        base.barrier()  # nobody meets on the board before every row has its process id

    # ---- required ----------------------------------------------------------------------------------------------

    def _check_peers(self, waited: float, doing: str) -> None:
        for peer in range(self.size):
            if peer != self.rank:
                self._board.check(peer, waited, doing)

    def _over_mpi(self) -> Communicator | None:
        return self._base._over_mpi()

    def _begin(self, call: Call) -> None:
        self._board.announce(call)

    def _fail(self, reason: str) -> None:
        self._board.fail(reason)
        self._base._fail(reason)

    def _all_reduce(self, buffer: Array, op: ReduceOp) -> None:
        if buffer.nbytes <= SMALL_BYTES:
            reduce_into(buffer, self._exchange(self._small, buffer), op)
        elif (places := self._find_places(buffer)) is not None:
            mine = self._slice(buffer.size)
            arrays = [place[mine] for place in places]
            reduce_to(arrays, arrays, op)
            self._board.meet()
        else:
            self._all_reduce_staged(buffer, op)

    def _tree_sum(self, buffer: Array, tree: Tree) -> None:
        places = self._find_places(buffer) if buffer.nbytes > SMALL_BYTES else None
        if places is not None:
            mine = self._slice(buffer.size)
            parts = [place[mine] for place in places]
            add_along(tree, parts, parts)
            self._board.meet()
            return
        for lane, part in self._chunks(buffer):
            add_along(tree, self._exchange(lane, part), [part])

    def _broadcast(self, buffer: Array, root: int) -> None:
        places = self._find_places(buffer) if buffer.nbytes > SMALL_BYTES else None
        if places is not None:
            if self.rank != root:
                buffer[...] = places[root]
            self._board.meet()
            return
        for lane, part in self._chunks(buffer):
            views = self._exchange(lane, part, write=self.rank == root)
            if self.rank != root:
                part[...] = views[root]

    def _all_gather(self, output: Array, input: Array) -> None:
        rows = output.reshape(self.size, input.size)
        in_place = is_own_part(output, input, self.rank)
        if input.nbytes > SMALL_BYTES:
            places = self._find_places(output if in_place else input, in_place)
        else:
            places = None
        if places is not None:
            for rank, (row, place) in enumerate(zip(rows, places, strict=True)):
                if not in_place:
                    row[...] = place
                elif rank != self.rank:
                    row[...] = place.reshape(rows.shape)[rank]
            self._board.meet()
            return
        start = 0
        for lane, part in self._chunks(input):
            for row, view in zip(rows, self._exchange(lane, part), strict=True):
                row[start : start + part.size] = view
            start += part.size

    def _isend(self, buffer: Array, dest: int, tag: int) -> Work:
        return self._base._isend(buffer, dest, tag)

    def _irecv(self, buffer: Array, source: int, tag: int) -> Work:
        return self._base._irecv(buffer, source, tag)

    def _split(self, color: int | None, key: int, options: Options) -> Communicator | None:
        self._board.meet()
        base = self._base.split(color, key, options)
        if base is None or base.size > 1:
            return None if base is None else ShmCommunicator(base, self.statistics)
        base.close()
        return SerialCommunicator(base.ranks, options, self.statistics)

    def _close(self) -> None:
        self._board.finish()
        self._segments.clear()
        self._wide = None
        self._base.close()

    # ---- faster than the defaults ------------------------------------------------------------------------------

    def _barrier(self) -> None:
        self._board.meet()

    def _empty(self, n: int, dtype: "np.dtype[np.generic]") -> Array:
        self._board.meet()
        if n == 0:
            return np.empty(0, dtype)
        segment = share(self._base, self.size * padded(n * dtype.itemsize))
        self._made += 1
        self._segments[self._made] = weakref.ref(segment)
        return segment.array(self.rank * padded(n * dtype.itemsize), n, dtype)

    def _reduce(self, buffer: Array, root: int, op: ReduceOp) -> None:
        for lane, part in self._chunks(buffer):
            views = self._exchange(lane, part)
            if self.rank == root:
                reduce_into(part, views, op)

    def _reduce_scatter(self, output: Array, input: Array, op: ReduceOp) -> None:
        places = self._find_places(input) if input.nbytes > SMALL_BYTES else None
        if places is not None:
            mine = slice(self.rank * output.size, (self.rank + 1) * output.size)
            reduce_into(output, [place[mine] for place in places], op)
            self._board.meet()
            return
        for lane, columns, part in self._column_chunks(output, input):
            views = self._exchange(lane, columns)
            reduce_into(part, [view.reshape(self.size, -1)[self.rank] for view in views], op)

    def _gather(self, output: Array | None, input: Array, root: int) -> None:
        start = 0
        for lane, part in self._chunks(input):
            views = self._exchange(lane, part)
            if output is not None:
                for row, view in zip(output.reshape(self.size, input.size), views, strict=True):
                    row[start : start + part.size] = view
            start += part.size

    def _scatter(self, output: Array, input: Array | None, root: int) -> None:
        whole = np.empty(self.size * output.size, output.dtype) if input is None else input
        for lane, columns, part in self._column_chunks(output, whole):
            views = self._exchange(lane, columns, write=self.rank == root)
            part[...] = views[root].reshape(self.size, -1)[self.rank]

    def _all_to_all(self, output: Array, input: Array, gets: Sequence[int], puts: Sequence[int]) -> None:
        self._board.meet()
        self._base.all_to_all(output, input, gets, puts)

    # ---- buffers in place --------------------------------------------------------------------------------------

    def _find_places(self, buffer: Array, whole: bool = False) -> list[Array] | None:
        """Meet; then every rank's buffer, if all of them lie at one place of a segment, else None.

        `whole` says whether the buffer holds the parts of all ranks; where ranks differ in that, None as well.
        """
        number, offset = self._locate(buffer)
        place = (2 * number + whole) << _PLACE_BITS | offset
        self._board.offer(place)
        self._board.meet()
        if number == 0 or not self._board.agreed(place):
            return None
        segment = self._segments[number]()
        assert segment is not None  # the buffer, which lies in it, keeps it alive
        part = segment.nbytes // self.size
        return [segment.array(rank * part + offset, buffer.size, buffer.dtype) for rank in range(self.size)]

    def _locate(self, buffer: Array) -> tuple[int, int]:
        """The number of the segment in whose part for this rank the buffer lies, and its offset there; else (0, 0)."""
        address = buffer.__array_interface__["data"][0]
        for number, reference in list(self._segments.items()):
            segment = reference()
            if segment is None:
                del self._segments[number]
                continue
            part = segment.nbytes // self.size
            offset = address - segment.start - self.rank * part
            if offset >= 0 and offset + buffer.nbytes <= part:
                return number, offset
        return 0, 0

    def _slice(self, n: int) -> slice:
        """The elements, of `n`, that this rank adds up for all."""
        return aligned_slice(n, self.size, self.rank)

    # ---- buffers by way of a lane ------------------------------------------------------------------------------

    def _exchange(self, lane: Lane, source: Array, write: bool = True) -> list[Array]:
        """Show `source` to all ranks and meet: what each rank shows, readable until the next exchange but one."""
        if source.size == 0:
            self._board.meet()
            return [source] * self.size
        views = lane.advance(source.size, source.dtype)
        if write:
            views[self.rank].reshape(source.shape)[...] = source
        self._board.meet()
        return views

    def _lane_for(self, nbytes: int) -> Lane:
        """A lane for buffers of this size; the wide one is made by the first call that needs it, on all ranks."""
        if nbytes <= SMALL_BYTES:
            return self._small
        if self._wide is None:
            self._board.meet()
            capacity = min(STAGE_BYTES, padded(LANE_BYTES // (2 * self.size)))
            self._wide = Lane(share(self._base, 2 * self.size * capacity), 0, capacity, self.size)
        return self._wide

    def _chunks(self, buffer: Array) -> Iterator[tuple[Lane, Array]]:
        """The parts of `buffer` that fit a lane, at least one."""
        lane = self._lane_for(buffer.nbytes)
        step = lane.capacity // buffer.itemsize
        for start in range(0, max(buffer.size, 1), step):
            yield lane, buffer[start : start + step]

    def _column_chunks(self, part: Array, whole: Array) -> Iterator[tuple[Lane, Array, Array]]:
        """Parts of `part`, each with the columns of `whole`, seen as one row for each rank, that belong to it."""
        rows = whole.reshape(self.size, part.size)
        lane = self._lane_for(whole.nbytes)
        step = max(1, lane.capacity // (self.size * part.itemsize))
        for start in range(0, max(part.size, 1), step):
            yield lane, rows[:, start : start + step], part[start : start + step]

    def _all_reduce_staged(self, buffer: Array, op: ReduceOp) -> None:
        """A rank shows what is outside its slice, adds up its slice, shows the sum, and copies those of the others."""
        for lane, part in self._chunks(buffer):
            views = lane.advance(part.size, part.dtype)
            mine, shown = self._slice(part.size), views[self.rank]
            shown[: mine.start] = part[: mine.start]
            shown[mine.stop :] = part[mine.stop :]
            self._board.meet()
            inputs = [view[mine] for view in views]
            inputs[self.rank] = part[mine]
            reduce_to([shown[mine], part[mine]], inputs, op)
            self._board.meet()
            for rank, view in enumerate(views):
                theirs = aligned_slice(part.size, self.size, rank)
                if rank != self.rank:
                    part[theirs] = view[theirs]
