"""PostLocalSGDOptimizer: an optimizer whose ranks train apart, and average their parameters now and then."""

from typing import Any

from ..optim import Optimizer
from ..optim._optimizer import Closure, Group
from ._averager import PeriodicModelAverager


class PostLocalSGDOptimizer(Optimizer):
    """Wraps an optimizer; after each of its steps the averager has its turn.

    Args:
        optim: makes the steps.
        averager: decides when parameters are averaged over the ranks.

    Lin et al., Don't Use Large Mini-Batches, Use Local SGD, ICLR 2020 (arXiv 1808.07217).
    """

    def __init__(self, optim: Optimizer, averager: PeriodicModelAverager) -> None:
        self.optim = optim
        self.averager = averager
        self._make_hooks()
        self.param_groups = optim.param_groups
        self.defaults = optim.defaults
        self.state = optim.state

    def step(self, closure: Closure | None = None) -> Any:
        """A step of the optimizer, then the averager's.

        Args:
            closure: passed on to the optimizer.

        Returns:
            What the optimizer's step returned.
        """
        result = self.optim.step(closure)
        self.state = self.optim.state
        self.averager.average_parameters(self.param_groups)
        return result

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients of all parameters."""
        self.optim.zero_grad(set_to_none)

    def add_param_group(self, param_group: Group) -> None:
        """Adds a group to the optimizer."""
        self.optim.add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """That of the optimizer, and the averager's count of steps under ``"step"``."""
        return {**self.optim.state_dict(), "step": self.averager.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads both; without a ``"step"`` the averager starts anew."""
        self.optim.load_state_dict({key: value for key, value in state_dict.items() if key != "step"})
        self.averager.step = state_dict.get("step", 0)
        self.param_groups, self.state = self.optim.param_groups, self.optim.state
