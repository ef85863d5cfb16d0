"""Where each parameter lies in flat memory: pure arithmetic, without arrays."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .._typing import Shape

SLOT_ALIGNMENT = 64  # elements: a slot starts on a cache line whatever the dtype
BUCKET_ALIGNMENT = 128  # elements; with the world size, so that every rank's share of a bucket is a whole number
FIRST_BUCKET_BYTES = 1 << 20  # small, because its gradients are ready first and communication can start
BUCKET_BYTES = 25 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """One parameter's place: elements ``offset : offset + size``, seen in its shape."""

    offset: int
    size: int
    shape: Shape

    @property
    def stop(self) -> int:
        """The first element after it."""
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class Bucket:
    """What is communicated at once: the elements ``start : stop``, which hold the places ``first : last``.

    After the places come `header` elements, one for each place, if the layout has headers: room for a word that travels
    with the gradients. `stop` is padded, so that it can be cut into equal aligned shares.
    """

    start: int
    stop: int
    first: int
    last: int
    header: int

    @property
    def header_stop(self) -> int:
        """The first element after the header."""
        return self.header + self.last - self.first


@dataclass(frozen=True, slots=True)
class Layout:
    """A plan of flat memory for a list of parameters.

    Attributes:
        places: in the order of memory.
        buckets: they tile ``0 : size``.
        size: the number of elements.
    """

    places: tuple[Place, ...]
    buckets: tuple[Bucket, ...]
    size: int


def plan(
    shapes: Sequence[Shape],
    itemsize: int,
    *,
    world_size: int = 1,
    headers: bool = False,
    first_bucket_bytes: int = FIRST_BUCKET_BYTES,
    bucket_bytes: int = BUCKET_BYTES,
) -> Layout:
    """Plans memory for parameters of these shapes, in the order given.

    A bucket is closed before the parameter with which it would exceed its size; a larger parameter has one of its own.

    Args:
        shapes: one for each parameter.
        itemsize: bytes per element.
        world_size: ranks that each own an equal share of a bucket.
        headers: whether buckets have a header, one element for each place.
        first_bucket_bytes: the size of the first bucket, about.
        bucket_bytes: the size of the others, about.
    """
    places: list[Place] = []
    buckets: list[Bucket] = []
    start = first = 0
    step = math.lcm(world_size, BUCKET_ALIGNMENT)
    for index, shape in enumerate(shapes):
        size = math.prod(shape)
        limit = bucket_bytes if buckets else first_bucket_bytes
        if index > first and (_next_start(places, start) + size - start) * itemsize > limit:
            buckets.append(_close(places, start, first, step, headers))
            start, first = buckets[-1].stop, index
        places.append(Place(_next_start(places, start), size, tuple(shape)))
    if places:
        buckets.append(_close(places, start, first, step, headers))
    return Layout(tuple(places), tuple(buckets), buckets[-1].stop if buckets else 0)


def runs(indices: Sequence[int]) -> list[tuple[int, int]]:
    """The maximal ranges ``first, last`` (exclusive) of consecutive numbers in a rising sequence."""
    found: list[tuple[int, int]] = []
    first = last = -1
    for index in indices:
        if index != last:
            if last > first:
                found.append((first, last))
            first = index
        last = index + 1
    if last > first:
        found.append((first, last))
    return found


def _round_up(n: int, step: int) -> int:
    return -(-n // step) * step


def _next_start(places: list[Place], start: int) -> int:
    return max(start, _round_up(places[-1].stop, SLOT_ALIGNMENT)) if places else start


def _close(places: list[Place], start: int, first: int, step: int, headers: bool) -> Bucket:
    """The bucket from `start` with the places from number `first` on."""
    header = _next_start(places, start)
    stop = header + (len(places) - first if headers else 0)
    return Bucket(start, start + _round_up(stop - start, step), first, len(places), header)
