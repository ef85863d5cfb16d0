"""Which part of the parameters each rank updates: a slice of flat memory, or whole parameters.

A slice is seen as an arena of its own, so that an ordinary optimizer, built on the flat tensors in it, updates it with
ordinary kernels and keeps state for it alone. Afterwards the parts are published: gathered in place, where all ranks
read them from the owner's memory if it is shared.
"""

import weakref
from collections.abc import Iterable
from typing import NamedTuple

from .._tensor import Tensor
from .._typing import Array
from ..arena import Arena, Slot, arenas_for, build_arenas, slot_of
from ..comm import Communicator
from ._buddies import Holders

_ALIGNMENT = 64  # elements; what an uneven share is rounded to


class Part(NamedTuple):
    """Elements ``start : stop`` of a parameter, counted in row-major order, that this rank updates.

    Attributes:
        parameter: the whole.
        tensor: what the local optimizer holds: a flat leaf on these elements, or the parameter itself.
        owner: whose it is: this rank's, or that of one whose buddy it is.
    """

    parameter: Tensor
    start: int
    stop: int
    tensor: Tensor
    owner: int

    @property
    def is_slice(self) -> bool:
        """Whether `tensor` is a flat part, and not the parameter itself."""
        return self.tensor is not self.parameter


class Shares:
    """The parts of all parameters: which are this rank's, and how all ranks get all values. Made by all ranks together.

    Args:
        parameters: leaf tensors that are trained; those that lie in no arena are moved into one.
        group: the ranks.
        by_slices: share out equal slices of memory; False shares out whole parameters.
        of_buckets: share out each bucket, not each arena, and let reductions leave this rank's slice only.
        copies: how many ranks have each part, in a job that goes on when ranks die.

    Attributes:
        parts: those of this rank, and in a job that goes on when ranks die those of others, whose buddy it is.
        holders: who has which.
        arenas: in which the parameters lie.
        nbytes: of the parameters' values that this rank updates.
    """

    def __init__(
        self, parameters: Iterable[Tensor], group: Communicator, by_slices: bool, of_buckets: bool, copies: int
    ) -> None:
        members = list(dict.fromkeys(parameters))
        self.group = group
        self.arenas = _arenas(members, group)
        self.holders = Holders(group, copies)
        self.parts: list[Part] = []
        self._slots: dict[Tensor, Slot | None] = {p: slot_of(p) for p in members}
        self._kept: list[Tensor] = []  # also parts of parameters that are not ours, which lie between
        self._gathers: list[tuple[Array, Array]] = []
        self._broadcasts: list[tuple[Array, int]] = []  # the values of parts, and their owners
        self._in_gathers: list[tuple[Array, int]] = []  # those that are gathered, if nobody has died
        for arena in self.arenas:
            if of_buckets:
                arena.keeper = weakref.ref(self)
                for bucket in arena.layout.buckets:
                    self._share_slice(arena, bucket.start, bucket.stop)
            elif by_slices:
                self._share_slice(arena, 0, arena.layout.size)
            else:
                self._share_parameters(arena, members)
        self.nbytes = sum(part.tensor.nbytes for part in self.parts)

    @property
    def parameters(self) -> list[Tensor]:
        """All of them, of all ranks."""
        return [*self._slots]

    def covers(self, parameters: Iterable[Tensor]) -> bool:
        """Whether these are among the parameters, and all of those still lie where they did."""
        slots = self._slots
        return all(p in slots for p in parameters) and all(slot_of(p) is slot for p, slot in slots.items())

    def take_gradients(self) -> None:
        """Gives the parts the gradients of their parameters, in place where those lie in the arena."""
        for part in self.parts:
            if not part.is_slice:
                continue
            whole, slot = part.parameter._grad, slot_of(part.tensor)
            assert slot is not None
            part.tensor._grad = None if whole is None else slot.grad
            if whole is not None and whole._data is not _home(part.parameter):
                slot.grad._data[...] = whole._data.reshape(-1)[part.start : part.stop]

    def publish(self) -> None:
        """Brings the values of all parts to all ranks. A collective call."""
        speakers, parts = self.holders.speakers(), self._broadcasts
        if self.holders.are_current():
            for whole, own in self._gathers:
                self.group.all_gather(whole, own)
        else:
            parts = parts + self._in_gathers
        for values, owner in parts:
            self.group.broadcast(values, speakers[owner])

    def said_here(self) -> list[Part]:
        """The parts for which this rank speaks: every part has one such rank, also where some have died."""
        speakers = self.holders.speakers()
        return [part for part in self.parts if speakers[part.owner] == self.group.rank]

    # ---- sharing out -------------------------------------------------------------------------------------------

    def _share_slice(self, arena: Arena, start: int, stop: int) -> None:
        """Every rank takes a part of a slice; they are of equal size unless another world size laid it out."""
        rank, size = self.group.rank, self.group.size
        stop = min(stop, arena.param.size)
        step = -(-(stop - start) // size)
        even = step * size == stop - start
        if not even:
            step = -(-step // _ALIGNMENT) * _ALIGNMENT
        ends = [min(start + owner * step, stop) for owner in range(size + 1)]
        slices = [(arena.param[ends[i] : ends[i + 1]], i) for i in range(size) if ends[i] < ends[i + 1]]
        if even:
            self._gathers.append((arena.param[start:stop], arena.param[ends[rank] : ends[rank + 1]]))
        (self._in_gathers if even else self._broadcasts).extend(slices)
        for owner in self.holders.mine:
            for slot, first, tensor in arena.window(ends[owner], ends[owner + 1]):
                self._kept.append(tensor)
                p = slot.parameter
                if p is not None and p in self._slots:
                    self.parts.append(Part(p, first, first + tensor.numel(), tensor, owner))

    def _share_parameters(self, arena: Arena, members: list[Tensor]) -> None:
        """Every rank takes neighbours of about the same size together."""
        here = [slot for p in members if (slot := self._slots[p]) is not None and slot.arena is arena]
        total = sum(slot.size for slot in here) or 1
        owned: list[list[Tensor]] = [[] for _ in range(self.group.size)]
        before = 0
        for slot in sorted(here, key=_place):
            p = slot.parameter
            if p is not None:
                owned[(2 * before + slot.size) * self.group.size // (2 * total + 1)].append(p)
            before += slot.size
        for owner, parameters in enumerate(owned):
            self._broadcasts += [(run.param, owner) for run in arena.runs(parameters) if run.param.size]
        self.parts += [Part(p, 0, p.numel(), p, owner) for owner in self.holders.mine for p in owned[owner]]


def _place(slot: Slot) -> int:
    return slot.index


def _home(parameter: Tensor) -> Array | None:
    """The array of the parameter's gradient in its arena."""
    slot = slot_of(parameter)
    return None if slot is None else slot.grad._data


def _arenas(parameters: list[Tensor], group: Communicator) -> list[Arena]:
    """The arenas of the parameters, with the values in the group's memory where one rank's are read by all."""
    on_host = all(p.device.type == "cpu" for p in parameters)
    build_arenas(
        (p for p in parameters if slot_of(p) is None),
        world_size=group.size,
        allocate=group.empty if on_host else None,
    )
    arenas = arenas_for(parameters)
    if group.size > 1 and on_host:
        for arena in arenas:
            if not arena.tied and arena.home is not group:
                arena.move_parameters(group.empty(arena.param.size, arena.param.dtype), group)
    return arenas
