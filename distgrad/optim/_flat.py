"""Optimizers that update whole runs of the arena at once: which parameters, gradients and state form one run.

What an optimizer remembers of a parameter are *moments*, of the parameter's shape, and *scalars*, such as the step
count. The moments of all parameters lie in flat arrays with the arena's offsets, and ``state[p]`` holds tensors that
are views of them. Whatever users do to `state` or to the parameters, the next step sees it by comparing identities, and
puts together its runs anew.
"""

from operator import is_
from typing import Any, ClassVar

import numpy as np

from .._tensor import Tensor
from .._typing import Array
from ..arena import Arena, Run, Slot, arenas_for, slot_of
from ..autograd._base import share_of, wrap
from ..autograd._sparse import SparseRows
from ..backend import backend_of, get_default_dtype, silenced
from ..errors import AutogradError, StateDictError
from ..ops import move
from ._optimizer import Closure, Group, Optimizer, Params, call_closure


class Segment:
    """Parameters that are updated as one: side by side in memory, with equal scalars.

    Attributes:
        param, grad: flat real arrays of one length (a complex one is seen as pairs of real numbers).
        moments: flat arrays of that length, in the order of `FlatOptimizer._moments`; None where that has None.
        scalars: for each of `FlatOptimizer._scalars` an array with one number for each parameter, all equal.
        first: whether the moments were made for this step.
        kernels: of the memory's backend.
        parameters: in the order of memory.
    """

    __slots__ = ("first", "grad", "kernels", "moments", "param", "parameters", "scalars")

    def __init__(self, run: Run, moments: tuple[Array | None, ...], scalars: tuple[Array, ...], first: bool) -> None:
        self.param, self.grad = _real(run.param), _real(run.grad)
        self.moments: tuple[Any, ...] = tuple(None if m is None else _real(m[run.start : run.stop]) for m in moments)
        self.scalars = scalars
        self.first = first
        self.kernels = backend_of(run.param).kernels.optim
        self.parameters = run.parameters

    def advance(self) -> float:
        """Adds one to the first scalar, the step count, and returns it."""
        steps = self.scalars[0]
        steps += 1
        return steps.item(0)  # type: ignore[no-any-return]


class _Plan:
    """The segments of one group, and all that they rest on."""

    __slots__ = ("cell", "entries", "grads", "moments", "params", "segments")

    def __init__(self, params: list[Tensor], grads: list[Tensor | None], moments: tuple[str | None, ...]) -> None:
        self.params = params
        self.grads = grads  # each parameter's own gradient tensor in the arena, None for one without gradient
        self.moments = moments
        self.entries: list[tuple[dict[str, Any], str, Tensor]] = []
        self.cell = [0, 0]  # the version of all scalars: it counts what users write into them
        self.segments: list[Segment] = []

    def fits(self, params: list[Tensor], moments: tuple[str | None, ...]) -> bool:
        """Whether the same parameters have gradients in the same memory, and nobody exchanged their state."""
        if len(params) != len(self.params) or moments != self.moments or self.cell[0]:
            return False
        for p, mine, grad in zip(params, self.params, self.grads, strict=True):
            if p is not mine or p._grad is not grad:
                return False
        return self.has_state()

    def has_state(self) -> bool:
        """Whether the tensors in `state` are those that the segments write to."""
        for entry, name, tensor in self.entries:  # noqa: SIM110 - faster than all() of a generator
            if entry.get(name) is not tensor:
                return False
        return True


