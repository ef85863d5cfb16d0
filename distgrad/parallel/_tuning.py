"""Bucket size and overlap chosen by measuring the first steps."""

import statistics
import time
from typing import NamedTuple

from ..comm import Communicator
from ._reducer import Reducer

ROUNDS = 12  # steps of each choice that count
WARM_UP = 3  # steps before that: caches, plans of optimizers
MARGIN = 0.02  # by how much a choice must be faster than one that is simpler
SIZES = (1 << 20, 4 << 20, 16 << 20, 64 << 20)  # bytes of a span that are tried with overlap


class Choice(NamedTuple):
    """One way to reduce: `overlap` and the bytes of a span, see `Reducer.regroup`."""

    overlap: bool
    nbytes: float


class Tuner:
    """Tries each choice in turn, one step at a time, so that a slow phase of the machine hits all of them alike.

    A step lasts from one forward pass that will be reduced to the next. The decision is rank 0's, by the slowest rank:
    the choice whose median step is shortest, or the first, which is without overlap, unless another is faster by 2 %.

    Args:
        reducer: what is tuned.

    Attributes:
        choices: what is tried.
        medians: of each choice, in seconds, on the slowest rank; empty until the decision.
        chosen: the decision.
    """

    def __init__(self, reducer: Reducer) -> None:
        total = sum(span.buffer.nbytes for span in reducer.spans)
        sizes = [size for size in SIZES if size < total] or [SIZES[0]]
        self.choices = [Choice(False, float("inf"))]
        if reducer.can_overlap:
            self.choices += [Choice(True, size) for size in sizes]
        self.medians: list[float] = []
        self.chosen: Choice | None = None
        self._times: list[list[float]] = [[] for _ in self.choices]
        self._steps = 0
        self._started = 0.0

    def step(self, reducer: Reducer, communicator: Communicator) -> None:
        """Called where a step begins, on all ranks alike; the last such call is collective."""
        if self.chosen is not None:
            return
        now = time.perf_counter()
        tried = self._steps - WARM_UP
        if tried > 0:
            self._times[(tried - 1) % len(self.choices)].append(now - self._started)
        self._steps += 1
        if tried == ROUNDS * len(self.choices):
            self._decide(reducer, communicator)
        else:
            reducer.regroup(*self.choices[max(tried, 0) % len(self.choices)])
            self._started = time.perf_counter()

    def _decide(self, reducer: Reducer, communicator: Communicator) -> None:
        own = [statistics.median(times) for times in self._times]
        slowest = [max(medians) for medians in zip(*communicator.all_gather_object(own), strict=True)]
        best = min(range(len(slowest)), key=slowest.__getitem__)
        if slowest[best] > slowest[0] * (1 - MARGIN):
            best = 0
        self.medians = slowest
        self.chosen = self.choices[communicator.broadcast_object(best)]
        reducer.regroup(*self.chosen)
