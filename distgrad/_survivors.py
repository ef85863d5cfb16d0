"""What a restarted job goes on with: models, optimizers, schedules and loaders make themselves known here.

Below all of them, and without a word of its own: `data/_resume.py` writes their states after each step, and hands them
back. Outside of a job that `launch --elastic` may start again, nothing happens here.
"""

import weakref
from typing import Any, NamedTuple, Protocol

from ._snapshot import Snapshot


class Survivor(Protocol):
    """Whose state goes on."""

    def state_dict(self) -> Any:
        """The state; its arrays need not be copies."""
        ...

    def load_state_dict(self, state_dict: Any) -> None:
        """Takes it over."""
        ...


class Known(NamedTuple):
    """One of them."""

    survivor: "weakref.ref[Survivor]"
    own: bool  # its state is another one on each rank


class Survivors:
    """All that make themselves known in this process, and the file for their states.

    Args:
        file: the snapshots.
        rank: of this process.
        lost: what happened before this start of the job, in words; empty in the first.
        since: when that was, in seconds since the epoch.
    """

    def __init__(self, file: Snapshot, rank: int, lost: str, since: float) -> None:
        self.file = file
        self.rank = rank
        self.lost = lost
        self.since = since
        self._known: dict[str, Known] = {}
        self._counts: dict[str, int] = {}

    def add(self, kind: str, survivor: Survivor, own: bool) -> str:
        """Takes one in; returns its name, which follows from its kind and from how many there were before."""
        number = self._counts[kind] = self._counts.get(kind, 0) + 1
        name = f"{kind} {number}"
        self._known[name] = Known(weakref.ref(survivor), own)
        return name

    def remove(self, survivor: Survivor) -> None:
        """Lets go of one, with its number, if it is the last of its kind."""
        for name, known in [*self._known.items()]:
            if known.survivor() is survivor:
                kind, number = name.split()
                del self._known[name]
                if self._counts[kind] == int(number):
                    self._counts[kind] -= 1

    def living(self, own: bool) -> dict[str, Survivor]:
        """Those that still exist, by name, in the order in which they came."""
        for name in [name for name, known in self._known.items() if known.survivor() is None]:
            del self._known[name]
        found = {name: known.survivor() for name, known in self._known.items() if known.own == own}
        return {name: survivor for name, survivor in found.items() if survivor is not None}


_here: list[Survivors] = []


def survive(survivors: Survivors) -> None:
    """From now on, states of this process are kept for another start of the job."""
    _here[:] = [survivors]


def survivors() -> Survivors | None:
    """Those of this process; None where the job is not kept."""
    return _here[0] if _here else None


def enlist(kind: str, survivor: Survivor, own: bool = False) -> None:
    """Makes an object known whose state goes on; to be called on all ranks in the same order.

    Args:
        kind: in a word what it is.
        survivor: is not kept alive.
        own: its state is another one on each rank.
    """
    if _here:
        _here[0].add(kind, survivor, own)


def withdraw(survivor: Survivor) -> None:
    """The object is a part of another one that makes itself known."""
    if _here:
        _here[0].remove(survivor)
