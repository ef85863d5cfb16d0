"""Groups that span nodes: the order of their sums, buffers in every kind of memory, groups made from them."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from distgrad.comm import Communicator, ReduceOp, get_default, run_threads
from distgrad.comm._hierarchical import MESSAGE_BYTES, HierarchicalCommunicator
from distgrad.comm._reduce import Carried, reduced
from distgrad.comm._relay import RING, Chunk, Relay
from distgrad.comm._segment import PAGE
from distgrad.comm._shm import ShmCommunicator
from distgrad.comm._topology import pretend
from distgrad.errors import CommError
from tests.comm.conformance import dtype_of
from tests.comm.nodes import WINDOW, run_nodes

LAYOUTS = [(0, 0, 1, 1), (0, 1, 1), (0, 0, 1), (0, 1, 2), (0, 0, 0, 1)]
LARGE = WINDOW // 2 // 4 + 4321  # float32: more than the window takes at once


def values(rank: int, n: int, dtype: str = "float32") -> np.ndarray:
    """Numbers whose sums depend on their order."""
    return np.random.default_rng(rank).standard_normal(n).astype(dtype_of(dtype))


def summed(group: Communicator, n: int, dtype: str, op: ReduceOp, own: Sequence[bool]) -> bytes:
    """The bits of an all-reduce whose buffers are the communicator's where `own` says so of a rank."""
    kind = dtype_of(dtype)
    memory = group.empty(n, kind)
    buffer = memory if own[group.rank] else np.empty(n, kind)
    buffer[...] = values(group.rank, n, dtype)
    group.all_reduce(buffer, op)
    return buffer.tobytes()


SMALL_ONES = itertools.product(LAYOUTS, (5, 30_000), (ReduceOp.SUM, ReduceOp.AVG), ("float32", "float16", "bfloat16"))
LARGE_ONES = [((0, 1, 1), LARGE, ReduceOp.SUM, "float32"), ((0, 1, 1), 2 * LARGE, ReduceOp.AVG, "bfloat16")]


@pytest.mark.parametrize(("nodes", "n", "op", "dtype"), [*SMALL_ONES, *LARGE_ONES], ids=str)
def test_sums_run_over_all_ranks_in_order(nodes: tuple[int, ...], n: int, op: ReduceOp, dtype: str) -> None:
    """The bits are those of the shm backend: neither the nodes nor the size of the buffer change them."""
    size = len(nodes)
    want = reduced([values(rank, n, dtype) for rank in range(size)], op).tobytes()
    for own in ([True] * size, [False] * size):
        assert set(run_nodes(nodes, lambda group, own=own: summed(group, n, dtype, op, own))) == {want}


def test_order_matters_here() -> None:
    arrays = [values(rank, 1000) for rank in range(4)]
    pairs = (arrays[0] + arrays[1]) + (arrays[2] + arrays[3])
    assert pairs.tobytes() != reduced(arrays, ReduceOp.SUM).tobytes()


def test_ranks_that_alternate_between_nodes_are_added_node_by_node() -> None:
    arrays = [values(rank, 1000) for rank in (0, 2, 1, 3)]
    want = reduced(arrays, ReduceOp.SUM).tobytes()
    results = run_nodes((0, 1, 0, 1), lambda group: summed(group, 1000, "float32", ReduceOp.SUM, [True] * 4))
    assert set(results) == {want}


@pytest.mark.parametrize("own", [(True, True, False, False), (False, True, True, True)], ids=str)
def test_nodes_may_differ_in_the_memory_of_their_buffers(own: tuple[bool, ...]) -> None:
    n = LARGE
    want = reduced([values(rank, n) for rank in range(4)], ReduceOp.SUM).tobytes()
    results = run_nodes((0, 0, 1, 1), lambda group: summed(group, n, "float32", ReduceOp.SUM, own))
    assert set(results) == {want}


def test_more_chunks_than_the_ring_holds() -> None:
    n = 3 * RING * MESSAGE_BYTES // 4
    want = reduced([values(rank, n) for rank in range(3)], ReduceOp.SUM).tobytes()
    results = run_nodes((0, 1, 2), lambda group: summed(group, n, "float32", ReduceOp.SUM, [True] * 3))
    assert set(results) == {want}


