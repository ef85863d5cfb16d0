"""Meetings of groups that span nodes: on the board within a node, over MPI between the leaders of the nodes.

Every node has a board with a row for each rank of the whole group. The ranks of a node come to a meeting on its board;
its leader, who sees all of them there, compares their call with those of the other nodes in one small all-reduce, and
then lets them go. The rows of other nodes are copied only while somebody waits (see `_courier`): then every rank can
tell who is missing, what it does and whether it lives, wherever it runs.
"""

import time
from typing import Any

import numpy as np

from ...errors import CollectiveMismatchError
from .._calls import Call, Message
from .._wait import SPINS
from ._board import Board
from ._courier import Courier
from ._rows import RELEASED, ROW, WISH
from ._watch import Watch, mismatch

PATIENCE = 3.0  # seconds for the rows of other nodes to show what their leaders disagree on


class SpanningMeeting:
    """Where the ranks of several nodes meet.

    Args:
        board: that of this node.
        leader: the leader of this node.
        leaders: the mpi4py communicator of the leaders; None on all other ranks.
        maximum: MPI.MAX.
        courier: carries rows between the nodes; on the leader, where the nodes could connect.
    """

    def __init__(self, board: Board, leader: int, leaders: Any, maximum: Any, courier: Courier | None) -> None:
        self._board = board
        self._release = leader * ROW + RELEASED
        self._leaders = leaders
        self._maximum = maximum
        self._courier = courier
        self._mine = np.zeros(4, np.int64)
        self._greatest = np.zeros(4, np.int64)
        board.on_end = self._tell

    def announce(self, call: Call) -> None:
        """Write down the collective that this rank is about to enter; the next meeting compares it."""
        self._board.announce(call)

    def meet(self) -> None:
        """Return when all ranks of all nodes have announced the same call; MPI orders what follows within a call."""
        board = self._board
        if not board.is_fresh:
            return
        step = board.arrive()
        if self._leaders is None:
            board.await_word(self._release, step)
        else:
            board.await_here(step)
            board.compare()
            self._meet_leaders()
            board.rows.words[self._release] = step
        board.conclude()

    def check(self, peer: int, waited: float, doing: str) -> None:
        """Raise if rank `peer` cannot answer any more, or after the timeout."""
        self._board.rows.put(WISH, time.monotonic_ns())
        self._board.check(peer, waited, doing)

    def post(self, message: Message) -> int:
        """Write down that a message is under way; the number to `settle` it with."""
        return self._board.post(message)

    def settle(self, place: int) -> None:
        """A message that was posted is under way no more."""
        self._board.settle(place)

    def watch(self, message: Message) -> Watch:
        """What a rank does that waits long for a message."""
        return self._board.watch(message)

    def fail(self, reason: str) -> None:
        """Tell the peers that this rank takes part no more because of an error."""
        self._board.fail(reason)

    def finish(self) -> None:
        """Tell the peers that this rank has ended as planned."""
        self._board.finish()
        if self._leaders is not None:
            self._leaders.Free()

    def _meet_leaders(self) -> None:
        """Compare this node's call with those of all others."""
        self._mine[:2] = self._board.announced
        np.negative(self._mine[:2], out=self._mine[2:])  # the maximum of the negatives is the negative of the minimum
        request = self._leaders.Iallreduce(self._mine, self._greatest, op=self._maximum)
        for _ in range(SPINS):
            if request.Test():
                break
        else:
            self._board.linger(request.Test)
        if not np.array_equal(self._greatest[:2], -self._greatest[2:]):
            raise self._mismatch()

    def _mismatch(self) -> CollectiveMismatchError:
        """The error for calls that are not the same on all nodes, as soon as their rows have come."""
        deadline = time.monotonic() + PATIENCE
        try:
            self._board.linger(lambda: time.monotonic() > deadline)  # it compares with the rows as they come
        except CollectiveMismatchError as error:
            return error
        return mismatch(self._board.rows)

    def _tell(self, finished: bool) -> None:
        """Let the other nodes know that this rank has ended."""
        self._board.rows.put(WISH, time.monotonic_ns())
        if self._courier is None:
            return
        if finished:
            self._courier.close()
        else:
            self._courier.push()
