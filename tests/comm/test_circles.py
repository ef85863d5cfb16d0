"""Ranks that wait for each other, as the rows of a board show them."""

import threading
import time
from collections.abc import Callable

import pytest

from distgrad.comm._calls import Call, Kind, Message
from distgrad.comm._communicator import Options
from distgrad.comm.diagnosis import _deadlock
from distgrad.comm.diagnosis._board import Board, board_bytes
from distgrad.comm.diagnosis._deadlock import LOOKS, Circle, find_circle
from distgrad.comm.diagnosis._rows import MESSAGE, STATE, STEP, TURN, WAIT, Rows, State
from distgrad.errors import DeadlockError, PeerLostError


def board(size: int) -> list[Rows]:
    """The rows of a group, as each rank sees them."""
    words = memoryview(bytearray(board_bytes(size))).cast("q")
    return [Rows(words, rank, size) for rank in range(size)]


def waits(rows: Rows, message: Message) -> None:
    rows.put(MESSAGE, message.pack())
    rows.put(STATE, State.MESSAGING)


def receive(peer: int, tag: int = 0) -> Message:
    return Message(peer, tag, True, 3, 1)


def send(peer: int, tag: int = 0) -> Message:
    return Message(peer, tag, False, 3, 1)


def test_messages_are_packed_and_unpacked() -> None:
    for message in (receive(3, 7), send(0), send(70_000, 2**31 - 1)):
        assert Message.unpack(message.pack()) == message._replace(elements=0, code=0)
        assert 0 < message.pack() < 2**63
    assert send(2, 5).counterpart(1) == receive(1, 5)
    assert str(receive(3, 7)) == "recv(from rank 3, tag 7, 3 float32 = 12 bytes)"
    assert str(send(3)) == "send(to rank 3, tag 0, 3 float32 = 12 bytes)"


def test_two_and_a_ring() -> None:
    rows = board(4)
    waits(rows[0], receive(1))
    assert find_circle(rows[0]) == []
    waits(rows[1], receive(0))
    assert find_circle(rows[0]) == [0, 1] and find_circle(rows[1]) == [1, 0]
    waits(rows[1], receive(2))
    waits(rows[2], receive(3))
    assert find_circle(rows[0]) == []
    waits(rows[3], receive(0))
    assert [find_circle(each) for each in rows] == [[0, 1, 2, 3], [1, 2, 3, 0], [2, 3, 0, 1], [3, 0, 1, 2]]


def test_who_waits_for_a_circle_is_not_in_it() -> None:
    rows = board(3)
    waits(rows[0], receive(1))
    waits(rows[1], receive(0))
    waits(rows[2], receive(0))
    assert find_circle(rows[2]) == []


def test_a_collective_waits_for_all_that_have_not_come() -> None:
    rows = board(3)
    rows[1].put(STEP, 5)
    rows[1].put(STATE, State.WAITING)
    waits(rows[2], receive(1))
    assert find_circle(rows[1]) == [1, 2]
    rows[2].put(STEP, 5)  # it has come, and waits for its message within the same collective
    assert find_circle(rows[1]) == []


@pytest.mark.parametrize(
    ("mine", "other", "found"),
    [
        (receive(1), send(0), []),  # the message is on its way
        (receive(1, 5), send(0, 5), []),
        (receive(1, 5), send(0, 6), [0, 1]),  # another message is
        (send(1), receive(0), []),
        (send(1), send(0), [0, 1]),
        (receive(1), send(2), [0, 1]),  # to somebody else
    ],
)
def test_what_the_peer_has_begun_counts(mine: Message, other: Message, found: list[int]) -> None:
    words = memoryview(bytearray(board_bytes(3))).cast("q")
    first, second, _ = (Board(words, rank, 3, Options()) for rank in range(3))
    place = second.post(other)
    waits(first.rows, mine)
    waits(second.rows, receive(0, tag=99))
    assert find_circle(first.rows) == found
    second.settle(place)
    assert find_circle(first.rows) == [0, 1]


