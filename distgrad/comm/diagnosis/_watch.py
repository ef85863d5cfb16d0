"""What a rank does while it waits long: it says so on the board, and looks for why what it waits for does not come."""

import threading
import time
from collections.abc import Callable, Collection, Sequence

from ...errors import CollectiveMismatchError, CommTimeoutError, DeadlockError, PeerLostError
from .._calls import Message
from .._last_words import announce
from .._process import DEAD, call_site
from .._types import Options
from .._wait import Patience
from ._deadlock import Circle, waits_for
from ._rows import (
    GAVE_UP,
    LINE,
    LINE_OF,
    MESSAGE,
    REASON,
    REPORTED,
    ROW,
    SEQUENCE,
    SINCE,
    STATE,
    STEP,
    TABLES,
    TURN,
    UNLISTED,
    WAIT,
    WAITS,
    WISH,
    Rows,
    State,
)
from ._table import circle_text, fate, status, table, waits_in
from ._web import Strand

GRACE = 1.0  # seconds for what a rank sent last to arrive, and for the peers' lines once ranks are known to disagree
WISH_AFTER = 0.1  # seconds of waiting before the rows of other nodes are asked for
QUIETER = 60.0  # seconds; up to this, each table of a group lets the next one come after twice the time
IN_CALL = 10  # times as long as `stall_warn` are ranks left alone that are in the same call and work on it


class Watch:
    """One wait of one rank, for its peers in a collective or for a message.

    Args:
        rows: the board.
        options: timeout and stall warning.
        home: the thread that uses the group; waits of other threads are part of no circle.
        compare: raises where the calls of the ranks differ; for a collective that has not been compared yet.
        message: what is waited for; None means the peers that have not come to this rank's meeting.
        essential: peers whose end ends a meeting even after they have come to it.
        ranks: the ranks of the group's members in the job, to find circles through other groups; () for none.
    """

    def __init__(
        self,
        rows: Rows,
        options: Options,
        home: int,
        compare: Callable[[], None] | None = None,
        message: Message | None = None,
        essential: Collection[int] = (),
        ranks: Sequence[int] = (),
    ) -> None:
        self._rows = rows
        self._options = options
        self._compare = compare
        self._message = message
        self._essential = essential
        self._circle = Circle(rows)
        self._begun = False
        self._told = 0.0  # seconds of waiting after which a peer was seen to have found a mismatch
        self._abroad = threading.get_ident() != home
        self._web = Strand(rows.rank, () if self._abroad else ranks)

    def look(self, waited: float) -> None:
        """Say on the board that this rank waits, and raise where that has no end.

        Raises:
            CollectiveMismatchError: the ranks are in different collectives.
            PeerLostError: a rank that is waited for has ended, died or given up.
            DeadlockError: ranks wait for each other.
            CommTimeoutError: the wait has lasted longer than the timeout.
        """
        if not self._begun:
            self._begin(waited)
        rows = self._rows
        rows.put(TURN, rows.get(rows.rank, TURN) + 1)
        if waited > WISH_AFTER:
            rows.put(WISH, time.monotonic_ns())
        if self._compare is not None:
            self._compare()
        circle = self._circle.look()
        if circle:
            raise self._deadlock(circle_text(rows, circle))
        if not self._circle.is_near and (text := self._web.look(waits_for(rows, rows.rank), self._doing)):
            raise self._deadlock(text)
        missing = self._missing()
        for rank in (*missing, *self._essential):
            self._check_peer(rank, waited)
        if waited > self._options.stall_warn:
            self._consider_table(missing, waited)
        if waited > self._options.timeout:
            raise self._timeout(waited)

    def end(self) -> None:
        """The wait is over."""
        if not self._begun:
            return
        self._web.end()
        rows = self._rows
        if rows.state(rows.rank) in WAITS:
            rows.put(STATE, State.RUNNING)
            rows.put(MESSAGE, 0)
        if self._abroad:
            rows.put(UNLISTED, rows.get(rows.rank, UNLISTED) - 1)

    def _begin(self, waited: float) -> None:
        rows, message = self._rows, self._message
        self._begun = True
        if self._abroad:
            rows.put(UNLISTED, rows.get(rows.rank, UNLISTED) + 1)
        rows.put(WAIT, rows.get(rows.rank, WAIT) + 1)
        rows.put(SINCE, time.monotonic_ns() - int(waited * 1e9))
        if message is None:
            write_line(rows)
        else:
            rows.put(LINE_OF, 0)
            rows.write(LINE, f"{message} at {call_site()}")
            rows.put(MESSAGE, message.pack())
        rows.put(STATE, State.WAITING if message is None else State.MESSAGING)

    def _missing(self) -> list[int]:
        """The ranks that this one waits for."""
        rows = self._rows
        if self._message is not None:
            return [self._message.peer]
        step = rows.get(rows.rank, STEP)
        return [rank for rank in range(rows.size) if rows.get(rank, STEP) < step]

    def _doing(self) -> str:
        return waits_in(self._rows, self._rows.rank)

    def _timeout(self, waited: float) -> CommTimeoutError:
        rows = self._rows
        text = f"rank {rows.rank} gave up waiting in {self._doing()} after {waited:.1f} s (the timeout of the group)"
        error = CommTimeoutError(f"{text}\n{table(rows)}")
        rows.write(REASON, f"CommTimeoutError: {text}")
        rows.put(STATE, State.TIMED_OUT)
        return error

    def _check_peer(self, rank: int, waited: float) -> None:
        rows, state = self._rows, self._rows.state(rank)
        if state == State.FINISHED or rows.condition(rank) == DEAD:
            if self._message is not None and waited < GRACE:
                return  # what it sent last may be under way
        elif state not in GAVE_UP:
            return
        if self._message is None and rows.get(rank, STEP) >= rows.get(rows.rank, STEP):
            if rank not in self._essential:
                return  # it came before it ended
            if state == State.TIMED_OUT:
                raise self._timeout(waited)  # whom it waited for, this rank waits for
        if self._compare is not None and self._will_see(rank, waited):
            return
        raise PeerLostError(f"rank {rows.rank} was waiting in {self._doing()}, but {fate(rows, rank)}")

    def _will_see(self, rank: int, waited: float) -> bool:
        """Whether this peer has found a mismatch that the rows will show here too, once all of them have come."""
        if not self._rows.read(rank, REASON).startswith(CollectiveMismatchError.__name__):
            return False
        self._told = self._told or waited
        return waited < self._told + GRACE

    def _deadlock(self, text: str) -> DeadlockError:
        self._rows.write(REASON, f"it waits with others in a circle, in {self._doing()}")
        self._rows.put(STATE, State.DEADLOCKED)
        return DeadlockError(text)

    def _consider_table(self, missing: list[int], waited: float) -> None:
        """Print the table: once for a stall, from the lowest of the waiting ranks alone, and ever less often."""
        rows, patience = self._rows, self._options.stall_warn
        if any(rows.get(rank, REPORTED) == rows.activity(rank) for rank in missing):
            return
        if any(rows.state(rank) in WAITS for rank in range(rows.rank)):
            return
        printed = sum(rows.get(rank, TABLES) for rank in range(rows.size))
        patience = max(patience, min(patience * 2**printed, QUIETER))
        sequence = rows.get(rows.rank, SEQUENCE)
        if self._message is None and all(rows.get(rank, SEQUENCE) >= sequence for rank in missing):
            patience *= IN_CALL
        if waited > patience:
            self._print_table(missing, waited)

    def _print_table(self, missing: list[int], waited: float) -> None:
        rows = self._rows
        for rank in missing:
            rows.words[rank * ROW + REPORTED] = rows.activity(rank)
        rows.put(TABLES, rows.get(rows.rank, TABLES) + 1)
        names = f"rank{'s' if len(missing) > 1 else ''} {', '.join(map(str, missing))}" if missing else "other nodes"
        text = (
            f"distgrad: rank {rows.rank} has waited {waited:.1f} s for {names} in {self._doing()}\n{table(rows)}\n"
            f"  (an error after {self._options.timeout:g} s; launch --timeout and --stall-warn change these times)\n"
        )
        announce(text)


