"""The optimizers' updates on flat arrays, in blocks that stay in the cache.

A pass over 64 Ki elements with all its intermediate results in two scratch blocks runs in the second-level cache; a pass over a
whole model writes each intermediate result to memory and takes about twice as long.
"""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from ..._typing import Array

BLOCK = 1 << 16  # elements


class _Scratch(threading.local):
    """Two blocks for each dtype and, by length, views of them; each thread has its own, because ranks can be threads."""

    def __init__(self) -> None:
        self.blocks: dict[Any, tuple[Array, Array]] = {}
        self.views: dict[tuple[Any, int], tuple[Array, Array]] = {}

    def make(self, dtype: Any, size: int) -> tuple[Array, Array]:
        if dtype not in self.blocks:
            self.blocks[dtype] = (np.empty(BLOCK, dtype), np.empty(BLOCK, dtype))
        if len(self.views) >= 256:
            self.views.clear()
        first, second = self.blocks[dtype]
        views = self.views[dtype, size] = (first[:size], second[:size])
        return views


_scratch = _Scratch()


def _in_blocks(update: Callable[..., None], arrays: tuple[Array | None, ...], *options: Any) -> None:
    """Calls ``update(*pieces, scratch, scratch, *options)`` for one block after the other; None stays None."""
    param = arrays[0]
    assert param is not None
    size, dtype = param.size, param.dtype
    views = _scratch.views
    if size <= BLOCK:
        s, t = views.get((dtype, size)) or _scratch.make(dtype, size)
        update(*arrays, s, t, *options)
        return
    for start in range(0, size, BLOCK):
        pieces = [None if a is None else a[start : start + BLOCK] for a in arrays]
        n = min(BLOCK, size - start)
        s, t = views.get((dtype, n)) or _scratch.make(dtype, n)
        update(*pieces, s, t, *options)


def _gradient(p: Array, g: Array, s: Array, t: Array, weight_decay: float, maximize: bool) -> Array:
    """The gradient to descend: negated to maximize, plus the weights' decay. In `t`, with `s` overwritten, if it is not `g` itself."""
    if maximize:
        g = np.negative(g, t)
    if weight_decay != 0:
        np.multiply(p, weight_decay, s)
        g = np.add(g, s, t)
    return g


def _blend(average: Array, value: Array, s: Array, weight: float) -> None:
    """Moves a running average towards `value` by `weight`."""
    np.multiply(average, 1 - weight, average)
    np.multiply(value, weight, s)
    np.add(average, s, average)


def _blend_square(average: Array, value: Array, s: Array, weight: float) -> None:
    """Moves a running average towards the square of `value` by `weight`."""
    np.multiply(average, 1 - weight, average)
    np.multiply(value, value, s)
    np.multiply(s, weight, s)
    np.add(average, s, average)


def _descend(p: Array, direction: Array, s: Array, lr: float) -> None:
    np.multiply(direction, lr, s)
    np.subtract(p, s, p)


def sgd(
    param: Array,
    grad: Array,
    momentum_buffer: Array | None,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    maximize: bool,
    first: bool,
) -> None:
    """See `OptimKernels.sgd`."""
    _in_blocks(_sgd, (param, grad, momentum_buffer), lr, momentum, dampening, weight_decay, nesterov, maximize, first)


def _sgd(
    p: Array, g: Array, b: Array | None, s: Array, t: Array, lr: float, momentum: float, dampening: float, weight_decay: float,
    nesterov: bool, maximize: bool, first: bool,
) -> None:  # fmt: skip
    if maximize or weight_decay != 0:
        g = _gradient(p, g, s, t, weight_decay, maximize)
    if b is not None:
        if first:
            np.copyto(b, g)
        else:
            np.multiply(b, momentum, b)
            np.add(b, np.multiply(g, 1 - dampening, s) if dampening != 0 else g, b)
        g = np.add(g, np.multiply(b, momentum, s), t) if nesterov else b
    _descend(p, g, s, lr)


def adam(
    param: Array,
    grad: Array,
    exp_avg: Array,
    exp_avg_sq: Array,
    max_exp_avg_sq: Array | None,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
    maximize: bool,
    step: float,
) -> None:
    """See `OptimKernels.adam`."""
    # Both bias corrections go into two scalars: m/c1 / (sqrt(v/c2) + eps) = (sqrt(c2)/c1) m / (sqrt(v) + eps sqrt(c2)).
    root = (1 - beta2**step) ** 0.5
    scale = lr / (1 - beta1**step) * root
    shrink = 1 - lr * weight_decay if decoupled and weight_decay != 0 else None
    arrays = (param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq)
    _in_blocks(_adam, arrays, scale, beta1, beta2, eps * root, 0.0 if decoupled else weight_decay, shrink, maximize)


