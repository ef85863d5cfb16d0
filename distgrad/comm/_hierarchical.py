"""Groups that span nodes: shared memory within a node, messages between them.

Each node has an owner for every slice of a buffer: rank r of the node owns slice r, and the ranks that own the same
slice on different nodes work on it together, all slices at once. Where the nodes have different numbers of ranks there
are as many slices as the smallest node has ranks.

Reductions add up node by node, and within a node rank by rank (see `_relay`): the bits of the result are those of the
shm backend wherever ranks are numbered node by node. What else travels passes through a window of shared memory on each
node: ranks write what they give, the owners exchange it with the other nodes, ranks read what they get.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from .._typing import Array
from ..errors import CommError
from ._calls import Call
from ._communicator import Communicator
from ._mpi import MpiCommunicator, load
from ._reduce import Carried, reduce_into
from ._relay import Chunk, Relay
from ._segment import padded, share
from ._serial import SerialCommunicator
from ._shm import SMALL_BYTES, Lane, ShmCommunicator, aligned_slice
from ._statistics import Statistics
from ._topology import Topology
from ._types import Options, ReduceOp, Work

MESSAGE_BYTES = 256 * 1024  # of a slice that travels as one message
WINDOW_BYTES = 8 * 1024 * 1024  # the window of a node, or 1 MiB for each of its ranks where it has more than 8


class Place(NamedTuple):
    """Where a rank is: its node, and its number there."""

    node: int
    local: int


class Region(NamedTuple):
    """The part of the window in which one owner exchanges columns of every rank's buffer."""

    columns: slice
    table: Array  # (nodes, most ranks of a node, columns)