def check_alone(rows: Rows, options: Options, peer: int, waited: float, doing: str) -> None:
    """Raise where a peer can do nothing more, or after the timeout, in a wait that does not stand on the board."""
    ended = rows.state(peer) == State.FINISHED or rows.condition(peer) == DEAD
    if rows.state(peer) in GAVE_UP or (ended and waited > GRACE):  # what it sent last may be under way
        raise PeerLostError(f"rank {rows.rank} was {doing}, but {fate(rows, peer)}")
    if waited > options.timeout:
        raise CommTimeoutError(f"rank {rows.rank} gave up {doing} after {waited:.1f} s\n{table(rows)}")


def write_line(rows: Rows) -> None:
    """Say on the board where in the user's program this rank made its last call."""
    rows.write(LINE, f"{rows.call(rows.rank)} at {call_site()}")
    rows.put(LINE_OF, rows.get(rows.rank, SEQUENCE))


def mismatch(rows: Rows) -> CollectiveMismatchError:
    """The error that names the call of every rank, after a moment in which the others write theirs down."""
    sequence = rows.get(rows.rank, SEQUENCE)
    write_line(rows)
    rows.put(WISH, time.monotonic_ns())
    _await_lines(rows, sequence)
    lines = [f"  rank {rank}: {_called(rows, rank, sequence)}" for rank in range(rows.size)]
    return CollectiveMismatchError(
        f"expected all ranks in the same collective on equal sizes and dtypes, got, at call #{sequence} of this "
        "group:\n" + "\n".join(lines) + "\nmake every rank issue the same calls in the same order"
    )


def _await_lines(rows: Rows, sequence: int) -> None:
    """Give the peers, who are about to find the same, a moment to come and to write down where they are."""
    ready = [False]

    def look(waited: float) -> None:
        ready[0] = waited > GRACE or all(_says_no_more(rows, rank, sequence) for rank in range(rows.size))

    patience = Patience(look, spins=0)
    while not ready[0] and any(rows.get(rank, LINE_OF) < sequence for rank in range(rows.size)):
        patience.pause()


def _says_no_more(rows: Rows, rank: int, sequence: int) -> bool:
    if rows.get(rank, LINE_OF) >= sequence or rows.state(rank) in (*GAVE_UP, State.FINISHED, State.MESSAGING):
        return True
    return rows.condition(rank) == DEAD


def _called(rows: Rows, rank: int, sequence: int) -> str:
    if rows.get(rank, LINE_OF) == sequence:
        return rows.read(rank, LINE)
    if rows.get(rank, SEQUENCE) < sequence:
        return f"has not come yet; it {status(rows, rank)}"
    return str(rows.call(rank, sequence))
