"""Ranks that are in different collectives: an error at once, on all ranks, with both sides named.

Each test works on a group of its own, because a group in which a collective failed cannot be used any more.
"""

import time

import pytest

from distgrad.comm._communicator import Options
from distgrad.errors import CollectiveMismatchError, CommError, CommTimeoutError, PeerLostError
from tests.comm.collectives import CALLS, DISAGREEMENTS, FIELDS, Collective, Disagreement
from tests.mpi.groups import LAST, SIZE, make, meet

SOON = 10.0  # seconds; milliseconds on an idle machine

# What two kinds of calls say to each other does not depend on how many ranks there are, but on how they are connected:
# as nodes of 1 and 1 rank, of 2 and 1, and of 2 and 2.
BACKENDS = ("shm", "mpi", "hierarchical") if SIZE == 3 else ("hierarchical",)
EVERY_KIND = [
    pytest.param(backend, case, id=f"{backend}-{name}")
    for backend in BACKENDS
    for name, case in DISAGREEMENTS.items()
    if backend == "shm" or name not in FIELDS
]
SOME = [
    pytest.param(backend, FIELDS[name], id=f"{backend}-{name}")
    for backend in ("wire", "mpi 2 nodes", "hierarchical")
    for name in ("one more", "all_reduce: dtype", "a large one and a small one", "scatter: root")
]


@pytest.mark.parametrize(("backend", "case"), EVERY_KIND + SOME)
def test_every_rank_learns_both_sides(backend: str, case: Disagreement) -> None:
    group = make(backend, Options(timeout=60))
    group.barrier()
    started = time.monotonic()
    with pytest.raises(CollectiveMismatchError) as caught:
        (case.last if group.rank == LAST else case.most)(group)
    assert time.monotonic() - started < SOON
    lines = str(caught.value).splitlines()
    assert any(line.startswith("  rank 0: ") and case.most_said in line for line in lines), lines
    assert any(line.startswith(f"  rank {LAST}: ") and case.last_said in line for line in lines), lines
    assert "collectives.py:" in str(caught.value)
    with pytest.raises(CommError, match="cannot be used any more"):
        group.barrier()
    meet()


@pytest.mark.parametrize("backend", ["shm" if SIZE == 3 else "hierarchical"])
@pytest.mark.parametrize("name", CALLS)
def test_a_rank_that_gave_up_is_named(backend: str, name: str) -> None:
    group = make(backend, Options(timeout=60))
    group.barrier()
    if group.rank == LAST:
        group._fail("ValueError: planted")
    else:
        started = time.monotonic()
        with pytest.raises(PeerLostError, match=rf"{name}\(.*rank {LAST} gave up: ValueError: planted"):
            CALLS[name](group)
        assert time.monotonic() - started < SOON
    meet()


@pytest.mark.parametrize("backend", ["shm", "mpi", "wire", "mpi 2 nodes", "hierarchical"])
@pytest.mark.parametrize("call", [CALLS["all_reduce"], CALLS["gather_object"]])
def test_a_rank_that_never_comes_is_a_timeout(backend: str, call: Collective) -> None:
    group = make(backend, Options(timeout=0.4))
    meet()
    if group.rank != LAST:
        started = time.monotonic()
        with pytest.raises(CommTimeoutError) as caught:
            call(group)
        assert 0.4 < time.monotonic() - started < SOON
        assert "collectives.py:" in str(caught.value)
        if backend != "wire":
            last_line = f"  rank {LAST}: "
            assert last_line in str(caught.value) and "test_comm_mismatch.py" in str(caught.value), caught.value
    meet()
