"""Where the ranks of a group meet before a collective, so that none of them waits blindly for the others.

On one node that is the diagnosis board (see `_board`), between nodes boards that couriers connect (see `_spanning`).
Where there is no shared memory at all, and while a board is being made, it is MPI itself.
"""

import warnings
from typing import Any, Protocol

import numpy as np

from ..._typing import Array
from ...errors import CollectiveMismatchError, CommError, CommTimeoutError
from .._calls import Call, Message
from .._communicator import Communicator
from .._process import call_site
from .._segment import Segment, padded, share
from .._topology import Topology, node_name
from .._types import Options
from .._wait import Patience
from ._board import Board, board_bytes
from ._courier import Courier
from ._links import Link, connect
from ._spanning import SpanningMeeting


class Watcher(Protocol):
    """What a rank does while it waits long."""

    def look(self, waited: float) -> None:
        """Raise where the wait has no end; `waited` is in seconds."""
        ...

    def end(self) -> None:
        """The wait is over."""
        ...


class Meeting(Protocol):
    """Where the ranks of a group meet before each step of a collective; see `create_meeting`."""

    def announce(self, call: Call) -> None:
        """Say which collective this rank is about to enter."""
        ...

    def meet(self) -> None:
        """Return when all ranks have announced the same collective."""
        ...

    def check(self, peer: int, waited: float, doing: str) -> None:
        """Raise if `peer` cannot answer any more, or after the timeout; for waits that stand on no board."""
        ...

    def post(self, message: Message) -> int:
        """Say that a message is under way; the number to `settle` it with."""
        ...

    def settle(self, place: int) -> None:
        """A message that was posted is under way no more."""
        ...

    def watch(self, message: Message) -> Watcher:
        """What to do while this rank waits for a message."""
        ...

    def fail(self, reason: str) -> None:
        """Tell the peers that this rank takes part no more because of an error."""
        ...

    def finish(self) -> None:
        """Tell the peers that this rank has ended as planned."""
        ...


class Deadline:
    """A wait about which nothing is known but how long it lasts.

    Args:
        rank: this rank.
        doing: what is waited for.
        timeout: seconds.
    """

    def __init__(self, rank: int, doing: str, timeout: float) -> None:
        self._rank = rank
        self._doing = doing
        self._timeout = timeout

    def look(self, waited: float) -> None:
        """Raise after the timeout."""
        if waited > self._timeout:
            raise CommTimeoutError(f"rank {self._rank} gave up waiting in {self._doing} after {waited:.1f} s")

    def end(self) -> None:
        """Nothing is left to do."""


class WireMeeting:
    """Meetings over MPI itself, between nodes: an all-reduce of the call tells whether all ranks made the same one.

    Args:
        comm: the mpi4py communicator of the group.
        options: the timeout.
        mpi: the module mpi4py.MPI.
    """

    def __init__(self, comm: Any, options: Options, mpi: Any) -> None:
        self._comm = comm
        self._options = options
        self.mpi = mpi
        self._call: Call | None = None

    def announce(self, call: Call) -> None:
        """Remember the call for the next meeting."""
        self._call = call

    def meet(self) -> None:
        """Compare the announced call with those of all ranks; later meetings within a call need no comparison."""
        call, self._call = self._call, None
        if call is None:
            return
        mine = np.array(call.pack(), np.int64)
        both = np.concatenate([mine, -mine])  # the maximum of the negatives is the negative of the minimum
        result = self.maximum(both, f"{call} at {call_site()}")
        if not np.array_equal(result[:2], -result[2:]):
            raise self._mismatch(call)

    def check(self, peer: int, waited: float, doing: str) -> None:
        """Raise after the timeout; nothing is known of the peers."""
        if waited > self._options.timeout:
            raise CommTimeoutError(f"rank {self._comm.rank} gave up {doing} after {waited:.1f} s")

    def post(self, message: Message) -> int:
        """Nothing: there is no board to write it on; so for the rest."""
        return 0

    def settle(self, place: int) -> None:
        """Nothing."""

    def watch(self, message: Message) -> Watcher:
        """Wait for a message no longer than the timeout."""
        return Deadline(self._comm.rank, f"{message} at {call_site()}", self._options.timeout)

    def fail(self, reason: str) -> None:
        """Nothing: there is no board to write it on."""

    def finish(self) -> None:
        """Nothing: there is no board to write it on."""

    def maximum(self, values: Array, doing: str) -> Array:
        """The maximum of each value over all ranks; `doing` is what they do, in words."""
        result = np.empty_like(values)
        self._poll(self._comm.Iallreduce(values, result, op=self.mpi.MAX), doing)
        return result

    def _poll(self, request: Any, doing: str) -> None:
        patience = Patience(Deadline(self._comm.rank, doing, self._options.timeout).look)
        while not request.Test():
            patience.pause()

    def _mismatch(self, call: Call) -> CollectiveMismatchError:
        calls = self._comm.allgather(f"{call} at {call_site()}")
        lines = "\n".join(f"  rank {rank}: {text}" for rank, text in enumerate(calls))
        return CollectiveMismatchError(
            f"expected all ranks in the same collective on equal sizes and dtypes, got:\n{lines}\n"
            "make every rank issue the same calls in the same order"
        )


