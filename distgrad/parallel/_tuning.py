"""Bucket size and overlap chosen by measuring the first steps."""

import statistics
import time
from typing import NamedTuple

from ..comm import Communicator
from ._reducer import Reducer

ROUNDS = 12  # steps of each choice that count
WARM_UP = 3  # steps before that: caches, plans of optimizers
MARGIN = 0.02  # by how much a choice must be faster than reduction at the end,
WINS = 0.75  # and in how many of the rounds: noise alone does that in one case of fourteen
SIZES = (1 << 20, 4 << 20, 16 << 20, 64 << 20)  # bytes of a span that are tried with overlap


class Choice(NamedTuple):
    """One way to reduce: `overlap` and the bytes of a span, see `Reducer.regroup`."""

    overlap: bool
    nbytes: float


class Tuner:
    """Tries each choice in turn, one step at a time, so that a slow phase of the machine hits all of them alike.

    A step lasts from one forward pass that will be reduced to the next, and on the slowest rank. The decision is rank
    0's: the choice whose median step is shortest, if that is shorter than the first choice's, which is without overlap,
    by 2 % and in three of four rounds.

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
        of_ranks = communicator.all_gather_object(self._times)
        slowest = [[max(steps) for steps in zip(*times, strict=True)] for times in zip(*of_ranks, strict=True)]
        self.medians = [statistics.median(times) for times in slowest]
        self.chosen = self.choices[communicator.broadcast_object(best_of(slowest))]
        reducer.regroup(*self.chosen)


def best_of(times: list[list[float]]) -> int:
    """Which choice is best; the first unless another is clearly faster.

    Args:
        times: of each choice in each round, in seconds.
    """
    medians = [statistics.median(of_choice) for of_choice in times]
    best = min(range(len(medians)), key=medians.__getitem__)
    wins = sum(a < b for a, b in zip(times[best], times[0], strict=True))
    is_clear = medians[best] < medians[0] * (1 - MARGIN) and wins >= WINS * len(times[0])
    return best if is_clear else 0
