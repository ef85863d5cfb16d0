"""Adam and AdamW."""

from typing import Any

from ._flat import FlatOptimizer, Segment
from ._optimizer import Group, Params, number, require


def check_adam(lr: Any, betas: tuple[Any, ...], eps: float, weight_decay: float) -> None:
    """Raises ValueError where a hyperparameter of the Adam family is out of its range."""
    require(number(lr) >= 0, "learning rate", lr)
    require(eps >= 0, "epsilon value", eps)
    for index in range(2):
        require(0 <= number(betas[index]) < 1, f"beta parameter at index {index}", betas[index])
    require(weight_decay >= 0, "weight_decay value", weight_decay)


class Adam(FlatOptimizer):
    """Adam: steps of the running mean of the gradient over the root of the running mean of its square.

    Source: Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015; `amsgrad`: Reddi et al., ICLR 2018.

    Args:
        params: the parameters, or groups of them.
        lr: learning rate.
        betas: how much of the running mean, and of that of the squares, is kept at each step.
        eps: is added to the root.
        weight_decay: that multiple of the parameters is added to the gradient (an L2 penalty).
        amsgrad: divide by the largest running mean of squares so far.
        maximize: ascend instead.
        decoupled_weight_decay: shrink the parameters by ``lr * weight_decay`` instead, as AdamW does.
        foreach, capturable, fused: accepted as in torch; every update here is fused.

    Raises:
        ValueError: a hyperparameter is out of its range.
    """

    def __init__(
        self,
        params: Params,
        lr: Any = 1e-3,
        betas: tuple[Any, Any] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        check_adam(lr, betas, eps, weight_decay)
        defaults = {
            "lr": lr,
            "betas": (number(betas[0]), number(betas[1])),
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)

    def _moments(self, group: Group) -> tuple[str | None, ...]:
        return ("exp_avg", "exp_avg_sq", "max_exp_avg_sq" if group["amsgrad"] else None)

    def _update(self, group: Group, segment: Segment) -> None:
        beta1, beta2 = group["betas"]
        exp_avg, exp_avg_sq, max_exp_avg_sq = segment.moments
        segment.kernels.adam(
            segment.param,
            segment.grad,
            exp_avg,
            exp_avg_sq,
            max_exp_avg_sq,
            number(group["lr"]),
            number(beta1),
            number(beta2),
            number(group["eps"]),
            number(group["weight_decay"]),
            group["decoupled_weight_decay"],
            group["maximize"],
            segment.advance(),
        )


class AdamW(Adam):
    """Adam with decoupled weight decay: the parameters shrink by ``lr * weight_decay``, apart from the gradient.

    Source: Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019.

    The arguments are those of `Adam`.
    """

    def __init__(
        self,
        params: Params,
        lr: Any = 1e-3,
        betas: tuple[Any, Any] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )
