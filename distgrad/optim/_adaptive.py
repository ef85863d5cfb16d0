"""RMSprop, Adagrad and Adadelta: rates adapted by past squares alone."""

from typing import Any

from .._tensor import Tensor
from ..autograd._sparse import SparseRows
from ..errors import AutogradError
from ._flat import FlatOptimizer, Segment
from ._optimizer import Group, Params, number, require
from ._sparse import count_step, zeros_in


class RMSprop(FlatOptimizer):
    """Divides the gradient by the root of the running mean of its square.

    Source: Tieleman and Hinton, lecture 6.5 of "Neural networks for machine learning", 2012;
    centered: Graves, arXiv:1308.0850.

    Args:
        params: the parameters, or groups of them.
        lr: learning rate.
        alpha: how much of the running mean is kept at each step.
        eps: is added to the root.
        weight_decay: that multiple of the parameters is added to the gradient.
        momentum: how much of the last direction is kept.
        centered: divide by the running standard deviation instead.
        maximize: ascend instead.
        foreach, capturable: accepted as in torch.
    """

    def __init__(
        self,
        params: Params,
        lr: Any = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        require(number(lr) >= 0, "learning rate", lr)
        require(eps >= 0, "epsilon value", eps)
        require(momentum >= 0, "momentum value", momentum)
        require(weight_decay >= 0, "weight_decay value", weight_decay)
        require(alpha >= 0, "alpha value", alpha)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "capturable": capturable,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def _moments(self, group: Group) -> tuple[str | None, ...]:
        grad_avg = "grad_avg" if group["centered"] else None
        return ("square_avg", grad_avg, "momentum_buffer" if group["momentum"] > 0 else None)

    def _update(self, group: Group, segment: Segment) -> None:
        square_avg, grad_avg, momentum_buffer = segment.moments
        segment.advance()
        segment.kernels.rmsprop(
            segment.param,
            segment.grad,
            square_avg,
            grad_avg,
            momentum_buffer,
            number(group["lr"]),
            number(group["alpha"]),
            number(group["eps"]),
            number(group["momentum"]),
            number(group["weight_decay"]),
            group["maximize"],
        )


class Adagrad(FlatOptimizer):
    """Divides the gradient by the root of the sum of all its squares so far.

    Source: Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and stochastic
    optimization", JMLR 2011.

    Args:
        params: the parameters, or groups of them.
        lr: learning rate; at step n it is ``lr / (1 + (n - 1) * lr_decay)``.
        weight_decay: that multiple of the parameters is added to the gradient.
        initial_accumulator_value: what the sum starts with.
        eps: is added to the root.
        maximize: ascend instead.
        foreach, fused: accepted as in torch.
    """

    def __init__(
        self,
        params: Params,
        lr: Any = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        require(number(lr) >= 0, "learning rate", lr)
        require(lr_decay >= 0, "lr_decay value", lr_decay)
        require(weight_decay >= 0, "weight_decay value", weight_decay)
        require(initial_accumulator_value >= 0, "initial_accumulator_value value", initial_accumulator_value)
        require(eps >= 0, "epsilon value", eps)
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)

    def _moments(self, group: Group) -> tuple[str | None, ...]:
        return ("sum",)

    def _initial(self, name: str, group: Group) -> float:
        return number(group["initial_accumulator_value"]) if name == "sum" else 0.0

    def _update_rows(self, group: Group, p: Tensor, rows: SparseRows) -> None:
        if group["weight_decay"] != 0:
            raise AutogradError("Adagrad: weight_decay option is not compatible with sparse gradients; set it to 0")
        entry, where = self.state[p], rows.indices
        g = -rows.values if group["maximize"] else rows.values
        total = zeros_in(entry, "sum", p, self._initial("sum", group))
        rate = number(group["lr"]) / (1 + (count_step(entry) - 1) * group["lr_decay"])
        total[where] += g * g
        p._data[where] -= g / (total[where] ** 0.5 + number(group["eps"])) * rate

    def _update(self, group: Group, segment: Segment) -> None:
        segment.kernels.adagrad(
            segment.param,
            segment.grad,
            segment.moments[0],
            number(group["lr"]) / (1 + (segment.advance() - 1) * group["lr_decay"]),
            number(group["eps"]),
            number(group["weight_decay"]),
            group["maximize"],
        )


class Adadelta(FlatOptimizer):
    """Takes steps in the ratio of the running root mean squares of past steps and of gradients.

    Source: Zeiler, "ADADELTA: an adaptive learning rate method", arXiv:1212.5701.

    Args:
        params: the parameters, or groups of them.
        lr: multiplies the step.
        rho: how much of the running means is kept at each step.
        eps: is added under the roots.
        weight_decay: that multiple of the parameters is added to the gradient.
        maximize: ascend instead.
        foreach, capturable: accepted as in torch.
    """

    def __init__(
        self,
        params: Params,
        lr: Any = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        require(number(lr) >= 0, "learning rate", lr)
        require(0 <= rho <= 1, "rho value", rho)
        require(eps >= 0, "epsilon value", eps)
        require(weight_decay >= 0, "weight_decay value", weight_decay)
        defaults = {
            "lr": lr,
            "rho": rho,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "capturable": capturable,
            "foreach": foreach,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def _moments(self, group: Group) -> tuple[str | None, ...]:
        return ("square_avg", "acc_delta")

    def _update(self, group: Group, segment: Segment) -> None:
        square_avg, acc_delta = segment.moments
        segment.advance()
        segment.kernels.adadelta(
            segment.param,
            segment.grad,
            square_avg,
            acc_delta,
            number(group["lr"]),
            number(group["rho"]),
            number(group["eps"]),
            number(group["weight_decay"]),
            group["maximize"],
        )
