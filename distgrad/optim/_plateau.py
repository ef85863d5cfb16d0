"""The schedule that looks at a metric."""

import math
from typing import Any

from .._survivors import enlist
from ._optimizer import Optimizer, number
from ._schedule import LRScheduler, need_optimizer, one_per_group, set_value, warn_epoch


class ReduceLROnPlateau(LRScheduler):
    """Multiplies the rates by `factor` when a metric has not improved for more than `patience` epochs.

    Args:
        optimizer: whose rates are set.
        mode: ``"min"`` if a lower metric is better, else ``"max"``.
        factor: below 1.
        patience: epochs without improvement that are accepted.
        threshold: how much better counts as better.
        threshold_mode: whether `threshold` is a share (``"rel"``) or a difference (``"abs"``).
        cooldown: epochs after a reduction that do not count.
        min_lr: the lowest rate, or one for each group.
        eps: a reduction by less is not made.

    Example:
        >>> scheduler = ReduceLROnPlateau(optimizer, patience=5)
        >>> scheduler.step(validation_loss)
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        if factor >= 1.0:
            raise ValueError("Factor should be < 1.0.")
        if mode not in ("min", "max"):
            raise ValueError(f"mode {mode} is unknown! Expected 'min' or 'max'")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"threshold mode {threshold_mode} is unknown! Expected 'rel' or 'abs'")
        self.optimizer = need_optimizer(optimizer)
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.default_min_lr = None if isinstance(min_lr, (list, tuple)) else min_lr
        self.min_lrs = one_per_group("min_lr", optimizer, min_lr)
        self.eps = eps
        self.last_epoch = 0
        self.mode_worse = math.inf if mode == "min" else -math.inf
        self.best = self.mode_worse
        self.cooldown_counter = 0
        self.num_bad_epochs = 0
        self._last_lr = self._current()
        enlist("schedule", self)

    def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]
        """Takes in the metric of one more epoch, a number or a tensor of one element."""
        current = float(metrics)
        if epoch is not None:
            warn_epoch()
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self._is_better(current, self.best):
            self.best = current
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._last_lr = self._current()

    @property
    def in_cooldown(self) -> bool:
        """Whether epochs do not count now."""
        return self.cooldown_counter > 0

    def _is_better(self, a: float, best: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        limit = best * (1 + sign * self.threshold) if self.threshold_mode == "rel" else best + sign * self.threshold
        return a > limit if self.mode == "max" else a < limit

    def _reduce(self) -> None:
        groups = self.optimizer.param_groups
        if len(groups) != len(self.min_lrs):
            if self.default_min_lr is None:
                raise RuntimeError(
                    f"expected a min_lr for each of the {len(groups)} param groups, got {len(self.min_lrs)}: a group "
                    "was added to the optimizer after ReduceLROnPlateau was built; extend its `min_lrs`"
                )
            self.min_lrs = one_per_group("min_lr", self.optimizer, self.default_min_lr)
        for group, lowest in zip(groups, self.min_lrs, strict=True):
            before = number(group["lr"])
            after = max(before * self.factor, lowest)
            if before - after > self.eps:
                set_value(group, "lr", after)
