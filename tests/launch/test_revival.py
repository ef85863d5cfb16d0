"""When a job starts again whose rank has died, and when it does not."""


import pytest

from distgrad._snapshot import Snapshot
from distgrad.errors import LaunchError
from distgrad.launch import _revival
from distgrad.launch._request import parse
from distgrad.launch._revival import FRUITLESS, Revival


def step(revival: Revival, number: int) -> None:
    revival._file.write(0, number, b"", [])


def test_it_goes_on_for_as_long_as_steps_are_done() -> None:
    revival = Revival(1)
    for number in range(1, 4 * FRUITLESS):
        step(revival, number)
        assert revival.revives("rank 0 died", 1.0, "ValueError")
    revival.close()


def test_it_gives_up_without_a_step() -> None:
    revival = Revival(1)
    step(revival, 1)
    found = [revival.revives("rank 0 died", 1.0, None) for _ in range(FRUITLESS + 1)]
    assert found == [True] * FRUITLESS + [False]
    revival.close()


def test_the_same_error_without_a_step_in_between_ends_it() -> None:
    revival = Revival(1)
    assert revival.revives("rank 0 died", 1.0, "ValueError: a")
    assert revival.revives("rank 0 died", 1.0, "ValueError: b")
    step(revival, 1)
    assert revival.revives("rank 0 died", 1.0, "ValueError: b")
    assert not revival.revives("rank 0 died", 1.0, "ValueError: b")
    revival.close()


def test_what_a_rank_is_told() -> None:
    revival = Revival(2)
    assert parse([*revival.options, __file__]).lost == (0.0, "")
    revival.revives("rank 1 died", 1.5, None)
    request = parse([*revival.options, __file__])
    assert request.lost == (1.5, "rank 1 died")
    assert request.snapshot is not None
    mine = Snapshot.open(request.snapshot, 2)
    assert mine is not None
    mine.close()
    revival.close()


def test_a_system_without_such_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(ranks: int) -> Snapshot:
        raise OSError("no memfd_create")

    monkeypatch.setattr(_revival.Snapshot, "create", refuse)
    with pytest.raises(LaunchError, match="--elastic needs Open MPI, or Linux with memfd: no memfd_create"):
        Revival(2)
