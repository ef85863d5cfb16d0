"""The speed of memory, measured on all ranks together."""

import time
from collections.abc import Callable

import numpy as np

METHOD = (
    "all ranks at once copy 64 MiB between two private arrays; bytes read and bytes written over the time of the "
    "slowest rank (STREAM's copy)"
)
COPIED = 64 * 2**20  # bytes, beyond the share of a rank in any cache


class Bandwidth:
    """Copies private arrays. Every rank makes one.

    Args:
        slowest: gives the largest of the times that the ranks pass; a collective call.
        barrier: returns when all ranks are there.
        ranks: how many copy at once.
        nbytes: how much each copies.
    """

    def __init__(
        self, slowest: Callable[[float], float], barrier: Callable[[], None], ranks: int, nbytes: int = COPIED
    ) -> None:
        self._slowest, self._barrier, self._ranks = slowest, barrier, ranks
        self._source = np.ones(nbytes // 8)
        self._target = np.zeros_like(self._source) + 1  # written once, so that its pages exist
        self.samples: list[float] = []  # bytes per second, of all ranks together

    def measure(self, copies: int = 3) -> None:
        """Take one sample. A collective call."""
        self._barrier()
        started = time.perf_counter()
        for _ in range(copies):
            np.copyto(self._target, self._source)
        seconds = self._slowest(time.perf_counter() - started)
        self.samples.append(2 * self._source.nbytes * copies * self._ranks / seconds)
