"""Ranks that wait: for messages, for each other in a circle, for one that is stuck. None waits in silence."""

import subprocess
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from distgrad.comm import Communicator
from distgrad.comm._communicator import Options
from distgrad.comm.diagnosis import _deadlock
from distgrad.comm.diagnosis._rows import PID
from distgrad.errors import CommError, CommTimeoutError, DeadlockError, PeerLostError
from tests.mpi.groups import LAST, RANK, SIZE, make, meet

BACKENDS = ["shm", "mpi", "mpi 2 nodes", "hierarchical"]
LARGE = 1 << 20  # elements of a message that MPI sends only while both sides call it


@pytest.fixture(params=BACKENDS)
def group(request: pytest.FixtureRequest) -> Communicator:
    found = make(request.param, Options(timeout=60, stall_warn=60))
    found.barrier()
    return found


@pytest.fixture(autouse=True)
def less_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """These nodes are one machine, where no packet is lost."""
    monkeypatch.setattr(_deadlock, "PATIENCE_BETWEEN_NODES", 0.6)


@pytest.fixture(autouse=True)
def all_leave_together() -> object:
    yield
    meet()


# ---- circles ---------------------------------------------------------------------------------------------------------


def circle(call: Callable[[], object], text: str, *others: str) -> None:
    """Assert that `call` ends soon in the error that names all sides."""
    started = time.monotonic()
    with pytest.raises(DeadlockError) as caught:
        call()
    assert time.monotonic() - started < 20
    lines = str(caught.value).splitlines()
    for wanted in (text, *others):
        assert any(wanted in line and "test_comm_waiting.py:" in line for line in lines), caught.value


def test_two_that_receive_from_each_other(group: Communicator) -> None:
    if RANK in (0, LAST):
        peer = LAST - RANK
        circle(
            lambda: group.recv(np.zeros(3), peer, 7),
            f"  rank 0: in recv(from rank {LAST}, tag 7, 3 float64 = 24 bytes)",
            f"  rank {LAST}: in recv(from rank 0, tag 7, 3 float64 = 24 bytes)",
        )


def test_a_ring_that_receives(group: Communicator) -> None:
    circle(
        lambda: group.recv(np.zeros(3), (RANK + 1) % SIZE), "  rank 0: in recv(from rank 1", f"  rank {LAST}: in recv"
    )


def test_two_that_send_large_messages_to_each_other(group: Communicator) -> None:
    if RANK in (0, LAST):
        circle(
            lambda: group.send(np.zeros(LARGE), LAST - RANK),
            "  rank 0: in send(to",
            f"  rank {LAST}: in send(to rank 0",
        )


def test_one_that_receives_and_one_in_a_collective(group: Communicator) -> None:
    if RANK == 0:
        circle(lambda: group.recv(np.zeros(3), LAST), "  rank 0: in recv(from", f"  rank {LAST}: in call #")
    elif RANK == LAST:
        circle(lambda: group.all_reduce(np.zeros(3)), "  rank 0: in recv(from", "all_reduce(SUM, 3 float64")
    else:
        with pytest.raises((PeerLostError, DeadlockError)):
            group.all_reduce(np.zeros(3))


def test_tags_that_do_not_meet(group: Communicator) -> None:
    if RANK in (0, LAST):
        work = group.isend(np.zeros(LARGE), LAST - RANK, tag=1)
        circle(lambda: group.recv(np.zeros(LARGE), LAST - RANK, tag=2), "it has also begun send(to rank 0, tag 1)")
        assert not work.is_completed()


# ---- circles through several groups ----------------------------------------------------------------------------------


@pytest.fixture
def groups(request: pytest.FixtureRequest) -> list[Communicator]:
    """Two groups of all ranks, made from one of its own."""
    parent = make(getattr(request, "param", "shm"), Options(timeout=60, stall_warn=60))
    made = [parent.split(0), parent.split(0)]
    assert all(made)
    meet()
    return [each for each in made if each is not None]


def reduces(group: Communicator) -> None:
    group.all_reduce(np.zeros(3))


@pytest.mark.parametrize("groups", ["shm", "mpi"], indirect=True)
def test_two_groups_in_another_order(groups: list[Communicator]) -> None:
    first, second = (each.split(0 if RANK in (0, LAST) else None) for each in groups)
    if first is not None and second is not None:
        mine = first if RANK == 0 else second
        circle(lambda: reduces(mine), f"rank 0, a member of the group of ranks 0, {LAST}: call #1", f"rank {LAST}, a")


def test_one_that_receives_in_a_group_and_one_that_reduces_in_another(groups: list[Communicator]) -> None:
    first, second = groups
    if RANK == 0:
        circle(lambda: first.recv(np.zeros(3), LAST), "rank 0, a member of the group", "recv(from", "all_reduce(SUM, 3")
    elif RANK == LAST:
        circle(lambda: reduces(second), "rank 0, a member of the group", "recv(from", "all_reduce(SUM, 3")


def test_a_ring_of_groups(groups: list[Communicator]) -> None:
    """Each rank begins with the group that it shares with the next one."""
    if SIZE < 3:
        return
    pairs = [groups[0].split(0 if RANK in (each, (each + 1) % SIZE) else None) for each in range(SIZE)]
    mine = pairs[RANK]
    assert mine is not None
    circle(lambda: reduces(mine), *(f"rank {rank}, a member of the group of ranks" for rank in range(SIZE)))


def late(group: Communicator) -> None:
    time.sleep(1.0)
    reduces(group)


