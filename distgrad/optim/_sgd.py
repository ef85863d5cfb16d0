"""Stochastic gradient descent."""

from typing import Any

from .._tensor import Tensor
from ..autograd._sparse import SparseRows
from ..errors import AutogradError
from ._flat import FlatOptimizer, Segment
from ._optimizer import Group, Params, number, require


class SGD(FlatOptimizer):
    """Stochastic gradient descent with momentum: ``b = momentum * b + (1 - dampening) * g``, ``p -= lr * b``.

    Args:
        params: the parameters, or groups of them.
        lr: learning rate.
        momentum: how much of the last direction is kept.
        dampening: how much of the gradient does not enter the direction.
        weight_decay: that multiple of the parameters is added to the gradient (an L2 penalty).
        nesterov: look ahead: ``p -= lr * (g + momentum * b)`` (Sutskever et al., 2013).
        maximize: ascend instead.
        foreach, fused: accepted as in torch; every update here is fused.

    Raises:
        ValueError: a hyperparameter is out of its range, or nesterov has no momentum or some dampening.

    Example:
        >>> optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> optimizer.zero_grad(); loss_fn(model(x), y).backward(); optimizer.step()
    """

    _scalars = ()

    def __init__(
        self,
        params: Params,
        lr: Any = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: Any = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        require(number(lr) >= 0, "learning rate", lr)
        require(momentum >= 0, "momentum value", momentum)
        require(number(weight_decay) >= 0, "weight_decay value", weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)

    def _moments(self, group: Group) -> tuple[str | None, ...]:
        return ("momentum_buffer",) if group["momentum"] != 0 else (None,)

    def _update_rows(self, group: Group, p: Tensor, rows: SparseRows) -> None:
        if group["momentum"] != 0 or group["weight_decay"] != 0:
            raise AutogradError(
                "SGD: momentum and weight_decay are not compatible with sparse gradients, as they change all rows; set "
                "them to 0, or use SparseAdam"
            )
        rate = number(group["lr"])
        p._data[rows.indices] -= rows.values * (-rate if group["maximize"] else rate)

    def _update(self, group: Group, segment: Segment) -> None:
        segment.kernels.sgd(
            segment.param,
            segment.grad,
            segment.moments[0],
            number(group["lr"]),
            number(group["momentum"]),
            number(group["dampening"]),
            number(group["weight_decay"]),
            group["nesterov"],
            group["maximize"],
            segment.first,
        )
