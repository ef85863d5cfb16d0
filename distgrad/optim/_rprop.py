"""Rprop and ASGD: two older methods, for full batches and for averages."""

from typing import Any

from ._flat import FlatOptimizer, Segment
from ._optimizer import Group, Params, number, require


class Rprop(FlatOptimizer):
    """Resilient backpropagation: only the gradient's sign counts, and each element has a step size of its own.

    Source: Riedmiller and Braun, "A direct adaptive method for faster backpropagation learning", 1993.

    Args:
        params: the parameters, or groups of them.
        lr: the step size that every element starts with.
        etas: factors of the step size after a change of sign, and after none.
        step_sizes: the smallest and the largest step size.
        maximize: ascend instead.
        foreach, capturable: accepted as in torch.
    """

    def __init__(
        self,
        params: Params,
        lr: Any = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        require(number(lr) >= 0, "learning rate", lr)
        require(0 < etas[0] < 1 < etas[1], "eta values", f"{etas[0]}, {etas[1]}")
        defaults = {
            "lr": lr,
            "etas": etas,
            "step_sizes": step_sizes,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
        }
        super().__init__(params, defaults)

    def _moments(self, group: Group) -> tuple[str | None, ...]:
        return ("prev", "step_size")

    def _initial(self, name: str, group: Group) -> float:
        return number(group["lr"]) if name == "step_size" else 0.0

    def _update(self, group: Group, segment: Segment) -> None:
        prev, sizes = segment.moments
        (eta_minus, eta_plus), (smallest, largest) = group["etas"], group["step_sizes"]
        segment.advance()
        segment.kernels.rprop(
            segment.param, segment.grad, prev, sizes, eta_minus, eta_plus, smallest, largest, group["maximize"]
        )


class ASGD(FlatOptimizer):
    """Stochastic gradient descent that also keeps the average of the parameters, as ``state[p]["ax"]``.

    Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992.

    Args:
        params: the parameters, or groups of them.
        lr: learning rate.
        lambd: decay of the parameters, and of the learning rate over the steps.
        alpha: power by which the learning rate falls.
        t0: the step at which averaging starts.
        weight_decay: that multiple of the parameters is added to the gradient.
        maximize: ascend instead.
        foreach, capturable: accepted as in torch.
    """

    _scalars = ("step", "eta", "mu")

    def __init__(
        self,
        params: Params,
        lr: Any = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        require(number(lr) >= 0, "learning rate", lr)
        require(weight_decay >= 0, "weight_decay value", weight_decay)
        defaults = {
            "lr": lr,
            "lambd": lambd,
            "alpha": alpha,
            "t0": t0,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
        }
        super().__init__(params, defaults)

    def _moments(self, group: Group) -> tuple[str | None, ...]:
        return ("ax",)

    def _initial(self, name: str, group: Group) -> float:
        return {"eta": number(group["lr"]), "mu": 1.0}.get(name, 0.0)

    def _update(self, group: Group, segment: Segment) -> None:
        lr, lambd = number(group["lr"]), number(group["lambd"])
        _, eta, mu = segment.scalars
        step = segment.advance()
        segment.kernels.asgd(
            segment.param,
            segment.grad,
            segment.moments[0],
            eta.item(0),
            lambd,
            mu.item(0),
            number(group["weight_decay"]),
            group["maximize"],
        )
        eta[:] = lr / (1 + lambd * lr * step) ** group["alpha"]
        mu[:] = 1 / max(1.0, step - group["t0"])