def test_reduce_and_reduce_scatter_leave_their_input() -> None:
    n = 4 * 70_001
    want = reduced([values(rank, n) for rank in range(4)], ReduceOp.SUM)

    def check(group: Communicator) -> None:
        for source in (group.empty(n, np.float32), np.empty(n, np.float32)):
            source[...] = values(group.rank, n)
            part = np.empty(n // 4, np.float32)
            group.reduce_scatter(part, source)
            assert np.array_equal(part, want[group.rank * n // 4 : (group.rank + 1) * n // 4])
            assert np.array_equal(source, values(group.rank, n))
            group.reduce(source, 2)
            assert np.array_equal(source, want if group.rank == 2 else values(group.rank, n))

    run_nodes((0, 0, 1, 1), check)


def test_groups_of_a_part() -> None:
    """One node: shm; several: hierarchical; one rank: serial."""

    def check(group: Communicator) -> list[str]:
        node = group.split(group.rank // 2)
        across = group.split(group.rank % 2)
        three = group.split(0 if group.rank < 3 else 1)
        assert node is not None and across is not None and three is not None
        assert node.all_gather_object(group.rank) == [group.rank // 2 * 2, group.rank // 2 * 2 + 1]
        assert across.all_gather_object(group.rank) == [group.rank % 2, group.rank % 2 + 2]
        buffer = three.empty(10_000, np.float32)
        buffer[...] = group.rank
        three.all_reduce(buffer)
        assert (buffer == 3).all()
        names = [node.name, across.name, three.name]
        for part in (three, across, node):
            part.close()
        return names

    found = run_nodes((0, 0, 1, 1), check)
    assert found == [["shm", "hierarchical", "hierarchical"]] * 3 + [["shm", "hierarchical", "serial"]]


def test_memory_is_shared_within_a_node_only() -> None:
    def check(group: Communicator) -> tuple[int, int]:
        assert isinstance(group, HierarchicalCommunicator)
        buffer = group.empty(100, np.float32)
        places = group._node._find_places(buffer)
        group._node._barrier()
        assert places is not None
        return group._node.size, len(places)

    assert run_nodes((0, 1, 1), check) == [(1, 1), (2, 2), (2, 2)]


@pytest.mark.parametrize("ranks", range(1, 8))
def test_arrays_in_the_window_are_aligned(ranks: int) -> None:
    """NumPy would work on others; MPI does not take them."""
    dtype = np.dtype("int64")

    def check(group: Communicator) -> list[bool]:
        assert isinstance(group, HierarchicalCommunicator)
        return [group._window.advance(3, dtype)[0].flags.aligned for _ in range(4)]

    assert run_nodes((0,) * ranks + (1,), check) == [[True] * 4] * (ranks + 1)


def test_without_shared_memory_on_one_node_every_rank_hears_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    original = ShmCommunicator.__init__

    def fail(self: ShmCommunicator, base: Communicator, *args: object) -> None:
        if 2 in base.ranks:
            raise CommError("no shared memory on the second node")
        original(self, base)

    monkeypatch.setattr(ShmCommunicator, "__init__", fail)

    def check() -> str:
        with pytest.raises(CommError) as caught:
            HierarchicalCommunicator(get_default())
        return str(caught.value)

    pretend((0, 0, 1))
    try:
        assert run_threads(3, check) == ["no shared memory on the second node"] * 3
    finally:
        pretend(())


def test_a_relay_keeps_the_order_of_its_line() -> None:
    """Planted: a line in another order than that of the nodes gives other bits."""
    arrays = [values(rank, PAGE) for rank in range(3)]

    def check(line: list[int]) -> bytes:
        group = get_default()
        buffer = arrays[group.rank].copy()
        Relay(group, line).reduce([Chunk([buffer], [buffer])], Carried(buffer.dtype, ReduceOp.SUM, 3))
        return buffer.tobytes()

    want = reduced(arrays, ReduceOp.SUM).tobytes()
    assert set(run_threads(3, check, [0, 1, 2])) == {want}
    assert want not in run_threads(3, check, [1, 2, 0])
