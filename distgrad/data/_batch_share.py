"""What a sharded loader says about the batch that its loop is at: how many samples this rank has, and all ranks.

`DistributedDataParallel` weighs gradients with it. All ranks know the numbers by arithmetic, without communication.
"""

import threading
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple


class BatchShare(NamedTuple):
    """The samples of one batch: on this rank, on all ranks together, and how many ranks that is."""

    samples: int
    total: int
    ranks: int

    @property
    def factor(self) -> float:
        """By what a mean over this rank's samples is multiplied so that the mean over ranks is that over samples."""
        return self.samples * self.ranks / self.total


class _Current(threading.local):
    share: BatchShare | None = None


_current = _Current()


def current_share() -> BatchShare | None:
    """The share of the batch that a sharded loader gave last in this thread; None outside of its loop."""
    return _current.share


def shares(samples: int, batch_size: int, rank: int, ranks: int) -> Iterator[BatchShare]:
    """The shares of an epoch in which rank r takes every `ranks`-th of `samples`, from the r-th on, in batches."""
    of_ranks = [(samples - r + ranks - 1) // ranks for r in range(ranks)]
    for start in range(0, of_ranks[rank], batch_size):
        counts = [min(max(n - start, 0), batch_size) for n in of_ranks]
        yield BatchShare(counts[rank], sum(counts), ranks)


def published(batches: Iterable[tuple[Any, BatchShare]]) -> Iterator[Any]:
    """The batches; while the body of the loop works on one, `current_share` gives its share."""
    share = None
    try:
        for batch, share in batches:
            _current.share = share
            yield batch
    finally:
        if _current.share is share:
            _current.share = None
