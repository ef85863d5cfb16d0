"""The reducer: gradients become their mean over the ranks at the end of a backward pass.

Which passes, is said by the graph: every output of the model is led through an operation that has one more input, a
leaf of the reducer's own, the trigger. Where a backward pass reaches the trigger it came through this model's forward,
and the end of that pass is where all ranks meet. It need not reach any parameter, so a rank whose loss uses none of
them takes part like the others. Outputs that the reducer cannot see (attributes, objects of unknown classes) are
covered by the hooks on the parameters.

Buckets are slices of the arena, reduced where they lie and in the order of memory, which is the same on all ranks,
whichever gradient was ready first. A header behind the gradients tells which of them are set on this rank: after
the mean it is non-zero where any rank has one. So a parameter that is unused here but not elsewhere gets the mean, one
that is unused everywhere keeps ``grad = None``, and no rank ever waits for a gradient that does not come.
"""

import weakref
from typing import Any

from .._tensor import Tensor
from .._typing import Array
from ..arena import FIRST_BUCKET_BYTES, Arena, Bucket, Slot, build_arenas, slot_of
from ..autograd._base import LEAF_MARK, wrap
from ..autograd._engine import queue_callback
from ..autograd._node import HookHandle, Node
from ..autograd._op import Op, apply
from ..backend import Backend, backend_of
from ..comm import Communicator, ReduceOp
from ..nn import Module
from ._agreement import broadcast_from_first
from ._nested import map_tensors


class _Distributed(Op):
    """The identity on its first input; its second, the trigger, learns that backward came by."""

    view = True

    @staticmethod
    def forward(ctx: Node, x: Array, trigger: Array) -> Array:
        return x

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return g, xp.zeros((), g)


class GradientBucket:
    """A slice of an arena's gradients that is reduced at once, with its header.

    Args:
        arena: whose slice it is.
        place: where it is.
        members: the parameters in it.
    """

    __slots__ = ("_header", "buffer", "members")

    def __init__(self, arena: Arena, place: Bucket, members: list[tuple[Tensor, Slot]]) -> None:
        self.buffer: Array = arena.grad[place.start : place.stop]
        self._header: Array = arena.grad[place.header : place.header_stop]
        self.members = members

    def reduce(self, communicator: Communicator) -> None:
        """Replaces the gradients by their means over the ranks."""
        unset = self._fill()
        communicator.all_reduce(self.buffer, ReduceOp.AVG)
        if unset:
            set_somewhere = (self._header != 0).tolist()
            for i in unset:
                if set_somewhere[i]:
                    p, slot = self.members[i]
                    p._grad = slot.grad
        self._header[...] = 0  # it lies between gradients, where readers of the whole expect zeros

    def _fill(self) -> list[int]:
        """Brings all gradients into the buffer and writes the header; returns which are not set on this rank."""
        self._header[...] = 1
        unset = []
        for i, (p, slot) in enumerate(self.members):
            if p._grad is slot.grad:
                continue
            if p._grad is None:
                slot.grad._data[...] = 0
                self._header[i] = 0
                unset.append(i)
            else:  # it has a graph of its own, from create_graph, which ends here
                slot.grad._data[...] = p._grad._data
                p._grad = slot.grad
        return unset


