"""The page of the diagnosis board: one row of 64-bit words for each rank, which that rank alone writes.

Reading and writing one aligned word is atomic; x86 keeps the order of stores, elsewhere `fence` does. The first words
are the fast path and lie in a cache line of their own; texts and what only a long wait needs come later.
"""

import platform
import threading
import time
from collections.abc import Callable, Collection
from enum import IntEnum

from .._calls import Call
from .._process import Process

ROW = 512  # words: 4 KiB, a memory page for each rank

STEP = 0  # how many meetings this rank has come to
CALLS = 1  # 1-3: the call of an even sequence number: what, elements (`Call.pack`), place (the backend's own).
# 4-6: the call of an odd one, so that a fast rank never overwrites what a slow one still compares
SEQUENCE = 7  # number of the last call
PID, STARTED = 8, 9  # process id, and its start time
STATE = 10
LINE_OF = 11  # the sequence number to which the text LINE belongs
ENTERED = 12  # when the last call began; all times are of the monotonic clock of the reader's node, in ns
SINCE = 13  # when this rank began to wait
MESSAGE = 14  # the message that it waits for (`Message.pack`)
TURN = 15  # how often it looked at its peers while it waited
REPORTED = 16  # what `activity` was when a table last showed this rank; written by whoever prints the table
ANSWERS = 17  # how many stacks it has written to STACK
BELL = 18  # descriptor of the pipe that asks for one (see `_stacks`), plus 1
CONDITION = 19  # for a rank of another node: its process state there, a letter
MIRRORED = 20  # for a rank of another node: when the row was copied from there
WISH, STACKS_WISH = 21, 22  # when this rank last wished to see the rows, and the stacks, of other nodes
MESSAGES = 23  # how many messages it has begun to send or to receive
RELEASED = 24  # the leader of a node: the meeting that all nodes have come to
TABLES = 25  # how many tables it has printed
WAIT = 26  # the number of its long waits so far
AWAITED = 27  # 27-30: the board of all ranks, for waits in any group (see `_web`). For whom this rank waits, plus 1
AWAITED_WAIT = 28  # the number of that wait
AWAITED_TURN = 29  # how often it has looked in such waits
LEFT_ALONE = 30  # it has made sure that nobody will come, and given up: the wait of the one whom it awaited; else 0
UNLISTED = 32  # messages under way for which POSTED had no room, or that another thread posted
POSTED, POSTED_END = 33, 48  # messages under way
LINE = 48  # texts: length in bytes, then UTF-8. The call with its line in the user's program
REASON = 128  # why the rank gave up
STACK = 192  # where in Python it is, on request
AWAITED_LINE = 432  # what it waits in, and of which group

_TEXT_END = {LINE: REASON, REASON: STACK, STACK: AWAITED_LINE, AWAITED_LINE: ROW}


class State(IntEnum):
    """What a rank does, as far as its group knows."""

    RUNNING = 0
    WAITING = 1  # in a collective
    FINISHED = 2
    FAILED = 3
    MESSAGING = 4  # waiting for a message to come or to go
    DEADLOCKED = 5  # gave up because it and others wait for each other
    TIMED_OUT = 6  # gave up because its wait was as long as the timeout


WAITS = (State.WAITING, State.MESSAGING)
GAVE_UP = (State.FAILED, State.DEADLOCKED, State.TIMED_OUT)


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


KEEPS_ORDER = platform.machine() in ("x86_64", "AMD64", "i686")  # of stores, and of loads
fence: Callable[[], None] = _no_fence if KEEPS_ORDER else _locking_fence


class Rows:
    """The rows of a group, as one of its ranks sees them.

    Args:
        words: the shared page as 64-bit integers, zeroed, of `board_bytes(size)` bytes or more.
        rank: whose row may be written.
        size: the number of rows.
        here: the ranks on this node, which write their rows themselves; None means all.
    """

    def __init__(self, words: memoryview, rank: int, size: int, here: Collection[int] | None = None) -> None:
        self.words = words
        self.rank = rank
        self.size = size
        self.here = frozenset(range(size) if here is None else here)
        self._bytes = words.cast("B")

    def get(self, rank: int, place: int) -> int:
        """One word of a rank's row."""
        return int(self.words[rank * ROW + place])

    def put(self, place: int, value: int) -> None:
        """Write one word of this rank's row."""
        self.words[self.rank * ROW + place] = value

    def state(self, rank: int) -> State:
        """What a rank does."""
        return State(self.words[rank * ROW + STATE])

    def activity(self, rank: int) -> int:
        """A number that grows whenever the rank gets on, never 0."""
        return self.get(rank, STEP) + self.get(rank, MESSAGES) + 1

    def call(self, rank: int, sequence: int | None = None) -> Call:
        """The call of a rank with this number; its last one by default."""
        at = CALLS + 3 * ((self.get(rank, SEQUENCE) if sequence is None else sequence) & 1)
        return Call.unpack(self.get(rank, at), self.get(rank, at + 1))

    def seconds_since(self, rank: int, place: int) -> float:
        """How long ago the moment was that this word tells."""
        return max(0.0, (time.monotonic_ns() - self.get(rank, place)) * 1e-9)

    # ---- processes ---------------------------------------------------------------------------------------------

    def process(self, rank: int) -> Process:
        """The process of a rank of this node."""
        return Process(self.get(rank, PID), self.get(rank, STARTED))

    def condition(self, rank: int) -> str:
        """The letter of the state of a rank's process (see `Process.letter`), "" while it is not known."""
        if rank in self.here:
            return self.process(rank).letter() if self.get(rank, PID) else ""  # it has not come as far as its row
        letter = self.get(rank, CONDITION)
        return chr(letter) if letter else ""

    # ---- texts -------------------------------------------------------------------------------------------------

    def write(self, place: int, text: str) -> None:
        """Put a text into this rank's row, as much of it as has room."""
        data = text.encode()[: self._room(place)]
        start = (self.rank * ROW + place + 1) * 8
        self._bytes[start : start + len(data)] = data
        self.put(place, len(data))
        fence()

    def read(self, rank: int, place: int) -> str:
        """A text of a rank's row."""
        start = (rank * ROW + place + 1) * 8
        length = min(self.get(rank, place), self._room(place))
        return bytes(self._bytes[start : start + length]).decode(errors="replace")

    def _room(self, place: int) -> int:
        return (_TEXT_END[place] - place - 1) * 8
