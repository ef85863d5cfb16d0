"""What all learning-rate schedules share: they count epochs and write the rates into the optimizer's groups."""

import warnings
from collections.abc import Sequence
from typing import Any

from .._survivors import enlist
from .._tensor import Tensor
from ._optimizer import Group, Optimizer, number


class LRScheduler:
    """Base of the schedules. A subclass defines `get_lr`.

    It may read `last_epoch`, `base_lrs` and ``optimizer.param_groups``.

    Building a schedule sets the rates of epoch 0. Call `step` after ``optimizer.step()``.

    Args:
        optimizer: whose groups' ``"lr"`` it sets.
        last_epoch: the epoch reached so far, to go on with a schedule; -1 starts one.

    Attributes:
        base_lrs: the rates that the groups had in the beginning.
        last_epoch: how often `step` was called.

    Raises:
        TypeError: `optimizer` is none.
        KeyError: `last_epoch` says that a schedule goes on, but the groups have no ``"initial_lr"``.
    """

    _is_initial = False
    _get_lr_called_within_step = False

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self.optimizer = need_optimizer(optimizer)
        for index, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", number(group["lr"]))
            elif "initial_lr" not in group:
                raise KeyError(
                    f"param 'initial_lr' is not specified in param_groups[{index}] when resuming scheduler with "
                    f"last_epoch={last_epoch}; load the optimizer's state dict first, or start with last_epoch=-1"
                )
        self.base_lrs = [number(group["initial_lr"]) for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._step_count = 0
        self._last_lr: list[float] = []
        self._initial_step()
        enlist("schedule", self)

    def _initial_step(self) -> None:
        """Sets the rates of epoch 0."""
        self._step_count = 0
        self._is_initial = True
        try:
            self.step()
        finally:
            self._is_initial = False

    def get_last_lr(self) -> list[float]:
        """The rate of each group that the last `step` set."""
        return self._last_lr

    def get_lr(self) -> list[float]:
        """The rate of each group at `last_epoch`; `step` calls this."""
        raise NotImplementedError(f"{type(self).__name__} does not define get_lr()")

    def _get_closed_form_lr(self) -> list[float] | None:
        """The rates at `last_epoch` whatever they were before; None where there is no such formula."""
        return None

    def step(self, epoch: int | None = None) -> None:
        """Goes to the next epoch and sets its rates.

        Args:
            epoch: deprecated by torch: go to this one instead.
        """
        if self._step_count == 1 and not self.optimizer._opt_called:
            warnings.warn(
                "Detected call of `lr_scheduler.step()` before `optimizer.step()`. Call them in the "
                "opposite order, or the first value of the schedule is skipped.",
                UserWarning,
                stacklevel=2,
            )
        self._step_count += 1
        if epoch is not None:
            warn_epoch()
        self._update_lr(epoch)

    def _update_lr(self, epoch: int | None = None) -> None:
        self._get_lr_called_within_step = True
        try:
            self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
            closed = None if epoch is None else self._get_closed_form_lr()
            values = self.get_lr() if closed is None else closed
        finally:
            self._get_lr_called_within_step = False
        for group, lr in zip(self.optimizer.param_groups, values, strict=True):
            set_value(group, "lr", lr)
        self._last_lr = self._current()

    def _current(self) -> list[float]:
        """The rates that the groups have now."""
        return [number(group["lr"]) for group in self.optimizer.param_groups]

    def _expect_step(self) -> None:
        """Warns where the user calls `get_lr` for the rate of now."""
        if not self._get_lr_called_within_step:
            message = "To get the last learning rate computed by the scheduler, please use `get_last_lr()`."
            warnings.warn(message, UserWarning, stacklevel=3)

    def _undo(self) -> None:
        """Takes back the count of the step that building made."""
        self.last_epoch -= 1

    def state_dict(self) -> dict[str, Any]:
        """All attributes except the optimizer."""
        return {key: value for key, value in self.__dict__.items() if key != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the attributes of another schedule of the same kind. Load the optimizer's state as well."""
        self.__dict__.update(state_dict)


def need_optimizer(value: Any) -> Optimizer:
    """An optimizer as it is.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, Optimizer):
        raise TypeError(f"{type(value).__name__} is not an Optimizer")
    return value


def set_value(group: Group, key: str, value: float) -> None:
    """Writes a hyperparameter; one that is a tensor stays that tensor."""
    if isinstance(group[key], Tensor):
        group[key]._data[...] = value
        group[key]._cell[0] += 1
    else:
        group[key] = value


def one_per_group(name: str, optimizer: Optimizer, value: Any) -> list[float]:
    """A number for each group, given as one for all or as a list.

    Raises:
        ValueError: the list's length is not the number of groups.
    """
    groups = len(optimizer.param_groups)
    if isinstance(value, Sequence):
        if len(value) != groups:
            raise ValueError(
                f"{name} must have the same length as optimizer.param_groups: expected {groups}, got {len(value)}"
            )
        return [number(v) for v in value]
    return [number(value)] * groups


def warn_epoch() -> None:
    """Says that an epoch number given to `step` is deprecated."""
    warnings.warn(
        "The epoch parameter in `scheduler.step()` was not necessary and is being deprecated where possible. "
        "Please use `scheduler.step()` to step the scheduler.",
        UserWarning,
        stacklevel=3,
    )