def _adam(
    p: Array, g: Array, m: Array, v: Array, largest: Array | None, s: Array, t: Array, scale: float, beta1: float, beta2: float,
    eps: float, weight_decay: float, shrink: float | None, maximize: bool,
) -> None:  # fmt: skip
    if maximize or weight_decay != 0:
        g = _gradient(p, g, s, t, weight_decay, maximize)
    if shrink is not None:
        np.multiply(p, shrink, p)
    _blend(m, g, s, 1 - beta1)
    _blend_square(v, g, s, 1 - beta2)
    if largest is not None:
        v = np.maximum(largest, v, out=largest)
    np.sqrt(v, s)
    np.add(s, eps, s)
    np.divide(m, s, s)
    _descend(p, s, s, scale)


def nadam(
    param: Array,
    grad: Array,
    exp_avg: Array,
    exp_avg_sq: Array,
    lr_grad: float,
    lr_avg: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    shrink: float,
    maximize: bool,
    step: float,
) -> None:
    """See `OptimKernels.nadam`."""
    root = (1 - beta2**step) ** 0.5
    options = (lr_grad * root, lr_avg * root, beta1, beta2, eps * root, weight_decay, shrink, maximize)
    _in_blocks(_nadam, (param, grad, exp_avg, exp_avg_sq), *options)


def _nadam(
    p: Array, g: Array, m: Array, v: Array, s: Array, t: Array, lr_grad: float, lr_avg: float, beta1: float, beta2: float, eps: float,
    weight_decay: float, shrink: float, maximize: bool,
) -> None:  # fmt: skip
    g = _gradient(p, g, s, t, weight_decay, maximize)
    if shrink != 1:
        np.multiply(p, shrink, p)
    _blend(m, g, s, 1 - beta1)
    _blend_square(v, g, s, 1 - beta2)
    np.multiply(g, lr_grad, t)
    np.multiply(m, lr_avg, s)
    np.add(t, s, t)
    np.sqrt(v, s)
    np.add(s, eps, s)
    np.divide(t, s, t)
    np.subtract(p, t, p)


def radam(
    param: Array,
    grad: Array,
    exp_avg: Array,
    exp_avg_sq: Array,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    adapt: float | None,
    weight_decay: float,
    shrink: float,
    maximize: bool,
) -> None:
    """See `OptimKernels.radam`."""
    _in_blocks(_radam, (param, grad, exp_avg, exp_avg_sq), lr, beta1, beta2, eps, adapt, weight_decay, shrink, maximize)


def _radam(
    p: Array, g: Array, m: Array, v: Array, s: Array, t: Array, lr: float, beta1: float, beta2: float, eps: float, adapt: float | None,
    weight_decay: float, shrink: float, maximize: bool,
) -> None:  # fmt: skip
    g = _gradient(p, g, s, t, weight_decay, maximize)
    if shrink != 1:
        np.multiply(p, shrink, p)
    _blend(m, g, s, 1 - beta1)
    _blend_square(v, g, s, 1 - beta2)
    if adapt is None:
        _descend(p, m, s, lr)
        return
    np.sqrt(v, s)
    np.add(s, eps, s)
    np.divide(m, s, s)
    _descend(p, s, s, lr * adapt)


