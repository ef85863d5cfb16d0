"""ZeroRedundancyOptimizer: every rank updates a part of the parameters and keeps the optimizer's state for it alone."""

import copy
import itertools
import time
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

from .._shard import listen
from .._survivors import enlist, withdraw
from .._tensor import Tensor
from ..arena import slot_of
from ..autograd._base import share_of
from ..backend import device
from ..comm import Communicator, get_default
from ..comm import get_group_rank as _rank_in
from ..comm._elastic import as_elastic
from ..errors import CommError, StateDictError
from ..optim import LBFGS, Optimizer
from ..optim._flat import FlatOptimizer
from ..optim._optimizer import Closure, Group, Params, call_closure
from ._buddies import AfterDeaths, until_agreed
from ._join import Joinable, JoinHook, Message, Step
from ._share_state import Entry, cut, gathered, on_all_ranks, own_entries
from ._shares import Part, Shares


class ZeroRedundancyOptimizer(Optimizer, Joinable):
    """Wraps any optimizer so that its state is spread over the ranks: each keeps, and updates, one part in P.

    Gradients must be equal on all ranks, as DistributedDataParallel leaves them. After a step every rank has all
    parameters, bit for bit those that the optimizer itself would have made. Optimizers that work element by element
    share out slices of the flat memory, so parts are equal whatever the parameters' sizes; others (Muon, Adafactor,
    your own) share out whole parameters.

    `state_dict` has the layout of the plain optimizer: it loads there, and the other way round, and on any number of
    ranks. It has to be collected first, by `consolidate_state_dict`.

    Args:
        params: the parameters, or groups of them, the same on every rank.
        optimizer_class: what updates them.
        process_group: the ranks; the default group by default.
        parameters_as_bucket_view: accepted as in torch; parameters always lie in flat memory, which the ranks of a node
            share.
        overlap_with_ddp: as in torch, but only False is supported.
        shard_gradients: let a DistributedDataParallel of the same ranks leave only this rank's part of the mean
            gradients here, which is all that a step needs (ZeRO's second stage). The rest of every ``.grad`` then does
            not count; ``nn.utils.clip_grad_norm_`` knows that. It saves communication on backend shm, where a rank sums
            its part alone; backend mpi sums a copy of everything. Gradients keep their memory on either.
        copies: how many ranks keep each part in a job that goes on when ranks die (`launch --elastic` with Open MPI):
            one less may die at once. Memory and time of a step are those of so many parts.
        defaults: the hyperparameters, passed on to `optimizer_class`.

    Attributes:
        optim: the optimizer of this rank's part; None before the first step.

    Raises:
        ValueError: `optimizer_class` cannot be shared out, as LBFGS, whose every step needs all parameters; or it
            needs whole parameters, and gradients shall be shared out.

    Example:
        >>> model = DistributedDataParallel(model)
        >>> optimizer = ZeroRedundancyOptimizer(model.parameters(), optim.Adam, lr=1e-3)

    Rajbhandari et al., ZeRO: Memory Optimizations Toward Training Trillion Parameter Models, SC 2020.
    """

    def __init__(
        self,
        params: Params,
        optimizer_class: type[Optimizer],
        process_group: Communicator | None = None,
        parameters_as_bucket_view: bool = True,
        overlap_with_ddp: bool = False,
        *,
        shard_gradients: bool = False,
        copies: int = 3,
        **defaults: Any,
    ) -> None:
        _check_class(optimizer_class, overlap_with_ddp)
        if copies < 1:
            raise ValueError(f"expected copies of each part on 1 rank or more, got copies={copies}")
        template = optimizer_class(params, **defaults)  # checks the hyperparameters; it never makes a step
        self.optim: Optimizer | None = None
        self.process_group = get_default() if process_group is None else process_group
        self._class, self._options = optimizer_class, defaults
        self._by_slices = issubclass(optimizer_class, FlatOptimizer) and optimizer_class.step is FlatOptimizer.step
        self._scalars = optimizer_class._scalars if issubclass(optimizer_class, FlatOptimizer) else ()
        if shard_gradients and not self._by_slices:
            raise ValueError(
                "shard_gradients=True is for optimizers that work element by element; "
                f"{optimizer_class.__name__} needs whole gradients of its parameters"
            )
        self._shard_gradients = shard_gradients and as_elastic(self.process_group) is None  # else, buddies need more
        self._copies = copies
        self._shares: Shares | None = None
        self._whole: dict[Tensor, Entry] | None = None
        super().__init__([_with_names(group) for group in template.param_groups], template.defaults)
        withdraw(self)  # `state_dict` would want the state of all ranks
        self._own = OwnShare(self)
        enlist("share", self._own, own=True)
        self._after_deaths = AfterDeaths(self._recover)
        if as_elastic(self.process_group) is not None:
            listen(self._after_deaths)

    # ---- the step ----------------------------------------------------------------------------------------------

    def step(self, closure: Closure | None = None) -> Any:
        """Updates this rank's part and brings all parameters to all ranks. A collective call.

        Args:
            closure: computes the loss and its gradients again and returns the loss; it is called once.

        Returns:
            What the closure returned; None without one.
        """
        loss = call_closure(closure)
        if self._join is not None:
            self._join.tell(Step.STEP, self._join_index)
        self._step_together()
        return loss

    def _step_together(self) -> None:
        """The step, on all ranks: in a `Join` block also on those that are out of inputs, with the others' options."""
        if self._join is not None:
            options = self.process_group.broadcast_object(self.packed_groups(), self._join.active[0])
            copy_options(options, self.param_groups)
        shares, optimizer = self._prepare()
        shares.take_gradients()
        copy_options(self.param_groups, optimizer.param_groups)
        optimizer.step()
        copy_options(optimizer.param_groups, self.param_groups)
        until_agreed(self.process_group, shares.publish)
        self._recover("in an optimizer step")
        for p in self._parameters():
            if p._grad is not None:
                p._cell[0] += 1
        self._whole = None

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients of all parameters; see `Optimizer.zero_grad`."""
        if not set_to_none:
            for p in self._parameters():
                slot = slot_of(p)
                if slot is not None and p._grad is not None and share_of(p._grad) is not None:
                    p._grad = slot.grad  # zeros are a whole gradient
        super().zero_grad(set_to_none)

    def add_param_group(self, param_group: Group) -> None:
        """Adds a group; the parameters are shared out anew at the next step. To be called on all ranks alike."""
        super().add_param_group(param_group)
        if self._shares is not None:
            self._gather_whole_state()

    # ---- uneven inputs -----------------------------------------------------------------------------------------

    def join_hook(self, **kwargs: Any) -> "StepJoinHook":
        """What this rank does for the optimizer after it has joined: its part of every step."""
        return StepJoinHook(self)

    @property
    def join_device(self) -> device:
        """The device of the parameters."""
        return next(self._parameters()).device

    @property
    def join_process_group(self) -> Communicator:
        """The ranks."""
        return self.process_group

    # ---- shares ------------------------------------------------------------------------------------------------

    def _parameters(self) -> Iterator[Tensor]:
        return (p for group in self.param_groups for p in group["params"])

    def _prepare(self) -> tuple[Shares, Optimizer]:
        """The shares and their optimizer, made anew where parameters have moved or were unfrozen.

        State that was loaded, and lies in `state` whole, is cut to this rank's part.
        """
        shares, optimizer = self._current_shares()
        if self.state:
            numbers = {p: n for n, p in enumerate(self._parameters())}
            self._take_state(shares, optimizer, ((numbers[p], entry) for p, entry in self.state.items()))
            self.state.clear()
        return shares, optimizer

    def _current_shares(self) -> tuple[Shares, Optimizer]:
        trained = [p for p in self._parameters() if p._target is not None or p._grad is not None]
        if self._shares is not None and not self._shares.covers(trained):
            self._gather_whole_state()
        self._recover()
        if self._shares is None or self.optim is None:
            self._shares, self.optim = self._new_shares(trained)
        return self._shares, self.optim

    def _new_shares(self, parameters: list[Tensor]) -> tuple[Shares, Optimizer]:
        """New shares, and an optimizer of this rank's parts that remembers nothing. A collective call."""
        shares = Shares(parameters, self.process_group, self._by_slices, self._shard_gradients, self._copies)
        optimizer = self._class(self._local_groups(shares), **self._options)
        withdraw(optimizer)  # it is a part of this
        return shares, optimizer

    def _recover(self, where: str = "") -> None:
        """Where ranks have died, shares out anew what they had, from the copies of others. A collective call.

        What all had is given up when all who live then have what is theirs: another one may die meanwhile.

        Args:
            where: reports who died, and says that it was noticed there.
        """
        group = as_elastic(self.process_group)
        if group is None:
            return
        began, made = time.monotonic(), list[tuple[Shares, Optimizer]]()
        while self._shares is not None and not self._shares.holders.are_current():
            if group.commit(group.attempt(lambda: made.append(self._new_shares_with_state()))):
                self._shares, self.optim = made[-1]
        if where:
            group.report(where, time.monotonic() - began if made else 0.0)

    def _new_shares_with_state(self) -> tuple[Shares, Optimizer]:
        """New shares of the same parameters, with the state that is spread over the old ones."""
        assert self._shares is not None and self.optim is not None
        shares, optimizer = self._new_shares(self._shares.parameters)
        self._take_state(shares, optimizer, self._entries(self._shares, self.optim, None), copied=True)
        return shares, optimizer

    def _entries(self, shares: Shares, optimizer: Optimizer, root: int | None) -> Iterator[tuple[int, Entry]]:
        """The whole entries of all parameters, by number, on one rank or on all. A collective call."""
        own, parameters = own_entries(shares, optimizer), list(self._parameters())
        if root is None:
            yield from on_all_ranks(parameters, own, self.process_group, self._scalars)
            return
        for number, p in enumerate(parameters):
            entry = gathered(p, own.get(p, []), self.process_group, root, self._scalars)
            if entry:
                yield number, entry

    def _local_groups(self, shares: Shares) -> list[Group]:
        of: dict[Tensor, list[Tensor]] = {}
        for part in shares.parts:
            of.setdefault(part.parameter, []).append(part.tensor)
        return [
            {**{key: value for key, value in group.items() if key != "param_names"},
             "params": [t for p in group["params"] for t in of.get(p, ())]}
            for group in self.param_groups
        ]  # fmt: skip

    # ---- state -------------------------------------------------------------------------------------------------

    def _take_state(
        self, shares: Shares, optimizer: Optimizer, entries: Iterable[tuple[int, Entry]], copied: bool = False
    ) -> None:
        """Cuts whole entries, by the number of the parameter, to this rank's parts and hands them to their optimizer.

        `copied` lets go of the whole entries before the next one is asked for.
        """
        numbers = {id(p): n for n, p in enumerate(p for g in optimizer.param_groups for p in g["params"])}
        parts: dict[Tensor, list[Part]] = {}
        for part in shares.parts:
            parts.setdefault(part.parameter, []).append(part)
        listed, state = list(self._parameters()), {}
        for number, entry in entries:
            for part in parts.get(listed[number], ()):
                own = cut(entry, part, self._scalars)
                state[numbers[id(part.tensor)]] = copy.deepcopy(own) if copied else own
        copy_options(self.param_groups, optimizer.param_groups)
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.packed_groups()})

    @property
    def has_whole_state(self) -> bool:
        """Whether this rank has all state, because it was loaded or collected here."""
        return bool(self.state) or self._whole is not None

    def take_whole_state(self, param_groups: list[Group], entries: Iterable[tuple[int, Entry]]) -> None:
        """Takes this rank's part of a state that every rank is given entry by entry. A collective call.

        Args:
            param_groups: with the hyperparameters.
            entries: number of a parameter and its whole entry; if there are none, the state stays as it is.
        """
        copy_options(param_groups, self.param_groups)
        shares, optimizer = self._current_shares()
        pairs = iter(entries)
        first = next(pairs, None)
        if first is not None:
            self._take_state(shares, optimizer, itertools.chain([first], pairs), copied=True)
        self.state.clear()
        self._whole = None

    def _gather_whole_state(self) -> None:
        """Brings the whole state to every rank, where the parts will change. A collective call."""
        if self._shares is not None and self.optim is not None:
            self.state.update(self._collected(self._shares, self.optim, None))
        self._shares = self.optim = None

    def _collected(self, shares: Shares, optimizer: Optimizer, root: int | None) -> dict[Tensor, Entry]:
        """The whole entries on one rank, or on all. A collective call."""
        listed, found = list(self._parameters()), dict[Tensor, Entry]()

        def collect() -> None:
            found.clear()
            found.update((listed[number], entry) for number, entry in self._entries(shares, optimizer, root))

        until_agreed(self.process_group, collect)
        return found

    def consolidate_state_dict(self, to: int | None = 0) -> None:
        """Collects the state of all ranks on one, for its `state_dict`. A collective call.

        Args:
            to: a rank of the default group, as in torch; None brings it to all ranks, as `CheckpointManager` wants it.
                In a job that goes on when ranks die (`launch --elastic` with Open MPI), all get it in any case, because
                that one may.
        """
        elastic = as_elastic(self.process_group) is not None
        root = None if to is None or elastic else _rank_in(self.process_group, to)
        shares, optimizer = self._prepare()
        found = self._collected(shares, optimizer, root)
        self._whole = found if root in (None, self.process_group.rank) else None

    def state_dict(self) -> dict[str, Any]:
        """The whole state in the layout of the plain optimizer, on the rank that collected it.

        Raises:
            StateDictError: `consolidate_state_dict` did not bring it here, or a step was made since.
        """
        loaded = self.state
        if self._whole is None and not loaded:
            raise StateDictError(
                "Optimizer state has not been consolidated on this rank; call "
                f"`consolidate_state_dict(to={self.process_group.ranks[self.process_group.rank]})` on all ranks "
                "beforehand, after the last step, if you meant to save the global state; `to=None` brings it to all"
            )
        if self._whole is not None:
            self.state = type(loaded)(dict, self._whole)
        try:
            return super().state_dict()
        finally:
            self.state = loaded

    def __getstate__(self) -> dict[str, Any]:
        """Raises: a pickle on one rank would hold a part of the state only."""
        raise CommError(
            "ZeroRedundancyOptimizer cannot be copied or pickled, as each rank holds a part of it; call "
            "consolidate_state_dict() on all ranks and save state_dict() on one"
        )


