"""Averaging the parameters of ranks that train apart for some steps."""

from collections.abc import Iterable
from typing import Any

from .._tensor import Tensor
from ..comm import Communicator, ReduceOp, get_default


class PeriodicModelAverager:
    """Replaces parameters by their means over the ranks, every so many steps.

    Args:
        period: in steps.
        warmup_steps: steps at first in which nothing is averaged, because gradients are.
        process_group: the ranks; the default group by default.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(self, period: int, warmup_steps: int = 0, process_group: Communicator | None = None) -> None:
        if warmup_steps < 0:
            raise ValueError("Arg ``warmup_steps`` must be a non-negative number.")
        if period <= 0:
            raise ValueError("Arg ``period`` must be a positive value.")
        self.period = period
        self.warmup_steps = warmup_steps
        self.process_group = process_group
        self.step = 0

    def average_parameters(self, params: Iterable[Tensor] | Iterable[dict[str, Any]]) -> None:
        """Counts a step, and averages if it is time. Called by all ranks.

        Args:
            params: tensors, or an optimizer's ``param_groups``.
        """
        if self.step >= self.warmup_steps and (self.step - self.warmup_steps) % self.period == 0:
            group = self.process_group or get_default()
            for entry in params:
                for p in entry["params"] if isinstance(entry, dict) else (entry,):
                    flat = p.__distgrad_array__(write=True)
                    if flat.flags.c_contiguous:
                        group.all_reduce(flat.reshape(-1), ReduceOp.AVG)
                    else:
                        mean = flat.reshape(-1)
                        group.all_reduce(mean, ReduceOp.AVG)
                        flat[...] = mean.reshape(flat.shape)
        self.step += 1