def adamax(
    param: Array,
    grad: Array,
    exp_avg: Array,
    exp_inf: Array,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    """See `OptimKernels.adamax`."""
    _in_blocks(_adamax, (param, grad, exp_avg, exp_inf), lr, beta1, beta2, eps, weight_decay, maximize)


def _adamax(
    p: Array, g: Array, m: Array, u: Array, s: Array, t: Array, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float,
    maximize: bool,
) -> None:  # fmt: skip
    g = _gradient(p, g, s, t, weight_decay, maximize)
    _blend(m, g, s, 1 - beta1)
    np.absolute(g, s)
    np.add(s, eps, s)
    np.multiply(u, beta2, u)
    np.maximum(u, s, out=u)
    np.divide(m, u, s)
    _descend(p, s, s, lr)


def rmsprop(
    param: Array,
    grad: Array,
    square_avg: Array,
    grad_avg: Array | None,
    momentum_buffer: Array | None,
    lr: float,
    alpha: float,
    eps: float,
    momentum: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    """See `OptimKernels.rmsprop`."""
    arrays = (param, grad, square_avg, grad_avg, momentum_buffer)
    _in_blocks(_rmsprop, arrays, lr, alpha, eps, momentum, weight_decay, maximize)


def _rmsprop(
    p: Array, g: Array, v: Array, mean: Array | None, b: Array | None, s: Array, t: Array, lr: float, alpha: float, eps: float,
    momentum: float, weight_decay: float, maximize: bool,
) -> None:  # fmt: skip
    g = _gradient(p, g, s, t, weight_decay, maximize)
    _blend_square(v, g, s, 1 - alpha)
    if mean is not None:
        _blend(mean, g, s, 1 - alpha)
        np.multiply(mean, mean, s)
        np.subtract(v, s, s)
        np.sqrt(s, s)
    else:
        np.sqrt(v, s)
    np.add(s, eps, s)
    np.divide(g, s, s)
    if b is not None:
        np.multiply(b, momentum, b)
        np.add(b, s, b)
        _descend(p, b, s, lr)
    else:
        _descend(p, s, s, lr)


def adagrad(param: Array, grad: Array, sum: Array, lr: float, eps: float, weight_decay: float, maximize: bool) -> None:
    """See `OptimKernels.adagrad`."""
    _in_blocks(_adagrad, (param, grad, sum), lr, eps, weight_decay, maximize)


def _adagrad(
    p: Array, g: Array, total: Array, s: Array, t: Array, lr: float, eps: float, weight_decay: float, maximize: bool
) -> None:
    g = _gradient(p, g, s, t, weight_decay, maximize)
    np.multiply(g, g, s)
    np.add(total, s, total)
    np.sqrt(total, s)
    np.add(s, eps, s)
    np.divide(g, s, s)
    _descend(p, s, s, lr)


def adadelta(
    param: Array,
    grad: Array,
    square_avg: Array,
    acc_delta: Array,
    lr: float,
    rho: float,
    eps: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    """See `OptimKernels.adadelta`."""
    _in_blocks(_adadelta, (param, grad, square_avg, acc_delta), lr, rho, eps, weight_decay, maximize)


def _adadelta(
    p: Array, g: Array, v: Array, deltas: Array, s: Array, t: Array, lr: float, rho: float, eps: float, weight_decay: float, maximize: bool
) -> None:  # fmt: skip
    g = _gradient(p, g, s, t, weight_decay, maximize)
    _blend_square(v, g, s, 1 - rho)
    np.add(v, eps, s)
    np.sqrt(s, s)
    np.divide(g, s, t)  # the last use of g, which may be t
    np.add(deltas, eps, s)
    np.sqrt(s, s)
    np.multiply(t, s, t)
    _blend_square(deltas, t, s, 1 - rho)
    _descend(p, t, s, lr)


def rprop(
    param: Array,
    grad: Array,
    prev: Array,
    step_size: Array,
    eta_minus: float,
    eta_plus: float,
    smallest: float,
    largest: float,
    maximize: bool,
) -> None:
    """See `OptimKernels.rprop`."""
    _in_blocks(_rprop, (param, grad, prev, step_size), eta_minus, eta_plus, smallest, largest, maximize)


def _rprop(
    p: Array, g: Array, prev: Array, sizes: Array, s: Array, t: Array, eta_minus: float, eta_plus: float, smallest: float, largest: float,
    maximize: bool,
) -> None:  # fmt: skip
    g = _gradient(p, g, s, t, 0.0, maximize)
    np.multiply(g, prev, s)
    turned = s < 0
    np.multiply(sizes, eta_plus, sizes, where=s > 0)
    np.multiply(sizes, eta_minus, sizes, where=turned)
    np.clip(sizes, smallest, largest, out=sizes)
    np.copyto(prev, g)
    np.copyto(prev, 0, where=turned)
    np.sign(prev, s)
    np.multiply(s, sizes, s)
    np.subtract(p, s, p)


def asgd(
    param: Array, grad: Array, ax: Array, eta: float, lambd: float, mu: float, weight_decay: float, maximize: bool
) -> None:
    """See `OptimKernels.asgd`."""
    _in_blocks(_asgd, (param, grad, ax), eta, lambd, mu, weight_decay, maximize)


def _asgd(
    p: Array, g: Array, average: Array, s: Array, t: Array, eta: float, lambd: float, mu: float, weight_decay: float, maximize: bool
) -> None:
    g = _gradient(p, g, s, t, weight_decay, maximize)
    np.multiply(p, 1 - lambd * eta, p)
    _descend(p, g, s, eta)
    if mu == 1:
        np.copyto(average, p)
    else:
        np.subtract(p, average, s)
        np.multiply(s, mu, s)
        np.add(average, s, average)
