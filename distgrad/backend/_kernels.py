"""The hot loops that every backend provides, by family. NumPy and CuPy implement the same protocols."""

from typing import Any, Protocol

from .._typing import Array, Shape


class SpecialKernels(Protocol):
    """Elementwise functions that array modules lack."""

    def erf(self, x: Array) -> Array:
        """The error function, to the precision of x's dtype."""
        ...

    def erfc(self, x: Array) -> Array:
        """``1 - erf(x)``, with all its digits where that is small."""
        ...

    def sigmoid(self, x: Array) -> Array:
        """1 / (1 + exp(-x)) without overflow."""
        ...


class UfuncKernels(Protocol):
    """Methods of NumPy's ufuncs that not every array module has; the ufunc is given by its name."""

    def at(self, name: str, target: Array, index: Any, values: Any) -> None:
        """``target[index] = ufunc(target[index], values)``, one value after the other where places repeat.

        For ``"add"``, ``"multiply"``, ``"maximum"`` and ``"minimum"``.
        """
        ...

    def accumulate(self, name: str, x: Array, axis: int) -> Array:
        """The running result along `axis`, for ``"maximum"``, ``"minimum"`` and ``"logaddexp"``."""
        ...


class OptimKernels(Protocol):
    """One update of an optimizer over flat real arrays of one length and dtype, in place.

    `maximize` negates the gradient; `weight_decay` adds that multiple of the parameters to it; `shrink` multiplies the
    parameters first (decoupled decay).
    """

    def sgd(
        self, param: Array, grad: Array, momentum_buffer: Array | None, lr: float, momentum: float, dampening: float,
        weight_decay: float, nesterov: bool, maximize: bool, first: bool,
    ) -> None:
        """Gradient descent; `first` fills the momentum buffer with the gradient."""
        ...

    def adam(
        self, param: Array, grad: Array, exp_avg: Array, exp_avg_sq: Array, max_exp_avg_sq: Array | None, lr: float,
        beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool, maximize: bool, step: float,
    ) -> None:
        """Adam, AdamW (`decoupled`) and AMSGrad (with `max_exp_avg_sq`); `step` counts from 1."""
        ...

    def nadam(
        self, param: Array, grad: Array, exp_avg: Array, exp_avg_sq: Array, lr_grad: float, lr_avg: float,
        beta1: float, beta2: float, eps: float, weight_decay: float, shrink: float, maximize: bool, step: float,
    ) -> None:
        """NAdam; the rates of the gradient's and of the average's part of the update are the caller's."""
        ...

    def radam(
        self, param: Array, grad: Array, exp_avg: Array, exp_avg_sq: Array, lr: float, beta1: float, beta2: float,
        eps: float, adapt: float | None, weight_decay: float, shrink: float, maximize: bool,
    ) -> None:
        """RAdam; `adapt` multiplies the adaptive update, None takes the plain average instead."""
        ...

    def adamax(
        self, param: Array, grad: Array, exp_avg: Array, exp_inf: Array, lr: float, beta1: float, beta2: float,
        eps: float, weight_decay: float, maximize: bool,
    ) -> None:
        """Adamax; `lr` holds the bias correction."""
        ...

    def rmsprop(
        self, param: Array, grad: Array, square_avg: Array, grad_avg: Array | None, momentum_buffer: Array | None,
        lr: float, alpha: float, eps: float, momentum: float, weight_decay: float, maximize: bool,
    ) -> None:
        """RMSprop; centered with `grad_avg`, with momentum with `momentum_buffer`."""
        ...

    def adagrad(
        self, param: Array, grad: Array, sum: Array, lr: float, eps: float, weight_decay: float, maximize: bool
    ) -> None:
        """Adagrad; `lr` holds the decay of the rate."""
        ...

    def adadelta(
        self, param: Array, grad: Array, square_avg: Array, acc_delta: Array, lr: float, rho: float, eps: float,
        weight_decay: float, maximize: bool,
    ) -> None:
        """Adadelta."""
        ...

    def rprop(
        self, param: Array, grad: Array, prev: Array, step_size: Array, eta_minus: float, eta_plus: float,
        smallest: float, largest: float, maximize: bool,
    ) -> None:
        """Resilient backpropagation; a gradient that changed its sign counts as 0."""
        ...

    def asgd(
        self, param: Array, grad: Array, ax: Array, eta: float, lambd: float, mu: float, weight_decay: float,
        maximize: bool,
    ) -> None:
        """Averaged gradient descent; `mu` is the weight of the new parameters in the average `ax`."""
        ...


