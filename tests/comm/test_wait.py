"""How a rank waits, on a clock of our own."""

import itertools

import pytest

from distgrad.comm import _wait
from distgrad.comm._wait import SPINS, YIELDS, Patience


class Clock:
    """Time that passes only in sleep, and what was done meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.naps: list[float] = []
        self.yields = 0
        monkeypatch.setattr(_wait, "monotonic", lambda: self.now)
        monkeypatch.setattr(_wait, "sleep", self.sleep)
        monkeypatch.setattr(_wait, "sched_yield", self.sched_yield)

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds

    def sched_yield(self) -> None:
        self.yields += 1


def test_a_short_wait_spins_then_yields_and_never_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    patience = Patience(lambda waited: pytest.fail("looked around in a short wait"))
    for _ in range(SPINS):
        patience.pause()
    assert clock.yields == 0
    for _ in range(YIELDS):
        patience.pause()
    assert (clock.yields, clock.naps) == (YIELDS, [])


def test_naps_grow_but_stay_a_small_part_of_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    looks: list[float] = []
    patience = Patience(looks.append, spins=0)
    while clock.now < 110:
        patience.pause()
    assert clock.naps[0] == 50e-6 and clock.naps[-1] == 5e-3
    assert clock.naps == sorted(clock.naps)
    assert len(clock.naps) < 3000, "a long wait must leave the core to others"
    gaps = [later - earlier for earlier, later in itertools.pairwise(looks)]
    assert 5e-3 <= looks[0] < 6e-3 and max(gaps) < 0.06, "a dead peer must be noticed soon"


def test_what_a_look_raises_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    def look(waited: float) -> None:
        if waited > 1:
            raise TimeoutError

    patience = Patience(look)
    with pytest.raises(TimeoutError):
        while True:
            patience.pause()
    assert 101 < clock.now < 101.1
