"""What every communication backend must do, as checks that each rank of a group runs; data is exact in every dtype."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from distgrad._typing import Array
from distgrad.comm import Communicator, ReduceOp
from distgrad.comm._tree import owned, tree_of
from distgrad.errors import CommError

SIZES = (0, 1, 7, 4099, 300_001)  # empty, one, odd, just more than 16 KiB of float32, more than one `STAGE`
STAGE = 1 << 20  # what the tests let pass through a lane of shared memory at one time, in bytes
DTYPES = ("float32", "float64", "float16", "bfloat16", "int8", "int64", "uint8", "bool", "complex64")
FLOATS = ("float32", "float64", "float16", "bfloat16")
INTEGERS = ("int8", "int64", "uint8", "bool")


def dtype_of(name: str) -> "np.dtype[Any]":
    """The dtype of this name; bfloat16 is NumPy's through ml_dtypes."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def data(rank: int, n: int, dtype: str) -> Array:
    """What rank `rank` brings: small whole numbers, different on every rank, whose sums no dtype has to round."""
    return _data(rank, n, dtype).copy()


@cache
def _data(rank: int, n: int, dtype: str) -> Array:
    values = (np.arange(n) * 7 + rank * 3) % 5
    result = (values > 2 if dtype == "bool" else values).astype(dtype_of(dtype))
    result.flags.writeable = False
    return result


def everyone(group: Communicator, n: int, dtype: str) -> list[Array]:
    """The data of all ranks, to read."""
    return [_data(rank, n, dtype) for rank in range(group.size)]


def reduction(group: Communicator, n: int, dtype: str, op: ReduceOp = ReduceOp.SUM) -> Array:
    """What a reduction of the data of all ranks must give, to read; many tests compare with the same one."""
    return _reduction(group.size, n, dtype, op)


@cache
def _reduction(size: int, n: int, dtype: str, op: ReduceOp) -> Array:
    result = expected([_data(rank, n, dtype) for rank in range(size)], op)
    result.flags.writeable = False
    return result


def expected(inputs: list[Array], op: ReduceOp) -> Array:
    """The reduction, computed in one process in the widest type."""
    dtype = inputs[0].dtype
    wide = np.bool_ if dtype == np.bool_ else np.complex128 if dtype.kind == "c" else np.float64
    stack = np.stack(inputs)
    if op in (ReduceOp.BAND, ReduceOp.BOR, ReduceOp.BXOR):
        combine = {ReduceOp.BAND: np.bitwise_and, ReduceOp.BOR: np.bitwise_or, ReduceOp.BXOR: np.bitwise_xor}[op]
        return combine.reduce(stack, axis=0)
    stack = stack.astype(wide)
    if dtype == np.bool_:
        any_of = op in (ReduceOp.SUM, ReduceOp.MAX)
        return stack.any(axis=0) if any_of else stack.all(axis=0)
    combine = {ReduceOp.PRODUCT: np.prod, ReduceOp.MIN: np.min, ReduceOp.MAX: np.max, ReduceOp.AVG: np.mean}
    return combine.get(op, np.sum)(stack, axis=0).astype(dtype)


def same(got: Array, want: Array) -> None:
    """Assert equality, or one rounding of the dtype where a mean was rounded twice."""
    assert got.dtype == want.dtype
    if got.dtype.kind in "biu":
        assert np.array_equal(got, want)
    elif not np.array_equal(got, want):
        tolerance = 2.0 ** -{2: 7, 4: 22, 8: 22}.get(got.dtype.itemsize, 22)
        np.testing.assert_allclose(got.astype(np.complex128), want.astype(np.complex128), rtol=tolerance)


def check_all_reduce(group: Communicator, n: int, dtype: str, op: ReduceOp, own: bool) -> None:
    """Own memory or the communicator's; the result is private: what a peer then writes does not reach it."""
    buffer = group.empty(n, dtype_of(dtype)) if own else np.empty(n, dtype_of(dtype))
    want = reduction(group, n, dtype, op)
    for _ in range(2):
        buffer[...] = data(group.rank, n, dtype)
        group.all_reduce(buffer, op)
        same(buffer, want)
        buffer[...] = 0  # at once: a peer that still read it would now go wrong


def check_tree_sum(group: Communicator, n: int, dtype: str, own: bool) -> None:
    """Numbers whose sum depends on the grouping: it is that of the tree, to the last bit, and private to each rank."""
    inputs = [np.random.default_rng(rank).standard_normal(n).astype(dtype_of(dtype)) for rank in range(group.size)]
    tree = tree_of(owned(8, group.size))

    def total(node: Any) -> Array:
        return inputs[node] if isinstance(node, int) else total(node[0]) + total(node[1])

    buffer = group.empty(n, dtype_of(dtype)) if own else np.empty(n, dtype_of(dtype))
    for _ in range(2):
        buffer[...] = inputs[group.rank]
        group.tree_sum(buffer, tree)
        assert np.array_equal(buffer, total(tree))
        buffer[...] = 0


def check_slices(group: Communicator, n: int) -> None:
    """Any slice of the communicator's memory is a buffer, and its neighbours stay as they are."""
    whole = group.empty(n + 200, np.float32)
    for start in (0, 1, 64, 199):
        whole[...] = -1
        whole[start : start + n] = data(group.rank, n, "float32")
        group.all_reduce(whole[start : start + n])
        same(whole[start : start + n], reduction(group, n, "float32"))
        assert (whole[:start] == -1).all() and (whole[start + n :] == -1).all()


def check_mixed_memory(group: Communicator, n: int) -> None:
    """Ranks whose buffers lie in different kinds of memory, or at different places, still agree."""
    own = group.empty(n + 1, np.float32)
    want = reduction(group, n, "float32")
    places = [own[:n], own[1:], np.empty(n, np.float32)]
    for turn in range(3):
        buffer = places[(group.rank + turn) % 3]
        buffer[...] = data(group.rank, n, "float32")
        group.all_reduce(buffer)
        same(buffer, want)


def check_broadcast(group: Communicator, n: int, dtype: str, own: bool) -> None:
    """From every root in turn."""
    buffer = group.empty(n, dtype_of(dtype)) if own else np.empty(n, dtype_of(dtype))
    for root in range(group.size):
        buffer[...] = data(group.rank, n, dtype)
        group.broadcast(buffer, root)
        assert np.array_equal(buffer, data(root, n, dtype))
        buffer[...] = 0


def check_all_gather(group: Communicator, n: int, dtype: str, own: bool) -> None:
    """In rank order, input unchanged."""
    source = group.empty(n, dtype_of(dtype)) if own else np.empty(n, dtype_of(dtype))
    source[...] = data(group.rank, n, dtype)
    output = np.zeros(group.size * n, dtype_of(dtype))
    group.all_gather(output, source)
    assert np.array_equal(output, np.concatenate(everyone(group, n, dtype)))
    assert np.array_equal(source, data(group.rank, n, dtype))


def check_all_gather_in_place(group: Communicator, n: int, own: bool) -> None:
    """Every rank's part of the output is its input; what lies around the output stays."""
    memory = group.empty(group.size * n + 2, np.float32) if own else np.empty(group.size * n + 2, np.float32)
    output = memory[1:-1]
    mine = output[group.rank * n : (group.rank + 1) * n]
    for _ in range(2):
        memory[...] = -1
        mine[...] = data(group.rank, n, "float32")
        group.all_gather(output, mine)
        assert np.array_equal(output, np.concatenate(everyone(group, n, "float32")))
        assert memory[0] == memory[-1] == -1


def check_reduce(group: Communicator, n: int, dtype: str) -> None:
    """The root gets the result, the others keep what they had."""
    for root in range(group.size):
        buffer = data(group.rank, n, dtype)
        group.reduce(buffer, root, ReduceOp.SUM)
        if group.rank == root:
            same(buffer, reduction(group, n, dtype))
        else:
            assert np.array_equal(buffer, data(group.rank, n, dtype))


def check_reduce_scatter(group: Communicator, n: int, dtype: str, own: bool) -> None:
    """Part r on rank r, input unchanged."""
    total = n * group.size
    source = group.empty(total, dtype_of(dtype)) if own else np.empty(total, dtype_of(dtype))
    source[...] = data(group.rank, total, dtype)
    output = np.zeros(n, dtype_of(dtype))
    group.reduce_scatter(output, source, ReduceOp.SUM)
    same(output, reduction(group, total, dtype)[group.rank * n : (group.rank + 1) * n])
    assert np.array_equal(source, data(group.rank, total, dtype))
    mine = source[group.rank * n : (group.rank + 1) * n]
    group.reduce_scatter(mine, source, ReduceOp.SUM)  # in place
    assert np.array_equal(mine, output)


def check_gather_scatter(group: Communicator, n: int, dtype: str) -> None:
    """What the root gathers, it hands out again."""
    for root in range(group.size):
        whole = np.zeros(group.size * n, dtype_of(dtype)) if group.rank == root else None
        group.gather(whole, data(group.rank, n, dtype), root)
        if whole is not None:
            assert np.array_equal(whole, np.concatenate(everyone(group, n, dtype)))
        part = np.zeros(n, dtype_of(dtype))
        group.scatter(part, whole, root)
        assert np.array_equal(part, data(group.rank, n, dtype))


def check_all_to_all(group: Communicator, n: int, dtype: str) -> None:
    """Equal parts, then parts of r + s elements from rank r to rank s."""
    output = np.zeros(group.size * n, dtype_of(dtype))
    group.all_to_all(output, data(group.rank, group.size * n, dtype))
    parts = [whole[group.rank * n : (group.rank + 1) * n] for whole in everyone(group, group.size * n, dtype)]
    assert np.array_equal(output, np.concatenate(parts))

    counts = [group.rank + other for other in range(group.size)]
    source = np.full(sum(counts), group.rank, dtype_of(dtype))
    result = np.zeros(sum(counts), dtype_of(dtype))
    group.all_to_all(result, source, counts, counts)
    sent = [np.full(group.rank + other, other) for other in range(group.size)]
    assert np.array_equal(result, np.concatenate(sent).astype(dtype_of(dtype)))


def check_counts_that_do_not_fit(group: Communicator) -> None:
    """All ranks hear of it, also those whose own counts fit."""
    for turn in range(3):
        part = group.split(0)
        assert part is not None
        gets = [1] * part.size
        gets[0] += part.rank == turn % part.size
        with pytest.raises(CommError, match=f"rank 0 sends 1 to rank {turn % part.size}, which takes 2"):
            part.all_to_all(np.zeros(sum(gets)), np.zeros(part.size), gets, [1] * part.size)


def check_point_to_point(group: Communicator, n: int, dtype: str) -> None:
    """A ring in which everybody receives and sends at once, then messages that overtake each other by tag."""
    if group.size == 1:
        return
    right, left = (group.rank + 1) % group.size, (group.rank - 1) % group.size
    received = np.zeros(n, dtype_of(dtype))
    works = [group.irecv(received, left), group.isend(data(group.rank, n, dtype), right)]
    assert all(work.wait() for work in works) and all(work.is_success() for work in works)
    assert np.array_equal(received, data(left, n, dtype))

    first, second = np.zeros(3), np.zeros(3)
    late = group.irecv(second, left, tag=2)
    early = group.irecv(first, left, tag=1)
    works = [group.isend(np.full(3, 1.0), right, tag=1), group.isend(np.full(3, 2.0), right, tag=2)]
    for work in (late, early, *works):
        work.wait()
    assert (first == 1).all() and (second == 2).all()


def check_objects(group: Communicator) -> None:
    """Objects of different sizes, large ones among them."""
    mine = {"rank": group.rank, "text": "x" * (group.rank * 20_000)}
    everything = group.all_gather_object(mine)
    assert [entry["rank"] for entry in everything] == list(range(group.size))
    assert [len(entry["text"]) for entry in everything] == [rank * 20_000 for rank in range(group.size)]
    root = group.size - 1
    assert group.broadcast_object(mine if group.rank == root else None, root)["rank"] == root
    gathered = group.gather_object(group.rank, root)
    assert gathered == (list(range(group.size)) if group.rank == root else None)
    values = [f"for {rank}" * (rank + 1) for rank in range(group.size)] if group.rank == root else None
    assert group.scatter_object(values, root) == f"for {group.rank}" * (group.rank + 1)


def check_split(group: Communicator) -> None:
    """Halves by parity in reverse order, then a group that one rank is not in."""
    half = group.split(group.rank % 2, key=-group.rank)
    assert half is not None
    members = [rank for rank in reversed(range(group.size)) if rank % 2 == group.rank % 2]
    assert half.ranks == tuple(members)
    assert half.all_gather_object(group.rank) == members
    buffer = np.array([float(group.rank)])
    half.all_reduce(buffer)
    assert buffer[0] == sum(members)
    half.close()

    rest = group.split(None if group.rank == 0 else 1)
    assert (rest is None) == (group.rank == 0)
    if rest is not None:
        assert rest.all_gather_object(group.rank) == list(range(1, group.size))
        rest.close()
    group.barrier()