class ActivationKernels(Protocol):
    """Activation functions of several elementary functions in one pass."""

    def gelu(self, x: Array, by_tanh: bool) -> Array:
        """``x / 2 * (1 + erf(x / sqrt(2)))``, or its tanh form."""
        ...

    def gelu_backward(self, g: Array, x: Array, y: Array, by_tanh: bool) -> Array:
        """The gradient of x, with y the result of `gelu`."""
        ...

    def silu(self, x: Array) -> Array:
        """``x * sigmoid(x)``."""
        ...

    def silu_backward(self, g: Array, x: Array) -> Array:
        """The gradient of x."""
        ...

    def relu(self, x: Array) -> Array:
        """``max(x, 0)``, and nan where x is."""
        ...

    def relu_backward(self, g: Array, y: Array) -> Array:
        """The gradient of x, ``g`` where ``y = max(x, 0)`` is positive."""
        ...


Pads = tuple[tuple[int, int], ...]
"""Rows added before and after along each spatial dimension."""


class ConvKernels(Protocol):
    """Convolutions of any number of spatial dimensions: x (N, C, ...), w (O, C / groups, *kernel), g (N, O, ...)."""

    def forward(
        self, x: Array, w: Array, bias: Array | None, stride: Shape, padding: Pads, dilation: Shape, groups: int
    ) -> Array:
        """The convolution (N, O, ...)."""
        ...

    def grad_input(
        self, g: Array, w: Array, size: Shape, stride: Shape, padding: Pads, dilation: Shape, groups: int
    ) -> Array:
        """The gradient of x, whose spatial sizes are `size`: a transposed convolution."""
        ...

    def grad_weight(
        self, g: Array, x: Array, shape: Shape, stride: Shape, padding: Pads, dilation: Shape, groups: int
    ) -> Array:
        """The gradient of w, which has the given shape."""
        ...

    def backward(
        self, g: Array, x: Array, w: Array, stride: Shape, padding: Pads, dilation: Shape, groups: int
    ) -> tuple[Array, Array]:
        """`grad_input` and `grad_weight` together."""
        ...

    def channel_sums(self, x: Array) -> Array:
        """The sum over all axes but the second."""
        ...


class PoolKernels(Protocol):
    """Pooling of any number of spatial dimensions. The places of a window are numbered row by row."""

    def max_forward(
        self, x: Array, out: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape
    ) -> tuple[Array, Array]:
        """The maxima (N, C, *out) and, for each, the number of the place that won."""
        ...

    def max_backward(
        self, g: Array, winners: Array, shape: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape
    ) -> Array:
        """Each output's gradient put at its winner, in an array of the input's `shape`."""
        ...

    def max_indices(
        self, winners: Array, size: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape
    ) -> Array:
        """The winners' flat positions in the input's planes, int64."""
        ...

    def sum_forward(self, x: Array, out: Shape, kernel: Shape, stride: Shape, padding: Shape) -> Array:
        """The sum over each window."""
        ...

    def sum_backward(self, g: Array, shape: Shape, kernel: Shape, stride: Shape, padding: Shape) -> Array:
        """The adjoint of `sum_forward`."""
        ...


