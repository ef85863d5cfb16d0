"""Collectives on GPU buffers by way of host memory, in any group.

A buffer goes in chunks through a ring of pinned slots. While one chunk is reduced on the host, the next ones come down
and the last ones go up, each direction on a stream and a copy engine of its own:

    down   | chunk 2 | chunk 3 |
    host             | chunk 1 | chunk 2 |
    up                         | chunk 0 | chunk 1 |

Where the group has shared memory, the ring lies in it, so the ranks add up each other's slots without another copy.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeAlias

import numpy as np

from ..._typing import Array
from .._types import ReduceOp
from ._buffers import DeviceTransport, number_of, streams

if TYPE_CHECKING:
    from .._communicator import Communicator

CHUNK_BYTES = 4 << 20  # of a slot: long enough for a copy at full speed, short enough to fill the pipeline early
SLOTS = 4  # one on its way down, one on the host, one on its way up, and one more against jitter


class Step(NamedTuple):
    """What happens to one chunk.

    Args:
        down: copies to the host: from an array on the device, into one on the host.
        run: the collective on the host.
        up: copies to the device: from an array on the host, into one on the device.
    """

    down: Sequence[tuple[Array, Array]]
    run: Callable[[], None]
    up: Sequence[tuple[Array, Array]]


Plan: TypeAlias = Callable[[Array], Step]  # a step, from the memory of the slot that it gets


class Slot:
    """One chunk of pinned memory, and the event after which nothing is copied from it any more."""

    __slots__ = ("free", "memory")

    def __init__(self, memory: Array) -> None:
        self.memory = memory
        self.free: Any = None


class Lanes(NamedTuple):
    """The two streams on which copies to and from one device run."""

    down: Any
    up: Any

    def drain(self) -> None:
        """Wait until both have nothing left to copy."""
        self.down.synchronize()
        self.up.synchronize()


class Staged(DeviceTransport):
    """Host-staged collectives of a group. Creating it is a collective call, within a call.

    Args:
        group: whose collectives on host memory do the work.
        buffer: an array on this rank's device.
    """

    name: ClassVar[str] = "staged"

    def __init__(self, group: "Communicator", buffer: Array) -> None:
        self.rank = group.rank
        self.size = group.size
        self._group = group
        self._lanes: dict[int, Lanes] = {}  # by number of the device
        ring = group._empty(SLOTS * CHUNK_BYTES, np.dtype(np.uint8))
        with streams().on(number_of(buffer)):
            self._pinned_ring = ring if streams().pin(ring) else None
            if self._pinned_ring is None:
                ring = streams().pinned(SLOTS * CHUNK_BYTES)
        self._slots = [Slot(memory) for memory in ring.reshape(SLOTS, CHUNK_BYTES)]

    def describe(self) -> str:
        """What it is, in words."""
        memory = "memory of the group" if self._pinned_ring is not None else "private memory"
        return f"staged through pinned {memory}, {SLOTS} chunks of {CHUNK_BYTES >> 20} MiB"

    def close(self, abort: bool = False) -> None:
        """Let the copies end, and give the pinned memory back."""
        for lanes in self._lanes.values():
            lanes.drain()
        if self._pinned_ring is not None:
            streams().unpin(self._pinned_ring)
        self._pinned_ring = None

    # ---- collectives -------------------------------------------------------------------------------------------

    def _all_reduce(self, buffer: Array, op: ReduceOp) -> None:
        def step(part: Array, memory: Array) -> Step:
            host = _cut(memory, part.size, part.dtype)
            return Step([(part, host)], lambda: self._group._all_reduce(host, op), [(host, part)])

        self._run(buffer, [_with(step, buffer[place]) for place in _places(buffer, 1)])

    def _broadcast(self, buffer: Array, root: int) -> None:
        def step(part: Array, memory: Array) -> Step:
            host = _cut(memory, part.size, part.dtype)
            down, up = ([(part, host)], []) if self.rank == root else ([], [(host, part)])
            return Step(down, lambda: self._group._broadcast(host, root), up)

        self._run(buffer, [_with(step, buffer[place]) for place in _places(buffer, 1)])

    def _reduce(self, buffer: Array, root: int, op: ReduceOp) -> None:
        def step(part: Array, memory: Array) -> Step:
            host = _cut(memory, part.size, part.dtype)
            up = [(host, part)] if self.rank == root else []
            return Step([(part, host)], lambda: self._group._reduce(host, root, op), up)

        self._run(buffer, [_with(step, buffer[place]) for place in _places(buffer, 1)])

    def _all_gather(self, output: Array, input: Array) -> None:
        rows = output.reshape(self.size, input.size)

        def step(place: slice, memory: Array) -> Step:
            source, targets = _one_and_all(memory, input[place], self.size)
            up = list(zip(targets, rows[:, place], strict=True))
            return Step([(input[place], source)], lambda: self._group._all_gather(targets.reshape(-1), source), up)

        self._run(input, [_with(step, place) for place in _places(input, self.size + 1)])

    def _gather(self, output: Array | None, input: Array, root: int) -> None:
        rows = None if output is None else output.reshape(self.size, input.size)

        def step(place: slice, memory: Array) -> Step:
            source, targets = _one_and_all(memory, input[place], self.size)
            up = [] if rows is None else list(zip(targets, rows[:, place], strict=True))
            whole = None if rows is None else targets.reshape(-1)
            return Step([(input[place], source)], lambda: self._group._gather(whole, source, root), up)

        self._run(input, [_with(step, place) for place in _places(input, self.size + 1)])

    def _reduce_scatter(self, output: Array, input: Array, op: ReduceOp) -> None:
        rows = input.reshape(self.size, output.size)

        def step(place: slice, memory: Array) -> Step:
            target, sources = _one_and_all(memory, output[place], self.size)
            down = list(zip(rows[:, place], sources, strict=True))
            run = lambda: self._group._reduce_scatter(target, sources.reshape(-1), op)  # noqa: E731
            return Step(down, run, [(target, output[place])])

        self._run(output, [_with(step, place) for place in _places(output, self.size + 1)])

    def _scatter(self, output: Array, input: Array | None, root: int) -> None:
        rows = None if input is None else input.reshape(self.size, output.size)

        def step(place: slice, memory: Array) -> Step:
            target, sources = _one_and_all(memory, output[place], self.size)
            down = [] if rows is None else list(zip(rows[:, place], sources, strict=True))
            whole = None if rows is None else sources.reshape(-1)
            return Step(down, lambda: self._group._scatter(target, whole, root), [(target, output[place])])

        self._run(output, [_with(step, place) for place in _places(output, self.size + 1)])

    def _all_to_all(self, output: Array, input: Array, gets: Sequence[int], puts: Sequence[int]) -> None:
        with streams().on(number_of(input)):  # both copies are in the order of the current stream
            result = np.empty(output.size, output.dtype)
            self._group._all_to_all(result, input.get(), gets, puts)
            output.set(result)

    # ---- the pipeline ------------------------------------------------------------------------------------------

    def _run(self, buffer: Array, plans: Sequence[Plan]) -> None:
        """Take the chunks through the ring, then let the current stream wait for the last copy up."""
        cuda = streams()
        with cuda.on(number_of(buffer)):
            lanes = self._lanes_of(buffer)
            current = cuda.current()
            ready = cuda.mark(current)
            lanes.down.wait_event(ready)
            lanes.up.wait_event(ready)
            try:
                self._stream_chunks(lanes, plans)
            except BaseException:
                lanes.drain()  # the arrays may be freed now
                raise
            current.wait_event(cuda.mark(lanes.up))

    def _lanes_of(self, buffer: Array) -> Lanes:
        number = number_of(buffer)
        if number not in self._lanes:
            self._lanes[number] = Lanes(streams().stream(), streams().stream())
        return self._lanes[number]

    def _stream_chunks(self, lanes: Lanes, plans: Sequence[Plan]) -> None:
        under_way: deque[tuple[Slot, Step, Any]] = deque()
        for number, plan in enumerate(plans):
            if len(under_way) == SLOTS:
                self._finish(lanes, *under_way.popleft())
            under_way.append(self._begin(lanes, self._slots[number % SLOTS], plan))
        while under_way:
            self._finish(lanes, *under_way.popleft())

    def _begin(self, lanes: Lanes, slot: Slot, plan: Plan) -> tuple[Slot, Step, Any]:
        """Start to bring a chunk down; the event is done when the host may work on the slot."""
        step = plan(slot.memory)
        if not step.down:
            return slot, step, slot.free
        if slot.free is not None:
            lanes.down.wait_event(slot.free)
        for device, host in step.down:
            device.get(stream=lanes.down, out=host, blocking=False)
        return slot, step, streams().mark(lanes.down)

    def _finish(self, lanes: Lanes, slot: Slot, step: Step, arrived: Any) -> None:
        """Work on a chunk that has come down, and start to bring it up."""
        if arrived is not None:
            arrived.synchronize()
        step.run()
        for host, device in step.up:
            device.set(host, stream=lanes.up)
        if step.up:
            slot.free = streams().mark(lanes.up)


def _with(step: Callable[[Any, Array], Step], what: Any) -> Plan:
    return lambda memory: step(what, memory)


def _places(part: Array, parts: int) -> Iterator[slice]:
    """Slices of `part`, at least one, such that `parts` arrays of their size fit a slot."""
    width = max(1, CHUNK_BYTES // (parts * part.itemsize))
    for start in range(0, max(part.size, 1), width):
        yield slice(start, min(start + width, part.size))


def _cut(memory: Array, n: int, dtype: "np.dtype[np.generic]") -> Array:
    return memory[: n * dtype.itemsize].view(dtype)


def _one_and_all(memory: Array, part: Array, size: int) -> tuple[Array, Array]:
    """Room in a slot for an array like `part`, and for one such row for each rank."""
    whole = _cut(memory, (size + 1) * part.size, part.dtype)
    return whole[: part.size], whole[part.size :].reshape(size, part.size)
