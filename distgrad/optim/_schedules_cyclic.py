"""Schedules that raise and lower the rates, and the momentum against them."""

import math
import types
from collections.abc import Callable
from typing import Any

from ._optimizer import Group, Optimizer
from ._schedule import LRScheduler, need_optimizer, one_per_group, set_value


def _uses_beta1(optimizer: Optimizer) -> bool:
    """Whether the momentum of this optimizer is the first of its betas.

    Raises:
        ValueError: it has no momentum.
    """
    if "momentum" not in optimizer.defaults and "betas" not in optimizer.defaults:
        raise ValueError(
            "optimizer must support momentum or beta1 with `cycle_momentum` option enabled; pass cycle_momentum=False"
        )
    return "betas" in optimizer.defaults


def _set_momentum(group: Group, use_beta1: bool, value: float) -> None:
    if use_beta1:
        group["betas"] = (value, *group["betas"][1:])
    else:
        group["momentum"] = value


class CyclicLR(LRScheduler):
    """Between two rates, up and down in straight lines. To be stepped after each batch.

    Source: Smith, "Cyclical learning rates for training neural networks", WACV 2017.

    Args:
        optimizer: whose rates are set.
        base_lr: the lowest rate, or one for each group.
        max_lr: the highest rate, or one for each group.
        step_size_up: batches from the lowest to the highest.
        step_size_down: batches down again; as many as up by default.
        mode: ``"triangular"``; ``"triangular2"``, whose height halves each cycle; ``"exp_range"``, whose height falls
            as ``gamma ** batch``.
        gamma: for ``"exp_range"``.
        scale_fn: the height's factor, in place of `mode`.
        scale_mode: whether `scale_fn` is of the ``"cycle"`` or of the ``"iterations"``.
        cycle_momentum: move the momentum the other way.
        base_momentum, max_momentum: its limits.
        last_epoch: see `LRScheduler`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.8,
        max_momentum: float | list[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        base_lrs = one_per_group("base_lr", need_optimizer(optimizer), base_lr)
        if last_epoch == -1:
            for group, lr in zip(optimizer.param_groups, base_lrs, strict=True):
                set_value(group, "lr", lr)
        self.max_lrs = one_per_group("max_lr", optimizer, max_lr)
        down = step_size_up if step_size_down is None else step_size_down
        self.total_size = float(step_size_up + down)
        self.step_ratio = step_size_up / self.total_size
        if mode not in ("triangular", "triangular2", "exp_range") and scale_fn is None:
            raise ValueError(f"mode is invalid and scale_fn is None: got mode={mode!r}")
        self.mode = mode
        self.gamma = gamma
        self._scale_fn_custom = scale_fn
        self.scale_mode = scale_mode if scale_fn is not None else "iterations" if mode == "exp_range" else "cycle"
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self.use_beta1 = _uses_beta1(optimizer)
            self.base_momentums = one_per_group("base_momentum", optimizer, base_momentum)
            self.max_momentums = one_per_group("max_momentum", optimizer, max_momentum)
            if last_epoch == -1:
                self._start_momenta(optimizer)
        super().__init__(optimizer, last_epoch)
        self.base_lrs = base_lrs

    def _start_momenta(self, optimizer: Optimizer) -> None:
        for group, low, high in zip(optimizer.param_groups, self.base_momentums, self.max_momentums, strict=True):
            _set_momentum(group, self.use_beta1, high)
            group["max_momentum"], group["base_momentum"] = high, low

    def scale_fn(self, x: float) -> float:
        """The factor of the height in cycle (from 1), or at batch, number x."""
        if self._scale_fn_custom is not None:
            return self._scale_fn_custom(x)
        if self.mode == "triangular":
            return 1.0
        if self.mode == "triangular2":
            return 0.5 ** (x - 1)  # type: ignore[no-any-return]
        return self.gamma**x  # type: ignore[no-any-return]

    def get_lr(self) -> list[float]:
        """The rates at `last_epoch`; sets the momenta."""
        self._expect_step()
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        place = 1 + self.last_epoch / self.total_size - cycle
        height = place / self.step_ratio if place <= self.step_ratio else (place - 1) / (self.step_ratio - 1)
        height *= self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            for group, low, high in zip(
                self.optimizer.param_groups, self.base_momentums, self.max_momentums, strict=True
            ):
                _set_momentum(group, self.use_beta1, high - (high - low) * height)
        return [low + (high - low) * height for low, high in zip(self.base_lrs, self.max_lrs, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """All attributes except the optimizer; a `scale_fn` only if it is an object with attributes."""
        state = super().state_dict()
        custom = self._scale_fn_custom
        saved = None if custom is None or isinstance(custom, types.FunctionType) else dict(custom.__dict__)
        state["_scale_fn_custom"] = saved
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the attributes of another schedule of the same kind."""
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "_scale_fn_custom"})
        attributes = state_dict.get("_scale_fn_custom")
        if attributes is not None and self._scale_fn_custom is not None:
            self._scale_fn_custom.__dict__.update(attributes)


