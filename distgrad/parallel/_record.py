"""What reductions cost: the figures that `DistributedDataParallel` gives out."""

import time

from ..comm import Statistics


class Record:
    """Sums over all reductions of one reducer, in seconds and bytes.

    Attributes:
        reductions: how many there were.
        calls: how many spans they had.
        nbytes: what was reduced.
        backward: time from the beginning of a backward pass to the beginning of the wait at its end.
        waited: time from then on until all gradients were reduced.
        communicated: time in communication calls, in any thread.
    """

    def __init__(self) -> None:
        self.reductions = self.calls = self.nbytes = 0
        self.backward = self.waited = self.communicated = 0.0
        self._began = 0.0
        self._before = 0.0

    def begin(self, statistics: Statistics) -> None:
        """A backward pass begins."""
        self._began = time.perf_counter()
        self._before = statistics.seconds

    def end(self, started: float, statistics: Statistics, calls: int, nbytes: int) -> None:
        """All gradients are reduced; `started` is when this rank began to wait for them."""
        now = time.perf_counter()
        self.reductions += 1
        self.calls += calls
        self.nbytes += nbytes
        if self._began:
            self.backward += started - self._began
        self.waited += now - started
        self.communicated += statistics.seconds - self._before
        self._began, self._before = 0.0, statistics.seconds

    @property
    def overlap_share(self) -> float:
        """How much of the time in communication was hidden behind backward, between 0 and 1."""
        if self.communicated <= 0:
            return 0.0
        return min(max(1 - self.waited / self.communicated, 0.0), 1.0)