class NormKernels(Protocol):
    """Normalisation: by channels of x (N, C, ...), or by rows of x (M, D). Statistics are float32 at least."""

    def batch_statistics(self, x: Array) -> tuple[Array, Array]:
        """Each channel's mean and biased variance."""
        ...

    def batch_apply(self, x: Array, mean: Array, invstd: Array, weight: Array | None, bias: Array | None) -> Array:
        """``(x - mean) * invstd * weight + bias``."""
        ...

    def batch_sums(self, g: Array, x: Array, mean: Array, invstd: Array) -> tuple[Array, Array]:
        """Per channel, the sums of g and of ``g * (x - mean) * invstd``."""
        ...

    def batch_grad_input(
        self, g: Array, x: Array, mean: Array, invstd: Array, weight: Array | None, mean_g: Array | None,
        mean_gx: Array | None,
    ) -> Array:
        """``weight * invstd * (g - mean_g - (x - mean) * invstd * mean_gx)``; without means ``weight * invstd * g``."""
        ...

    def batch_forward(
        self, x: Array, weight: Array | None, bias: Array | None, eps: float
    ) -> tuple[Array, Array, Array, Array]:
        """`batch_statistics` and `batch_apply` at once: the result, and each channel's mean, variance and 1/std."""
        ...

    def batch_backward(
        self, g: Array, x: Array, mean: Array, invstd: Array, weight: Array | None, needs: tuple[bool, bool, bool]
    ) -> tuple[Array | None, Array | None, Array | None]:
        """`batch_sums` and `batch_grad_input` at once: the gradients of x, weight and bias, where needed."""
        ...

    def layer_forward(
        self, x: Array, weight: Array | None, bias: Array | None, eps: float
    ) -> tuple[Array, Array, Array]:
        """Normalised rows times weight plus bias; the rows' mean and 1/std, (M, 1)."""
        ...

    def layer_backward(
        self, g: Array, x: Array, mean: Array, invstd: Array, weight: Array | None, needs: tuple[bool, bool, bool]
    ) -> tuple[Array | None, Array | None, Array | None]:
        """The gradients of rows, weight and bias, where needed."""
        ...


    def group_forward(
        self, x: Array, groups: int, weight: Array | None, bias: Array | None, eps: float
    ) -> tuple[Array, Array, Array]:
        """Each group of channels of each sample normalised, then the affine map per channel; mean and 1/std (N, G)."""
        ...

    def group_backward(
        self, g: Array, x: Array, mean: Array, invstd: Array, weight: Array | None, needs: tuple[bool, bool, bool]
    ) -> tuple[Array | None, Array | None, Array | None]:
        """The gradients of x, weight and bias, where needed."""
        ...


class LossKernels(Protocol):
    """Softmax cross-entropy on rows (M, C), and sums by index."""

    def check_classes(self, target: Array, classes: int, ignore: int) -> tuple[Array, Array | None]:
        """Targets that can index, and which count (None: all); IndexError for one out of range."""
        ...

    def exp_rows(self, x: Array, classes: Array) -> tuple[Any, Array, Array, Array, Array]:
        """A shift (0, or each row's maximum), exp(x - shift), its sums (M, 1), log-sum-exp (M,), x at `classes`."""
        ...

    def scaled_minus_onehot(self, exps: Array, classes: Array, scale: Any, at_class: Any) -> Array:
        """``exps * scale`` with `at_class` subtracted at each row's class."""
        ...

    def sum_rows(self, rows: Array, indices: Array, count: int) -> Array:
        """(count, D): each of the rows (M, D) added at its index."""
        ...


class SoftmaxKernels(Protocol):
    """Softmax along an axis of floating-point arrays, and its gradients from its result."""

    def softmax(self, x: Array, axis: int) -> Array:
        """``exp(x) / sum(exp(x))``; nan where all are -inf."""
        ...

    def log_softmax(self, x: Array, axis: int) -> Array:
        """``x - log(sum(exp(x)))``."""
        ...

    def softmax_backward(self, g: Array, y: Array, axis: int) -> Array:
        """``y * (g - sum(g * y))``."""
        ...

    def log_softmax_backward(self, g: Array, y: Array, axis: int) -> Array:
        """``g - exp(y) * sum(g)``."""
        ...


class AttentionKernels(Protocol):
    """Attention of q (B, H, L, E), k (B, H, S, E) and v (B, H, S, Ev); mask and keep are (B, H, L, S) or None."""

    def forward(
        self, q: Array, k: Array, v: Array, mask: Array | None, keep: Array | None, causal: bool, scale: float, p: float
    ) -> tuple[Array, Any]:
        """The result (B, H, L, Ev), 0 in rows that see no key, and what `backward` gets as `saved`."""
        ...

    def backward(
        self, g: Array, q: Array, k: Array, v: Array, saved: Any, mask: Array | None, keep: Array | None,
        causal: bool, scale: float, p: float, needs_mask: bool,
    ) -> tuple[Array, Array, Array, Array | None]:  # fmt: skip
        """The gradients of q, k, v and, if wanted, of an added mask."""
        ...


class ProductKernels(Protocol):
    """Matrix products."""

    def matmul(self, x: Array, y: Array, out: Array | None = None) -> Array:
        """``x @ y`` of matrices, of stacks of them, or with vectors; `out` may take the result."""
        ...

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """``x @ weight.T + bias`` for x (M, K), weight (N, K) and bias (N,)."""
        ...


class RnnKernels(Protocol):
    """Recurrent layers over packed rows x (rows, I): `sizes[t]` sequences run at step t. States are (B, H)."""

    def lstm_forward(
        self, x: Array, h: Array, c: Array, wx: Array, wh: Array, bx: Array | None, bh: Array | None, sizes: Shape,
        reverse: bool,
    ) -> tuple[Array, Array, Array, Any]:
        """The outputs (rows, H), the last h and c, and what the backward pass needs."""
        ...

    def lstm_backward(
        self, g: Array | None, gh: Array | None, gc: Array | None, saved: Any, c0: Array, x: Array, wx: Array,
        wh: Array, sizes: Shape, reverse: bool,
    ) -> tuple[Array, ...]:
        """The gradients of x, h, c, wx, wh and of each bias."""
        ...

    def gru_forward(
        self, x: Array, h: Array, wx: Array, wh: Array, bx: Array | None, bh: Array | None, sizes: Shape, reverse: bool
    ) -> tuple[Array, Array, Any]:
        """The outputs (rows, H), the last h, and what the backward pass needs."""
        ...

    def gru_backward(
        self, g: Array | None, gh: Array | None, saved: Any, h0: Array, x: Array, wx: Array, wh: Array, sizes: Shape,
        reverse: bool,
    ) -> tuple[Array, ...]:
        """The gradients of x, h, wx, wh, bx and bh."""
        ...

    def simple_forward(
        self, x: Array, h: Array, wx: Array, wh: Array, bx: Array | None, bh: Array | None, sizes: Shape, reverse: bool,
        by_relu: bool,
    ) -> tuple[Array, Array, Any]:
        """The outputs (rows, H), the last h, and what the backward pass needs."""
        ...

    def simple_backward(
        self, g: Array | None, gh: Array | None, saved: Any, x: Array, wx: Array, wh: Array, sizes: Shape,
        reverse: bool, by_relu: bool,
    ) -> tuple[Array, ...]:
        """The gradients of x, h, wx, wh and of each bias."""
        ...


class Kernels(Protocol):
    """All kernel families of a backend."""

    @property
    def activation(self) -> ActivationKernels: ...
    @property
    def attention(self) -> AttentionKernels: ...
    @property
    def conv(self) -> ConvKernels: ...
    @property
    def loss(self) -> LossKernels: ...
    @property
    def norm(self) -> NormKernels: ...
    @property
    def pool(self) -> PoolKernels: ...
    @property
    def products(self) -> ProductKernels: ...
    @property
    def rnn(self) -> RnnKernels: ...
    @property
    def special(self) -> SpecialKernels: ...
    @property
    def softmax(self) -> SoftmaxKernels: ...
    @property
    def optim(self) -> OptimKernels: ...
    @property
    def ufuncs(self) -> UfuncKernels: ...
