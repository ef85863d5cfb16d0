"""The diagnosis board: a page of shared memory on which every rank of a group says what it does.

Each rank has a row that it alone writes (see `_rows`). Ranks meet by counting up their own row's step and waiting for
the others'; a meeting is therefore also the place where a rank learns that a peer is in another collective, has left,
has died, or does not come (see `_watch`).
"""

import os
import threading
import time
import weakref
from collections.abc import Callable, Collection, Sequence

from ...errors import PeerLostError
from .._calls import Call, Kind, Message
from .._process import Process
from .._types import Options
from .._wait import SPINS, Patience
from . import _web
from ._farewell import await_peers
from ._rows import (
    ANSWERS,
    BELL,
    CALLS,
    ENTERED,
    GAVE_UP,
    KEEPS_ORDER,
    MESSAGES,
    PID,
    POSTED,
    POSTED_END,
    REASON,
    ROW,
    SEQUENCE,
    STACK,
    STARTED,
    STATE,
    STEP,
    UNLISTED,
    WAITS,
    Rows,
    State,
    fence,
)
from ._rows import (
    board_bytes as board_bytes,
)
from ._stacks import listen
from ._table import called, status
from ._watch import Watch, check_alone, mismatch

# Every board of this process, so that a rank that ends can say so on all of them.
_boards: "weakref.WeakSet[Board]" = weakref.WeakSet()


