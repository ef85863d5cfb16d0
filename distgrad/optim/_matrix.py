"""Muon and Adafactor: updates that see a parameter as a matrix, and so go parameter by parameter."""

import math
from typing import Any

from .._tensor import Tensor
from .._typing import Array
from ..autograd._base import wrap
from ..backend import CPU, backend_of, finfo, get_default_dtype
from ..errors import ShapeError
from ._optimizer import Closure, Group, Optimizer, Params, call_closure, number, require


class _MatrixOptimizer(Optimizer):
    """Base of the two: `_update` changes one parameter."""

    def step(self, closure: Closure | None = None) -> Any:
        """Changes the parameters that have a gradient.

        Args:
            closure: computes the loss and its gradients again and returns the loss.

        Returns:
            What the closure returned; None without one.
        """
        loss = call_closure(closure)
        with CPU.quiet():
            for group in self.param_groups:
                for p in group["params"]:
                    if p._grad is not None:
                        self._update(group, p, p._grad._data)
                        p._cell[0] += 1
        return loss

    def _update(self, group: Group, p: Tensor, grad: Array) -> None:
        raise NotImplementedError


def _zeros(entry: dict[str, Any], name: str, like: Array, shape: tuple[int, ...]) -> Array:
    """The array of a state entry, made of zeros at the first step."""
    if entry.get(name) is None:
        entry[name] = wrap(backend_of(like).xp.zeros(shape, dtype=like.dtype))
    return entry[name]._data


def _blend(average: Array, value: Array, weight: float) -> None:
    average += (value - average) * weight


class Muon(_MatrixOptimizer):
    """Momentum whose direction is made orthogonal: its singular values are brought near 1. For hidden layers' matrices.

    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.

    Args:
        params: the parameters, or groups of them, all of two dimensions.
        lr: learning rate.
        weight_decay: the parameters shrink by ``lr * weight_decay``.
        momentum: how much of the running mean of the gradient is kept.
        nesterov: look ahead by the momentum.
        ns_coefficients: of the quintic Newton-Schulz iteration.
        eps: least norm to divide by.
        ns_steps: how many iterations, below 100.
        adjust_lr_fn: ``"original"`` (None) multiplies the rate by ``sqrt(max(1, rows / columns))``,
            ``"match_rms_adamw"`` by ``0.2 sqrt(max(rows, columns))``.

    Raises:
        ValueError: a parameter is no matrix, or a hyperparameter is out of its range.
    """

    def __init__(
        self,
        params: Params,
        lr: Any = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        require(number(lr) >= 0, "learning rate", lr)
        require(momentum >= 0, "momentum value", momentum)
        require(weight_decay >= 0, "weight_decay value", weight_decay)
        require(0 <= ns_steps < 100, "ns_steps value", ns_steps)
        require(len(ns_coefficients) == 3, "ns_coefficients", ns_coefficients)
        require(adjust_lr_fn in (None, "original", "match_rms_adamw"), "adjust_lr_fn", adjust_lr_fn)
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": ns_coefficients,
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        }
        super().__init__(params, defaults)
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim != 2:
                    raise ValueError(
                        f"Muon only supports 2D parameters, found one with size {list(p.shape)}; give it to AdamW"
                    )

    def _update(self, group: Group, p: Tensor, grad: Array) -> None:
        lr, momentum = number(group["lr"]), group["momentum"]
        buffer = _zeros(self.state[p], "momentum_buffer", grad, grad.shape)
        _blend(buffer, grad, 1 - momentum)
        direction = grad + (buffer - grad) * momentum if group["nesterov"] else buffer
        direction = orthogonalized(direction, group["ns_coefficients"], group["ns_steps"], group["eps"])
        rows, columns = grad.shape
        adamw_like = group["adjust_lr_fn"] == "match_rms_adamw"
        ratio = 0.2 * math.sqrt(max(rows, columns)) if adamw_like else math.sqrt(max(1.0, rows / columns))
        p._data *= 1 - lr * group["weight_decay"]
        p._data -= direction * (lr * ratio)


