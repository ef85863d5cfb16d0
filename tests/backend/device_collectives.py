"""What every transport for device buffers must do, as checks that each rank of a group runs.

Each check gives a stream of its own work before and after the collective and never waits in between, so that a
transport which does not take its place in the stream's order meets old values. Data is exact in every dtype.
"""

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from distgrad.backend import cuda_backend
from distgrad.comm import Communicator, ReduceOp
from tests.comm.conformance import data, dtype_of, everyone, expected, same

SIZES = (0, 1, 700, 5000)  # the last is more than the chunks of a small ring
DTYPES = ("float32", "float64", "float16", "bfloat16", "int8", "int16", "int64", "uint8", "bool", "complex64")


class Place:
    """The device of one rank, with a stream of the user's own that has much to do before each check.

    Args:
        number: of the device.
        busy: work for the current stream that takes it a while.
    """

    def __init__(self, number: int, busy: Callable[[], None] = lambda: None) -> None:
        backend = cuda_backend()
        assert backend is not None
        self.xp, self.number, self.busy = backend.xp, number, busy
        self.stream = self.xp.cuda.Stream(non_blocking=True)

    def array(self, values: Any) -> Any:
        """`values` on the device, written there late, over something else."""
        there = self.xp.empty(values.shape, values.dtype)
        source = self.xp.array(values)
        there[...] = self.xp.zeros_like(there)
        self.busy()
        there[...] = source
        return there

    def empty(self, n: int, dtype: str) -> Any:
        """Room for a result; work on what was there before is still under way."""
        there = self.xp.empty(n, dtype_of(dtype))
        self.busy()
        there[...] = self.xp.zeros_like(there)
        return there


def busy() -> Callable[[], None]:
    """A function that gives the current stream of a real GPU some milliseconds of work, so that what forgets to wait
    comes too early."""
    backend = cuda_backend()
    assert backend is not None
    matrix = backend.xp.ones((4096, 4096), "float32")

    def work() -> None:
        for _ in range(4):
            backend.xp.matmul(matrix, matrix)

    return work


def read(array: Any) -> Any:
    """The values that the current stream sees; then they change at once, as nobody else may use them any more."""
    copy = array.copy()
    array[...] = 0
    return copy.get()


def check_all_reduce(group: Communicator, place: Place, n: int, dtype: str, op: ReduceOp) -> None:
    """In place, twice in a row."""
    want = expected(everyone(group, n, dtype), op)
    for _ in range(2):
        buffer = place.array(data(group.rank, n, dtype))
        group.all_reduce(buffer, op)
        same(read(buffer), want)


def check_broadcast(group: Communicator, place: Place, n: int, dtype: str) -> None:
    """From each root in turn; nothing reads in between, so that copies pile up."""
    buffers = []
    for root in range(group.size):
        for _ in range(2):
            buffer = place.array(data(group.rank, n, dtype))
            group.broadcast(buffer, root)
            buffers.append((root, buffer))
    for root, buffer in buffers:
        assert np.array_equal(read(buffer), data(root, n, dtype))


def check_all_gather(group: Communicator, place: Place, n: int, dtype: str) -> None:
    """Into new memory, then in place."""
    want = np.concatenate(everyone(group, n, dtype))
    source, output = place.array(data(group.rank, n, dtype)), place.empty(group.size * n, dtype)
    group.all_gather(output, source)
    assert np.array_equal(read(output), want)
    assert np.array_equal(read(source), data(group.rank, n, dtype))
    mine = slice(group.rank * n, (group.rank + 1) * n)
    output = place.empty(group.size * n, dtype)
    output[mine] = place.array(data(group.rank, n, dtype))
    group.all_gather(output, output[mine])
    assert np.array_equal(read(output), want)


def check_reduce(group: Communicator, place: Place, n: int, dtype: str) -> None:
    """The root gets the result, the others keep what they had."""
    for root in range(group.size):
        buffer = place.array(data(group.rank, n, dtype))
        group.reduce(buffer, root)
        want = expected(everyone(group, n, dtype), ReduceOp.SUM) if group.rank == root else data(group.rank, n, dtype)
        same(read(buffer), want)


def check_reduce_scatter(group: Communicator, place: Place, n: int, dtype: str) -> None:
    """Part r on rank r."""
    total = n * group.size
    source, output = place.array(data(group.rank, total, dtype)), place.empty(n, dtype)
    group.reduce_scatter(output, source)
    whole = expected(everyone(group, total, dtype), ReduceOp.SUM)
    same(read(output), whole[group.rank * n : (group.rank + 1) * n])
    assert np.array_equal(read(source), data(group.rank, total, dtype))


def check_gather_scatter(group: Communicator, place: Place, n: int, dtype: str) -> None:
    """What the root gathers, it hands out again."""
    for root in range(group.size):
        whole = place.empty(group.size * n, dtype) if group.rank == root else None
        group.gather(whole, place.array(data(group.rank, n, dtype)), root)
        if whole is not None:
            assert np.array_equal(read(whole.copy()), np.concatenate(everyone(group, n, dtype)))
        part = place.empty(n, dtype)
        group.scatter(part, whole, root)
        assert np.array_equal(read(part), data(group.rank, n, dtype))


def check_all_to_all(group: Communicator, place: Place, n: int, dtype: str) -> None:
    """Equal parts, then unequal ones."""
    output = place.empty(group.size * n, dtype)
    group.all_to_all(output, place.array(data(group.rank, group.size * n, dtype)))
    parts = [whole[group.rank * n : (group.rank + 1) * n] for whole in everyone(group, group.size * n, dtype)]
    assert np.array_equal(read(output), np.concatenate(parts))
    counts = [group.rank + other for other in range(group.size)]
    source = place.array(np.full(sum(counts), group.rank, dtype_of(dtype)))
    result = place.empty(sum(counts), dtype)
    group.all_to_all(result, source, counts, counts)
    sent = [np.full(group.rank + other, other) for other in range(group.size)]
    assert np.array_equal(read(result), np.concatenate(sent).astype(dtype_of(dtype)))


def check_start_all_reduce(group: Communicator, place: Place, n: int) -> None:
    """Several at once, beside other work; they are waited for in the order of their start, on another stream."""
    buffers = [place.array(data(group.rank + turn, n, "float32")) for turn in range(3)]
    works = [group.start_all_reduce(buffer) for buffer in buffers]
    beside = place.array(data(group.rank, n, "float32"))
    beside *= 2
    assert np.array_equal(read(beside), 2 * data(group.rank, n, "float32"))
    other = place.xp.cuda.Stream(non_blocking=True)
    with other:
        for turn, (work, buffer) in enumerate(zip(works, buffers, strict=True)):
            assert work.wait() and work.exception() is None
            assert work.result()[0] is buffer
            want = expected([data(rank + turn, n, "float32") for rank in range(group.size)], ReduceOp.SUM)
            same(read(buffer), want)
    assert all(work.is_completed() for work in works)


def check_wait_elsewhere(group: Communicator, place: Place, n: int) -> None:
    """Waited for at once and on another stream, so that nobody else lets the first one get on."""
    buffer = place.array(data(group.rank, n, "float32"))
    work = group.start_all_reduce(buffer)
    with place.xp.cuda.Stream(non_blocking=True):
        work.wait()
        same(read(buffer), expected(everyone(group, n, "float32"), ReduceOp.SUM))


def check_nobody_waits(group: Communicator, place: Place, n: int) -> None:
    """A buffer that the caller lets go lives until the operation on it is over."""
    gone, seen = [], []
    for turn in range(2):
        buffer = place.array(data(group.rank, n, "float32"))
        group.submit(lambda turn=turn, buffer=buffer: _keep_sum(group, buffer, seen), [buffer])
        gone.append(weakref.ref(buffer))
        del buffer
        place.empty(n, "float32")
    group.barrier()
    want = expected(everyone(group, n, "float32"), ReduceOp.SUM)
    for stream, total in seen:
        with stream:
            same(read(total), want)


def _keep_sum(group: Communicator, buffer: Any, seen: list[Any]) -> None:
    """Reduces a buffer and keeps a copy of the sum, made on the stream that is current here."""
    group.all_reduce(buffer)
    backend = cuda_backend()
    assert backend is not None
    total = backend.xp.empty(buffer.shape, buffer.dtype)
    total[...] = buffer
    seen.append((backend.streams.current(), total))


def check_let_go(group: Communicator, place: Place, n: int) -> None:
    """Nobody waits for an operation, and its input is let go before it has run: its memory must not be used again."""
    group.broadcast(place.array(data(group.rank, n, "float32")))  # the ranks choose their way
    source, output = place.array(data(group.rank, n, "float32")), place.empty(group.size * n, "float32")
    group.submit(lambda source=source: group.all_gather(output, source), [output])
    del source
    place.stream.synchronize()  # whatever comes next there would take the memory
    group.barrier()  # no rank has waited for the operation so far
    place.xp.cuda.Device(place.number).synchronize()
    assert np.array_equal(output.get(), np.concatenate(everyone(group, n, "float32")))


def check_temporary_buffers(group: Communicator, place: Place, n: int) -> None:
    """A buffer that is let go while it is sent: its memory is the next array's, in the stream's order."""
    for root in range(group.size):
        group.broadcast(place.array(data(group.rank, n, "float32")), root)
        place.empty(n, "float32")
    works = [group.start_all_reduce(place.array(data(group.rank, n, "float32"))) for _ in range(2)]
    for work in works:
        place.empty(n, "float32")
        (buffer,) = work.result()
        work.wait()
        same(read(buffer), expected(everyone(group, n, "float32"), ReduceOp.SUM))


def check_point_to_point(group: Communicator, place: Place, n: int) -> None:
    """A ring; the receive is waited for on another stream than it began on."""
    right, left = (group.rank + 1) % group.size, (group.rank - 1) % group.size
    sent = group.isend(place.array(data(group.rank, n, "float32")), right)
    received = place.empty(n, "float32")
    request = group.irecv(received, left)
    with place.xp.cuda.Stream(non_blocking=True) as other:
        request.wait()
        assert np.array_equal(received.copy().get(), data(left, n, "float32"))
    sent.wait()
    place.stream.wait_event(other.record())
    assert np.array_equal(read(received), data(left, n, "float32"))


def check_mixture(group: Communicator, place: Place) -> None:
    """Calls of all kinds one after the other, on host and device in turn, and nothing is read before the end."""
    results = []
    for turn in range(12):
        n = (3, 900, 4000)[turn % 3]
        buffer = place.array(data(group.rank + turn, n, "float32"))
        sources = [data(rank + turn, n, "float32") for rank in range(group.size)]
        if turn % 4 == 0:
            group.all_reduce(buffer)
            results.append((buffer, expected(sources, ReduceOp.SUM)))
        elif turn % 4 == 1:
            group.broadcast(buffer, turn % group.size)
            results.append((buffer, sources[turn % group.size]))
        elif turn % 4 == 2:
            output = place.empty(group.size * n, "float32")
            group.all_gather(output, buffer)
            results.append((output, np.concatenate(sources)))
        else:
            host = sources[group.rank].copy()
            group.all_reduce(host)
            same(host, expected(sources, ReduceOp.SUM))
    for buffer, want in results:
        same(read(buffer), want)


def check_default_stream(group: Communicator, place: Place) -> None:
    """The same on CUDA's default stream, which is what distgrad itself uses."""
    with place.xp.cuda.Stream.null:
        check_all_reduce(group, place, 5000, "float32", ReduceOp.AVG)
        check_broadcast(group, place, 5000, "float32")


Check = Callable[[Communicator, Place], None]


def cases() -> list[tuple[str, Check]]:
    """Every check with its arguments, under a name."""
    found: list[tuple[str, Check]] = []

    def add(check: Callable[..., None], *arguments: Any) -> None:
        words = [entry.name if isinstance(entry, ReduceOp) else str(entry) for entry in arguments]
        name = "-".join([check.__name__.removeprefix("check_"), *words])
        found.append((name, lambda group, place: check(group, place, *arguments)))

    for n in SIZES:
        add(check_all_reduce, n, "float32", ReduceOp.SUM)
        for check in (check_broadcast, check_all_gather, check_reduce_scatter, check_gather_scatter, check_all_to_all):
            add(check, n, "float32")
        add(check_reduce, n, "float32")
    for dtype in DTYPES:
        add(check_all_reduce, 700, dtype, ReduceOp.SUM)
        add(check_broadcast, 700, dtype)
        add(check_all_gather, 700, dtype)
        if dtype != "complex64":
            add(check_all_reduce, 700, dtype, ReduceOp.MAX)
    for dtype in ("float32", "float16", "bfloat16", "complex64"):
        add(check_all_reduce, 700, dtype, ReduceOp.AVG)
    for dtype in ("int64", "bool"):
        add(check_all_reduce, 700, dtype, ReduceOp.BXOR)
        add(check_all_reduce, 700, dtype, ReduceOp.PRODUCT)
    for n in (1, 5000):
        for check in (check_start_all_reduce, check_wait_elsewhere, check_nobody_waits, check_let_go):
            add(check, n)
        add(check_temporary_buffers, n)
        add(check_point_to_point, n)
    for check in (check_mixture, check_default_stream):
        add(check)
    return found


CASES = cases()


def run(group: Communicator, place: Place, check: Check) -> None:
    """One check on this rank, on a stream of the user's own; at its end the device has nothing more to do."""
    with place.xp.cuda.Device(place.number), place.stream:
        check(group, place)
        place.xp.cuda.Device(place.number).synchronize()
