"""Goes on where a job was when a rank died, in one that was started again: `launch --elastic` without ULFM.

After each step the states of all that `_survivors` knows are written to memory that outlives the ranks. A job that was
started again runs the script from its top; when it begins a loop over steps, states are what they were after the last
step that all ranks had ended.
"""

import os
import pickle
import random
import sys
import time
import weakref
from typing import Any, NamedTuple

import numpy as np

from .._survivors import Survivor, Survivors, survivors
from ..errors import StateDictError
from ..ops import get_rng_state, set_rng_state


class Place(NamedTuple):
    """Where a loader is in the snapshot that the job goes on from."""

    loader: str
    is_active: bool  # the loop over its steps was running
    epoch: int
    sample: int


class _Snapped(NamedTuple):
    """What a snapshot holds."""

    active: str  # the loader whose step had ended
    shared: dict[str, Any]  # states, by name
    own: dict[str, Any]  # those that are this rank's alone
    streams: dict[str, Any]


class Resumption:
    """What is kept in this process, and what it goes on from."""

    def __init__(self, kept: Survivors) -> None:
        self._kept = kept
        self._number = kept.file.newest()
        self._loaders: weakref.WeakKeyDictionary[Survivor, str] = weakref.WeakKeyDictionary()
        self._places: dict[str, Place] = {}
        self._began = False

    # ---- going on ------------------------------------------------------------------------------------------------

    def place_of(self, loader: Survivor) -> Place | None:
        """Where this loader has to go on; None for one that begins at its beginning, or is there already."""
        if loader not in self._loaders:
            self._loaders[loader] = self._kept.add("loader", loader, False)
        name = self._loaders[loader]
        if not self._began:
            self._began = True
            self._begin(name, loader.state_dict())
        return self._places.get(name)

    def _begin(self, name: str, at: dict[str, int]) -> None:
        """The first loop over steps begins: what exists so far becomes what it was.

        Where the program has loaded something newer, from a file that it wrote after the last snapshot, that counts.
        """
        if not self._number:
            self._announce("from the beginning")
            return
        found = self._read()
        positions = {key: state for key, state in found.shared.items() if key.startswith("loader ")}
        if name in positions and _position(at) > _position(positions[name]):
            self._announce("from what the program has loaded")
            return
        self._places = {key: Place(key, key == found.active, *_position(state)) for key, state in positions.items()}
        self._restore(found, complete=False)

    def arrive(self, place: Place, where: str) -> None:
        """A loader has come to the epoch of its place: the loop that was running goes on, with the states of then."""
        del self._places[place.loader]
        if place.is_active:
            self._restore(self._read(), complete=True)
            self._announce(where)

    def _announce(self, where: str) -> None:
        kept = self._kept
        if kept.lost and kept.rank == 0:
            at = f"{time.strftime('%H:%M:%S', time.localtime(kept.since))}.{int(kept.since % 1 * 1e3):03d}"
            print(
                f"distgrad: {kept.lost}, noticed at {at}; the job was started again and goes on {where}; it took "
                f"{(time.time() - kept.since) * 1e3:.0f} ms",
                file=sys.stderr,
                flush=True,
            )
        kept.lost = ""

    def _read(self) -> _Snapped:
        file = self._kept.file
        sizes, body, own = pickle.loads(file.own(self._kept.rank, self._number))
        active, shared = pickle.loads(body, buffers=file.shared(self._number, sizes))
        return _Snapped(active, shared, *pickle.loads(own))

    def _restore(self, snapped: _Snapped, complete: bool) -> None:
        """Gives all that exist their states.

        Raises:
            StateDictError: `complete`, and something that has a state does not exist.
        """
        found = {**self._kept.living(own=False), **self._kept.living(own=True)}
        states = {**snapped.shared, **snapped.own}
        wanted = {name: state for name, state in states.items() if not name.startswith("loader ")}
        missing = [name for name in wanted if name not in found]
        if complete and missing:
            raise StateDictError(
                "launch --elastic: expected the program to make the same objects as before it was started again, got "
                f"no {', '.join(missing)}; make them before the loop over steps"
            )
        for name in wanted:
            if name in found:
                found[name].load_state_dict(wanted[name])
        _set_streams(snapped.streams)

    # ---- keeping -------------------------------------------------------------------------------------------------

    def keep(self, loader: Survivor) -> None:
        """A step of this loader has ended on this rank, with all that the loop does after it."""
        buffers: list[Any] = []
        shared = {name: survivor.state_dict() for name, survivor in self._kept.living(own=False).items()}
        body = pickle.dumps((self._loaders[loader], shared), protocol=5, buffer_callback=buffers.append)
        views = [buffer.raw() for buffer in buffers]
        states = {name: survivor.state_dict() for name, survivor in self._kept.living(own=True).items()}
        own = pickle.dumps((states, _streams()), protocol=5)
        self._number += 1
        everything = pickle.dumps(([view.nbytes for view in views], body, own), protocol=5)
        self._kept.file.write(self._kept.rank, self._number, everything, views)


def _position(state: dict[str, int]) -> tuple[int, int]:
    return state["epoch"], state["sample"]


def _streams() -> dict[str, Any]:
    """Where the global random streams are, of this rank."""
    return {"distgrad": get_rng_state(), "numpy": np.random.get_state(), "python": random.getstate()}


def _set_streams(streams: dict[str, Any]) -> None:
    set_rng_state(streams["distgrad"])
    np.random.set_state(streams["numpy"])
    random.setstate(streams["python"])


_here: list[tuple[int, Resumption]] = []  # of this process; a forked child has none


def resumption() -> Resumption | None:
    """That of this process; None where the job is not one that may be started again."""
    kept = survivors()
    if kept is None:
        return None
    if not _here:
        _here.append((os.getpid(), Resumption(kept)))
    owner, found = _here[0]
    return found if owner == os.getpid() else None
