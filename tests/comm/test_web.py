"""Ranks that wait for each other in several groups, as the board of all ranks shows them."""

from types import SimpleNamespace

import pytest

from distgrad.comm.diagnosis import _web
from distgrad.comm.diagnosis._deadlock import LOOKS
from distgrad.comm.diagnosis._rows import AWAITED_TURN, LEFT_ALONE, Rows, board_bytes
from distgrad.comm.diagnosis._web import Strand, circle_through

SIZE = 3


class Job:
    """The ranks of a job, all in this process."""

    def __init__(self, size: int, patch: pytest.MonkeyPatch) -> None:
        words = memoryview(bytearray(board_bytes(size))).cast("q")
        self.rows = [Rows(words, rank, size) for rank in range(size)]
        self.now = 50.0
        self._patch = patch
        patch.setattr(_web, "time", SimpleNamespace(monotonic=lambda: self.now))
        patch.setattr(_web, "_others_may_come", lambda: False)

    def wait(self, rank: int) -> Strand:
        """A rank begins to wait in some group of all ranks."""
        self._patch.setattr(_web, "_everyone", self.rows[rank])
        return Strand(rank, range(len(self.rows)))

    def let_all_look(self) -> None:
        self.now += 1
        for rows in self.rows:
            rows.put(AWAITED_TURN, rows.get(rows.rank, AWAITED_TURN) + LOOKS)


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Job:
    return Job(SIZE, monkeypatch)


def doing() -> str:
    return "call #1, barrier()"


def stand_in_a_ring(job: Job) -> list[str | None]:
    """Each rank waits for the next one, until each has looked in vain for long; what each finds then."""
    strands = [job.wait(rank) for rank in range(SIZE)]
    for _ in range(2):
        for rank, strand in enumerate(strands):
            assert strand.look([(rank + 1) % SIZE], doing) is None
    job.let_all_look()
    return [strand.look([(rank + 1) % SIZE], doing) for rank, strand in enumerate(strands)]


def test_all_ranks_of_a_circle_give_up(job: Job) -> None:
    found = stand_in_a_ring(job)
    assert all(text is not None and "rank 1, a member of the group of ranks 0, 1, 2: call #1" in text for text in found)


def test_who_has_given_up_and_goes_on_is_part_of_no_circle(job: Job) -> None:
    """The errors are caught, and ranks wait for each other in other groups: for moments, and in no circle."""
    stand_in_a_ring(job)
    for rank in range(SIZE):
        again = job.wait(rank)
        for _ in range(3):
            assert again.look([(rank - 1) % SIZE], doing) is None, "the peer computes, and waits for nobody"
            job.let_all_look()
        again.end()


def test_who_gives_up_tells_the_others(job: Job) -> None:
    """They need not make sure for themselves, since this rank looks no more."""
    strands = [job.wait(rank) for rank in range(2)]
    for _ in range(2):
        assert strands[0].look([1], doing) is None and strands[1].look([0], doing) is None
    job.let_all_look()
    assert strands[0].look([1], doing) is not None
    assert job.rows[1].get(0, LEFT_ALONE) and circle_through(job.rows[1]) == [1, 0]
    assert strands[1].look([0], doing) is not None


def test_of_large_groups_the_first_members_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(400, monkeypatch)
    strands = [job.wait(rank) for rank in range(2)]
    for _ in range(2):
        assert strands[0].look([1], doing) is None and strands[1].look([0], doing) is None
    job.let_all_look()
    text = strands[0].look([1], doing)
    assert text is not None and "of the group of ranks 0, 1, 2, 3" in text
    assert "15, ... (400 in all): call #1, barrier()" in text