class HierarchicalCommunicator(Communicator):
    """A group of ranks on several nodes. Creating it is a collective call.

    Args:
        base: a group of the same ranks, which this one owns; it carries the messages.
        statistics: where time is counted; None means a new account.

    Raises:
        CommError: on every rank, where the ranks of some node cannot share memory.
    """

    name: ClassVar[str] = "hierarchical"

    def __init__(self, base: Communicator, statistics: Statistics | None = None) -> None:
        super().__init__(base.rank, base.size, base.ranks, base.options, statistics)
        self._base = base
        nodes = Topology.discover(base).nodes
        places = {rank: Place(node, local) for node, ranks in enumerate(nodes) for local, rank in enumerate(ranks)}
        self._places = [places[rank] for rank in range(self.size)]
        self._in_order = list(places.values())  # in which reductions add up
        self._me = places[self.rank]
        self._shape = len(nodes), max(map(len, nodes))
        self._slices = min(map(len, nodes))
        self._node, self._window = self._share_node()
        owner = self._me.local < self._slices
        self._relay = Relay(base, [ranks[self._me.local] for ranks in nodes]) if owner else None
        self._column = _split_quietly(base, self._me.local if owner else None, self._me.node)

    def _share_node(self) -> tuple[ShmCommunicator, Lane]:
        """The group of this rank's node, and the window on it."""
        most = self._shape[1]
        # The bytes of a buffer that are in the window at one time; whole pages, for MPI takes aligned arrays only.
        self._stage = padded(max(WINDOW_BYTES // most, 1024 * 1024))
        base = self._base.split(self._me.node)
        assert base is not None
        problem = ""
        try:
            node = ShmCommunicator(base)
            window = Lane(share(node, 2 * most * self._stage), 0, most * self._stage, 1)
        except CommError as error:
            problem = str(error)
        problems = self._base.all_gather_object(problem)
        if any(problems):
            base.close()
            raise CommError(next(filter(None, problems)))
        return node, window

    # ---- required ----------------------------------------------------------------------------------------------

    def _check_peers(self, waited: float, doing: str) -> None:
        self._node._check_peers(waited, doing)
        self._base._check_peers(waited, doing)

    def _over_mpi(self) -> Communicator | None:
        return self._base._over_mpi()

    def _begin(self, call: Call) -> None:
        self._base._begin(call)
        self._node._begin(call)

    def _fail(self, reason: str) -> None:
        for group in (self._node, self._base, self._column):
            if group is not None:
                group._fail(reason)

    def _all_reduce(self, buffer: Array, op: ReduceOp) -> None:
        rows = self._shape[0] * self._shape[1]
        if 0 < buffer.nbytes <= min(SMALL_BYTES, self._window.capacity // rows):
            (region,) = self._regions(buffer, slices=1)
            region.table[self._me] = buffer
            self._meet()
            self._exchange(region)
            reduce_into(buffer, [region.table[place] for place in self._in_order], op)
            return
        self._meet()
        places = self._find_places(buffer)
        if places is None:
            for start, result in self._reduced(buffer, places, op):
                buffer[start : start + result.size] = result
            return
        chunks = []
        for part in self._stages(buffer):
            for mine in self._messages(buffer[part]):
                arrays = [place[part][mine] for place in places]
                chunks.append(Chunk(arrays, arrays))
        self._send_round(chunks, Carried(buffer.dtype, op, self.size))

    def _broadcast(self, buffer: Array, root: int) -> None:
        self._meet()
        for part in self._stages(buffer):
            (window,) = self._window.advance(part.stop - part.start, buffer.dtype)
            if self.rank == root:
                window[...] = buffer[part]
            self._node._barrier()
            mine = window[aligned_slice(window.size, self._slices, self._me.local)]
            if self._column is not None and mine.size:
                self._column._broadcast(mine, self._places[root].node)
            self._node._barrier()
            if self.rank != root:
                buffer[part] = window

    def _all_gather(self, output: Array, input: Array) -> None:
        rows = output.reshape(self.size, input.size)
        self._meet()
        for part in self._stages(input, self._shape[0] * self._shape[1]):
            regions = self._show(input[part])
            self._exchange(*regions)
            self._take_rows(rows[:, part], regions)

    def _isend(self, buffer: Array, dest: int, tag: int) -> Work:
        return self._base._isend(buffer, dest, tag)

    def _irecv(self, buffer: Array, source: int, tag: int) -> Work:
        return self._base._irecv(buffer, source, tag)

    def _split(self, color: int | None, key: int, options: Options) -> Communicator | None:
        self._barrier()
        base = self._base.split(color, key, options)
        return None if base is None else best_over(base, self.statistics)

    def _close(self) -> None:
        self._node.close()
        if self._column is not None:
            self._column.close()
        self._base.close()

    # ---- faster than the defaults ------------------------------------------------------------------------------

    def _barrier(self) -> None:
        self._meet()
        self._node._barrier()

    def _empty(self, n: int, dtype: "np.dtype[np.generic]") -> Array:
        self._meet()
        return self._node._empty(n, dtype)

    def _reduce(self, buffer: Array, root: int, op: ReduceOp) -> None:
        self._meet()
        for start, result in self._reduced(buffer, self._find_places(buffer), op):
            if self.rank == root:
                buffer[start : start + result.size] = result

    def _reduce_scatter(self, output: Array, input: Array, op: ReduceOp) -> None:
        self._meet()
        first = self.rank * output.size
        for start, result in self._reduced(input, self._find_places(input), op):
            begin, end = max(start, first), min(start + result.size, first + output.size)
            if begin < end:
                output[begin - first : end - first] = result[begin - start : end - start]

    def _gather(self, output: Array | None, input: Array, root: int) -> None:
        self._meet()
        for part in self._stages(input, self._shape[0] * self._shape[1]):
            regions = self._show(input[part])
            self._exchange(*regions, root=self._places[root].node)
            if output is not None:
                self._take_rows(output.reshape(self.size, input.size)[:, part], regions)

    def _scatter(self, output: Array, input: Array | None, root: int) -> None:
        node = self._places[root].node
        self._meet()
        for part in self._stages(output, self._shape[0] * self._shape[1]):
            regions = self._regions(output[part])
            if input is not None:
                for columns, table in regions:
                    for place, row in zip(self._places, input.reshape(self.size, -1)[:, part], strict=True):
                        table[place] = row[columns]
            self._node._barrier()
            if self._column is not None and (table := regions[self._me.local].table).size:
                mine = np.empty_like(table[0])
                self._column._scatter(mine.reshape(-1), table.reshape(-1) if self._me.node == node else None, node)
                table[self._me.node] = mine
            self._node._barrier()
            for columns, table in regions:
                output[part][columns] = table[self._me]

    def _all_to_all(self, output: Array, input: Array, gets: Sequence[int], puts: Sequence[int]) -> None:
        self._barrier()
        self._base._all_to_all(output, input, gets, puts)

    # ---- meetings and cuts -------------------------------------------------------------------------------------

    def _meet(self) -> None:
        """Return when all ranks have announced the same call; those of a node meet at least once more in every call."""
        self._base._barrier()

    def _stages(self, buffer: Array, rows: int = 0) -> Iterator[slice]:
        """The parts of a buffer that pass through the window at one time, where `rows` of them lie side by side."""
        if buffer.size == 0:
            self._node._barrier()
        step = (self._window.capacity // rows if rows else self._stage) // buffer.itemsize
        for start in range(0, buffer.size, step):
            yield slice(start, min(start + step, buffer.size))

    def _messages(self, stage: Array) -> Iterator[slice]:
        """The messages that this rank sends as the owner of a slice of a stage: the same on all nodes."""
        mine = aligned_slice(stage.size, self._slices, self._me.local) if self._relay else slice(0, 0)
        step = MESSAGE_BYTES // stage.itemsize
        for start in range(mine.start, mine.stop, step):
            yield slice(start, min(start + step, mine.stop))

    def _find_places(self, buffer: Array) -> list[Array] | None:
        """The buffers of all ranks of this node, where they can be worked on in place."""
        return [buffer] if self._node.size == 1 else self._node._find_places(buffer)

    # ---- reductions --------------------------------------------------------------------------------------------

    def _send_round(self, chunks: Sequence[Chunk], carried: Carried) -> None:
        """Reduce this rank's chunks together with the other nodes, and meet the ranks of this one."""
        if self._relay is not None and chunks:
            self._relay.reduce(chunks, carried)
        self._node._barrier()

    def _reduced(self, source: Array, places: list[Array] | None, op: ReduceOp) -> Iterator[tuple[int, Array]]:
        """The reduced buffer, stage by stage: where each begins, and its result, readable until the next but one."""
        carried = Carried(source.dtype, op, self.size)
        for part in self._stages(source):
            n = part.stop - part.start
            if places is None:
                rows = self._window.advance(self._node.size * n, source.dtype)[0].reshape(-1, n)
                rows[self._node.rank] = source[part]
                self._node._barrier()
                inputs = list(rows)
                result = inputs[0]
            else:
                inputs = [place[part] for place in places]
                result = self._window.advance(n, source.dtype)[0]
            chunks = [Chunk([row[mine] for row in inputs], [result[mine]]) for mine in self._messages(source[part])]
            self._send_round(chunks, carried)
            yield part.start, result

    # ---- rows of every rank side by side -----------------------------------------------------------------------

    def _regions(self, part: Array, slices: int = 0) -> list[Region]:
        """The window, turned to its other half, as tables with a row for each rank, one for each owner."""
        nodes, most = self._shape
        (window,) = self._window.advance(nodes * most * part.size, part.dtype)
        found = []
        for index in range(slices or self._slices):
            columns = aligned_slice(part.size, slices or self._slices, index)
            cells = window[nodes * most * columns.start : nodes * most * columns.stop]
            found.append(Region(columns, cells.reshape(nodes, most, columns.stop - columns.start)))
        return found

    def _show(self, part: Array) -> list[Region]:
        """Write this rank's part into the window, and meet the ranks of the node."""
        regions = self._regions(part)
        for columns, table in regions:
            table[self._me] = part[columns]
        self._node._barrier()
        return regions

    def _exchange(self, *regions: Region, root: int | None = None) -> None:
        """Fill the tables with the rows of all nodes, on every node or on node `root`, and meet the ranks of this."""
        if self._me.local < len(regions) and self._column is not None and (table := regions[self._me.local].table).size:
            mine = table[self._me.node].flatten()
            if root is None:
                self._column._all_gather(table.reshape(-1), mine)
            else:
                self._column._gather(table.reshape(-1) if self._me.node == root else None, mine, root)
        self._node._barrier()

    def _take_rows(self, rows: Array, regions: Sequence[Region]) -> None:
        """Copy the rows of all ranks out of the tables."""
        for columns, table in regions:
            for row, place in zip(rows[:, columns], self._places, strict=True):
                row[...] = table[place]


def _split_quietly(base: Communicator, color: int | None, key: int) -> Communicator | None:
    """As `base.split`, but over MPI without a board: its ranks always come from a meeting of all."""
    if not isinstance(base, MpiCommunicator):
        return base.split(color, key)
    comm = base.mpi_comm.Split(load().UNDEFINED if color is None else color, key)
    return None if color is None else MpiCommunicator(comm, options=base.options)


def best_over(base: Communicator, statistics: Statistics) -> Communicator:
    """The best group over the ranks of `base`, which it owns from then on. A collective call of them."""
    if base.size == 1:
        base.close()
        return SerialCommunicator(base.ranks, base.options, statistics)
    kind = HierarchicalCommunicator if Topology.discover(base).spans_nodes else ShmCommunicator
    try:
        return kind(base, statistics)
    except CommError:  # on every rank alike
        return base
