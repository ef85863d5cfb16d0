"""The logical shard that a training loop is at, for those who must know: random streams, layers, gradient sums.

A step of `DataLoader.steps` is cut into a fixed number of logical shards, whatever the number of ranks. `data`
announces them here, below all others; `parallel` listens, and normalisation layers ask whether they are in one.
"""

import threading
import weakref
from collections.abc import Sequence
from typing import NamedTuple


class Shard(NamedTuple):
    """A part of the batch of one step that is computed alike wherever it is computed.

    Args:
        number: which part it is, from 0.
        of: the number of parts of every step.
        samples: how many samples it has.
        total: how many the whole step has.
        epoch: the number of the epoch, from 0.
        step: the number of the step in the epoch, from 0.
    """

    number: int
    of: int
    samples: int
    total: int
    epoch: int
    step: int

    @property
    def weight(self) -> float:
        """Its share of the step: what a mean over its samples counts in the mean over all."""
        return self.samples / self.total


class Listener:
    """Who takes part in the steps of a loop. Here nothing is done; who inherits from this defines what it needs."""

    def begin_step(self, shards: int) -> None:
        """A step of so many logical shards begins, on all ranks."""

    def begin_shard(self, shard: Shard) -> None:
        """The body of the loop is about to work on a shard that has samples."""

    def end_shard(self, shard: Shard) -> None:
        """It has; or the shard has no samples, and then it did not begin either."""

    def end_step(self) -> None:
        """All shards of this rank have ended."""

    def void_step(self) -> None:
        """A rank has died, nothing of the step counts: everything becomes what it was when the step began."""

    def begin_again(self, blocks: Sequence[tuple[range, int]]) -> None:
        """A void step goes on: ranks keep the sums over shards that they have, only what is missing is computed.

        Args:
            blocks: shards of which one rank has the sum, or will have, and the rank. They tile the step. Those that
                this rank has yet to compute come now, in this order.
        """


class _Here(threading.local):
    """What holds in one thread: ranks may be threads of one process."""

    def __init__(self) -> None:
        self.shard: Shard | None = None
        self.listeners: list[weakref.ref[Listener]] = []


_here = _Here()


def current_shard() -> Shard | None:
    """The shard that the loop in this thread is at; None outside of one."""
    return _here.shard


def set_current_shard(shard: Shard | None) -> None:
    """Says which shard the loop in this thread is at."""
    _here.shard = shard


class _Trained:
    """The model that was trained last, where somebody wants to know it in the end."""

    wanted = False
    model: object = None


def remember_trained() -> None:
    """From now on, the model that was trained last stays alive, for `trained`."""
    _Trained.wanted = True


def note_trained(model: object) -> None:
    """A step of this model has its gradients."""
    if _Trained.wanted:
        _Trained.model = model


def trained() -> object:
    """The model of the last step; None where nobody asked to remember, or there was no step."""
    return _Trained.model


def listen(listener: Listener) -> None:
    """Lets `listener` take part in every step of this thread from now on, for as long as it lives."""
    _here.listeners.append(weakref.ref(listener))


def listeners() -> list[Listener]:
    """Those who take part, in the order in which they came, which must be the same on all ranks."""
    _here.listeners = [reference for reference in _here.listeners if reference() is not None]
    return [found for reference in _here.listeners if (found := reference()) is not None]
