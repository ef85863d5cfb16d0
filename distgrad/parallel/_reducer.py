"""The reducer: gradients become their mean over the ranks at the end of a backward pass.

Which passes, is said by the graph: every output of the model is led through an operation that has one more input, a
leaf of the reducer's own, the trigger (`_watch.py`). Where a backward pass reaches the trigger it came through this
model's forward, and the end of that pass is where all ranks meet. It need not reach any parameter, so a rank whose loss
uses none of them takes part like the others. Outputs that the reducer cannot see (attributes, objects of unknown
classes) are covered by the hooks on the parameters.

Buckets are slices of the arena, reduced where they lie and in the order of memory, which is the same on all ranks,
whichever gradient was ready first. A header behind the gradients tells which of them are set on this rank: after
the mean it is non-zero where any rank has one. So a parameter that is unused here but not elsewhere gets the mean, one
that is unused everywhere keeps ``grad = None``, and no rank ever waits for a gradient that does not come.

Without overlap all buckets of an arena are reduced at once when backward is over, because they lie side by side. With
overlap a bucket is reduced in the background as soon as it and all before it are complete. Not so while another model
of the same ranks waits for its backward pass: which of the two is complete first may differ from rank to rank.
"""

import itertools
import math
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .._tensor import Tensor
from ..arena import FIRST_BUCKET_BYTES, Arena, build_arenas, slot_of
from ..autograd._engine import queue_callback
from ..autograd._node import HookHandle
from ..backend import backend_of
from ..comm import Communicator, ReduceOp, Work
from ..errors import AutogradError
from ..futures import Future
from ..nn import Module
from ._agreement import broadcast_arrays
from ._bucket import Bucketful, GradBucket, Span, bucketfuls_of, spans_of
from ._finite import check_finite
from ._join import Join, Step
from ._record import Record
from ._scatter import ScatteredBucket, wants_shares
from ._settings import Settings
from ._sparse_mean import average_rows, scale_rows, sparse_weights
from ._sync_batchnorm import SyncBatchNorm
from ._watch import Watch

# The reducers of each group: they share its queue of collectives.
_reducers: "weakref.WeakKeyDictionary[Communicator, weakref.WeakSet[Reducer]]" = weakref.WeakKeyDictionary()