class Board:
    """One rank's view of the board of its group.

    Args:
        words: the shared page as 64-bit integers, zeroed, of `board_bytes(size)` bytes or more.
        rank: the row of this rank.
        size: the number of rows.
        options: timeout and stall warning.
        here: the ranks on this node; None means all. The rows of the others are copied from their nodes.
        progress: moves messages on that are under way; MPI does so only while it is called.
        ranks: the ranks of all members in the job, where circles of waits in several groups are to be found.
    """

    def __init__(
        self,
        words: memoryview,
        rank: int,
        size: int,
        options: Options,
        here: Collection[int] | None = None,
        progress: Callable[[], object] | None = None,
        ranks: Sequence[int] = (),
    ) -> None:
        self.rows = Rows(words, rank, size, here)
        self._ranks = ranks
        self._words = words
        self._rank = rank
        self._options = options
        self._progress = progress
        self._row = rank * ROW
        self._others = [peer * ROW for peer in sorted(self.rows.here) if peer != rank]
        self._everyone = [peer * ROW for peer in range(size) if peer != rank]
        self._step = self._sequence = 0
        self._fresh = False
        self._call = Call(Kind.NONE)
        self._what = self._elements = 0
        self._home = threading.get_ident()
        self._free = list(range(POSTED, POSTED_END))
        self._under_way = 0
        self.essential: Collection[int] = ()  # peers whose end ends a meeting even after they have come to it
        self.on_end: Callable[[bool], None] | None = None  # called when this rank has failed, or finished (True)
        self._owner = Process.current()
        words[self._row + STARTED] = self._owner.started
        words[self._row + BELL] = listen(_answer) + 1
        words[self._row + PID] = self._owner.pid
        _boards.add(self)
        _web.offer(self.rows, ranks)
        weakref.finalize(self, _let_go, self.rows, self._owner).atexit = False  # `leave` comes earlier

    # ---- meeting -----------------------------------------------------------------------------------------------

    def announce(self, call: Call) -> None:
        """Write down the collective that this rank is about to enter; the next meeting compares it."""
        assert not self._fresh, f"{self._call} ended without a meeting"  # its slot may still be read
        self._sequence = sequence = self._sequence + 1
        self._call = call
        self._fresh = True
        self._what, self._elements = what, elements = call.pack()
        words, row = self._words, self._row
        slot = row + CALLS + 3 * (sequence & 1)
        words[slot] = what
        words[slot + 1] = elements
        words[row + SEQUENCE] = sequence
        words[row + ENTERED] = time.monotonic_ns()

    def offer(self, place: int) -> None:
        """Write down a number for the peers of this node to read after the next meeting."""
        self._words[self._row + self._slot() + 2] = place

    def agreed(self, place: int) -> bool:
        """Whether every rank of this node offered this number in the current call; valid after its first meeting."""
        words, at = self._words, self._slot() + 2
        return all(words[other + at] == place for other in self._others)

    def meet(self) -> None:
        """Return when all ranks have come to the same meeting.

        What a rank wrote to shared memory before, the others can read afterwards.

        Raises:
            CollectiveMismatchError: the ranks announced different collectives; raised on every rank.
            PeerLostError: a rank that is missing has ended, died or given up.
            CommTimeoutError: a rank did not come within the timeout.
        """
        words = self._words  # as `arrive`, `await_here` and `conclude`, in one piece: this is the fast path
        self._step = step = self._step + 1
        if not KEEPS_ORDER:
            fence()
        words[self._row] = step
        others = self._others
        for other in others:
            if words[other] < step:
                self._await(other, step)
        if not KEEPS_ORDER:
            fence()
        if self._fresh:
            slot, what, elements = self._slot(), self._what, self._elements
            for other in others:
                if words[other + slot] != what or words[other + slot + 1] != elements:
                    raise mismatch(self.rows)
            self._fresh = False

    def watch(self, message: Message) -> Watch:
        """What a rank does that waits long for a message."""
        return self._watch(message=message)

    def check(self, peer: int, waited: float, doing: str) -> None:
        """Raise if rank `peer` cannot answer any more, or after the timeout; for waits that stand on no board.

        Args:
            peer: the rank that is waited for.
            waited: seconds so far.
            doing: what is waited for, in words.
        """
        check_alone(self.rows, self._options, peer, waited, doing)

    # ---- the parts of a meeting, for groups of several nodes ------------------------------------------------------

    @property
    def is_fresh(self) -> bool:
        """Whether a call was announced that has not been compared yet."""
        return self._fresh

    @property
    def announced(self) -> tuple[int, int]:
        """The call that was announced last, as `Call.pack` has it."""
        return self._what, self._elements

    def arrive(self) -> int:
        """Come to the next meeting; its number."""
        self._step = step = self._step + 1
        fence()
        self._words[self._row] = step
        return step

    def await_here(self, step: int) -> None:
        """Return when all ranks of this node have come to meeting `step`."""
        words = self._words
        for other in self._others:
            if words[other] < step:
                self._await(other, step)

    def await_word(self, place: int, value: int) -> None:
        """Return when this word of the page is not smaller than `value`."""
        if self._words[place] < value:
            self._await(place, value)

    def linger(self, done: Callable[[], bool]) -> None:
        """Return when `done`, looking for what may be wrong meanwhile."""
        watch = self._watch(self.compare if self._fresh else None, essential=self.essential)
        patience = Patience(watch.look, spins=0)
        try:
            while not done():
                try:
                    patience.pause()
                except PeerLostError:
                    if not done():
                        raise
                    break  # it did its part, and then it ended
                if self._under_way and self._progress is not None:
                    for _ in range(SPINS):
                        self._progress()
        finally:
            watch.end()

    def _watch(
        self,
        compare: Callable[[], None] | None = None,
        message: Message | None = None,
        essential: Collection[int] = (),
    ) -> Watch:
        return Watch(self.rows, self._options, self._home, compare, message, essential, self._ranks)

    def conclude(self) -> None:
        """All ranks, of all nodes, are known to be in the announced call."""
        fence()
        self._fresh = False

    def _slot(self) -> int:
        return CALLS + 3 * (self._sequence & 1)

    def _await(self, place: int, value: int) -> None:
        words = self._words
        for _ in range(SPINS):
            if words[place] >= value:
                return
        self.linger(lambda: bool(words[place] >= value))

    def compare(self) -> None:
        """Raise CollectiveMismatchError if a rank that has come is in another call than this one."""
        words, slot, step = self._words, self._slot(), self._step
        for other in self._everyone:
            if words[other] >= step and (
                words[other + slot] != self._what or words[other + slot + 1] != self._elements
            ):
                raise mismatch(self.rows)

    # ---- messages ----------------------------------------------------------------------------------------------

    def post(self, message: Message) -> int:
        """Write down that a message is under way; the number to `settle` it with."""
        words, row = self._words, self._row
        words[row + MESSAGES] += 1
        self._under_way += 1
        if not self._free or threading.get_ident() != self._home:
            words[row + UNLISTED] += 1
            return 0
        place = self._free.pop()
        words[row + place] = message.pack()
        return place

    def settle(self, place: int) -> None:
        """A message that was posted is under way no more."""
        self._under_way -= 1
        if place:
            self._words[self._row + place] = 0
            self._free.append(place)
        else:
            self._words[self._row + UNLISTED] -= 1

    # ---- what a rank says about itself -------------------------------------------------------------------------

    def fail(self, reason: str) -> None:
        """Tell the peers that this rank takes part no more because of an error."""
        state = self.rows.state(self._rank)
        if state not in (State.FINISHED, State.DEADLOCKED, State.TIMED_OUT):
            self.rows.write(REASON, reason.partition("\n")[0])
            self.rows.put(STATE, State.FAILED)
        self._end(False)

    def finish(self) -> None:
        """Tell the peers that this rank has ended as planned; a forked child, which is no rank, says nothing."""
        if self.is_mine and self.rows.state(self._rank) not in GAVE_UP:
            self.rows.put(STATE, State.FINISHED)
            self._end(True)

    def _end(self, finished: bool) -> None:
        if self.on_end is not None:
            self.on_end(finished)

    @property
    def is_mine(self) -> bool:
        """Whether this process is the rank, and not a child that was forked from it."""
        return os.getpid() == self._owner.pid

    def await_peers(self) -> None:
        """Return when the other ranks have ended too; see `_farewell`."""
        if self.rows.state(self._rank) == State.FINISHED:
            await_peers(self.rows, self._options)

    def answer(self, stack: str) -> None:
        """Say where in Python this rank is, because a peer has asked."""
        rows = self.rows
        rows.write(STACK, stack)
        rows.put(ANSWERS, rows.get(self._rank, ANSWERS) + 1)

    def abandoned(self) -> str | None:
        """A sentence about the peers that have come to a meeting which this rank never came to; None if none has."""
        rows = self.rows
        ranks = [rank for rank in range(rows.size) if rank != self._rank and rows.get(rank, STEP) > self._step]
        left = [rank for rank in ranks if rows.state(rank) in (State.RUNNING, *WAITS)]
        if not left:
            return None
        waits = "; ".join(
            f"rank {rank} {status(rows, rank) if rows.state(rank) in WAITS else f'is in {called(rows, rank)}'}"
            for rank in left
        )
        return (
            f"rank {self._rank} ended while other ranks of its group wait for it: {waits}; make every rank issue the "
            "same calls"
        )


def _let_go(rows: Rows, owner: Process) -> None:
    """A rank that has dropped its group takes part no more; who waits for its end must not wait for ever."""
    if os.getpid() == owner.pid and rows.state(rows.rank) not in (State.FINISHED, *GAVE_UP):
        rows.put(STATE, State.FINISHED)


def leave() -> str | None:
    """Tell the peers in every group of this process that it takes part no more.

    Returns:
        A sentence that names the peers which wait for this rank at this moment; None where nobody does.
    """
    boards = [board for board in _boards if board.is_mine]
    for board in boards:
        board.finish()
    return next((problem for problem in (board.abandoned() for board in boards) if problem), None)


def part() -> str | None:
    """As `leave`; where nobody waits for this rank, it waits until the others leave too."""
    problem = leave()
    if problem is None:
        for board in [board for board in _boards if board.is_mine]:
            board.await_peers()
    return problem


def _answer(stack: str) -> None:
    for board in list(_boards):
        board.answer(stack)
