"""Buckets: slices of the gradients that are communicated at once."""

from collections.abc import Callable
from typing import Any, NamedTuple

from .._tensor import Tensor
from .._typing import Array
from ..arena import Arena, Bucket, Slot
from ..autograd._base import share_of, wrap
from ..backend import CPU, as_dtype, backend_of
from ..comm import Communicator
from ..errors import AutogradError
from ..futures import Future


class Member(NamedTuple):
    """A parameter in a bucket: where it lies, and its number in the order of the model."""

    parameter: Tensor
    slot: Slot
    number: int


class Bucketful:
    """A slice of an arena's gradients, with a header that says which of them are set.

    Args:
        arena: whose slice it is.
        place: where it is.
        members: the parameters in it, in the order of memory.
    """

    __slots__ = ("arena", "buffer", "gradients", "header", "members", "place", "unset", "wires")

    def __init__(self, arena: Arena, place: Bucket, members: list[Member]) -> None:
        self.arena = arena
        self.place = place
        self.members = members
        self.buffer: Array = arena.grad[place.start : place.stop]
        self.gradients: Array = arena.grad[place.start : place.header]
        self.header: Array = arena.grad[place.header : place.header_stop]
        self.unset: list[int] = []  # the members without gradient on this rank, by their place
        self.wires: dict[str, Array] = {}  # memory in which hooks communicate, by dtype

    def fill(self) -> None:
        """Brings all gradients into the buffer and writes the header."""
        self.header[...] = 1
        unset = []
        for i, (p, slot, _) in enumerate(self.members):
            grad = p._grad
            if grad is slot.grad:
                continue
            if grad is None:
                slot.grad._data[...] = 0
                self.header[i] = 0
                unset.append(i)
            elif share_of(grad) is not None:
                raise AutogradError(
                    "expected gradients to be cleared before the next backward pass that is reduced, but one of shape "
                    f"{list(p.shape)} was added to this rank's part of a mean (shard_gradients=True); call "
                    "zero_grad() first, and accumulate inside no_sync()"
                )
            else:  # it has a graph of its own, from create_graph, which ends here
                slot.grad._data[...] = grad._data
                p._grad = slot.grad
        self.unset = unset

    def settle(self) -> None:
        """Takes over, from the reduced header, the gradients that other ranks had, and clears it."""
        if self.unset:
            set_somewhere = (self.header != 0).tolist()
            for i in self.unset:
                if set_somewhere[i]:
                    p, slot, _ = self.members[i]
                    p._grad = slot.grad
        self.header[...] = 0  # it lies between gradients, where readers of the whole expect zeros

    def forget(self) -> None:
        """Takes the gradients away: this rank has joined, and only takes part."""
        for p, _, _ in self.members:
            p._grad = None


def bucketfuls_of(arena: Arena, numbers: dict[Tensor, int]) -> list[Bucketful]:
    """The buckets of an arena; `numbers` gives the place of each parameter in the model."""
    result = []
    for place in arena.layout.buckets:
        slots = [(slot.parameter, slot) for slot in arena.slots[place.first : place.last]]
        members = [Member(p, slot, numbers[p]) for p, slot in slots if p is not None]
        result.append(Bucketful(arena, place, members))
    return result


class Span:
    """Buckets side by side in one arena that are reduced by one call.

    Args:
        buckets: at least one, in the order of memory.
    """

    __slots__ = ("_members", "buckets", "buffer", "launched", "missing")

    def __init__(self, buckets: list[Bucketful]) -> None:
        self.buckets = buckets
        self.buffer: Array = buckets[0].arena.grad[buckets[0].place.start : buckets[-1].place.stop]
        self._members = {member.number for bucket in buckets for member in bucket.members}
        self.missing: set[int] = set()  # the parameters whose gradient has not come in this pass
        self.launched = False  # it is being reduced, or has been in this pass

    def expect(self) -> None:
        """A backward pass begins, in which no gradient has come."""
        self.missing, self.launched = self._members.copy(), False

    def fill(self) -> None:
        """See `Bucketful.fill`."""
        for bucket in self.buckets:
            bucket.fill()


def spans_of(buckets: list[Bucketful], nbytes: float) -> list[Span]:
    """Neighbours put together as long as they have no more than so many bytes."""
    spans: list[list[Bucketful]] = []
    size = 0
    for bucket in buckets:
        if spans and spans[-1][0].arena is bucket.arena and size + bucket.buffer.nbytes <= nbytes:
            spans[-1].append(bucket)
            size += bucket.buffer.nbytes
        else:
            spans.append([bucket])
            size = bucket.buffer.nbytes
    return [Span(members) for members in spans]


class GradBucket:
    """What a communication hook gets: the gradients of some parameters in one flat tensor. torch's name and methods.

    Args:
        bucketful: the bucket.
        index: its number, in the order in which buckets are reduced.
        is_last: whether it is the last of this backward pass.
        in_background: whether backward goes on meanwhile.
    """

    __slots__ = ("_bucketful", "_buffer", "_in_background", "_index", "_is_last")

    def __init__(self, bucketful: Bucketful, index: int, is_last: bool, in_background: bool) -> None:
        self._bucketful = bucketful
        self._buffer: Tensor = wrap(bucketful.gradients)
        self._index = index
        self._is_last = is_last
        self._in_background = in_background

    def index(self) -> int:
        """The number of the bucket; bucket 0 is reduced first."""
        return self._index

    def buffer(self) -> Tensor:
        """The gradients as a flat tensor, shape (n,), which may be changed in place; zeros between parameters."""
        return self._buffer

    def gradients(self) -> list[Tensor]:
        """The gradient of each parameter, in its shape: views of the buffer."""
        return [wrap(view) for view in self.views(self._buffer._data)]

    def parameters(self) -> list[Tensor]:
        """The parameters, in the order of `gradients`."""
        return [member.parameter for member in self._bucketful.members]

    def is_last(self) -> bool:
        """Whether this is the last bucket of the backward pass."""
        return self._is_last

    def set_buffer(self, tensor: Tensor) -> None:
        """Replaces the buffer by another flat tensor of its size."""
        self._buffer = tensor

    # ---- for hooks of our own ----------------------------------------------------------------------------------

    def views(self, flat: Array) -> list[Array]:
        """The part of each parameter, in its shape, of a flat array that is laid out as the buffer."""
        start = self._bucketful.place.start
        slots = [member.slot for member in self._bucketful.members]
        return [flat[s.offset - start : s.offset - start + s.size].reshape(s.shape) for s in slots]

    def wire(self, group: Communicator, dtype: str) -> Array:
        """Memory of the communicator for this bucket in another dtype; the first call of a bucket is collective."""
        wires, like = self._bucketful.wires, self._bucketful.gradients
        if dtype not in wires:
            on_host = backend_of(like) is CPU
            kind = as_dtype(dtype).numpy
            wires[dtype] = group.empty(like.size, kind) if on_host else backend_of(like).xp.empty(like.size, kind)
        return wires[dtype]

    def run(self, group: Communicator, function: Callable[[], None]) -> Future[Tensor]:
        """Calls a function that communicates, in the background where backward goes on; a future of the buffer."""
        if self._in_background:
            return group.submit(function).get_future().then(lambda done: self._after(done))
        function()
        result: Future[Tensor] = Future()
        result.set_result(self._buffer)
        return result

    def _after(self, done: Future[Any]) -> Tensor:
        done.value()  # raises what the function raised
        return self._buffer
