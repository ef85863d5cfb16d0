"""Memory that outlives the ranks: the newest whole snapshot is found, whatever moment a rank has died at."""

import itertools
import os

import pytest

from distgrad import _snapshot
from distgrad._snapshot import Snapshot

RANKS = 3
SHARED = [bytes([number]) * (1000 * number) for number in range(5)]  # the first one is empty


def views(step: int) -> list[memoryview]:
    return [memoryview(bytes(byte ^ step for byte in buffer)) for buffer in SHARED]


def write(file: Snapshot, rank: int, step: int) -> None:
    file.write(rank, step, f"rank {rank}, step {step}".encode(), views(step))


def check(file: Snapshot, step: int) -> None:
    """What is read is what was written at this step."""
    assert [file.own(rank, step) for rank in range(RANKS)] == [f"rank {r}, step {step}".encode() for r in range(RANKS)]
    assert file.shared(step, map(len, SHARED)) == views(step)


def test_it_is_found_through_its_address() -> None:
    file = Snapshot.create(RANKS)
    assert file.newest() == 0
    mine = Snapshot.open(file.address, RANKS)
    assert mine is not None
    for rank in range(RANKS):
        write(mine, rank, 1)
    check(file, 1)
    assert Snapshot.open(file.address + "0", RANKS) is None
    assert Snapshot.open("/no/such/file:token", RANKS) is None
    file.close()
    mine.close()


@pytest.mark.parametrize("done", range(RANKS))
def test_one_that_not_all_ranks_have_written_is_none(done: int) -> None:
    file = Snapshot.create(RANKS)
    for step in range(1, 5):
        for rank in range(RANKS if step < 4 else done):
            write(file, rank, step)
    assert file.newest() == 3
    check(file, 3)
    assert file.drop_incomplete() == 3
    for rank in range(done, RANKS):  # the others' part of the same step of another start does not count
        write(file, rank, 4)
    assert file.newest() == (4 if done == 0 else 3)
    file.close()


def test_a_rank_that_dies_at_any_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call of the system, and the copy, is cut short once, after half of its bytes."""
    copy = _snapshot._copy

    class Died(Exception):
        pass

    class Dying:
        """The module os, in which a rank dies."""

        def __init__(self, at: int) -> None:
            self.left = at

        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

        def pwrite(self, file: int, data: bytes, at: int) -> int:
            self._live()
            return os.pwrite(file, data, at)

        def pwritev(self, file: int, buffers: list[memoryview], at: int) -> int:
            if self.left == 0:
                os.pwritev(file, [buffer[: len(buffer) // 2] for buffer in buffers], at)
            self._live()
            return os.pwritev(file, buffers, at)

        def copy(self, buffers: list[memoryview], window: memoryview) -> None:
            if self.left == 0:
                copy([buffer[: len(buffer) // 2] for buffer in buffers], window)
            self._live()
            copy(buffers, window)

        def _live(self) -> None:
            if self.left == 0:
                raise Died
            self.left -= 1

    for moment in itertools.count():
        file = Snapshot.create(RANKS)
        for step, rank in itertools.product(range(1, 4), range(RANKS)):
            write(file, rank, step)
        for rank in (0, 2):
            write(file, rank, 4)
        dying = Dying(moment)
        monkeypatch.setattr(_snapshot, "os", dying)
        monkeypatch.setattr(_snapshot, "_copy", dying.copy)
        try:
            write(file, 1, 4)
        except Died:
            monkeypatch.undo()
            assert file.drop_incomplete() == 3
            check(file, 3)
        else:
            assert moment == 4 and file.newest() == 4  # head, shared, own, head
            check(file, 4)
            break
        finally:
            monkeypatch.undo()
            file.close()


def test_the_head_of_an_old_one_goes_before_its_bytes_are_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else two ranks that are cut short at once would leave an old number with new bytes."""
    file = Snapshot.create(1)
    file.write(0, 1, b"old", [])
    monkeypatch.setattr(_snapshot, "_write_all", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        file.write(0, 3, b"new", [])
    monkeypatch.undo()
    assert file.newest() == 0
    file.close()


def test_more_buffers_than_one_call_takes() -> None:
    file = Snapshot.create(2)
    buffers = [memoryview(bytes([i % 251] * (i % 7))) for i in range(5000)]
    for rank in range(2):
        file.write(rank, 1, b"", buffers)
    assert file.shared(1, [buffer.nbytes for buffer in buffers]) == buffers
    file.close()
