"""Uneven inputs: ranks that have run out of batches take part in the collectives of the others until all are done.

A rank that leaves the block of `Join` cannot know which collectives the others come to, so they say it: before each one
every rank that still trains tells its next `Step`, in a gathering of two numbers a rank, and the ranks that have joined
listen, and then do the same with nothing to give. So any model works, also one that takes another way in each step, and
one with SyncBatchNorm in it.
"""

import weakref
from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import IntEnum
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from .._typing import Array
from ..comm import Communicator, ReduceOp, Work
from ..comm._types import CompletedWork
from ..errors import CollectiveMismatchError, CommError
from ..ops import zeros


class Step(IntEnum):
    """What a rank does next; `detail` is the number that goes with it."""

    JOINED = 0  # nothing any more
    ITERATION = 1  # the first joinable begins an iteration: all main hooks are called
    GATHER = 2  # gathers `detail` float64 numbers on the device from every rank; one that has joined gives zeros
    SUM = 3  # adds up `detail` float64 numbers on the device
    BUFFERS = 4  # joinable number `detail` sends its buffers
    REDUCE = 5  # joinable number `detail` reduces its gradients
    WEIGHTS = 6  # gathers `detail` float64 numbers in host memory
    STEP = 7  # joinable number `detail`, an optimizer, makes a step


class Message(NamedTuple):
    """What the ranks that still train do next, and which they are."""

    step: Step
    detail: int
    active: list[int]


class JoinHook:
    """What a rank that has joined does for one `Joinable`; both methods do nothing unless they are overridden."""

    def main_hook(self) -> None:
        """Called in each iteration of the ranks that still train: does their collectives, with nothing to give."""

    def post_hook(self, is_last_joiner: bool) -> None:
        """Called once all ranks have joined.

        Args:
            is_last_joiner: whether this rank was among the last to join.
        """

    def shadow(self, message: Message) -> None:
        """Takes part in one announced step of this joinable.

        Raises:
            CommError: this joinable announces no steps.
        """
        raise CommError(f"{type(self).__name__} does not take part in {message.step.name}")


class Joinable(ABC):
    """Something that does collectives in every iteration and can go on with fewer ranks, under torch's name.

    A subclass calls `Join.notify_join_context` before its collectives in each iteration.
    """

    _join: "Join | None" = None  # the block that is open for it
    _join_index = 0  # which of the joinables of that block it is

    @abstractmethod
    def join_hook(self, **kwargs: Any) -> JoinHook:
        """What a rank does for it after it has joined; `kwargs` are those that were given to `Join`."""

    @property
    @abstractmethod
    def join_device(self) -> Any:
        """The device that its collectives work on."""

    @property
    @abstractmethod
    def join_process_group(self) -> Communicator:
        """The ranks of its collectives."""


