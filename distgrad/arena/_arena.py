"""Arenas: parameters and gradients as views of flat memory, so that a bucket, a norm or an update is one slice.

A parameter that was adopted keeps its identity; its values lie in `Arena.param`, and backward writes its gradient
straight into `Arena.grad` (see `accumulate_grad` in the engine). ``p.grad is None`` keeps its meaning: it says that
what lies in the gradient's memory does not count. A parameter leaves its arena when ``p.data`` gets another shape,
dtype or device, and a copy or a pickle of it never belongs to one.
"""

import weakref
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from .._tensor import Tensor
from .._typing import Array
from ..autograd._base import LEAF_MARK, wrap
from ..backend import backend_of
from ..errors import ShapeError
from ._layout import BUCKET_BYTES, FIRST_BUCKET_BYTES, Layout, Place, plan, runs

Allocate: TypeAlias = Callable[[int, Any], Array]


class Slot:
    """The place of one parameter in an arena; ``parameter._extra.slot`` is it for as long as the parameter lies there.

    Attributes:
        arena: whose slot it is.
        index: which one, in the order of memory.
        offset, size, shape: the place, in elements.
        grad: a tensor on the gradient's memory; ``parameter.grad`` is this very object, or None.
    """

    __slots__ = ("arena", "grad", "index", "offset", "owner", "shape", "size")

    def __init__(self, arena: "Arena", index: int, place: Place, owner: Tensor) -> None:
        self.arena = arena
        self.index = index
        self.offset, self.size, self.shape = place.offset, place.size, place.shape
        self.owner = weakref.ref(owner)
        self.grad: Tensor = wrap(self.view(arena.grad))

    def view(self, flat: Array) -> Array:
        """This slot's part of a flat array that has the arena's offsets, in the parameter's shape."""
        return flat[self.offset : self.offset + self.size].reshape(self.shape)

    @property
    def parameter(self) -> Tensor | None:
        """The parameter that lies here; None if it has left or is gone."""
        p = self.owner()
        return p if p is not None and slot_of(p) is self else None


class Run:
    """Slots that lie side by side: the slice ``start : stop`` of every flat array of the arena.

    Attributes:
        arena: whose slice it is.
        start, stop: in elements; the padding between slots is zero in every flat array and may be computed on.
        parameters: in the order of memory.
        param, grad: the slices of the parameters' values and gradients, shape (stop - start,).
    """

    __slots__ = ("arena", "grad", "param", "parameters", "start", "stop")

    def __init__(self, arena: "Arena", slots: Sequence[Slot], parameters: Sequence[Tensor]) -> None:
        self.arena = arena
        self.start = slots[0].offset
        self.stop = slots[-1].offset + slots[-1].size
        self.parameters = tuple(parameters)
        self.param: Array = arena.param[self.start : self.stop]
        self.grad: Array = arena.grad[self.start : self.stop]

    def __repr__(self) -> str:
        return f"Run({self.start}:{self.stop}, {len(self.parameters)} parameters)"


class Arena:
    """Flat memory for parameters of one dtype on one device.

    Made by `arenas_for` and `build_arenas`. It holds no reference to its parameters; they hold it.

    Attributes:
        layout: where everything is.
        param: the values, shape (layout.size,), or less where it ends with the only slot.
        grad: the gradients, shape (layout.size,); what lies in the slot of a parameter without gradient does not count
            (see `clear_unset`).
        slots: in the order of memory.
        tied: whether the values lie in memory that another parameter has, too.
        home: whose memory the values were moved to, if they were.
        keeper: gives who wants no more than its rank's equal share of each bucket of gradients after a reduction; None
            if there is nobody.
    """

    def __init__(self, layout: Layout, param: Array, grad: Array, tied: bool = False) -> None:
        self.layout = layout
        self.param = param
        self.grad = grad
        self.tied = tied
        self.home: object = None
        self.keeper: Callable[[], Any] = _nobody
        self.slots: list[Slot] = []

    def __repr__(self) -> str:
        return f"Arena({len(self.slots)} parameters, {self.layout.size} elements of {self.param.dtype})"

    def state_like(self, dtype: Any = None) -> Array:
        """A zeroed flat array with the offsets of this arena, for what an optimizer remembers.

        Args:
            dtype: of the elements; that of the parameters by default.

        Returns:
            shape (layout.size,); ``slot.view(state)`` is one parameter's part.
        """
        return backend_of(self.param).xp.zeros_like(self.param, dtype=dtype)

    def runs(self, parameters: Iterable[Tensor]) -> list[Run]:
        """The maximal runs of side-by-side slots among those of `parameters`; those that lie elsewhere are left out."""
        found = {slot.index: p for p in parameters if (slot := slot_of(p)) is not None and slot.arena is self}
        return [
            Run(self, self.slots[first:last], [found[i] for i in range(first, last)])
            for first, last in runs(sorted(found))
        ]

    def window(self, start: int, stop: int) -> "list[tuple[Slot, int, Tensor]]":
        """A part of this memory as an arena of its own, whose parameters are flat parts of this one's.

        Args:
            start, stop: which elements.

        Returns:
            For each slot that reaches into the part: the slot, the number of the element of its parameter with which
            the overlap begins, and a leaf tensor on the overlap, shape (n,). Whoever uses some of them keeps all.
        """
        whole = [(s, max(s.offset, start), min(s.offset + s.size, stop)) for s in self.slots]
        overlaps = [(slot, first, last) for slot, first, last in whole if first < last]
        places = tuple(Place(first - start, last - first, (last - first,)) for _, first, last in overlaps)
        tensors = [wrap(self.param[first:last], LEAF_MARK) for _, first, last in overlaps]
        arena = Arena(Layout(places, (), stop - start), self.param[start:stop], self.grad[start:stop])
        arena._adopt(tensors)
        return [(slot, first - slot.offset, t) for (slot, first, _), t in zip(overlaps, tensors, strict=True)]

    def move_parameters(self, memory: Array, home: object) -> None:
        """Moves the values, not the gradients, to other memory.

        Only for who alone updates these parameters: others may still hold slices of the old memory.

        Args:
            memory: shape and dtype of `param`; it is overwritten.
            home: whose memory that is.
        """
        self.home = home
        memory[...] = self.param
        self.param = memory
        for slot in self.slots:
            p = slot.parameter
            if p is not None:
                p._data = slot.view(memory)

    def clear_unset(self) -> None:
        """Zeroes the gradient memory of every slot whose gradient is not set: for who reads `grad` whole."""
        for slot in self.slots:
            p = slot.parameter
            if p is None or p._grad is None:
                slot.grad._data[...] = 0

    def _adopt(self, parameters: Sequence[Tensor]) -> None:
        """Moves the parameters in, in the order of the layout; they keep their identity, values and gradients."""
        for index, (place, p) in enumerate(zip(self.layout.places, parameters, strict=True)):
            slot = Slot(self, index, place, p)
            self.slots.append(slot)
            view = slot.view(self.param)
            view[...] = p._data
            p._data = view
            extra = p._get_extra()
            extra.slot, extra.grad_slot = slot, slot.grad
            if p._grad is not None:
                slot.grad._data[...] = p._grad._data
                if p._grad._target is None:  # one with a graph of its own stays what it is
                    p._grad = slot.grad


