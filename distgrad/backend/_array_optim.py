"""The optimizers' updates on flat arrays: sequences of elementwise operations that write with ``out=``."""

from collections.abc import Callable
from typing import Any, TypeAlias

from .._typing import Array

Run: TypeAlias = Callable[..., None]
"""``run(update, arrays, *options)`` calls ``update(*pieces, scratch, scratch, *options)`` on all of the arrays."""


class ArrayOptim:
    """`OptimKernels` for any array module with NumPy's interface.

    Args:
        xp: the array module, numpy or cupy.
        run: how an update goes over its arrays: block by block, or at once.
    """

    def __init__(self, xp: Any, run: Run) -> None:
        self._xp = xp
        self._run = run

    def _gradient(self, p: Array, g: Array, s: Array, t: Array, weight_decay: float, maximize: bool) -> Array:
        """The gradient to descend: negated to maximize, plus the weights' decay.

        It is `g` itself, or lies in `t`, and then `s` is overwritten.
        """
        xp = self._xp
        if maximize:
            g = xp.negative(g, t)
        if weight_decay != 0:
            xp.multiply(p, weight_decay, s)
            g = xp.add(g, s, t)
        return g

    def _blend(self, average: Array, value: Array, s: Array, weight: float) -> None:
        """Moves a running average towards `value` by `weight`."""
        xp = self._xp
        xp.multiply(average, 1 - weight, average)
        xp.multiply(value, weight, s)
        xp.add(average, s, average)

    def _blend_square(self, average: Array, value: Array, s: Array, weight: float) -> None:
        """Moves a running average towards the square of `value` by `weight`."""
        xp = self._xp
        xp.multiply(average, 1 - weight, average)
        xp.multiply(value, value, s)
        xp.multiply(s, weight, s)
        xp.add(average, s, average)

    def _descend(self, p: Array, direction: Array, s: Array, lr: float) -> None:
        xp = self._xp
        xp.multiply(direction, lr, s)
        xp.subtract(p, s, p)

    def sgd(
        self, param: Array, grad: Array, momentum_buffer: Array | None, lr: float, momentum: float, dampening: float,
        weight_decay: float, nesterov: bool, maximize: bool, first: bool,
    ) -> None:  # fmt: skip
        """See `OptimKernels.sgd`."""
        options = (lr, momentum, dampening, weight_decay, nesterov, maximize, first)
        self._run(self._sgd, (param, grad, momentum_buffer), *options)

    def _sgd(
        self, p: Array, g: Array, b: Array | None, s: Array, t: Array, lr: float, momentum: float, dampening: float,
        weight_decay: float, nesterov: bool, maximize: bool, first: bool,
    ) -> None:  # fmt: skip
        xp = self._xp
        if maximize or weight_decay != 0:
            g = self._gradient(p, g, s, t, weight_decay, maximize)
        if b is not None:
            if first:
                xp.copyto(b, g)
            else:
                xp.multiply(b, momentum, b)
                xp.add(b, xp.multiply(g, 1 - dampening, s) if dampening != 0 else g, b)
            g = xp.add(g, xp.multiply(b, momentum, s), t) if nesterov else b
        self._descend(p, g, s, lr)

    def adam(
        self, param: Array, grad: Array, exp_avg: Array, exp_avg_sq: Array, max_exp_avg_sq: Array | None, lr: float,
        beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool, maximize: bool, step: float,
    ) -> None:  # fmt: skip
        """See `OptimKernels.adam`."""
        # Both bias corrections go into two scalars:
        # m/c1 / (sqrt(v/c2) + eps) = (sqrt(c2)/c1) m / (sqrt(v) + eps sqrt(c2)).
        root = (1 - beta2**step) ** 0.5
        scale = lr / (1 - beta1**step) * root
        shrink = 1 - lr * weight_decay if decoupled and weight_decay != 0 else None
        arrays = (param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq)
        decay = 0.0 if decoupled else weight_decay
        self._run(self._adam, arrays, scale, beta1, beta2, eps * root, decay, shrink, maximize)

    def _adam(
        self, p: Array, g: Array, m: Array, v: Array, largest: Array | None, s: Array, t: Array, scale: float,
        beta1: float, beta2: float, eps: float, weight_decay: float, shrink: float | None, maximize: bool,
    ) -> None:  # fmt: skip
        xp = self._xp
        if maximize or weight_decay != 0:
            g = self._gradient(p, g, s, t, weight_decay, maximize)
        if shrink is not None:
            xp.multiply(p, shrink, p)
        self._blend(m, g, s, 1 - beta1)
        self._blend_square(v, g, s, 1 - beta2)
        if largest is not None:
            v = xp.maximum(largest, v, out=largest)
        xp.sqrt(v, s)
        xp.add(s, eps, s)
        xp.divide(m, s, s)
        self._descend(p, s, s, scale)

    def nadam(
        self, param: Array, grad: Array, exp_avg: Array, exp_avg_sq: Array, lr_grad: float, lr_avg: float,
        beta1: float, beta2: float, eps: float, weight_decay: float, shrink: float, maximize: bool, step: float,
    ) -> None:  # fmt: skip
        """See `OptimKernels.nadam`."""
        root = (1 - beta2**step) ** 0.5
        options = (lr_grad * root, lr_avg * root, beta1, beta2, eps * root, weight_decay, shrink, maximize)
        self._run(self._nadam, (param, grad, exp_avg, exp_avg_sq), *options)

    def _nadam(
        self, p: Array, g: Array, m: Array, v: Array, s: Array, t: Array, lr_grad: float, lr_avg: float, beta1: float,
        beta2: float, eps: float, weight_decay: float, shrink: float, maximize: bool,
    ) -> None:  # fmt: skip
        xp = self._xp
        g = self._gradient(p, g, s, t, weight_decay, maximize)
        if shrink != 1:
            xp.multiply(p, shrink, p)
        self._blend(m, g, s, 1 - beta1)
        self._blend_square(v, g, s, 1 - beta2)
        xp.multiply(g, lr_grad, t)
        xp.multiply(m, lr_avg, s)
        xp.add(t, s, t)
        xp.sqrt(v, s)
        xp.add(s, eps, s)
        xp.divide(t, s, t)
        xp.subtract(p, t, p)

    def radam(
        self, param: Array, grad: Array, exp_avg: Array, exp_avg_sq: Array, lr: float, beta1: float, beta2: float,
        eps: float, adapt: float | None, weight_decay: float, shrink: float, maximize: bool,
    ) -> None:  # fmt: skip
        """See `OptimKernels.radam`."""
        options = (lr, beta1, beta2, eps, adapt, weight_decay, shrink, maximize)
        self._run(self._radam, (param, grad, exp_avg, exp_avg_sq), *options)

    def _radam(
        self, p: Array, g: Array, m: Array, v: Array, s: Array, t: Array, lr: float, beta1: float, beta2: float,
        eps: float, adapt: float | None, weight_decay: float, shrink: float, maximize: bool,
    ) -> None:  # fmt: skip
        xp = self._xp
        g = self._gradient(p, g, s, t, weight_decay, maximize)
        if shrink != 1:
            xp.multiply(p, shrink, p)
        self._blend(m, g, s, 1 - beta1)
        self._blend_square(v, g, s, 1 - beta2)
        if adapt is None:
            self._descend(p, m, s, lr)
            return
        xp.sqrt(v, s)
        xp.add(s, eps, s)
        xp.divide(m, s, s)
        self._descend(p, s, s, lr * adapt)

    def adamax(
        self, param: Array, grad: Array, exp_avg: Array, exp_inf: Array, lr: float, beta1: float, beta2: float,
        eps: float, weight_decay: float, maximize: bool,
    ) -> None:  # fmt: skip
        """See `OptimKernels.adamax`."""
        self._run(self._adamax, (param, grad, exp_avg, exp_inf), lr, beta1, beta2, eps, weight_decay, maximize)

    def _adamax(
        self, p: Array, g: Array, m: Array, u: Array, s: Array, t: Array, lr: float, beta1: float, beta2: float,
        eps: float, weight_decay: float, maximize: bool,
    ) -> None:  # fmt: skip
        xp = self._xp
        g = self._gradient(p, g, s, t, weight_decay, maximize)
        self._blend(m, g, s, 1 - beta1)
        xp.absolute(g, s)
        xp.add(s, eps, s)
        xp.multiply(u, beta2, u)
        xp.maximum(u, s, out=u)
        xp.divide(m, u, s)
        self._descend(p, s, s, lr)

    def rmsprop(
        self, param: Array, grad: Array, square_avg: Array, grad_avg: Array | None, momentum_buffer: Array | None,
        lr: float, alpha: float, eps: float, momentum: float, weight_decay: float, maximize: bool,
    ) -> None:  # fmt: skip
        """See `OptimKernels.rmsprop`."""
        arrays = (param, grad, square_avg, grad_avg, momentum_buffer)
        self._run(self._rmsprop, arrays, lr, alpha, eps, momentum, weight_decay, maximize)

    def _rmsprop(
        self, p: Array, g: Array, v: Array, mean: Array | None, b: Array | None, s: Array, t: Array, lr: float,
        alpha: float, eps: float, momentum: float, weight_decay: float, maximize: bool,
    ) -> None:  # fmt: skip
        xp = self._xp
        g = self._gradient(p, g, s, t, weight_decay, maximize)
        self._blend_square(v, g, s, 1 - alpha)
        if mean is not None:
            self._blend(mean, g, s, 1 - alpha)
            xp.multiply(mean, mean, s)
            xp.subtract(v, s, s)
            xp.sqrt(s, s)
        else:
            xp.sqrt(v, s)
        xp.add(s, eps, s)
        xp.divide(g, s, s)
        if b is not None:
            xp.multiply(b, momentum, b)
            xp.add(b, s, b)
            self._descend(p, b, s, lr)
        else:
            self._descend(p, s, s, lr)

    def adagrad(
        self, param: Array, grad: Array, sum: Array, lr: float, eps: float, weight_decay: float, maximize: bool
    ) -> None:
        """See `OptimKernels.adagrad`."""
        self._run(self._adagrad, (param, grad, sum), lr, eps, weight_decay, maximize)

    def _adagrad(
        self, p: Array, g: Array, total: Array, s: Array, t: Array, lr: float, eps: float, weight_decay: float,
        maximize: bool,
    ) -> None:  # fmt: skip
        xp = self._xp
        g = self._gradient(p, g, s, t, weight_decay, maximize)
        xp.multiply(g, g, s)
        xp.add(total, s, total)
        xp.sqrt(total, s)
        xp.add(s, eps, s)
        xp.divide(g, s, s)
        self._descend(p, s, s, lr)

    def adadelta(
        self, param: Array, grad: Array, square_avg: Array, acc_delta: Array, lr: float, rho: float, eps: float,
        weight_decay: float, maximize: bool,
    ) -> None:  # fmt: skip
        """See `OptimKernels.adadelta`."""
        self._run(self._adadelta, (param, grad, square_avg, acc_delta), lr, rho, eps, weight_decay, maximize)

    def _adadelta(
        self, p: Array, g: Array, v: Array, deltas: Array, s: Array, t: Array, lr: float, rho: float, eps: float,
        weight_decay: float, maximize: bool,
    ) -> None:  # fmt: skip
        xp = self._xp
        g = self._gradient(p, g, s, t, weight_decay, maximize)
        self._blend_square(v, g, s, 1 - rho)
        xp.add(v, eps, s)
        xp.sqrt(s, s)
        xp.divide(g, s, t)  # the last use of g, which may be t
        xp.add(deltas, eps, s)
        xp.sqrt(s, s)
        xp.multiply(t, s, t)
        self._blend_square(deltas, t, s, 1 - rho)
        self._descend(p, t, s, lr)

    def rprop(
        self, param: Array, grad: Array, prev: Array, step_size: Array, eta_minus: float, eta_plus: float,
        smallest: float, largest: float, maximize: bool,
    ) -> None:  # fmt: skip
        """See `OptimKernels.rprop`."""
        self._run(self._rprop, (param, grad, prev, step_size), eta_minus, eta_plus, smallest, largest, maximize)

    def _rprop(
        self, p: Array, g: Array, prev: Array, sizes: Array, s: Array, t: Array, eta_minus: float, eta_plus: float,
        smallest: float, largest: float, maximize: bool,
    ) -> None:  # fmt: skip
        xp = self._xp
        g = self._gradient(p, g, s, t, 0.0, maximize)
        xp.multiply(g, prev, s)
        turned = s < 0
        grown = s > 0
        for which, factor in ((grown, eta_plus), (turned, eta_minus)):
            xp.multiply(sizes, factor, s)
            xp.copyto(sizes, s, where=which)
        xp.clip(sizes, smallest, largest, out=sizes)
        xp.copyto(prev, g)
        xp.copyto(prev, 0, where=turned)
        xp.sign(prev, s)
        xp.multiply(s, sizes, s)
        xp.subtract(p, s, p)

    def asgd(
        self, param: Array, grad: Array, ax: Array, eta: float, lambd: float, mu: float, weight_decay: float,
        maximize: bool,
    ) -> None:  # fmt: skip
        """See `OptimKernels.asgd`."""
        self._run(self._asgd, (param, grad, ax), eta, lambd, mu, weight_decay, maximize)

    def _asgd(
        self, p: Array, g: Array, average: Array, s: Array, t: Array, eta: float, lambd: float, mu: float,
        weight_decay: float, maximize: bool,
    ) -> None:  # fmt: skip
        xp = self._xp
        g = self._gradient(p, g, s, t, weight_decay, maximize)
        xp.multiply(p, 1 - lambd * eta, p)
        self._descend(p, g, s, eta)
        if mu == 1:
            xp.copyto(average, p)
        else:
            xp.subtract(p, average, s)
            xp.multiply(s, mu, s)
            xp.add(average, s, average)