class Join:
    """A block in which ranks may have different numbers of inputs; a rank waits at its end until all have come there.

    Args:
        joinables: what does collectives in the block, such as `DistributedDataParallel` models and then
            `ZeroRedundancyOptimizer`; all on the same ranks. The first one's iterations count.
        enable: False makes the block do nothing.
        throw_on_early_termination: raise on all ranks when the first has run out of inputs, instead of going on.
        kwargs: passed on to every `Joinable.join_hook`.

    Raises:
        ValueError: there are no joinables, or they are on different ranks.

    Example:
        >>> with Join([model]):
        ...     for x, y in batches_of_this_rank:
        ...         loss(model(x), y).backward()
        ...         optimizer.step()
    """

    def __init__(
        self,
        joinables: Sequence[Joinable],
        enable: bool = True,
        throw_on_early_termination: bool = False,
        **kwargs: Any,
    ) -> None:
        if not joinables:
            raise ValueError("The join context manager requires at least one joinable, got none")
        groups = {id(joinable.join_process_group) for joinable in joinables}
        if len(groups) > 1:
            raise ValueError("Using join context manager with multiple process groups: give joinables of one group")
        self.group = joinables[0].join_process_group
        self.throw = throw_on_early_termination
        self.enabled = enable and self.group.size > 1
        self.active = list(range(self.group.size))  # at the last message
        self._joinables = list(joinables)
        self._joined = False
        self._unread: Message | None = None
        self._served: set[int] = set()  # joinables that were reduced in this iteration
        self._hooks: list[JoinHook] = []
        for index, joinable in enumerate(joinables):
            joinable._join_index = index
            self._hooks.append(joinable.join_hook(**kwargs))

    def __enter__(self) -> None:
        if self.enabled:
            _open[self.group] = self
            for joinable in self._joinables:
                joinable._join = self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.enabled:
            return
        try:
            if kind is None:
                self._follow()
        finally:
            _open.pop(self.group, None)
            for joinable in self._joinables:
                joinable._join = None

    @staticmethod
    def notify_join_context(joinable: Joinable) -> Work | None:
        """Tells those that have joined that an iteration begins; only the first joinable of a block does.

        Returns:
            work that is done, or None outside a block and for the other joinables.

        Raises:
            RuntimeError: a rank has run out of inputs, and the block was asked to raise then.
        """
        join = joinable._join
        if join is None or joinable._join_index != 0:
            return None
        join.tell(Step.ITERATION, 0)
        return CompletedWork([])

    # ---- talking -----------------------------------------------------------------------------------------------

    def tell(self, step: Step, detail: int) -> None:
        """Says what this rank, like all that still train, does next."""
        self.active = self._exchange(step, detail).active

    def _exchange(self, step: Step, detail: int) -> Message:
        said = np.empty(2 * self.group.size, np.int64)
        self.group.all_gather(said, np.array([step, detail], np.int64))
        steps = [(Step(code), number) for code, number in said.reshape(-1, 2).tolist()]
        active = [rank for rank, (code, _) in enumerate(steps) if code is not Step.JOINED]
        if len({steps[rank] for rank in active}) > 1:
            lines = "\n".join(f"  rank {rank}: {steps[rank][0].name} {steps[rank][1]}" for rank in active)
            raise CollectiveMismatchError(f"Join: expected all ranks that still train in the same step, got:\n{lines}")
        if self.throw and 0 < len(active) < len(steps):
            raise RuntimeError(
                "Detected at least one rank that exhausted inputs. Throwing across all ranks, as "
                f"throw_on_early_termination asks for; out of inputs: "
                f"{[rank for rank in range(len(steps)) if rank not in active]}"
            )
        return Message(*steps[active[0]], active) if active else Message(Step.JOINED, 0, [])

    # ---- listening ---------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """What a rank does that has joined, until all have."""
        is_last = True
        while (message := self._next()).active:
            is_last = False
            if message.step is Step.ITERATION:
                self._served.clear()
                for hook in self._hooks:
                    hook.main_hook()
            else:
                self._take_part(message)
        for hook in self._hooks:
            hook.post_hook(is_last)

    def follow_until_reduced(self, index: int) -> None:
        """Takes part in what is announced until joinable number `index` has been reduced or the iteration is over."""
        while index not in self._served:
            message = self._next()
            if message.step in (Step.JOINED, Step.ITERATION):
                self._unread = message
                return
            self._take_part(message)

    def _next(self) -> Message:
        message, self._unread = self._unread or self._exchange(Step.JOINED, 0), None
        self.active = message.active
        return message

    def _take_part(self, message: Message) -> None:
        step, detail, _ = message
        if step is Step.WEIGHTS:
            self.group.all_gather(np.empty(self.group.size * detail), np.zeros(detail))
        elif step is Step.GATHER:
            self.group.all_gather(self._zeros(self.group.size * detail), self._zeros(detail))
        elif step is Step.SUM:
            self.group.all_reduce(self._zeros(detail), ReduceOp.SUM)
        else:
            self._hooks[detail].shadow(message)
            if step is Step.REDUCE:
                self._served.add(detail)

    def _zeros(self, n: int) -> Array:
        return zeros(n, dtype="float64", device=self._joinables[0].join_device)._data


_open: "weakref.WeakKeyDictionary[Communicator, Join]" = weakref.WeakKeyDictionary()


def announce(group: Communicator, step: Step, detail: int) -> None:
    """Tells ranks of the group that have joined what comes next; does nothing outside a `Join` block."""
    join = _open.get(group)
    if join is not None:
        join.tell(step, detail)
