"""The diagnosis board: a page of shared memory on which every rank of a group says what it does.

Each rank has a row that it alone writes. Ranks meet by counting up their own row's step and waiting for the others';
a meeting is therefore also the place where a rank learns that a peer is in another collective, has left, has died, or
does not come. Reading and writing one aligned 64-bit word is atomic; x86 keeps the order of stores, elsewhere `_fence`
does.

A row in 64-bit words (one rank's words and its text lie in cache lines of their own):
     0  step: how many meetings this rank has come to
  1- 3  the call of an even sequence number: what, elements, place   (see `Call.pack`; place is the backend's own)
  4- 6  the call of an odd one, so that a fast rank never overwrites what a slow one still compares
     7  sequence number of the last call
  8- 9  process id, its start time
    10  state (see `State`)
    11  sequence number to which the first text belongs
 12-63  text: length, then UTF-8: the call with its line in the user's program
64-127  text: length, then UTF-8: why the rank gave up
"""

import os
import platform
import sys
import threading
import weakref
from collections.abc import Callable
from enum import IntEnum

from ..errors import CollectiveMismatchError, CommTimeoutError, PeerLostError
from ._calls import Call, Kind
from ._communicator import Options
from ._process import Process, call_site
from ._wait import SPINS, Patience

ROW = 128  # words
_STEP, _CALLS, _SEQUENCE, _PID, _STARTED, _STATE, _LINE_OF, _LINE, _REASON = 0, 1, 7, 8, 9, 10, 11, 12, 64
_TEXT_BYTES = (_REASON - _LINE - 1) * 8
_GRACE = 1.0  # seconds to wait for the peers' lines once the ranks are known to disagree

# Every board of this process, so that a rank that ends can say so on all of them.
_boards: "weakref.WeakSet[Board]" = weakref.WeakSet()


class State(IntEnum):
    """What a rank does, as far as its group knows."""

    RUNNING = 0
    WAITING = 1
    FINISHED = 2
    FAILED = 3


def board_bytes(size: int) -> int:
    """Shared memory that the board of a group of `size` ranks takes."""
    return size * ROW * 8


def _no_fence() -> None:
    pass


_lock = threading.Lock()


def _locking_fence() -> None:
    """A full memory barrier: what comes before a lock's release stays before what follows its next acquisition."""
    with _lock:
        pass
    with _lock:
        pass


_fence: Callable[[], None] = _no_fence if platform.machine() in ("x86_64", "AMD64", "i686") else _locking_fence