def _nobody() -> None:
    return None


def slot_of(parameter: Tensor) -> Slot | None:
    """The slot of a parameter; None for one that lies in no arena."""
    extra = parameter._extra
    return None if extra is None else extra.slot


def arenas_for(parameters: Iterable[Tensor]) -> list[Arena]:
    """The arenas in which `parameters` lie; those that lie in none are moved into new ones.

    Args:
        parameters: leaf tensors; one that occurs twice counts once.
    """
    distinct = list(dict.fromkeys(parameters))
    build_arenas(p for p in distinct if slot_of(p) is None)
    return list(dict.fromkeys(slot.arena for p in distinct if (slot := slot_of(p)) is not None))


def build_arenas(
    parameters: Iterable[Tensor],
    *,
    world_size: int = 1,
    headers: bool = False,
    first_bucket_bytes: int = FIRST_BUCKET_BYTES,
    bucket_bytes: int = BUCKET_BYTES,
    allocate: Allocate | None = None,
) -> list[Arena]:
    """Moves parameters into new arenas, one for each device and dtype, also those that lie in one already.

    Memory runs against the order of the parameters, because backward reaches the last first. Parameters that share
    memory with another one stay where they are, each in an arena of its own.

    Args:
        parameters: leaf tensors; one that occurs twice counts once.
        world_size, headers, first_bucket_bytes, bucket_bytes: see `plan`.
        allocate: ``allocate(n, dtype)`` gives the gradients' memory, a flat array; plain memory by default.
    """
    ordered = list(dict.fromkeys(parameters))[::-1]
    arenas = []
    tied = _tied(ordered)
    for members in _alike(ordered, tied):
        like = members[0]._data
        xp = backend_of(like).xp
        layout = plan(
            [p._data.shape for p in members],
            like.itemsize,
            world_size=world_size,
            headers=headers,
            first_bucket_bytes=first_bucket_bytes,
            bucket_bytes=bucket_bytes,
        )
        param = like.reshape(-1) if members[0] in tied else xp.zeros(layout.size, like.dtype)
        grad = (allocate or xp.empty)(layout.size, like.dtype)
        grad[...] = 0
        arena = Arena(layout, param, grad, members[0] in tied)
        arena._adopt(members)
        arenas.append(arena)
    return arenas


def _tied(parameters: Sequence[Tensor]) -> set[Tensor]:
    """Those that share their memory with another one, as after ``b.data = a.data``."""
    times = Counter(p.data_ptr() for p in parameters if p.numel())
    tied = {p for p in parameters if p.numel() and times[p.data_ptr()] > 1}
    for p in tied:
        if not p.is_contiguous():
            raise ShapeError(
                f"expected parameters that share memory to be contiguous, got one of shape {list(p.shape)} with "
                f"strides {p.stride()}; register one parameter only and transpose it in forward"
            )
    return tied


def _alike(parameters: Sequence[Tensor], alone: set[Tensor]) -> Iterable[list[Tensor]]:
    """Groups of one device and dtype; each of `alone` is a group of its own."""
    groups: dict[Any, list[Tensor]] = defaultdict(list)
    for p in parameters:
        groups[p if p in alone else (p.device, p._data.dtype)].append(p)
    return groups.values()
