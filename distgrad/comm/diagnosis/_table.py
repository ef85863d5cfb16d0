"""What the board says in words: who is where, who is dead, who finished early."""

import time
from collections.abc import Collection

from .._calls import Message
from .._process import DEAD, STOPPED, describe_state
from ._deadlock import posted
from ._rows import (
    ANSWERS,
    BELL,
    ENTERED,
    GAVE_UP,
    LINE,
    LINE_OF,
    MESSAGE,
    MIRRORED,
    REASON,
    SEQUENCE,
    SINCE,
    STACK,
    STACKS_WISH,
    STEP,
    WAITS,
    WISH,
    Rows,
    State,
)
from ._stacks import ring

ANSWER_TIME = 1.0  # seconds that a rank has to tell its stack
NEWS = 2.0  # seconds after which the rows of another node are old, while they are asked for
_INDENT = "\n            "


def table(rows: Rows, stacks: bool = True) -> str:
    """One line for each rank, with the Python stack of those that are in no call.

    Args:
        rows: the board.
        stacks: whether to ask for the stacks, which takes up to a second where a rank does not answer.
    """
    answered = ask_for_stacks(rows) if stacks else set()
    return "\n".join(f"  rank {rank}: {status(rows, rank, answered)}" for rank in range(rows.size))


def status(rows: Rows, rank: int, answered: Collection[int] = ()) -> str:
    """Where a rank is.

    Args:
        rows: the board.
        rank: the rank.
        answered: the ranks whose stack on the board is a fresh one.
    """
    state = rows.state(rank)
    if state in GAVE_UP:
        return f"gave up: {rows.read(rank, REASON)}"
    if state == State.FINISHED:
        return f"has left {_last_call(rows, rank)}"
    if rows.condition(rank) == DEAD:
        return f"died {_last_call(rows, rank)}"
    if state in WAITS:
        return f"waits in {waits_in(rows, rank)}, for {rows.seconds_since(rank, SINCE):.1f} s"
    if rank == rows.rank or is_in_call(rows, rank):
        return f"is in {called(rows, rank)}, for {rows.seconds_since(rank, ENTERED):.1f} s"
    return f"{_in_python(rows, rank)}; {_where(rows, rank, rank in answered)}"


def is_in_call(rows: Rows, rank: int) -> bool:
    """Whether a rank is in a call of which this rank knows, as far as the counts tell."""
    mine = rows.get(rows.rank, SEQUENCE)
    sequence = rows.get(rank, SEQUENCE)
    in_step = rows.state(rows.rank) == State.WAITING and rows.get(rank, STEP) >= rows.get(rows.rank, STEP)
    return sequence > mine or (sequence == mine > 0 and in_step)


def waits_in(rows: Rows, rank: int) -> str:
    """The collective or the message in which a rank says that it waits."""
    if rows.get(rank, MESSAGE):
        return rows.read(rank, LINE)
    return called(rows, rank)


def called(rows: Rows, rank: int) -> str:
    """The last call of a rank, with its line in the program where the rank has written that down."""
    sequence = rows.get(rank, SEQUENCE)
    written = rows.get(rank, LINE_OF) == sequence
    return f"call #{sequence}, {rows.read(rank, LINE) if written else rows.call(rank)}"


def fate(rows: Rows, rank: int) -> str:
    """A sentence about a rank that can do nothing more."""
    state = rows.state(rank)
    if state in GAVE_UP:
        return f"rank {rank} gave up: {rows.read(rank, REASON)}"
    last = _last_call(rows, rank)
    if state == State.FINISHED:
        return f"rank {rank} has left the group {last}: its program ended, or it destroyed the group"
    if rank in rows.here:
        return f"rank {rank} (process {rows.process(rank).pid}) died {last}"
    return f"rank {rank} (process {rows.process(rank).pid} on another node) died, or its node was lost, {last}"


def ask_for_stacks(rows: Rows) -> set[int]:
    """Have the ranks that are in no call write down where they are; those that have answered."""
    asked = {rank: rows.get(rank, ANSWERS) for rank in range(rows.size) if _can_tell(rows, rank)}
    now = time.monotonic_ns()
    rows.put(WISH, now)
    rows.put(STACKS_WISH, now)
    for rank in asked.keys() & rows.here:
        ring(rows.process(rank), rows.get(rank, BELL) - 1)
    deadline = time.monotonic() + ANSWER_TIME
    while True:
        answered = {rank for rank, before in asked.items() if rows.get(rank, ANSWERS) != before}
        if not any(_can_tell(rows, rank) for rank in asked.keys() - answered) or time.monotonic() > deadline:
            return answered
        time.sleep(2e-3)


def _can_tell(rows: Rows, rank: int) -> bool:
    if rank == rows.rank or rows.state(rank) != State.RUNNING or is_in_call(rows, rank) or not rows.get(rank, BELL):
        return False
    return rows.condition(rank) not in (*STOPPED, DEAD)


def _in_python(rows: Rows, rank: int) -> str:
    if not rows.get(rank, SEQUENCE):
        return "has made no call in this group"
    return f"is in no call; last was {called(rows, rank)}, entered {rows.seconds_since(rank, ENTERED):.1f} s ago"


def _where(rows: Rows, rank: int, answered: bool) -> str:
    letter = rows.condition(rank)
    if rank not in rows.here and rows.seconds_since(rank, MIRRORED) > NEWS:
        age = f"for {rows.seconds_since(rank, MIRRORED):.1f} s" if rows.get(rank, MIRRORED) else "so far"
        return (
            f"no news of it came from its node {age}: the first rank there is stopped or in native code that does not "
            "let Python run, or the network is down"
        )
    if not letter:
        return "nothing is known of its process yet"
    process = f"process {rows.process(rank).pid} is {describe_state(letter)}"
    if letter in STOPPED:
        return f"{process} (SIGSTOP, or a debugger); `kill -CONT {rows.process(rank).pid}` lets it go on"
    if answered:
        return f"{process}, in{_INDENT}" + rows.read(rank, STACK).replace("\n", _INDENT)
    if not rows.get(rank, BELL):
        return process
    return f"{process} and does not tell its Python stack: it is in native code that does not let Python run"


def _last_call(rows: Rows, rank: int) -> str:
    made = rows.get(rank, SEQUENCE)
    return f"after call #{made} of this group ({rows.call(rank)})" if made else "before its first call"


def circle_text(rows: Rows, circle: list[int]) -> str:
    """The message of the error that ranks get which wait for each other."""
    way = " -> ".join(f"rank {rank}" for rank in [*circle, circle[0]])
    lines = [
        f"  rank {rank}: in {waits_in(rows, rank)}, for {rows.seconds_since(rank, SINCE):.1f} s{_pending(rows, rank)}\n"
        for rank in sorted(circle)
    ]
    return (
        "expected every recv to meet a send, and every rank in the same collective, got ranks that wait for each other "
        f"in a circle ({way}), with no message between them under way:\n{''.join(lines)}let one side send while the "
        "other receives, under one tag, or start both with isend and irecv before waiting for either; make every rank "
        "issue the same collectives"
    )


def _pending(rows: Rows, rank: int) -> str:
    """What else a rank has begun to send or to receive: often the other half of a message, under another tag."""
    words = posted(rows, rank)
    others = [str(Message.unpack(word)) for word in words if word != rows.get(rank, MESSAGE)]
    return f"; it has also begun {', '.join(others)}" if others else ""