class OwnShare:
    """This rank's part of the state, for a job that starts again with as many ranks.

    Args:
        optimizer: whose part.
    """

    def __init__(self, optimizer: ZeroRedundancyOptimizer) -> None:
        self._of = weakref.ref(optimizer)

    def state_dict(self) -> dict[str, Any]:
        """The part as it is, not copied."""
        zero = self._of()
        assert zero is not None  # it belongs to that
        return {
            "param_groups": zero.packed_groups(),
            "part": None if zero.optim is None else zero.optim.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes it over. A collective call."""
        zero = self._of()
        assert zero is not None
        copy_options(state_dict["param_groups"], zero.param_groups)
        if state_dict["part"] is not None:
            _, optimizer = zero._current_shares()
            optimizer.load_state_dict(state_dict["part"])
            zero.state.clear()
            zero._whole = None


class StepJoinHook(JoinHook):
    """Makes the steps of a shared-out optimizer on a rank that is out of inputs.

    Args:
        optimizer: whose steps.
    """

    def __init__(self, optimizer: ZeroRedundancyOptimizer) -> None:
        self._optimizer = optimizer

    def shadow(self, message: Message) -> None:
        """A step on the gradients that the model's hook has reduced."""
        self._optimizer._step_together()


def _check_class(optimizer_class: Any, overlap: bool) -> None:
    if not (isinstance(optimizer_class, type) and issubclass(optimizer_class, Optimizer)):
        raise TypeError(f"expected optimizer_class to be a class of optimizers, got {optimizer_class!r}")
    if issubclass(optimizer_class, LBFGS):
        raise ValueError(
            "ZeroRedundancyOptimizer: LBFGS cannot be shared out, because each of its steps needs the gradients of all "
            "parameters in one vector; use it without ZeroRedundancyOptimizer"
        )
    if issubclass(optimizer_class, ZeroRedundancyOptimizer):
        raise ValueError("expected optimizer_class to be a plain optimizer, got ZeroRedundancyOptimizer itself")
    if overlap:
        raise ValueError(
            "overlap_with_ddp=True is not supported: the step comes after backward, where it costs 1/P of a plain one"
        )


def _with_names(group: Group) -> Group:
    """A group as users give it: with (name, parameter) pairs if its parameters have names."""
    names = group.get("param_names")
    return group if names is None else {**group, "params": list(zip(names, group["params"], strict=True))}


def copy_options(source: list[Group], target: list[Group]) -> None:
    """Copies the hyperparameters of groups, but not which parameters are in them."""
    for given, group in zip(source, target, strict=True):
        for key, value in given.items():
            if key not in ("params", "param_names"):
                group[key] = value
