"""The plan of flat memory: its promises hold for every list of shapes, and the checker sees when one is broken."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distgrad.arena import Layout, plan
from distgrad.arena._layout import BUCKET_ALIGNMENT, SLOT_ALIGNMENT, runs

SHAPES = st.lists(st.lists(st.integers(0, 40), max_size=3).map(tuple), max_size=30)


def broken(layout: Layout, shapes: list[tuple[int, ...]], world_size: int, headers: bool) -> list[str]:
    """The promises that a layout breaks."""
    found = []
    if [place.shape for place in layout.places] != shapes:
        found.append("places")
    if any(place.size != math.prod(place.shape) or place.offset % SLOT_ALIGNMENT for place in layout.places):
        found.append("alignment")
    ends = [0]
    firsts = [0]
    for bucket in layout.buckets:
        inside = layout.places[bucket.first : bucket.last]
        edges = [bucket.start, *(edge for place in inside for edge in (place.offset, place.stop)), bucket.header]
        if edges != sorted(edges):
            found.append("order")
        if bucket.start != ends[-1] or bucket.first != firsts[-1] or not inside:
            found.append("tiling")
        if (bucket.header_stop if headers else bucket.header) > bucket.stop:
            found.append("header")
        if (bucket.stop - bucket.start) % math.lcm(world_size, BUCKET_ALIGNMENT):
            found.append("padding")
        ends.append(bucket.stop)
        firsts.append(bucket.last)
    if ends[-1] != layout.size or firsts[-1] != len(shapes):
        found.append("end")
    return found


@given(SHAPES, st.sampled_from([2, 4, 8]), st.integers(1, 7), st.booleans(), st.integers(1, 9000))
def test_promises(
    shapes: list[tuple[int, ...]], itemsize: int, world_size: int, headers: bool, bucket_bytes: int
) -> None:
    layout = plan(shapes, itemsize, world_size=world_size, headers=headers, bucket_bytes=bucket_bytes)
    assert broken(layout, shapes, world_size, headers) == []


@given(SHAPES, st.integers(1, 9000), st.integers(1, 9000))
def test_buckets_keep_their_size(shapes: list[tuple[int, ...]], first: int, other: int) -> None:
    layout = plan(shapes, 4, first_bucket_bytes=first, bucket_bytes=other)
    for number, bucket in enumerate(layout.buckets):
        inside = layout.places[bucket.first : bucket.last]
        limit = other if number else first
        assert len(inside) == 1 or (inside[-1].stop - bucket.start) * 4 <= limit
        if bucket.last < len(shapes):  # it was closed because the next one does not fit
            assert (bucket.header + math.prod(shapes[bucket.last]) - bucket.start) * 4 > limit


def test_first_bucket_is_small() -> None:
    megabyte = (1 << 18,)  # of float32
    layout = plan([megabyte] * 30, 4)
    assert [bucket.last - bucket.first for bucket in layout.buckets] == [1, 25, 4]


def test_nothing_to_plan() -> None:
    assert plan([], 4) == Layout((), (), 0)


@pytest.mark.parametrize(
    ("promise", "spoil"),
    [
        ("places", lambda layout: replace(layout, places=layout.places[::-1])),
        ("alignment", lambda layout: replace(layout, places=(replace(layout.places[0], offset=1), *layout.places[1:]))),
        ("tiling", lambda layout: replace(layout, buckets=(replace(layout.buckets[0], start=64), *layout.buckets[1:]))),
        ("header", lambda layout: replace(layout, buckets=(replace(layout.buckets[0], header=256),))),
        ("padding", lambda layout: replace(layout, buckets=(replace(layout.buckets[0], stop=255),))),
        ("end", lambda layout: replace(layout, size=layout.size + 1)),
    ],
)
def test_checker_sees_a_broken_promise(promise: str, spoil: object) -> None:
    shapes = [(3, 4), (70,)]
    layout = plan(shapes, 4, headers=True)
    assert broken(layout, shapes, 1, True) == []
    assert callable(spoil)
    assert promise in broken(spoil(layout), shapes, 1, True)


@given(st.sets(st.integers(0, 50)))
def test_runs_are_maximal(numbers: set[int]) -> None:
    found = runs(sorted(numbers))
    assert {n for first, last in found for n in range(first, last)} == numbers
    assert all(last < first for (_, last), (first, _) in pairwise(found))