class OneCycleLR(LRScheduler):
    """One rise to `max_lr` and one fall far below the start, over the whole training. To be stepped after each batch.

    Source: Smith and Topin, "Super-convergence: very fast training using large learning rates", 2019.

    Args:
        optimizer: whose rates are set.
        max_lr: the highest rate, or one for each group.
        total_steps: batches in all; or give both of
        epochs, steps_per_epoch: whose product it is.
        pct_start: the share of the batches that the rise takes.
        anneal_strategy: ``"cos"`` or ``"linear"``.
        cycle_momentum: move the momentum the other way.
        base_momentum, max_momentum: its limits.
        div_factor: the first rate is ``max_lr / div_factor``.
        final_div_factor: the last rate is the first one divided by this.
        three_phase: fall to the first rate as fast as it rose, and only then to the last.
        last_epoch: see `LRScheduler`.

    Raises:
        ValueError: the number of batches is not given, or one is asked for after them.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        need_optimizer(optimizer)
        if not 0 <= pct_start <= 1:
            raise ValueError(f"Expected float between 0 and 1 pct_start, but got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}")
        self.total_steps = _total_steps(total_steps, epochs, steps_per_epoch)
        self._schedule_phases = _phases(pct_start * self.total_steps, self.total_steps, three_phase)
        self._anneal_func_type = anneal_strategy
        self.cycle_momentum = cycle_momentum
        highest = one_per_group("max_lr", optimizer, max_lr)
        if last_epoch == -1:
            for group, lr in zip(optimizer.param_groups, highest, strict=True):
                group["initial_lr"] = lr / div_factor
                group["max_lr"] = lr
                group["min_lr"] = group["initial_lr"] / final_div_factor
        if cycle_momentum:
            self.use_beta1 = _uses_beta1(optimizer)
            lows = one_per_group("base_momentum", optimizer, base_momentum)
            highs = one_per_group("max_momentum", optimizer, max_momentum)
            if last_epoch == -1:
                for group, low, high in zip(optimizer.param_groups, lows, highs, strict=True):
                    _set_momentum(group, self.use_beta1, high)
                    group["max_momentum"], group["base_momentum"] = high, low
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The rates at `last_epoch`; sets the momenta."""
        self._expect_step()
        if self.last_epoch > self.total_steps:
            raise ValueError(
                f"Tried to step {self.last_epoch} times. The specified number of total steps is {self.total_steps}"
            )
        phase, place = self._phase()
        if self.cycle_momentum:
            for group in self.optimizer.param_groups:
                value = self._anneal(group[phase["start_momentum"]], group[phase["end_momentum"]], place)
                _set_momentum(group, self.use_beta1, value)
        start, end = phase["start_lr"], phase["end_lr"]
        return [self._anneal(group[start], group[end], place) for group in self.optimizer.param_groups]

    def _phase(self) -> tuple[dict[str, Any], float]:
        """The phase in which `last_epoch` lies, and which share of it has passed."""
        start = 0.0
        for phase in self._schedule_phases:
            if self.last_epoch <= phase["end_step"] or phase is self._schedule_phases[-1]:
                break
            start = phase["end_step"]
        return phase, (self.last_epoch - start) / (phase["end_step"] - start)

    def _anneal(self, start: float, end: float, place: float) -> float:
        if self._anneal_func_type == "linear":
            return (end - start) * place + start
        return end + (start - end) / 2.0 * (math.cos(math.pi * place) + 1)


def _total_steps(total: int | None, epochs: int | None, per_epoch: int | None) -> int:
    if total is None and epochs is not None and per_epoch is not None:
        for name, value in (("epochs", epochs), ("steps_per_epoch", per_epoch)):
            if value <= 0 or not isinstance(value, int):
                raise ValueError(f"Expected positive integer {name}, but got {value}")
        return epochs * per_epoch
    if total is None:
        raise ValueError("You must define either total_steps OR (epochs AND steps_per_epoch)")
    if total <= 0 or not isinstance(total, int):
        raise ValueError(f"Expected positive integer total_steps, but got {total}")
    return total


def _phases(rise: float, total: int, three: bool) -> list[dict[str, Any]]:
    """Where each phase ends, and the keys of a group between whose values it goes."""
    ends = [rise - 1, 2 * rise - 2, total - 1] if three else [rise - 1, total - 1]
    lrs = ["initial_lr", "max_lr", *(["initial_lr"] if three else []), "min_lr"]
    momenta = ["max_momentum", "base_momentum", *(["max_momentum"] if three else []), "max_momentum"]
    return [
        {
            "end_step": end,
            "start_lr": lrs[i],
            "end_lr": lrs[i + 1],
            "start_momentum": momenta[i],
            "end_momentum": momenta[i + 1],
        }
        for i, end in enumerate(ends)
    ]
