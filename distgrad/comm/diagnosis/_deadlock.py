"""Ranks that wait for each other in a circle, found on the board.

A rank in a collective waits for every rank that has not come to it, a rank in `recv` or `send` for its peer. If these
waits lead from a rank back to itself, none of them can ever end: unless a message is under way. One that is still
being sent or received stands in the list of the rank that sends or receives it. One that its sender has handed over
arrives within moments if both sides look, and here every rank of the circle has to look in vain several times.
"""

import time

from .._calls import Message
from ._rows import MESSAGE, POSTED, POSTED_END, STEP, TURN, UNLISTED, WAIT, Rows, State

LOOKS = 6  # of each rank of the circle, in vain
PATIENCE = 0.3  # seconds, on one node
PATIENCE_BETWEEN_NODES = 5.0  # networks may send a lost packet again

_STUCK = (State.WAITING, State.MESSAGING, State.DEADLOCKED)

_Standing = tuple[int, ...]


class Circle:
    """What one waiting rank knows about a circle that it may be part of."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._standing: dict[int, _Standing] = {}
        self._turns: dict[int, int] = {}
        self._since = 0.0

    @property
    def is_near(self) -> bool:
        """Whether there was a circle when this rank looked last."""
        return bool(self._standing)

    def look(self) -> list[int]:
        """The ranks of the circle, this one first; none while there is none or it may yet dissolve."""
        found = find_circle(self._rows)
        standing = {rank: self._stand(rank) for rank in found}
        if not found or standing != self._standing:
            self._standing = standing
            self._turns = {rank: self._rows.get(rank, TURN) for rank in found}
            self._since = time.monotonic()
            return []
        patience = PATIENCE if self._rows.here.issuperset(found) else PATIENCE_BETWEEN_NODES
        if any(self._rows.state(rank) == State.DEADLOCKED for rank in found):
            return found  # it has made sure
        looked = all(self._rows.get(rank, TURN) >= self._turns[rank] + LOOKS for rank in found)
        return found if looked and time.monotonic() - self._since > patience else []

    def _stand(self, rank: int) -> _Standing:
        """What changes when a rank gets on."""
        return tuple(self._rows.get(rank, place) for place in (STEP, MESSAGE, WAIT))


def find_circle(rows: Rows) -> list[int]:
    """A circle of waits through this rank, this one first; empty if there is none."""
    path = [rows.rank]
    open_ends = [iter(waits_for(rows, rows.rank))]
    seen = {rows.rank}
    while open_ends:
        peer = next(open_ends[-1], None)
        if peer is None:
            open_ends.pop()
            path.pop()
        elif peer == rows.rank:
            return path
        elif peer not in seen:
            seen.add(peer)
            path.append(peer)
            open_ends.append(iter(waits_for(rows, peer)))
    return []


def waits_for(rows: Rows, rank: int) -> list[int]:
    """The ranks without which this one cannot get on; empty where that is not certain."""
    if rows.state(rank) not in _STUCK or rows.get(rank, UNLISTED):
        return []
    word = rows.get(rank, MESSAGE)
    if not word:
        step = rows.get(rank, STEP)
        return [peer for peer in range(rows.size) if rows.get(peer, STEP) < step]
    message = Message.unpack(word)
    wanted = message.counterpart(rank).pack()
    if rows.get(message.peer, UNLISTED) or wanted in posted(rows, message.peer):
        return []
    return [message.peer]


def posted(rows: Rows, rank: int) -> list[int]:
    """The messages that a rank is sending or receiving, packed."""
    return [word for place in range(POSTED, POSTED_END) if (word := rows.get(rank, place))]