def orthogonalized(matrix: Array, coefficients: tuple[float, float, float], steps: int, eps: float) -> Array:
    """A matrix with the singular vectors of `matrix` and singular values near 1, by Newton-Schulz iteration.

    Args:
        matrix: shape (rows, columns).
        coefficients: a, b, c of ``X -> a X + b (X X^T) X + c (X X^T)^2 X``.
        steps: the number of iterations.
        eps: the least norm to divide by.
    """
    a, b, c = coefficients
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / max(float((x * x).sum()) ** 0.5, eps)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Adafactor(_MatrixOptimizer):
    """Adam's scaling from means of squares of rows and columns only, and steps relative to the parameters' size.

    Source: Shazeer and Stern, "Adafactor: adaptive learning rates with sublinear memory cost", ICML 2018.

    Args:
        params: the parameters, or groups of them.
        lr: upper limit of the relative step size.
        beta2_decay: the power of the step by which the running mean takes in less.
        eps: least mean square (None: the dtype's eps), and least size of a parameter.
        d: upper limit of the root mean square of an update.
        weight_decay: the parameters shrink by ``lr * weight_decay``.
        maximize: ascend instead.
        foreach: accepted as in torch.
    """

    def __init__(
        self,
        params: Params,
        lr: Any = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ) -> None:
        require(number(lr) >= 0, "learning rate", lr)
        require(beta2_decay <= 0, "beta2_decay", beta2_decay)
        require(eps[0] is None or eps[0] >= 0, "epsilon1", eps[0])
        require(eps[1] >= 0, "epsilon2", eps[1])
        require(d >= 1, "clipping threshold d", d)
        require(weight_decay >= 0, "weight_decay", weight_decay)
        defaults = {
            "lr": lr,
            "beta2_decay": beta2_decay,
            "eps": eps,
            "d": d,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _update(self, group: Group, p: Tensor, grad: Array) -> None:
        if p.is_complex():
            raise ShapeError("Adafactor does not support complex parameters")
        lr, weight, (eps1, eps2) = number(group["lr"]), p._data, group["eps"]
        eps1 = finfo(p.dtype).eps if eps1 is None else eps1
        grad = -grad if group["maximize"] else grad
        step = self._count(p)
        rate = max(eps2, _root_mean_square(weight)) * min(lr, step**-0.5)
        if group["weight_decay"] != 0:
            weight *= 1 - lr * group["weight_decay"]
        estimate = self._mean_square(self.state[p], grad, step ** group["beta2_decay"], eps1)
        update = grad / estimate.clip(eps1 * eps1, None) ** 0.5
        weight -= update * (rate / max(1.0, _root_mean_square(update) / group["d"]))

    def _count(self, p: Tensor) -> float:
        entry = self.state[p]
        if "step" not in entry:
            entry["step"] = wrap(CPU.xp.zeros((), dtype=get_default_dtype().numpy))
        if not isinstance(entry["step"], Tensor):
            entry["step"] = wrap(CPU.xp.asarray(float(entry["step"]), dtype=get_default_dtype().numpy))
        entry["step"]._data += 1
        return float(entry["step"])

    def _mean_square(self, entry: dict[str, Any], grad: Array, weight: float, eps: float) -> Array:
        """The running mean of the squared gradient; of a matrix, as the product of those of its rows and columns."""
        if grad.ndim < 2:
            variance = _zeros(entry, "variance", grad, grad.shape)
            _blend(variance, grad * grad, weight)
            return variance
        rows = _zeros(entry, "row_var", grad, (*grad.shape[:-1], 1))
        columns = _zeros(entry, "col_var", grad, (*grad.shape[:-2], 1, grad.shape[-1]))
        square = grad * grad
        _blend(rows, square.mean(axis=-1, keepdims=True), weight)
        _blend(columns, square.mean(axis=-2, keepdims=True), weight)
        return (rows @ columns) / rows.mean(axis=-2, keepdims=True).clip(eps, None)


def _root_mean_square(array: Array) -> float:
    return math.sqrt(float((array * array).sum()) / max(array.size, 1))
