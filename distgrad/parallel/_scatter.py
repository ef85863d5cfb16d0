"""Gradients of which every rank receives its share of the mean only: the second stage of ZeRO.

Rajbhandari et al., ZeRO: Memory Optimizations Toward Training Trillion Parameter Models, SC 2020.
"""

import numpy as np

from .._tensor import Tensor
from .._typing import Array
from ..autograd._base import wrap
from ..comm import Communicator, ReduceOp
from ._bucket import Bucketful


class GradientShare:
    """This rank's part of a gradient; see `autograd._base.Share`.

    Args:
        part: the elements that are here.
        communicator: the ranks that have the others.
    """

    __slots__ = ("communicator", "part")

    def __init__(self, part: Array, communicator: Communicator) -> None:
        self.part = part
        self.communicator = communicator

    def total(self, value: float) -> float:
        """The sum of the values of all ranks."""
        return self._reduced(value, ReduceOp.SUM)

    def largest(self, value: float) -> float:
        """The largest of the values of all ranks."""
        return self._reduced(value, ReduceOp.MAX)

    def _reduced(self, value: float, op: ReduceOp) -> float:
        buffer = np.array([value])
        self.communicator.all_reduce(buffer, op)
        return float(buffer[0])


class ScatteredBucket:
    """A bucket that is reduced so that each rank gets an equal share of it, in place.

    Args:
        bucket: the gradients.
        communicator: the ranks.
    """

    __slots__ = ("_bucket", "_communicator", "_gradients", "_share")

    def __init__(self, bucket: Bucketful, communicator: Communicator) -> None:
        self._bucket = bucket
        self._communicator = communicator
        size = bucket.buffer.size // communicator.size
        first = communicator.rank * size
        self._share: Array = bucket.buffer[first : first + size]
        self._gradients: list[Tensor] = []
        for _, slot, _ in bucket.members:
            offset = slot.offset - bucket.place.start - first
            start, stop = min(max(offset, 0), size), min(max(offset + slot.size, 0), size)
            gradient: Tensor = wrap(slot.grad._data)
            gradient._get_extra().share = GradientShare(self._share[start:stop], communicator)
            self._gradients.append(gradient)

    def reduce(self) -> None:
        """Replaces this rank's share by the means over the ranks; the rest of the bucket then does not count."""
        self._communicator.reduce_scatter(self._share, self._bucket.buffer, ReduceOp.AVG)

    def mark(self) -> None:
        """Says of every gradient that is set that only a part of it is here."""
        for (p, _, _), gradient in zip(self._bucket.members, self._gradients, strict=True):
            if p._grad is not None:
                p._grad = gradient


def wants_shares(bucket: Bucketful, communicator: Communicator) -> bool:
    """Whether an optimizer of the same ranks needs no more than a share of the gradients."""
    keeper = bucket.arena.keeper()
    return keeper is not None and keeper.group is communicator and bucket.buffer.size % communicator.size == 0
