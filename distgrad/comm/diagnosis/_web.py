"""Ranks that wait for each other in several groups, found on the board of all ranks.

Rank 0 waits for rank 1 in one group while rank 1 waits for rank 0 in another: the board of neither group shows more
than one of the waits. So a rank that waits long writes on the board of all ranks for whom, and follows what the others
have written there. Whoever waits in a collective waits for all that are missing; one of them is enough for a circle.

A rank is only stuck if nothing else of its process can bring it to where it is awaited: no thread of its own that the
program started, and no operation in the background. Circles within one group are found on its own board, sooner and
with more to say (see `_deadlock`); those that go through several nodes end by the timeout.
"""

import threading
import time
from collections.abc import Callable, Sequence

from ..._environment import job
from .._progress import any_busy
from ._deadlock import LOOKS, PATIENCE
from ._rows import AWAITED, AWAITED_LINE, AWAITED_TURN, AWAITED_WAIT, LEFT_ALONE, Rows

NAMED = 16  # members of a group that a text names

_everyone: Rows | None = None


def offer(rows: Rows, ranks: Sequence[int]) -> None:
    """A new board; if it is one of all ranks of the job, in their order, it is where they look for each other."""
    global _everyone
    if tuple(ranks) == tuple(range(job.world_size)) and rows.rank == job.rank:
        _everyone = rows


class Strand:
    """One long wait of this rank, as a strand of the web.

    Args:
        rank: this rank in the group in which it waits.
        ranks: the ranks of all members of that group in the job.
    """

    def __init__(self, rank: int, ranks: Sequence[int]) -> None:
        rows = _everyone
        self._rows = rows if rows is not None and ranks and ranks[rank] == rows.rank else None
        self._ranks = ranks
        self._written = False
        self._seen: dict[int, tuple[int, int]] = {}
        self._turns: dict[int, int] = {}
        self._since = 0.0

    def look(self, peers: Sequence[int], doing: Callable[[], str]) -> str | None:
        """The message of an error where this rank is part of a circle; None while it is not, or this may change.

        Args:
            peers: the members of the group for each of whom it waits, and who can come by themselves alone.
            doing: what it waits in, in words.
        """
        rows = self._rows
        if rows is None:
            return None
        if not peers or _others_may_come():
            rows.put(AWAITED, 0)
            self._seen = {}
            return None
        self._write(rows, [self._ranks[peer] for peer in peers], doing)
        circle = circle_through(rows)
        seen = {rank: (rows.get(rank, AWAITED), rows.get(rank, AWAITED_WAIT)) for rank in circle}
        if not circle or seen != self._seen:
            self._seen = seen
            self._turns = {rank: rows.get(rank, AWAITED_TURN) for rank in circle}
            self._since = time.monotonic()
            return None
        looked = all(rows.get(rank, AWAITED_TURN) >= self._turns[rank] + LOOKS for rank in circle)
        sure = looked and time.monotonic() - self._since > PATIENCE
        if not sure and not any(rows.get(rank, LEFT_ALONE) for rank in circle):
            return None
        # For the others of the circle, who miss this rank's looks from now on: they are sure while they wait as now.
        rows.put(LEFT_ALONE, seen[circle[1]][1])
        self._written = False  # and what it waited for stays on the board
        return _text(rows, circle)

    def end(self) -> None:
        """The wait is over."""
        if self._written and self._rows is not None:
            self._rows.put(AWAITED, 0)

    def _write(self, rows: Rows, peers: list[int], doing: Callable[[], str]) -> None:
        """Say for whom this rank waits: for one who waits, too, if there is one."""
        peer = next((peer for peer in peers if rows.get(peer, AWAITED)), peers[0])
        if not self._written:
            self._written = True
            rows.put(AWAITED, 0)
            rows.put(LEFT_ALONE, 0)
            rows.put(AWAITED_WAIT, rows.get(rows.rank, AWAITED_WAIT) + 1)
            rows.write(AWAITED_LINE, f"of the group of ranks {_members(self._ranks)}: {doing()}")
        rows.put(AWAITED_TURN, rows.get(rows.rank, AWAITED_TURN) + 1)
        rows.put(AWAITED, peer + 1)


def circle_through(rows: Rows) -> list[int]:
    """The circle of waits that begins and ends at this rank, on this node; empty if there is none."""
    path = [rows.rank]
    while (peer := rows.get(path[-1], AWAITED) - 1) in rows.here:
        if rows.get(path[-1], LEFT_ALONE) not in (0, rows.get(peer, AWAITED_WAIT)):
            return []  # it gave up once, and both may have gone on since
        if peer == rows.rank:
            return path
        if peer in path:
            return []
        path.append(peer)
    return []


def _others_may_come() -> bool:
    """Whether a thread other than this one may bring this rank to where it is awaited."""
    here = threading.current_thread()
    return any_busy() or any(thread is not here and not _is_harmless(thread) for thread in threading.enumerate())


def _is_harmless(thread: threading.Thread) -> bool:
    """Whether a thread makes no calls of its own: ours, and the one that tqdm keeps for its bars."""
    return thread.name.startswith("distgrad-") or type(thread).__module__.startswith("tqdm.")


def _members(ranks: Sequence[int]) -> str:
    """The ranks of a group; of a large one the first, since a row of the board has little room."""
    if len(ranks) <= NAMED:
        return ", ".join(map(str, ranks))
    return f"{', '.join(map(str, ranks[:NAMED]))}, ... ({len(ranks)} in all)"


def _text(rows: Rows, circle: list[int]) -> str:
    way = " -> ".join(f"rank {rank}" for rank in [*circle, circle[0]])
    lines = [f"  rank {rank}, a member {rows.read(rank, AWAITED_LINE)}\n" for rank in sorted(circle)]
    return (
        "expected every rank to make the calls of its groups in an order that lets all get on, got ranks that wait for "
        f"each other in a circle ({way}), in more than one group:\n{''.join(lines)}let all ranks come to the groups "
        "that they share in the same order, or start a call with async_op=True and wait for it after the next one"
    )