def create_meeting(group: Communicator, comm: Any, wire: WireMeeting) -> Meeting:
    """The best place for the ranks of a group to meet. A collective call.

    A backend calls `announce` with every collective (in `_begin`), `meet` before it touches data and wherever else it
    needs all ranks, `fail` and `finish` where `Communicator._fail` and `_close` are called.

    Args:
        group: the ranks, whose collectives already work.
        comm: the group's mpi4py communicator; what the meeting needs is split off from it.
        wire: what to return where ranks of one node cannot share memory.
    """
    topology = Topology.discover(group)
    here = topology.nodes[topology.node]
    try:
        page = _share_on_node(group, topology)
    except CommError:
        return wire  # meetings over MPI work everywhere
    words = memoryview(page).cast("q")
    board = Board(words, group.rank, group.size, group.options, here, comm.Iprobe, group.ranks)
    if not topology.spans_nodes:
        return board
    leads = group.rank == here[0]
    leaders = comm.Split(0 if leads else wire.mpi.UNDEFINED, topology.node)
    links = _connect(leaders, topology) if leads else []
    group.barrier()  # every rank of this node has written its process into its row
    courier = Courier(board.rows, links) if links else None
    board.essential = [ranks[0] for ranks in topology.nodes if ranks[0] != group.rank] if leads else [here[0]]
    return SpanningMeeting(board, here[0], leaders if leads else None, wire.mpi.MAX, courier)


def _share_on_node(group: Communicator, topology: Topology) -> Segment:
    """A page between the ranks of each node, with a row for each rank of the group.

    Raises:
        CommError: on every rank, where the ranks of some node cannot share memory.
    """
    nbytes = padded(board_bytes(group.size))
    if not topology.spans_nodes:
        return share(group, nbytes)
    node = group.split(topology.node)
    assert node is not None
    page, problem = None, ""
    try:
        page = share(node, nbytes)
    except CommError as error:
        problem = str(error)
    node.close()
    problems = [entry for entry in group.all_gather_object(problem) if entry]
    if page is None or problems:
        raise CommError("; ".join(problems))
    return page


def _connect(leaders: Any, topology: Topology) -> list[Link]:
    """Connections between the leaders; none where that fails, which costs no more than what can be said of waits."""
    try:
        return connect(leaders.allgather, topology.nodes, topology.node, node_name())
    except OSError as error:
        if topology.node == 0:
            warnings.warn(
                f"the nodes cannot connect to each other over TCP ({error}): calls are still compared, but the table "
                "of a stall shows the ranks of one node only; let the nodes reach each other's ports if you can",
                RuntimeWarning,
                stacklevel=2,
            )
        return []