def check_async(group: Communicator) -> None:
    """Works end in order, results are there after wait, and a synchronous call comes after them."""
    buffers = [np.full(5000, float(group.rank + turn)) for turn in range(4)]
    works = [group.submit(lambda buffer=buffer: group.all_reduce(buffer), [buffer]) for buffer in buffers]
    last = np.array([1.0])
    group.all_reduce(last)
    assert last[0] == group.size
    assert all(work.is_completed() for work in works)
    for turn, work in enumerate(works):
        assert work.wait() and work.is_success() and work.exception() is None
        assert (work.result()[0] == sum(range(group.size)) + turn * group.size).all()


def check_statistics(group: Communicator) -> None:
    """Every call counts once."""
    before = group.statistics.copy()
    group.all_reduce(np.zeros(10, np.float32))
    group.barrier()
    after = group.statistics
    assert (after.calls - before.calls, after.nbytes - before.nbytes) == (2, 40)
    assert after.seconds > before.seconds


def check_many_small(group: Communicator, rounds: int = 300) -> None:
    """No result of one call leaks into the next, whatever the order of kinds and sizes."""
    random = np.random.default_rng(3)
    own = group.empty(6000, np.float32)
    for turn in range(rounds):
        n = int(random.choice([1, 8, 2000, 6000]))
        buffer = own[:n] if random.random() < 0.5 else np.empty(n, np.float32)
        buffer[...] = group.rank + turn
        kind = int(random.integers(3))
        if kind == 0:
            group.all_reduce(buffer)
            assert (buffer == sum(range(group.size)) + turn * group.size).all()
        elif kind == 1:
            root = int(random.integers(group.size))
            group.broadcast(buffer, root)
            assert (buffer == root + turn).all()
        else:
            output = np.empty(group.size * n, np.float32)
            group.all_gather(output, buffer)
            assert np.array_equal(output, np.repeat(np.arange(group.size, dtype=np.float32) + turn, n))
        buffer[...] = -1


def cases() -> list[tuple[str, Callable[[Communicator], None]]]:
    """Every check with its arguments, under a name; each is a collective call of all ranks."""
    found: list[tuple[str, Callable[[Communicator], None]]] = []

    def add(check: Callable[..., None], *arguments: Any) -> None:
        words = [entry.name if isinstance(entry, ReduceOp) else str(entry) for entry in arguments]
        name = "-".join([check.__name__.removeprefix("check_"), *words])
        found.append((name, lambda group: check(group, *arguments)))

    for n in SIZES:
        for own in (False, True):
            for dtype in DTYPES if n in (7, 4099) else ("float32", "float16"):
                add(check_all_reduce, n, dtype, ReduceOp.SUM, own)
            for dtype in FLOATS if n == 4099 else ("float32",):
                add(check_tree_sum, n, dtype, own)
            add(check_broadcast, n, "float32", own)
            add(check_all_gather, n, "float32", own)
            add(check_all_gather_in_place, n, own)
            add(check_reduce_scatter, n, "float32", own)
        for dtype in FLOATS if n == 4099 else ("float32",):
            add(check_all_reduce, n, dtype, ReduceOp.AVG, True)
        add(check_reduce, n, "float32")
        add(check_gather_scatter, n, "int64")
        add(check_all_to_all, n, "float32")
        add(check_point_to_point, n, "float32")
    for dtype in DTYPES:
        add(check_broadcast, 7, dtype, False)
        add(check_all_gather, 7, dtype, False)
        add(check_all_to_all, 7, dtype)
        add(check_reduce_scatter, 7, dtype, False)
        for op in (ReduceOp.PRODUCT, ReduceOp.MIN, ReduceOp.MAX):
            if dtype != "complex64" or op is ReduceOp.PRODUCT:
                add(check_all_reduce, 7, dtype, op, False)
    for dtype in INTEGERS:
        for op in (ReduceOp.BAND, ReduceOp.BOR, ReduceOp.BXOR):
            add(check_all_reduce, 7, dtype, op, False)
    for n in (10, 50_000):
        add(check_slices, n)
        add(check_mixed_memory, n)
    for check in (
        check_counts_that_do_not_fit,
        check_objects,
        check_split,
        check_async,
        check_statistics,
        check_many_small,
    ):
        add(check)
    return found


CASES = cases()