def test_more_messages_than_the_list_holds_end_certainty() -> None:
    words = memoryview(bytearray(board_bytes(2))).cast("q")
    first, second = (Board(words, rank, 2, Options()) for rank in range(2))
    places = [second.post(send(0, tag)) for tag in range(100, 140)]
    assert 0 in places
    waits(first.rows, receive(1))
    waits(second.rows, receive(0))
    assert find_circle(first.rows) == []
    for place in places:
        second.settle(place)
    assert find_circle(first.rows) == [0, 1]


def test_messages_of_another_thread_end_certainty() -> None:
    words = memoryview(bytearray(board_bytes(2))).cast("q")
    first, second = (Board(words, rank, 2, Options()) for rank in range(2))
    thread = threading.Thread(target=lambda: second.post(receive(0, 9)))
    thread.start()
    thread.join()
    waits(first.rows, receive(1))
    waits(second.rows, receive(0))
    assert find_circle(first.rows) == []


def test_a_circle_counts_only_after_every_rank_has_looked_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 50.0
    monkeypatch.setattr(_deadlock.time, "monotonic", lambda: now)
    rows = board(2)
    waits(rows[0], receive(1))
    waits(rows[1], receive(0))
    circle = Circle(rows[0])
    assert circle.look() == []
    now += 100
    assert circle.look() == [], "the other may have been stopped all the time, with a message in its inbox"
    for each in rows:
        each.put(TURN, LOOKS)
    assert circle.look() == [0, 1]
    rows[1].put(WAIT, 1)  # it waits anew: it has got a message meanwhile
    assert circle.look() == []


def test_between_nodes_it_takes_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 50.0
    monkeypatch.setattr(_deadlock.time, "monotonic", lambda: now)
    words = memoryview(bytearray(board_bytes(2))).cast("q")
    rows = [Rows(words, 0, 2, here=[0]), Rows(words, 1, 2, here=[1])]
    waits(rows[0], receive(1))
    waits(rows[1], receive(0))
    circle = Circle(rows[0])
    circle.look()
    for each in rows:
        each.put(TURN, LOOKS)
    now += 1.0
    assert circle.look() == []
    now += 4.5
    assert circle.look() == [0, 1]


# ---- on boards, with a thread for each rank --------------------------------------------------------------------------


def run(*ranks: Callable[[], None]) -> list[BaseException | None]:
    errors: list[BaseException | None] = [None] * len(ranks)

    def one(index: int) -> None:
        try:
            ranks[index]()
        except Exception as error:
            errors[index] = error

    threads = [threading.Thread(target=one, args=(index,)) for index in range(len(ranks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return errors


def await_message(board: Board, message: Message) -> None:
    board._home = threading.get_ident()
    watch = board.watch(message)
    started = time.monotonic()
    try:
        while time.monotonic() < started + 20:
            watch.look(time.monotonic() - started)
            time.sleep(5e-3)
    finally:
        watch.end()


def come(board: Board) -> None:
    board._home = threading.get_ident()
    board.announce(Call(Kind.BARRIER))
    board.meet()


def test_all_of_a_circle_learn_of_it_and_others_of_them() -> None:
    words = memoryview(bytearray(board_bytes(3))).cast("q")
    first, second, third = (Board(words, rank, 3, Options(20, 20)) for rank in range(3))
    errors = run(lambda: await_message(first, receive(1)), lambda: come(second), lambda: come(third))
    assert isinstance(errors[0], DeadlockError) and isinstance(errors[1], (DeadlockError, PeerLostError))
    for line in (
        "rank 0: in recv(from rank 1, tag 0, 3 float32 = 12 bytes) at test_circles.py:",
        "in call #1, barrier()",
    ):
        assert line in str(errors[0]), errors[0]
    assert first.rows.state(0) == State.DEADLOCKED


def test_a_wait_of_a_background_thread_is_part_of_no_circle() -> None:
    """The main thread of that rank may yet send what the other waits for."""
    words = memoryview(bytearray(board_bytes(2))).cast("q")
    first, second = (Board(words, rank, 2, Options(1.5, 20)) for rank in range(2))

    def in_background() -> None:
        second.announce(Call(Kind.BARRIER))
        second.meet()

    errors = run(lambda: await_message(first, receive(1)), in_background)
    assert not any(isinstance(error, DeadlockError) for error in errors), errors
