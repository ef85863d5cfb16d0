"""The diagnosis board, on plain memory, with threads or no peers at all."""

import gc
import multiprocessing
import os
import threading
import time
from collections.abc import Callable

import pytest

from distgrad.comm._calls import Call, Kind
from distgrad.comm._communicator import Options
from distgrad.comm._process import Process
from distgrad.comm._types import ReduceOp
from distgrad.comm.diagnosis import _board
from distgrad.comm.diagnosis._board import Board, leave
from distgrad.comm.diagnosis._rows import PID, ROW, SINCE, STARTED, STATE, TABLES, State, board_bytes
from distgrad.errors import CollectiveMismatchError, CommTimeoutError, PeerLostError

SUM = Call(Kind.ALL_REDUCE, 1000, code=1, op=ReduceOp.SUM)
LONGER = SUM._replace(elements=1001)
BROADCAST = Call(Kind.BROADCAST, 1000, code=1, root=1)


def boards(size: int, timeout: float = 20.0, stall_warn: float = 20.0) -> list[Board]:
    words = memoryview(bytearray(board_bytes(size))).cast("q")
    return [Board(words, rank, size, Options(timeout, stall_warn)) for rank in range(size)]


def together(*functions: Callable[[], None]) -> list[BaseException | None]:
    """Run the functions at once, each in a thread; the error of each."""
    errors: list[BaseException | None] = [None] * len(functions)

    def run(index: int) -> None:
        try:
            functions[index]()
        except Exception as error:
            errors[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return errors


def enter(board: Board, *calls: Call) -> None:
    for call in calls:
        board.announce(call)
        board.meet()


def test_ranks_that_agree_pass() -> None:
    errors = together(*(lambda board=board: enter(board, SUM, BROADCAST, SUM, LONGER) for board in boards(3)))
    assert errors == [None] * 3


@pytest.mark.parametrize("other", [LONGER, BROADCAST, SUM._replace(code=2), SUM._replace(op=ReduceOp.MAX)], ids=str)
def test_every_rank_learns_who_is_in_another_call(other: Call) -> None:
    first, second, third = boards(3)
    errors = together(
        lambda: enter(first, BROADCAST, SUM),
        lambda: enter(second, BROADCAST, other),
        lambda: enter(third, BROADCAST, SUM),
    )
    for error in errors:
        assert isinstance(error, CollectiveMismatchError)
        assert f"rank 0: {SUM} at test_board.py:" in str(error)
        assert f"rank 1: {other} at test_board.py:" in str(error)
        assert "call #2" in str(error)


def test_a_mismatch_does_not_wait_for_the_last_rank() -> None:
    first, second, _ = boards(3)
    errors = together(lambda: enter(first, SUM), lambda: enter(second, LONGER))
    assert all(isinstance(error, CollectiveMismatchError) for error in errors)
    assert all("rank 2: has not come yet" in str(error) for error in errors)


def test_a_fast_rank_does_not_overwrite_what_a_slow_one_compares() -> None:
    """The fast rank stands in its next call when the slow one, which came last, looks at the one before."""
    fast, slow = boards(2)
    mismatch = together(lambda: enter(fast, SUM, BROADCAST), lambda: (time.sleep(0.05), enter(slow, SUM, LONGER))[0])
    assert all(isinstance(error, CollectiveMismatchError) and "call #2" in str(error) for error in mismatch)


def test_a_call_without_a_meeting_is_a_bug() -> None:
    board, _ = boards(2)
    board.announce(SUM)
    with pytest.raises(AssertionError, match="ended without a meeting"):
        board.announce(SUM)


def test_timeout_names_who_is_missing() -> None:
    board, _ = boards(2, timeout=0.05)
    started = time.monotonic()
    missing = r"(?s)rank 0 gave up .*test_board.py.*rank 1: has made no call in this group"
    with pytest.raises(CommTimeoutError, match=missing):
        enter(board, SUM)
    assert time.monotonic() - started < 20


def test_stall_is_reported_once_by_the_lowest_waiting_rank(capfd: pytest.CaptureFixture[str]) -> None:
    first, second, third = boards(3, stall_warn=0.25)

    def enter_when(board: Board, come: Callable[[], bool]) -> None:
        while not come():
            time.sleep(1e-3)
        enter(board, SUM)

    together(
        lambda: enter_when(first, lambda: first.rows.state(1) == State.WAITING),
        lambda: enter(second, SUM),
        lambda: enter_when(third, lambda: first.rows.get(0, TABLES) > 0 and first.rows.seconds_since(0, SINCE) > 0.6),
    )
    text = capfd.readouterr().err
    assert text.count("has waited") == 1
    assert "distgrad: rank 0 has waited" in text and "rank 1: waits in call #1" in text
    assert f"rank 2: has made no call in this group; process {os.getpid()} is" in text


def test_no_report_before_the_time(capfd: pytest.CaptureFixture[str]) -> None:
    first, second = boards(2, stall_warn=5)
    together(lambda: enter(first, SUM), lambda: (time.sleep(0.05), enter(second, SUM))[0])
    assert capfd.readouterr().err == ""


def test_a_rank_that_left_is_named() -> None:
    first, second = boards(2)
    second.finish()
    with pytest.raises(PeerLostError, match=r"rank 1 has left the group before its first call"):
        enter(first, SUM)


def test_a_rank_that_left_after_it_came_is_not_missed() -> None:
    first, second = boards(2)
    errors = together(
        lambda: (time.sleep(0.02), enter(first, SUM))[0], lambda: (enter(second, SUM), second.finish())[0]
    )
    assert errors == [None, None]


def test_a_rank_that_gave_up_is_named_with_its_reason() -> None:
    first, second = boards(2)
    second.fail("ValueError: wrong\nsecond line")
    with pytest.raises(PeerLostError, match=r"rank 1 gave up: ValueError: wrong$"):
        enter(first, SUM)


def boards_after_a_mismatch() -> list[Board]:
    """Of three ranks, the second of which has come, found a mismatch and given up; the first needs it."""
    first, second, third = boards(3)
    first.essential = [1]
    second.announce(SUM)
    second.arrive()
    second.fail("CollectiveMismatchError: planted")
    return [first, second, third]


def test_a_mismatch_that_a_peer_found_is_seen_when_the_rows_have_come() -> None:
    """The row of who gave up may be there before that of whose call was another: they come from another node."""
    first, _, third = boards_after_a_mismatch()
    errors = together(lambda: enter(first, SUM), lambda: (time.sleep(0.2), enter(third, LONGER))[0])
    assert all(isinstance(error, CollectiveMismatchError) for error in errors), errors
    assert f"rank 2: {LONGER} at test_board.py:" in str(errors[0])


def test_a_mismatch_that_no_row_shows_is_a_lost_peer() -> None:
    first, _, _ = boards_after_a_mismatch()
    with pytest.raises(PeerLostError, match="rank 1 gave up: CollectiveMismatchError: planted"):
        enter(first, SUM)


def test_a_dead_rank_is_named() -> None:
    first, _ = boards(2)
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    child.start()
    assert child.pid is not None
    started = Process(child.pid, 0)
    with open(f"/proc/{child.pid}/stat", "rb") as file:
        started = Process(child.pid, int(file.read().rpartition(b")")[2].split()[19]))
    first._words[ROW + PID], first._words[ROW + STARTED] = started
    killer = threading.Timer(0.2, child.kill)
    killer.start()
    begin = time.monotonic()
    with pytest.raises(PeerLostError, match=rf"rank 1 \(process {child.pid}\) died"):
        enter(first, SUM)
    assert time.monotonic() - begin < 30
    child.join()


def test_leaving_names_those_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = boards(2)
    errors: list[BaseException | None] = []
    thread = threading.Thread(target=lambda: errors.extend(together(lambda: enter(first, SUM))))
    thread.start()
    while State.WAITING not in (first._words[STATE], first._words[ROW + STATE]):
        time.sleep(0.001)
    sentence = second.abandoned()
    assert sentence is not None
    assert sentence.startswith("rank 1 ended while other ranks of its group wait for it: rank 0 waits in call #1")
    assert "test_board.py" in sentence
    monkeypatch.setattr(_board, "_boards", {second})  # the other one belongs to another process
    assert leave() == sentence
    thread.join(20)
    assert isinstance(errors[0], PeerLostError)


def test_leaving_names_a_rank_that_has_just_come() -> None:
    first, second = boards(2, timeout=0.02)
    with pytest.raises(CommTimeoutError):
        enter(first, SUM)
    first.rows.put(STATE, State.RUNNING)  # as in the first moment of its waiting
    sentence = second.abandoned()
    assert sentence is not None and f"rank 0 is in call #1, {SUM} at test_board.py:" in sentence


def test_leaving_when_nobody_waits_is_silent() -> None:
    first, second = boards(2)
    together(lambda: enter(first, SUM), lambda: enter(second, SUM))
    assert first.abandoned() is None and second.abandoned() is None


def test_a_group_that_is_dropped_is_left() -> None:
    group = list(boards(2))
    together(*(lambda board=board: enter(board, SUM) for board in group))  # type: ignore[misc]
    rows = group[1].rows
    assert rows.state(0) == State.RUNNING
    del group[0]
    gc.collect()
    assert rows.state(0) == State.FINISHED and rows.state(1) == State.RUNNING


def test_a_forked_child_does_not_leave_for_its_parent() -> None:
    first, _ = boards(2)
    first._owner = first._owner._replace(pid=first._owner.pid + 1)
    first.finish()
    assert first._words[STATE] == State.RUNNING