class Reducer:
    """Averages the gradients of one model over the ranks. Creating one is a collective call.

    The parameters that require grad move into arenas whose gradients lie in the communicator's memory.

    Args:
        module: the model, built alike on every rank.
        communicator: the ranks.
        bucket_bytes: size of a bucket, about.
        broadcast_buffers: whether buffers follow those of rank 0.
    """

    def __init__(self, module: Module, communicator: Communicator, bucket_bytes: int, broadcast_buffers: bool) -> None:
        parameters = list(module.parameters())
        trained = [p for p in parameters if p.requires_grad]
        on_host = all(p.device.type == "cpu" for p in trained)
        self.communicator = communicator
        self.arenas = build_arenas(
            trained,
            world_size=communicator.size,
            headers=True,
            first_bucket_bytes=min(FIRST_BUCKET_BYTES, bucket_bytes),
            bucket_bytes=bucket_bytes,
            allocate=communicator.empty if on_host else None,
        )
        self.buckets = [bucket for arena in self.arenas for bucket in _buckets(arena)]
        self._places = [(p._get_extra(), slot_of(p)) for p in trained]
        self._frozen = [p for p in parameters if not p.requires_grad]
        self._buffers = [m._buffers for m in module.modules() if m._buffers] if broadcast_buffers else []
        self._training = False  # the forward pass that asked for a reduction was one of training
        self._armed = False  # a forward that asked for a reduction waits for its backward
        self._queued = False  # the pass under way ends with a reduction
        self._triggers: dict[Backend, Tensor] = {}
        reference = weakref.ref(self)

        def on_gradient(_: Tensor) -> None:
            reducer = reference()
            if reducer is not None and reducer._armed and not reducer._queued:
                reducer._queue()

        handles = [p.register_post_accumulate_grad_hook(on_gradient) for p in trained]
        weakref.finalize(self, _remove, handles)

    def is_current(self) -> bool:
        """Whether all parameters still lie where they did, and none was unfrozen."""
        return all(extra.slot is slot for extra, slot in self._places) and not any(
            p.requires_grad for p in self._frozen
        )

    def begin(self, training: bool) -> None:
        """Announces a forward pass whose backward ends with a reduction; `training` if it may change buffers."""
        self._armed = True
        self._queued = False  # a backward that broke off may have left it
        self._training = training
        self._broadcast_buffers()

    def skip(self) -> None:
        """Announces a forward pass whose backward keeps its gradients local."""
        self._armed = False

    def watch(self, output: Any) -> Any:
        """The output of a forward pass, with every tensor in it leading to the trigger."""
        return map_tensors(output, self._watch_one)

    def _watch_one(self, t: Tensor) -> Tensor:
        if not t.requires_grad:
            return t
        result: Tensor = apply(_Distributed, (t, self._trigger(backend_of(t._data))))
        return result

    def _trigger(self, backend: Backend) -> Tensor:
        if backend not in self._triggers:
            trigger: Tensor = wrap(backend.xp.zeros((), "float32"), LEAF_MARK)
            method = weakref.WeakMethod(self._queue)

            def on_reached(t: Tensor) -> None:
                t._grad = None
                queue = method()
                if queue is not None:
                    queue()

            trigger.register_post_accumulate_grad_hook(on_reached)
            self._triggers[backend] = trigger
        return self._triggers[backend]

    def _queue(self) -> None:
        """Lets the backward pass under way end with a reduction; more than one call does no harm."""
        self._queued = True
        queue_callback(self._finish)

    def _finish(self) -> None:
        if not self._queued:
            return
        self._armed = self._queued = False
        for bucket in self.buckets:
            bucket.reduce(self.communicator)
        self._broadcast_buffers()  # what forward changed, so that evaluation sees the same on every rank

    def _broadcast_buffers(self) -> None:
        """Gives the buffers the values of rank 0.

        Written past autograd: a graph of an earlier forward that is still to be used must not take it for a change of
        what it saved (pytorch issue 175024).
        """
        if self._training:
            arrays = [b._data for buffers in self._buffers for b in buffers.values() if b is not None]
            broadcast_from_first(self.communicator, arrays)


def _buckets(arena: Arena) -> list[GradientBucket]:
    result = []
    for place in arena.layout.buckets:
        members = [(slot.parameter, slot) for slot in arena.slots[place.first : place.last]]
        result.append(GradientBucket(arena, place, [(p, slot) for p, slot in members if p is not None]))
    return result


def _remove(handles: list[HookHandle]) -> None:
    for handle in handles:
        handle.remove()
