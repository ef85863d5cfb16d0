"""The hot loops that every backend provides, by family. NumPy and CuPy implement the same protocols."""

from typing import Protocol

from .._typing import Array


class SpecialKernels(Protocol):
    """Elementwise functions that array modules lack."""

    def erf(self, x: Array) -> Array:
        """The error function, to the precision of x's dtype."""
        ...

    def sigmoid(self, x: Array) -> Array:
        """1 / (1 + exp(-x)) without overflow."""
        ...


class OptimKernels(Protocol):
    """One update of an optimizer over flat real arrays of one length and dtype, in place. `maximize` negates the gradient.

    `weight_decay` adds that multiple of the parameters to the gradient; `shrink` multiplies the parameters first (decoupled decay).
    """

    def sgd(
        self, param: Array, grad: Array, momentum_buffer: Array | None, lr: float, momentum: float, dampening: float,
        weight_decay: float, nesterov: bool, maximize: bool, first: bool,
    ) -> None:
        """Gradient descent; `first` fills the momentum buffer with the gradient."""
        ...

    def adam(
        self, param: Array, grad: Array, exp_avg: Array, exp_avg_sq: Array, max_exp_avg_sq: Array | None, lr: float, beta1: float,
        beta2: float, eps: float, weight_decay: float, decoupled: bool, maximize: bool, step: float,
    ) -> None:
        """Adam, AdamW (`decoupled`) and AMSGrad (with `max_exp_avg_sq`); `step` counts from 1."""
        ...

    def nadam(
        self, param: Array, grad: Array, exp_avg: Array, exp_avg_sq: Array, lr_grad: float, lr_avg: float, beta1: float, beta2: float,
        eps: float, weight_decay: float, shrink: float, maximize: bool, step: float,
    ) -> None:
        """NAdam; the rates of the gradient's and of the average's part of the update are the caller's."""
        ...

    def radam(
        self, param: Array, grad: Array, exp_avg: Array, exp_avg_sq: Array, lr: float, beta1: float, beta2: float, eps: float,
        adapt: float | None, weight_decay: float, shrink: float, maximize: bool,
    ) -> None:
        """RAdam; `adapt` multiplies the adaptive update, None takes the plain average instead."""
        ...

    def adamax(
        self, param: Array, grad: Array, exp_avg: Array, exp_inf: Array, lr: float, beta1: float, beta2: float, eps: float,
        weight_decay: float, maximize: bool,
    ) -> None:
        """Adamax; `lr` holds the bias correction."""
        ...

    def rmsprop(
        self, param: Array, grad: Array, square_avg: Array, grad_avg: Array | None, momentum_buffer: Array | None, lr: float,
        alpha: float, eps: float, momentum: float, weight_decay: float, maximize: bool,
    ) -> None:
        """RMSprop; centered with `grad_avg`, with momentum with `momentum_buffer`."""
        ...

    def adagrad(self, param: Array, grad: Array, sum: Array, lr: float, eps: float, weight_decay: float, maximize: bool) -> None:
        """Adagrad; `lr` holds the decay of the rate."""
        ...

    def adadelta(
        self, param: Array, grad: Array, square_avg: Array, acc_delta: Array, lr: float, rho: float, eps: float,
        weight_decay: float, maximize: bool,
    ) -> None:
        """Adadelta."""
        ...

    def rprop(
        self, param: Array, grad: Array, prev: Array, step_size: Array, eta_minus: float, eta_plus: float, smallest: float,
        largest: float, maximize: bool,
    ) -> None:
        """Resilient backpropagation; a gradient that changed its sign counts as 0."""
        ...

    def asgd(
        self, param: Array, grad: Array, ax: Array, eta: float, lambd: float, mu: float, weight_decay: float, maximize: bool
    ) -> None:
        """Averaged gradient descent; `mu` is the weight of the new parameters in the average `ax`."""
        ...


class Kernels(Protocol):
    """All kernel families of a backend."""

    @property
    def special(self) -> SpecialKernels: ...
    @property
    def optim(self) -> OptimKernels: ...
