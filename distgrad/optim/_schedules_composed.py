"""Schedules of schedules: one after the other, or all at once."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from .._survivors import enlist
from ._optimizer import Optimizer
from ._plateau import ReduceLROnPlateau
from ._schedule import LRScheduler, set_value


class _Composed(LRScheduler):
    """Base of the two: checks and saves the schedules inside."""

    _schedulers: list[LRScheduler]

    def _take(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None) -> None:
        name = type(self).__name__
        if len(schedulers) < 1:
            raise ValueError(f"{name} expects at least one scheduler, but got no scheduler.")
        self.optimizer = optimizer or schedulers[0].optimizer
        for index, scheduler in enumerate(schedulers):
            if not isinstance(scheduler, LRScheduler):
                raise TypeError(f"{name} expects schedulers, but got {type(scheduler).__name__} at index {index}")
            if isinstance(scheduler, ReduceLROnPlateau):
                raise ValueError(
                    f"{name} does not support `ReduceLROnPlateau`, whose `step` needs a metric, but got one at index "
                    f"{index}"
                )
            if scheduler.optimizer is not self.optimizer:
                raise ValueError(
                    f"{name} expects all schedulers to belong to the same optimizer, but the one at index {index} "
                    "belongs to another"
                )
        self._schedulers = list(schedulers)
        enlist("schedule", self)

    def _undo(self) -> None:
        for scheduler in self._schedulers:
            scheduler._undo()

    def state_dict(self) -> dict[str, Any]:
        """All attributes except the optimizer, with the state of each schedule inside."""
        return {**super().state_dict(), "_schedulers": [scheduler.state_dict() for scheduler in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the attributes of another schedule of the same kind."""
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "_schedulers"})
        for scheduler, state in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            scheduler.load_state_dict(state)


class SequentialLR(_Composed):
    """One schedule after the other: the next one starts, from its epoch 0, at each milestone.

    Args:
        optimizer: whose rates are set.
        schedulers: in their order; all of this optimizer.
        milestones: the epochs at which the second, the third ... start.
        last_epoch: see `LRScheduler`.

    Example:
        >>> warmup = LinearLR(optimizer, 0.1, total_iters=5)
        >>> scheduler = SequentialLR(optimizer, [warmup, CosineAnnealingLR(optimizer, 95)], milestones=[5])
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: list[int], last_epoch: int = -1
    ) -> None:
        self._take(schedulers, optimizer)
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                "Sequential Schedulers expects number of schedulers provided to be one more than the number of "
                f"milestone points, but got {len(schedulers)} schedulers and {len(milestones)} milestones"
            )
        self._milestones = milestones
        self.last_epoch = last_epoch + 1
        for group in optimizer.param_groups:
            set_value(group, "lr", group["initial_lr"])
        self._undo()  # building each of them made a step; only the first one's counts
        first = self._schedulers[bisect_right(milestones, 0)]
        first._initial_step()
        self._last_lr = first.get_last_lr()

    def step(self) -> None:  # type: ignore[override]
        """Goes to the next epoch and sets its rates."""
        self.last_epoch += 1
        index = bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[index]
        if index > 0 and self._milestones[index - 1] == self.last_epoch:
            scheduler._update_lr(0)
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()


class ChainedScheduler(_Composed):
    """Several schedules at once: each changes the rates that the one before has set.

    Args:
        schedulers: all of one optimizer.
        optimizer: that one; the first schedule's by default.
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        self._take(schedulers, optimizer)
        self._last_lr = self._current()

    def step(self) -> None:  # type: ignore[override]
        """Steps all of them in turn."""
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = self._current()
