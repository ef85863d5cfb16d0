"""Rows that travel between boards: two or three nodes in one process, with real sockets between them."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from distgrad.comm._process import DEAD, Process
from distgrad.comm.diagnosis._courier import Courier
from distgrad.comm.diagnosis._links import Link, connect
from distgrad.comm.diagnosis._rows import (
    ANSWERS,
    CALLS,
    ENTERED,
    LINE,
    PID,
    SEQUENCE,
    STACKS_WISH,
    STARTED,
    STATE,
    STEP,
    WISH,
    Rows,
    State,
    board_bytes,
)

NODES = [(0, 1), (2,), (3,)]


class Exchange:
    """What an allgather does, between threads."""

    def __init__(self, size: int) -> None:
        self._barrier = threading.Barrier(size, timeout=20)
        self._values: list[Any] = [None] * size

    def of(self, index: int) -> Callable[[Any], list[Any]]:
        def exchange(value: Any) -> list[Any]:
            self._values[index] = value
            self._barrier.wait()
            values = list(self._values)
            self._barrier.wait()
            return values

        return exchange


def linked(nodes: list[tuple[int, ...]], machines: list[str] | None = None) -> list[list[Link] | OSError]:
    exchange, found = Exchange(len(nodes)), [None] * len(nodes)

    def one(node: int) -> None:
        try:
            found[node] = connect(exchange.of(node), nodes, node, (machines or ["here"] * 3)[node])  # type: ignore
        except OSError as error:
            found[node] = error  # type: ignore[call-overload]

    threads = [threading.Thread(target=one, args=(node,)) for node in range(len(nodes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return found  # type: ignore[return-value]


@pytest.fixture
def nodes() -> Iterator[tuple[list[Rows], list[Courier]]]:
    """The board of each node as its first rank sees it, and the couriers."""
    pages = [memoryview(bytearray(board_bytes(4))).cast("q") for _ in NODES]
    boards = [Rows(page, ranks[0], 4, ranks) for page, ranks in zip(pages, NODES, strict=True)]
    for page, ranks in zip(pages, NODES, strict=True):
        for rank in ranks:
            own = Rows(page, rank, 4, ranks)
            own.put(PID, Process.current().pid)
            own.put(STARTED, Process.current().started)
    links = linked(NODES)
    assert not any(isinstance(link, OSError) for link in links), links
    couriers = [Courier(board, link) for board, link in zip(boards, links, strict=True)]  # type: ignore[arg-type]
    yield boards, couriers
    for courier in couriers:
        courier.close()


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(5e-3)


def test_rows_reach_every_node_while_somebody_waits(nodes: tuple[list[Rows], list[Courier]]) -> None:
    (first, second, third), _ = nodes
    eventually(lambda: all(board.get(rank, PID) for board in nodes[0] for rank in range(4)))
    time.sleep(2.2)  # until the first exchange is over
    third.write(LINE, "where it is")
    third.put(CALLS, 77)
    third.put(ENTERED, time.monotonic_ns() - 2_000_000_000)
    third.put(SEQUENCE, 6)
    third.put(STEP, 9)
    time.sleep(0.3)
    assert second.get(3, STEP) == 0, "nobody waits, so nothing travels"
    second.put(WISH, time.monotonic_ns())
    eventually(lambda: second.get(3, STEP) == 9)
    assert second.read(3, LINE) == "where it is" and second.get(3, CALLS) == 77
    assert 1.9 < second.seconds_since(3, ENTERED) < 12
    eventually(lambda: first.get(3, STEP) == 9)  # the hub has it, too


def test_a_dead_process_is_known_on_other_nodes(nodes: tuple[list[Rows], list[Courier]]) -> None:
    (first, _, third), _ = nodes
    eventually(lambda: third.condition(0) == "S")
    first.put(STARTED, 1)  # a process with this number and start does not exist
    third.put(WISH, time.monotonic_ns())
    eventually(lambda: third.condition(0) == DEAD)
    assert third.condition(1) == "S"


def test_a_lost_node_counts_as_dead(nodes: tuple[list[Rows], list[Courier]]) -> None:
    (first, second, third), couriers = nodes
    eventually(lambda: second.condition(3) == "S")
    third.put(STATE, State.RUNNING)
    couriers[2]._links[0].channel.shutdown(2)  # as when its machine dies
    eventually(lambda: first.condition(3) == DEAD)
    eventually(lambda: second.condition(3) == DEAD)
    assert second.condition(0) == "S"


def test_a_goodbye_is_no_loss(nodes: tuple[list[Rows], list[Courier]]) -> None:
    (first, second, third), couriers = nodes
    eventually(lambda: second.condition(3) == "S")
    third.put(STATE, State.FINISHED)
    couriers[2].close()
    eventually(lambda: first.state(3) == State.FINISHED)
    time.sleep(0.2)
    assert first.condition(3) != DEAD


def test_stacks_are_asked_for_on_the_other_nodes(
    nodes: tuple[list[Rows], list[Courier]], monkeypatch: pytest.MonkeyPatch
) -> None:
    boards, _ = nodes
    rung: list[int] = []

    def ring(courier: Courier) -> None:
        rows = courier._rows
        rung.append(rows.rank)
        rows.put(ANSWERS, rows.get(rows.rank, ANSWERS) + 1)

    monkeypatch.setattr(Courier, "_ring", ring)
    boards[1].put(STACKS_WISH, time.monotonic_ns())
    boards[1].put(WISH, time.monotonic_ns())
    eventually(lambda: boards[1].get(0, ANSWERS) > 0 and boards[1].get(3, ANSWERS) > 0)
    assert sorted(set(rung)) == [0, 3]


# ---- connections -----------------------------------------------------------------------------------------------------


def test_frames_arrive_whole_and_in_order() -> None:
    hub, leaf = (links[0] for links in linked([(0,), (1,)]))  # type: ignore[union-attr]
    frames = [(1, b"x" * n) for n in (0, 1, 100_000)] + [(3, b"")]
    got: list[tuple[int, bytes]] = []
    for kind, payload in frames:
        assert leaf.send(kind, payload)

    def arrived() -> bool:
        leaf.flush()
        got.extend(hub.receive())
        return len(got) == len(frames)

    eventually(arrived)
    assert got == frames
    leaf.close()
    eventually(lambda: not hub.receive() and not hub.is_open)


def test_a_peer_that_reads_nothing_is_not_sent_more_and_more() -> None:
    hub, leaf = (links[0] for links in linked([(0,), (1,)]))  # type: ignore[union-attr]
    taken = sum(leaf.send(1, b"x" * 500_000) for _ in range(100))
    assert 2 <= taken < 100
    hub.close()
    leaf.close()


def test_no_connection_is_an_error_on_every_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    from distgrad.comm.diagnosis import _links

    monkeypatch.setattr(_links, "_addresses", lambda: ["127.0.0.2"])
    monkeypatch.setattr(_links, "_proof", lambda secret, who: str(time.perf_counter_ns()).encode().ljust(32)[:32])
    errors = linked([(0,), (1,)], ["here", "there"])
    assert all(isinstance(error, OSError) for error in errors), errors
    assert "node 1: no connection to port" in str(errors[0]) and "127.0.0.2" in str(errors[0])