class FlatOptimizer(Optimizer):
    """Base of the optimizers whose update is the same for every element: they define `_update` for one `Segment`."""

    _scalars: ClassVar[tuple[str, ...]] = ("step",)

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        self._reset()
        super().__init__(params, defaults)

    def _reset(self) -> None:
        self._plans: list[_Plan] = []
        self._entry_ids: list[int] = []
        self._flats: dict[Arena, dict[str, Array]] = {}
        self._homes: dict[Slot, dict[str, Tensor]] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._reset()
        super().__setstate__(state)

    # ---- what a subclass says ----
    def _moments(self, group: Group) -> tuple[str | None, ...]:
        """The names of the moments under these hyperparameters; None for one that is not needed."""
        raise NotImplementedError

    def _initial(self, name: str, group: Group) -> float:
        """What a moment or scalar starts with."""
        return 0.0

    def _update(self, group: Group, segment: Segment) -> None:
        """One step of one segment."""
        raise NotImplementedError

    def _update_rows(self, group: Group, p: Tensor, rows: SparseRows) -> None:
        """One step of a parameter whose gradient is sparse."""
        raise AutogradError(
            f"{type(self).__name__} does not support sparse gradients, please consider SparseAdam instead, SGD or "
            "Adagrad"
        )

    # ---- the step ----
    def step(self, closure: Closure | None = None) -> Any:
        """Changes the parameters that have a gradient.

        Args:
            closure: computes the loss and its gradients again and returns the loss.

        Returns:
            What the closure returned; None without one.
        """
        loss = call_closure(closure)
        self._refresh_plans()
        self._update_all()
        return loss

    @silenced  # a diverging run overflows without a word, as in torch
    def _update_all(self) -> None:
        for group, plan in zip(self.param_groups, self._plans, strict=True):
            for segment in plan.segments:
                self._update(group, segment)
                segment.first = False
                for p in segment.parameters:
                    p._cell[0] += 1

    def _refresh_plans(self) -> None:
        groups, plans = self.param_groups, self._plans
        if len(plans) != len(groups) or self._entry_ids != [*map(id, self.state.values())]:
            plans[:] = [_Plan([], [], ()) for _ in groups]
        changed = False
        for index, group in enumerate(groups):
            plan, params, moments = plans[index], group["params"], self._moments(group)
            if plan.fits(params, moments):
                continue
            self._step_rows(group)
            if not self._fits_after_all(plan, params, moments):
                plans[index] = self._make_plan(group, moments)
                changed = True
        if changed:
            self._entry_ids = [*map(id, self.state.values())]
            self._forget_old_arenas()

    def _step_rows(self, group: Group) -> None:
        """The step of the parameters whose gradients are sparse; no segment has them."""
        for p in group["params"]:
            if p._grad is not None and p._grad.is_sparse:
                self._update_rows(group, p, p._grad.rows.coalesced())
                p._cell[0] += 1

    def _fits_after_all(self, plan: _Plan, params: list[Tensor], moments: tuple[str | None, ...]) -> bool:
        """Whether only gradients outside the arena (of create_graph) made the plan look wrong; they are copied in."""
        if len(params) != len(plan.params) or not all(map(is_, params, plan.params)):
            return False
        if any(_is_outside(p) for p in params):
            return False
        grads = [_gradient(p) for p in params]
        return all(map(is_, grads, plan.grads)) and moments == plan.moments and not plan.cell[0] and plan.has_state()

    # ---- putting together ----
    def _make_plan(self, group: Group, moments: tuple[str | None, ...]) -> _Plan:
        params = list(group["params"])
        if any(_is_outside(p) for p in params):
            every = [p for g in self.param_groups for p in g["params"] if p._grad is not None or p.requires_grad]
            arenas_for(p for p in every if p._grad is None or not p._grad.is_sparse)
        plan = _Plan(params, [_gradient(p) for p in params], moments)
        alike: dict[tuple[Any, ...], list[Tensor]] = {}
        for p, grad in zip(params, plan.grads, strict=True):
            if grad is not None:
                slot = slot_of(p)
                assert slot is not None
                alike.setdefault((slot.arena, *self._key(p, group, moments)), []).append(p)
        for (arena, first, *values), members in alike.items():
            for run in arena.runs(members):
                self._add_segment(plan, group, run, first, values)
        return plan

    def _key(self, p: Tensor, group: Group, moments: tuple[str | None, ...]) -> tuple[Any, ...]:
        """What must be equal in one segment: whether a moment is still missing, and the scalars."""
        entry = self.state.get(p, {})
        missing = any(name is not None and entry.get(name) is None for name in moments)
        return (missing, *(_scalar(entry.get(name), self._initial(name, group)) for name in self._scalars))

    def _add_segment(self, plan: _Plan, group: Group, run: Run, first: bool, values: list[float]) -> None:
        dtype = np.float64 if get_default_dtype().itemsize == 8 else np.float32  # as torch: exact to 2**24 steps
        names = [name for name in (*self._scalars, *plan.moments) if name is not None]
        scalars = tuple(np.full(len(run.parameters), value, dtype) for value in values)
        for index, p in enumerate(run.parameters):
            slot = slot_of(p)
            assert slot is not None
            for name, array in zip(self._scalars, scalars, strict=True):
                self.state[p][name] = tensor = wrap(array[index, ...])
                tensor._cell = plan.cell
            for moment in plan.moments:
                if moment is not None:
                    self._place(p, slot, moment, group)
            entry = self.state[p] if names else {}
            plan.entries += [(entry, name, entry[name]) for name in names]
        flats = tuple(None if name is None else self._flat(run.arena, name) for name in plan.moments)
        plan.segments.append(Segment(run, flats, scalars, first))

    def _place(self, p: Tensor, slot: Slot, name: str, group: Group) -> None:
        """Makes ``state[p][name]`` a view of the flat array, with the value that it has or starts with."""
        entry, homes = self.state[p], self._homes.setdefault(slot, {})
        current = entry.get(name)
        if current is not None and current is homes.get(name):
            return
        view = slot.view(self._flat(slot.arena, name))
        if current is None:
            start = self._initial(name, group)
            view[...] = complex(start, start) if p.is_complex() else start
        else:
            if current._data.shape != slot.shape:
                raise StateDictError(
                    f"{type(self).__name__}: expected the state {name!r} of a parameter to have its shape "
                    f"{list(slot.shape)}, got {list(current._data.shape)}; was the state of another model loaded, or "
                    "p.data replaced by one of another shape?"
                )
            view[...] = move(current.detach(), p.device, None, copy=False)._data
        homes[name] = entry[name] = wrap(view)

    def _flat(self, arena: Arena, name: str) -> Array:
        flats = self._flats.setdefault(arena, {})
        if name not in flats:
            flats[name] = arena.state_like()
        return flats[name]

    def _forget_old_arenas(self) -> None:
        """Lets go of the memory of arenas in which none of the parameters lies any more."""
        slots = {slot for g in self.param_groups for p in g["params"] if (slot := slot_of(p)) is not None}
        arenas = {slot.arena for slot in slots}
        self._flats = {arena: flats for arena, flats in self._flats.items() if arena in arenas}
        self._homes = {slot: homes for slot, homes in self._homes.items() if slot in slots}


def _is_outside(p: Tensor) -> bool:
    """Whether there is a gradient, but no arena for it."""
    return p._grad is not None and not p._grad.is_sparse and slot_of(p) is None


def _gradient(p: Tensor) -> Tensor | None:
    """The gradient tensor in the arena; a gradient that lies elsewhere is copied there first."""
    slot = slot_of(p)
    if p._grad is None or slot is None or p._grad.is_sparse:
        return None
    if p._grad is not slot.grad:
        if share_of(p._grad) is not None:
            raise AutogradError(
                f"expected whole gradients, got one of shape {list(p.shape)} of which only a part is on this rank, "
                "because a ZeroRedundancyOptimizer with shard_gradients=True has its parameter, too; let that one step"
            )
        slot.grad._data[...] = p._grad._data
    return slot.grad


def _scalar(value: Any, default: float) -> float:
    return default if value is None else float(value)


def _real(flat: Array) -> Array:
    return flat.view(flat.real.dtype) if flat.dtype.kind == "c" else flat
