"""How much time a process spends in communication."""

import time
from dataclasses import dataclass, replace


@dataclass
class Statistics:
    """Totals since the start (or since `reset`) over a communicator and all groups split from it.

    Args:
        seconds: wall time inside communication calls, waiting for slower peers included.
        calls: number of calls.
        nbytes: bytes of the buffers that were passed in.
    """

    seconds: float = 0.0
    calls: int = 0
    nbytes: int = 0

    def add(self, seconds: float, nbytes: int) -> None:
        """Count one call."""
        self.seconds += seconds
        self.calls += 1
        self.nbytes += nbytes

    def reset(self) -> None:
        """Start again from zero."""
        self.seconds, self.calls, self.nbytes = 0.0, 0, 0

    def copy(self) -> "Statistics":
        """A snapshot that later calls do not change."""
        return replace(self)


class Measurement:
    """The share of communication in a stretch of a program: a context manager, see `distgrad.comm.measure`."""

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics
        self._before = statistics.copy()
        self._started = self._ended = time.perf_counter()
        self._after: Statistics | None = None

    def __enter__(self) -> "Measurement":
        self._before = self._statistics.copy()
        self._started = time.perf_counter()
        self._after = None
        return self

    def __exit__(self, *error: object) -> None:
        self._ended = time.perf_counter()
        self._after = self._statistics.copy()

    @property
    def elapsed(self) -> float:
        """Wall time of the block so far, in seconds."""
        return (time.perf_counter() if self._after is None else self._ended) - self._started

    @property
    def seconds(self) -> float:
        """Time of the block so far that was spent in communication calls, in seconds."""
        return (self._after or self._statistics).seconds - self._before.seconds

    @property
    def calls(self) -> int:
        """Number of communication calls in the block so far."""
        return (self._after or self._statistics).calls - self._before.calls

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers passed to communication calls in the block so far."""
        return (self._after or self._statistics).nbytes - self._before.nbytes

    @property
    def share(self) -> float:
        """`seconds` as a fraction of `elapsed`, between 0 and 1."""
        return self.seconds / self.elapsed if self.elapsed > 0 else 0.0
