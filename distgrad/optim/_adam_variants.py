"""NAdam, RAdam and Adamax: Adam with another momentum, warm-up or norm."""

from typing import Any

from ._adam import check_adam
from ._flat import FlatOptimizer, Segment
from ._optimizer import Group, Params, number, require


class NAdam(FlatOptimizer):
    """Adam with Nesterov momentum, whose strength grows over the steps.

    Source: Dozat, "Incorporating Nesterov momentum into Adam", 2016.

    Args:
        params, lr, betas, eps, weight_decay, maximize, decoupled_weight_decay: as in `Adam`.
        momentum_decay: how fast the momentum grows towards ``betas[0]``.
        foreach, capturable: accepted as in torch.
    """

    _scalars = ("step", "mu_product")

    def __init__(
        self,
        params: Params,
        lr: Any = 2e-3,
        betas: tuple[Any, Any] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_adam(lr, betas, eps, weight_decay)
        require(momentum_decay >= 0, "momentum_decay value", momentum_decay)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def _moments(self, group: Group) -> tuple[str | None, ...]:
        return ("exp_avg", "exp_avg_sq")

    def _initial(self, name: str, group: Group) -> float:
        return 1.0 if name == "mu_product" else 0.0

    def _update(self, group: Group, segment: Segment) -> None:
        lr, beta1, beta2 = number(group["lr"]), number(group["betas"][0]), number(group["betas"][1])
        decay, decoupled = number(group["weight_decay"]), group["decoupled_weight_decay"]
        exp_avg, exp_avg_sq = segment.moments
        step, products = segment.advance(), segment.scalars[1]
        mu, mu_next = (beta1 * (1 - 0.5 * 0.96 ** (t * group["momentum_decay"])) for t in (step, step + 1))
        products *= mu
        product = products.item(0)
        segment.kernels.nadam(
            segment.param,
            segment.grad,
            exp_avg,
            exp_avg_sq,
            lr * (1 - mu) / (1 - product),
            lr * mu_next / (1 - product * mu_next),
            beta1,
            beta2,
            number(group["eps"]),
            0.0 if decoupled else decay,
            1 - lr * decay if decoupled else 1.0,
            group["maximize"],
            step,
        )


class RAdam(FlatOptimizer):
    """Adam that takes plain momentum steps until its running mean of squares can be trusted.

    Source: Liu et al., "On the variance of the adaptive learning rate and beyond", ICLR 2020.

    Args:
        params, lr, betas, eps, weight_decay, maximize, decoupled_weight_decay: as in `Adam`.
        foreach, capturable: accepted as in torch.
    """

    def __init__(
        self,
        params: Params,
        lr: Any = 1e-3,
        betas: tuple[Any, Any] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_adam(lr, betas, eps, weight_decay)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "decoupled_weight_decay": decoupled_weight_decay,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def _moments(self, group: Group) -> tuple[str | None, ...]:
        return ("exp_avg", "exp_avg_sq")

    def _update(self, group: Group, segment: Segment) -> None:
        lr, beta1, beta2 = number(group["lr"]), number(group["betas"][0]), number(group["betas"][1])
        decay, decoupled = number(group["weight_decay"]), group["decoupled_weight_decay"]
        exp_avg, exp_avg_sq = segment.moments
        step = segment.advance()
        segment.kernels.radam(
            segment.param,
            segment.grad,
            exp_avg,
            exp_avg_sq,
            lr / (1 - beta1**step),
            beta1,
            beta2,
            number(group["eps"]),
            _rectification(beta2, step),
            0.0 if decoupled else decay,
            1 - lr * decay if decoupled else 1.0,
            group["maximize"],
        )


def _rectification(beta2: float, step: float) -> float | None:
    """What multiplies the adaptive step; None while the variance of the mean of squares cannot be estimated."""
    correction = 1 - beta2**step
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * step * beta2**step / correction  # of the average, in steps
    if length <= 5:
        return None
    ratio = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
    return (ratio * correction) ** 0.5  # type: ignore[no-any-return]


class Adamax(FlatOptimizer):
    """Adam that divides by the largest recent gradient instead of the root of the mean of squares.

    Source: Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015, section 7.

    Args:
        params, lr, betas, eps, weight_decay, maximize: as in `Adam`.
        foreach, capturable: accepted as in torch.
    """

    def __init__(
        self,
        params: Params,
        lr: Any = 2e-3,
        betas: tuple[Any, Any] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        check_adam(lr, betas, eps, weight_decay)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
        }
        super().__init__(params, defaults)

    def _moments(self, group: Group) -> tuple[str | None, ...]:
        return ("exp_avg", "exp_inf")

    def _update(self, group: Group, segment: Segment) -> None:
        beta1, beta2 = number(group["betas"][0]), number(group["betas"][1])
        exp_avg, exp_inf = segment.moments
        segment.kernels.adamax(
            segment.param,
            segment.grad,
            exp_avg,
            exp_inf,
            number(group["lr"]) / (1 - beta1 ** segment.advance()),
            beta1,
            beta2,
            number(group["eps"]),
            number(group["weight_decay"]),
            group["maximize"],
        )