class Reducer:
    """Averages the gradients of one model over the ranks. Creating one is a collective call.

    The parameters that require grad move into arenas whose gradients lie in the communicator's memory.

    Args:
        module: the model, built alike on every rank.
        communicator: the ranks.
        settings: what the user chose.
        record: where it counts what reductions cost.
        order: the numbers of the trained parameters in the order in which their gradients come; by default against the
            order in which they were registered.

    Attributes:
        overlap: whether spans are reduced during backward.
        spans: what is reduced by one call, in this order.
        reductions: how many passes ended with one, the same on every rank.
        rebuilt: whether the arenas have the order in which gradients came in the first pass.
    """

    def __init__(
        self,
        module: Module,
        communicator: Communicator,
        settings: Settings,
        record: Record,
        order: Sequence[int] | None = None,
    ) -> None:
        parameters: list[Tensor] = list(module.parameters())
        of_rows = sparse_weights(module)
        self.trained = [p for p in parameters if p.requires_grad and p not in of_rows]
        self.sparse = [p for p in parameters if p.requires_grad and p in of_rows]
        self.communicator = communicator
        self.settings = settings
        self.record = record
        self.rebuilt = order is not None
        self.arenas = self._build_arenas(range(len(self.trained) - 1, -1, -1) if order is None else order)
        numbers = {p: number for number, p in enumerate(self.trained)}
        self.buckets = [bucket for arena in self.arenas for bucket in bucketfuls_of(arena, numbers)]
        self.can_overlap = not settings.check_for_nan and not any(
            isinstance(m, SyncBatchNorm)
            for m in module.modules()  # whose collectives would come in between
        )
        self.names: dict[Tensor, str] = {p: name for name, p in module.named_parameters()}
        self.reductions = 0
        self.arrived: list[int] | None = [] if self.can_overlap and settings.learns_order and order is None else None
        self._places = [(p._get_extra(), slot_of(p)) for p in self.trained]
        self._frozen = [p for p in parameters if not p.requires_grad]
        self._buffers = [m._buffers for m in module.modules() if m._buffers] if settings.broadcast_buffers else []
        self._training = False  # the forward pass that asked for a reduction was one of training
        self._factor = 1.0  # of the last forward pass
        self._armed = False  # a forward that asked for a reduction waits for its backward
        self._queued = False  # the pass under way ends with a reduction
        self._seen = False  # it came through an output of the model
        self._early = False  # it reduces spans as soon as they are complete
        self._joined: tuple[Join, int] | None = None  # the `Join` block that the last forward pass was in
        self._launched: list[_Launch] = []
        self._scatters: dict[Bucketful, ScatteredBucket] = {}
        self._scattered: list[ScatteredBucket] = []  # in this pass
        self.regroup(settings.overlap, settings.bucket_bytes)
        self._listens = [False]  # whether the parameters' hooks have anything to say to it
        reference = weakref.ref(self)
        self._watch = Watch(_on_reached(reference))
        handles = [
            p.register_post_accumulate_grad_hook(_on_gradient(reference, number, self._listens))
            for number, p in enumerate(self.trained)
        ]
        weakref.finalize(self, _remove, handles)
        _reducers.setdefault(communicator, weakref.WeakSet()).add(self)

    def _build_arenas(self, order: Sequence[int]) -> list[Arena]:
        on_host = all(p.device.type == "cpu" for p in self.trained)
        size = self.settings.bucket_bytes
        return build_arenas(
            [self.trained[number] for number in reversed(order)],
            world_size=self.communicator.size,
            headers=True,
            first_bucket_bytes=min(FIRST_BUCKET_BYTES, size),
            bucket_bytes=size,
            allocate=self.communicator.empty if on_host else None,
        )

    def is_current(self) -> bool:
        """Whether all parameters still lie where they did, and none was unfrozen."""
        return all(extra.slot is slot for extra, slot in self._places) and not any(
            p.requires_grad for p in self._frozen
        )

    def regroup(self, overlap: bool, nbytes: float) -> None:
        """Decides what is reduced by one call: no bit of a gradient depends on it where sums are in order.

        Args:
            overlap: reduce during backward, spans of about `nbytes` each; otherwise all at the end.
            nbytes: the size of a span; no less than a bucket.
        """
        self.overlap = overlap and self.can_overlap
        if self.settings.hook is not None:
            self.spans = [Span([bucket]) for bucket in self.buckets]
        else:
            self.spans = spans_of(self.buckets, nbytes if self.overlap else math.inf)
        self._nbytes = sum(span.buffer.nbytes for span in self.spans)
        self._span_of = {m.number: span for span in self.spans for b in span.buckets for m in b.members}

    def learned_order(self) -> list[int] | None:
        """The trained parameters in the order in which their gradients came in the first pass of this rank.

        None where buckets were complete in the order of memory, so that another order would not help.
        """
        if not self.arrived:
            return None
        when = {number: i for i, number in enumerate(self.arrived)}
        complete = [max(when.get(m.number, len(when)) for m in bucket.members) for bucket in self.buckets]
        if all(a <= b for a, b in itertools.pairwise(complete)):
            return None
        in_memory = [m.number for bucket in self.buckets for m in bucket.members]
        return list(when) + [number for number in in_memory if number not in when]

    # ---- passes ------------------------------------------------------------------------------------------------

    def begin(self, training: bool, joined: tuple[Join, int] | None) -> None:
        """Announces a forward pass whose backward ends with a reduction.

        Args:
            training: whether it may change buffers.
            joined: the `Join` block that it is in, and which of its joinables this is.
        """
        self._armed = self._listens[0] = True
        self._queued = False  # a backward that broke off may have left it
        self._training = training
        self._joined = joined
        self._broadcast_buffers()

    def skip(self) -> None:
        """Announces a forward pass whose backward keeps its gradients local."""
        self._armed = self._listens[0] = False

    @property
    def is_idle(self) -> bool:
        """Whether no forward pass waits for its backward."""
        return not self._armed

    def watch(self, output: Any, factor: float) -> Any:
        """The output of a forward pass, with every tensor in it leading to the trigger."""
        self._factor = factor
        return self._watch.outputs(output, factor)

    def reached(self) -> None:
        """A backward pass came through an output of the model."""
        self.queue()
        self._seen = True

    def queue(self) -> None:
        """Lets the backward pass under way end with a reduction; more than one call does no harm."""
        if not self._queued:
            self._queued, self._seen = True, False
            self._wait()  # for what a pass that broke off has left
            # Those who have joined would not expect it, and the order among several models is that of their ends.
            self._early = self.overlap and self._joined is None and not self._others_wait()
            if self._early:
                for span in self.spans:
                    span.expect()
            self._listens[0] = self._early or (self.arrived is not None and not self.reductions)
            self.record.begin(self.communicator.statistics)
        queue_callback(self._finish)

    def _others_wait(self) -> bool:
        """Whether another model of these ranks may be part of the pass under way."""
        return any(other is not self and (other._armed or other._queued) for other in _reducers[self.communicator])

    def on_gradient(self, number: int) -> None:
        """The gradient of a parameter is complete."""
        if not self._queued:
            if not self._armed:
                return
            self.queue()
        if self.arrived is not None and not self.reductions:
            self.arrived.append(number)
        if self._early:
            span = self._span_of[number]
            if span.launched:
                raise AutogradError(
                    f"DistributedDataParallel(overlap=True): the gradient of {self.names[self.trained[number]]!r} was "
                    "complete, and on its way to the other ranks, but backward came to this parameter again, as it "
                    "does from a reentrant checkpoint; use overlap=False, or checkpoint(..., use_reentrant=False)"
                )
            span.missing.discard(number)
            while len(self._launched) < len(self.spans) and not self.spans[len(self._launched)].missing:
                self._launch()

    def _finish(self) -> None:
        if not self._queued:
            return
        self._armed = self._queued = self._listens[0] = False
        if self._factor != 1.0 and not self._seen:
            self._scale(self._factor)
        if self._joined is not None:
            join, index = self._joined
            join.tell(Step.REDUCE, index)
        self.reduce()
        self._broadcast_buffers()  # what forward changed, so that evaluation sees the same on every rank

    def _scale(self, factor: float) -> None:
        """Weighs the gradients of a pass that did not come through an output that could be seen."""
        for p in self.trained:
            if p._grad is not None:
                p._grad._data[...] = p._grad._data * factor if factor else 0
        scale_rows(self.sparse, factor)

    # ---- reducing ----------------------------------------------------------------------------------------------

    def reduce(self) -> None:
        """Replaces all gradients by their means over the ranks; what was begun during backward is finished."""
        started = time.perf_counter()
        if self.settings.check_for_nan:
            check_finite(self.communicator, self.trained, self.names)
        while len(self._launched) < len(self.spans):
            self._launch()
        self._wait()
        if self.settings.hook is not None or self._scattered:
            self._gather_headers()
        for bucket in self.buckets:
            bucket.settle()
        average_rows(self.communicator, self.sparse)
        for scattered in self._scattered:
            scattered.mark()
        self._scattered.clear()
        self.reductions += 1
        self.record.end(started, self.communicator.statistics, len(self.spans), self._nbytes)

    def take_part(self) -> None:
        """A reduction to which this rank, which has run out of inputs, has nothing to give."""
        self._armed = self._queued = self._listens[0] = False
        for bucket in self.buckets:
            bucket.forget()
        for p in self.sparse:
            p._grad = None
        self.reduce()  # the means stay, for an optimizer that is shared out and has a part of them to take

    def _launch(self) -> None:
        """Begins to reduce the next span; without overlap, does it."""
        index = len(self._launched)
        span, hook = self.spans[index], self.settings.hook
        span.launched = True
        span.fill()
        if hook is not None:
            (bucket,) = span.buckets
            bucket.header[...] = 0  # it does not belong to what the hook sees
            seen = GradBucket(bucket, index, index == len(self.spans) - 1, self.overlap)
            self._launched.append(_Launch(span, future=_checked(hook(self.settings.hook_state, seen))))
        elif wants_shares(span.buckets[0], self.communicator):
            self._launched.append(_Launch(span, work=self._scatter(span)))
        elif self.overlap:
            work = self.communicator.start_all_reduce(span.buffer, ReduceOp.AVG)
            self._launched.append(_Launch(span, work=work))
        else:
            self.communicator.all_reduce(span.buffer, ReduceOp.AVG)
            self._launched.append(_Launch(span))

    def _scatter(self, span: Span) -> Work | None:
        """Begins to give every rank its share of each bucket; without overlap, does it."""
        scatters = [self._scatters.get(b) or ScatteredBucket(b, self.communicator) for b in span.buckets]
        self._scatters.update(zip(span.buckets, scatters, strict=True))
        self._scattered += scatters

        def reduce() -> None:
            for one in scatters:
                one.reduce()

        if self.overlap:
            return self.communicator.submit(reduce)
        reduce()
        return None

    def _wait(self) -> None:
        for launch in self._launched:
            launch.wait()
        self._launched.clear()

    def _gather_headers(self) -> None:
        """After a hook, which sees gradients only: which of them are set on any rank."""
        if self.settings.static_graph:
            return
        used = np.ones(len(self.trained), np.uint8)
        for bucket in self.buckets:
            for i in bucket.unset:
                used[bucket.members[i].number] = 0
        self.communicator.all_reduce(used, ReduceOp.MAX)
        for bucket in self.buckets:
            for i in bucket.unset:
                bucket.header[i] = int(used[bucket.members[i].number])

    # ---- buffers -----------------------------------------------------------------------------------------------

    def _broadcast_buffers(self) -> None:
        """Gives the buffers the values of rank 0, or of the first rank that has not joined, in training."""
        if not self._training or not self._buffers:
            return
        root = 0
        if self._joined is not None:
            join, index = self._joined
            join.tell(Step.BUFFERS, index)
            root = join.active[0]
        self.send_buffers(root)

    def send_buffers(self, root: int) -> None:
        """Gives the buffers the values of a rank.

        Written past autograd: a graph of an earlier forward that is still to be used must not take it for a change of
        what it saved (pytorch issue 175024).
        """
        arrays = [b._data for buffers in self._buffers for b in buffers.values() if b is not None]
        broadcast_arrays(self.communicator, arrays, root)


class _Launch:
    """A span that is being reduced, by the communicator or by a hook, or that has been."""

    __slots__ = ("_future", "_span", "_work")

    def __init__(self, span: Span, work: Work | None = None, future: Any = None) -> None:
        self._span = span
        self._work = work
        self._future = future

    def wait(self) -> None:
        """Waits for the end; what a hook returns is copied into the bucket, unless it is the bucket."""
        if self._work is not None:
            self._work.wait()
        if self._future is None:
            return
        result = self._future if isinstance(self._future, Tensor) else self._future.wait()
        if isinstance(result, (list, tuple)):
            (result,) = result
        target = self._span.buckets[0].gradients
        if not isinstance(result, Tensor) or result.numel() != target.size:
            got = f"one of {result.numel():,}" if isinstance(result, Tensor) else type(result).__name__
            raise AutogradError(
                f"expected the communication hook's result to be a tensor of the bucket's {target.size:,} elements, "
                f"got {got}; return what all of bucket.buffer() becomes"
            )
        found = result._data.reshape(-1)
        if backend_of(found).address(found) != backend_of(target).address(target):
            target[...] = found


def _checked(returned: Any) -> Any:
    """What a hook returned, if it may return that; without this, gradients would stay what they are on each rank."""
    if isinstance(returned, (Tensor, Future)):
        return returned
    raise AutogradError(
        "expected the communication hook to return a Future of a tensor, or a tensor, got "
        f"{type(returned).__name__}; return bucket.buffer() where the hook has changed it in place"
    )


def _on_gradient(reference: "weakref.ref[Reducer]", number: int, listens: list[bool]) -> Callable[[Tensor], None]:
    def hook(_: Tensor) -> None:
        if listens[0] and (reducer := reference()) is not None:
            reducer.on_gradient(number)

    return hook


def _on_reached(reference: "weakref.ref[Reducer]") -> Callable[[], None]:
    def reached() -> None:
        reducer = reference()
        if reducer is not None:
            reducer.reached()

    return reached


def _remove(handles: list[HookHandle]) -> None:
    for handle in handles:
        handle.remove()