class Board:
    """One rank's view of the board of its group.

    Args:
        words: the shared page as 64-bit integers, zeroed, of `board_bytes(size)` bytes or more.
        rank: the row of this rank.
        size: the number of rows.
        options: timeout and stall warning.
    """

    def __init__(self, words: memoryview, rank: int, size: int, options: Options) -> None:
        self._words = words
        self._bytes = words.cast("B")
        self._rank = rank
        self._size = size
        self._options = options
        self._row = rank * ROW
        self._others = [peer * ROW for peer in range(size) if peer != rank]
        self._step = self._sequence = 0
        self._fresh = False
        self._call = Call(Kind.NONE)
        self._what = self._elements = 0
        self._owner = Process.current()
        words[self._row + _PID], words[self._row + _STARTED] = self._owner
        _boards.add(self)

    # ---- meeting -----------------------------------------------------------------------------------------------

    def announce(self, call: Call) -> None:
        """Write down the collective that this rank is about to enter; the next meeting compares it."""
        assert not self._fresh, f"{self._call} ended without a meeting"  # its slot may still be read
        self._sequence += 1
        self._call = call
        self._fresh = True
        self._what, self._elements = call.pack()
        slot = self._row + self._slot()
        self._words[slot] = self._what
        self._words[slot + 1] = self._elements
        self._words[self._row + _SEQUENCE] = self._sequence

    def offer(self, place: int) -> None:
        """Write down a number for the peers to read after the next meeting."""
        self._words[self._row + self._slot() + 2] = place

    def agreed(self, place: int) -> bool:
        """Whether every rank offered this number in the current call; valid after its first meeting."""
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
        words = self._words
        self._step = step = self._step + 1
        _fence()
        words[self._row] = step
        for other in self._others:
            if words[other] < step:
                self._await(other, step)
        _fence()
        if self._fresh:
            self._compare()
            self._fresh = False

    def check(self, peer: int, waited: float, doing: str) -> None:
        """Raise if rank `peer` cannot answer any more, or after the timeout; for waits that are not meetings.

        Args:
            peer: the rank that is waited for.
            waited: seconds so far.
            doing: what is waited for, in words.
        """
        row = peer * ROW
        if waited > _GRACE or self._words[row + _STATE] != State.FINISHED:  # what it sent last may be under way
            self._check_peer(row, doing)
        if waited > self._options.timeout:
            raise CommTimeoutError(f"rank {self._rank} gave up {doing} after {waited:.1f} s\n{self.table()}")

    def _slot(self) -> int:
        return _CALLS + 3 * (self._sequence & 1)

    def _await(self, other: int, step: int) -> None:
        words = self._words
        for _ in range(SPINS):
            if words[other] >= step:
                return
        warned = False

        def look(waited: float) -> None:
            nonlocal warned
            if words[self._row + _STATE] != State.WAITING:
                self._write_line()
                words[self._row + _STATE] = State.WAITING
            self._look_around(waited)
            if waited > self._options.stall_warn and not warned:
                warned = True
                self._warn(waited)

        patience = Patience(look, spins=0)
        try:
            while words[other] < step:
                patience.pause()
        finally:
            if words[self._row + _STATE] == State.WAITING:
                words[self._row + _STATE] = State.RUNNING

    def _look_around(self, waited: float) -> None:
        """Raise where the missing ranks will not come, or those that came are in another collective."""
        if self._fresh:
            self._compare()
        doing = f"waiting in {self._describe()}"
        for other in self._missing():
            self._check_peer(other, doing, self._step)
        if waited > self._options.timeout:
            raise CommTimeoutError(
                f"rank {self._rank} gave up {doing} after {waited:.1f} s (the timeout of the group)\n{self.table()}"
            )

    def _missing(self) -> list[int]:
        return [other for other in self._others if self._words[other] < self._step]

    def _check_peer(self, other: int, doing: str, step: int = sys.maxsize) -> None:
        """Raise if a peer can do nothing more, unless it came to meeting `step` before it ended."""
        ended = self._words[other + _STATE] in (State.FINISHED, State.FAILED)
        started = self._words[other + _PID] != 0  # a peer may not have come as far as its row yet
        if (ended or (started and not self._process(other).is_alive())) and self._words[other] < step:
            raise PeerLostError(f"rank {self._rank} was {doing}, but {self._fate(other)}")

    def _fate(self, other: int) -> str:
        rank, state = other // ROW, self._words[other + _STATE]
        if state == State.FAILED:
            return f"rank {rank} gave up: {self._read(other, _REASON)}"
        made = self._words[other + _SEQUENCE]
        last = f"after call #{made} of this group ({self._last_call(other)})" if made else "before its first call"
        if state == State.FINISHED:
            return f"rank {rank} has left the group {last}: its program ended, or it destroyed the group"
        return f"rank {rank} (process {self._words[other + _PID]}) died {last}"

    # ---- comparing ---------------------------------------------------------------------------------------------

    def _compare(self) -> None:
        """Raise CollectiveMismatchError if a rank that has come is in another call than this one."""
        words, slot, step = self._words, self._slot(), self._step
        for other in self._others:
            if words[other] >= step and (
                words[other + slot] != self._what or words[other + slot + 1] != self._elements
            ):
                raise self._mismatch()

    def _mismatch(self) -> CollectiveMismatchError:
        self._write_line()
        self._await_lines()
        rows = range(0, self._size * ROW, ROW)
        lines = [f"  rank {row // ROW}: {self._called(row)}" for row in rows]
        return CollectiveMismatchError(
            f"expected all ranks in the same collective on equal sizes and dtypes, got, at call #{self._sequence} of "
            "this group:\n" + "\n".join(lines) + "\nmake every rank issue the same calls in the same order"
        )

    def _await_lines(self) -> None:
        """Give the peers, who are about to find the same, a moment to come and to write down where they are."""
        ready = [False]

        def look(waited: float) -> None:
            ready[0] = waited > _GRACE

        patience = Patience(look, spins=0)
        while not ready[0] and any(self._words[other + _LINE_OF] < self._sequence for other in self._others):
            patience.pause()

    def _called(self, row: int) -> str:
        if self._words[row + _LINE_OF] == self._sequence:
            return self._read(row, _LINE)
        if self._words[row] < self._step:
            return "has not come yet"
        slot = row + self._slot()
        return str(Call.unpack(self._words[slot], self._words[slot + 1]))

    # ---- what a rank says about itself -------------------------------------------------------------------------

    def fail(self, reason: str) -> None:
        """Tell the peers that this rank takes part no more because of an error."""
        if self._words[self._row + _STATE] != State.FINISHED:
            self._write(_REASON, reason.partition("\n")[0])
            self._words[self._row + _STATE] = State.FAILED

    def finish(self) -> None:
        """Tell the peers that this rank has ended as planned; a forked child, which is no rank, says nothing."""
        if os.getpid() == self._owner.pid and self._words[self._row + _STATE] != State.FAILED:
            self._words[self._row + _STATE] = State.FINISHED

    def abandoned(self) -> str | None:
        """A sentence about the peers that have come to a meeting which this rank never came to; None if none has."""
        working = (State.RUNNING, State.WAITING)
        left = [row for row in self._others if self._words[row] > self._step and self._words[row + _STATE] in working]
        if not left:
            return None
        waits = "; ".join(f"rank {row // ROW} {self._status(row, in_call=True)}" for row in left)
        return (
            f"rank {self._rank} ended while other ranks of its group wait for it: {waits}; make every rank issue the "
            "same calls"
        )

    def _write_line(self) -> None:
        """Say where in the user's program this rank is."""
        self._write(_LINE, f"{self._call} at {call_site()}")
        self._words[self._row + _LINE_OF] = self._sequence

    def _write(self, place: int, text: str) -> None:
        data = text.encode()[:_TEXT_BYTES]
        start = (self._row + place + 1) * 8
        self._bytes[start : start + len(data)] = data
        self._words[self._row + place] = len(data)
        _fence()

    def _read(self, row: int, place: int) -> str:
        start = (row + place + 1) * 8
        length = min(self._words[row + place], _TEXT_BYTES)
        return bytes(self._bytes[start : start + length]).decode(errors="replace")

    # ---- the table ---------------------------------------------------------------------------------------------

    def table(self) -> str:
        """One line for each rank: where it is, as far as the board knows."""
        return "\n".join(f"  rank {row // ROW}: {self._status(row)}" for row in range(0, self._size * ROW, ROW))

    def waiting(self) -> list[int]:
        """The ranks that wait for a peer at this moment."""
        return [row // ROW for row in range(0, self._size * ROW, ROW) if self._words[row + _STATE] == State.WAITING]

    def _status(self, row: int, in_call: bool = False) -> str:
        """Where a rank is; `in_call` where it is known to be in the call that it announced last."""
        words = self._words
        state, sequence = words[row + _STATE], words[row + _SEQUENCE]
        if state == State.FAILED:
            return f"gave up: {self._read(row, _REASON)}"
        if state == State.FINISHED:
            return f"has left after call #{sequence}" if sequence else "has left before its first call"
        if state == State.WAITING:
            return f"waits in call #{sequence}, {self._read(row, _LINE)}"
        if row == self._row:
            return f"is in call #{sequence}, {self._call} at {call_site()}"
        if in_call:
            return f"is in call #{sequence}, {self._last_call(row)}"
        process = self._process(row)
        last = f"last made call #{sequence}, {self._last_call(row)}" if sequence else "has made no call in this group"
        return f"{last}; its process {process.pid} is {process.state()}"

    def _describe(self) -> str:
        return f"call #{self._sequence}, {self._call} at {call_site()}"

    def _last_call(self, row: int) -> str:
        slot = row + _CALLS + 3 * (self._words[row + _SEQUENCE] & 1)
        return str(Call.unpack(self._words[slot], self._words[slot + 1]))

    def _process(self, row: int) -> Process:
        return Process(self._words[row + _PID], self._words[row + _STARTED])

    def _warn(self, waited: float) -> None:
        """Print the table, from the lowest of the waiting ranks alone."""
        if min(self.waiting(), default=self._rank) == self._rank:
            print(
                f"distgrad: rank {self._rank} has waited {waited:.1f} s in {self._describe()}\n{self.table()}",
                file=sys.stderr,
                flush=True,
            )


def leave() -> str | None:
    """Tell the peers in every group of this process that it takes part no more.

    Returns:
        A sentence that names the peers which wait for this rank at this moment; None where nobody does.
    """
    problems = []
    for board in list(_boards):
        board.finish()
        problems += [board.abandoned()]
    return next((problem for problem in problems if problem), None)