def test_what_comes_from_the_background_is_no_circle(groups: list[Communicator]) -> None:
    """Rank 0 will come to the group where it is awaited, in another thread than the one that waits."""
    first, second = groups
    for begin in (begin_in_queue, begin_in_thread):
        end = begin(first) if RANK == 0 else None
        if end is None:
            reduces(first)
        reduces(second)
        if end is not None:
            end()


def begin_in_queue(group: Communicator) -> Callable[[], object]:
    return group.submit(lambda: late(group)).wait


def begin_in_thread(group: Communicator) -> Callable[[], object]:
    thread = threading.Thread(target=late, args=(group,))
    thread.start()
    return thread.join


# ---- no circles ------------------------------------------------------------------------------------------------------


def test_a_large_message_under_way_is_no_circle(group: Communicator) -> None:
    """Both sides wait for each other all the time, and the data moves."""
    if RANK in (0, LAST):
        peer = LAST - RANK
        for _ in range(5):
            work = group.isend(np.full(4 * LARGE, RANK + 1.0), peer)
            received = np.zeros(4 * LARGE)
            group.recv(received, peer)
            work.wait()
            assert received[0] == received[-1] == peer + 1


def test_a_receive_begun_before(group: Communicator) -> None:
    """The second rank waits for another message first, while the one the first waits to send is received already."""
    if RANK == 0:
        first = group.isend(np.ones(LARGE), LAST, tag=1)
        first.wait()
        time.sleep(0.8)
        group.send(np.ones(1), LAST, tag=2)
    elif RANK == LAST:
        large, small = np.zeros(LARGE), np.zeros(1)
        early = group.irecv(large, 0, tag=1)
        group.recv(small, 0, tag=2)
        early.wait()
        assert large.all() and small.all()


def test_a_late_answer_is_no_circle(group: Communicator) -> None:
    """Rank 0 waits for an answer that the other computes for a while before it asks back."""
    if RANK == 0:
        group.send(np.ones(1), LAST)
        group.recv(np.zeros(1), LAST)
        group.send(np.ones(1), LAST)
    elif RANK == LAST:
        group.recv(np.zeros(1), 0)
        time.sleep(1.0)
        group.send(np.ones(1), 0)
        group.recv(np.zeros(1), 0)


def test_messages_move_while_their_sender_is_in_a_collective(group: Communicator) -> None:
    if RANK == 0:
        work = group.isend(np.ones(8 * LARGE), LAST)
        group.barrier()
        work.wait()
    elif RANK == LAST:
        received = np.zeros(8 * LARGE)
        group.recv(received, 0)
        assert received.all()
        group.barrier()
    else:
        group.barrier()


def test_a_pipeline_with_random_delays(group: Communicator) -> None:
    """Messages to both neighbours with waits in every order: many near circles, none of them real."""
    delays = np.random.default_rng(RANK)
    left, right = (RANK - 1) % SIZE, (RANK + 1) % SIZE
    for step in range(12):
        n = 3 if step % 3 else LARGE // 4
        buffers = [np.zeros(n), np.zeros(n)]
        works = [
            group.isend(np.full(n, float(step + RANK)), right, 1),
            group.isend(np.full(n, float(step - RANK)), left, 2),
        ]
        time.sleep(delays.random() * 0.2 if delays.random() < 0.3 else 0)
        group.recv(buffers[0], left, 1)
        group.recv(buffers[1], right, 2)
        for work in works:
            work.wait()
        assert buffers[0][-1] == step + left and buffers[1][-1] == step - right
    group.barrier()


# ---- one that does not come ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_waiting_for_a_message_ends_when_the_peer_gives_up(backend: str) -> None:
    group = make(backend, Options(timeout=60))
    group.barrier()
    if RANK == LAST:
        time.sleep(0.2)
        group._fail("it left")
    elif RANK == 0:
        with pytest.raises(PeerLostError, match=rf"recv\(from rank {LAST}.*test_comm_waiting.py.*gave up: it left"):
            group.recv(np.zeros(3), LAST)


@pytest.mark.parametrize("backend", [*BACKENDS, "wire"])
def test_waiting_for_a_message_times_out(backend: str) -> None:
    group = make(backend, Options(timeout=0.4))
    meet()
    if RANK == 0:
        with pytest.raises(
            CommTimeoutError, match=rf"recv\(from rank {LAST}, tag 0, 3 float64 = 24 bytes\) at test_comm"
        ):
            group.recv(np.zeros(3), LAST)
    meet()


@pytest.mark.parametrize("backend", ["mpi 2 nodes", "hierarchical"])
def test_a_process_that_dies_on_another_node_is_named(backend: str) -> None:
    """The dead one is a child whose number the last rank gives for its own, because an MPI job ends with its ranks."""
    group = make(backend, Options(timeout=60))
    group.barrier()
    board = (group if backend == "mpi 2 nodes" else group._base)._meeting._board  # type: ignore[attr-defined]
    if RANK == LAST:
        child = subprocess.Popen(["true"])
        child.wait()
        board.rows.put(PID, child.pid)
        meet()
        time.sleep(1.5)
    else:
        meet()
        started = time.monotonic()
        with pytest.raises(PeerLostError, match=rf"rank {LAST} \(process \d+.*\) died"):
            group.all_reduce(np.zeros(3))
        assert time.monotonic() - started < 30  # and not at the timeout


def test_a_message_to_one_that_has_left_is_an_error(group: Communicator) -> None:
    if RANK == 0:
        with pytest.raises(CommError):
            group.recv(np.zeros(3), LAST)
    elif RANK == LAST:
        group._fail("planted")
