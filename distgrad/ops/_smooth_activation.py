"""Activation functions made of exponentials."""

from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._node import Node
from ..autograd._op import Op, apply1
from ..errors import ShapeError
from ._activation import maybe_inplace
from ._common import axis_of, check_floating, floating, tensor_of, weak
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor

_SQRT_HALF = 0.7071067811865476
_INV_SQRT_TWO_PI = 0.3989422804014327
_SQRT_TWO_OVER_PI = 0.7978845608028654
_TANH_CUBE = 0.044715  # of the tanh form of GELU
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


class Elu(Op):
    """``params = (alpha, scale, input_scale)``: ``scale * (max(x, 0) + alpha * expm1(min(x, 0) * input_scale))``."""

    saves = ((0,),)

    @staticmethod
    def forward(ctx: Node, x: Array, alpha: float, scale: float, input_scale: float) -> Array:
        xp = ctx.xp
        y = ctx.backend.asarray(xp.minimum(x, 0))
        if input_scale != 1:
            y *= input_scale
        xp.expm1(y, out=y)
        y *= alpha * scale
        y += xp.maximum(x, 0) * scale if scale != 1 else xp.maximum(x, 0)
        return y

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        alpha, scale, input_scale = ctx.params
        above = xp.astype(x > 0, g.dtype)
        below = xp.exp(xp.minimum(x, 0) * input_scale) * (1 - above) * (alpha * scale * input_scale)
        return g * (below + above * scale)

    @staticmethod
    def backward_fast(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        alpha, scale, input_scale = ctx.params
        if alpha * input_scale != 1:
            return Elu.backward(xp, ctx, g, x)
        # Both sides then have one formula: exp(min(x, 0) * input_scale) * scale is the scale where x is positive.
        slope = ctx.backend.asarray(ctx.xp.minimum(x, 0))
        if input_scale != 1:
            slope *= input_scale
        ctx.xp.exp(slope, out=slope)
        if scale != 1:
            slope *= scale
        slope *= g
        return slope


class Gelu(Op):
    """``params = (whether by the tanh form,)``."""

    saves = ((0,),)
    saves_output = True
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, by_tanh: bool) -> Array:
        return ctx.kernels.activation.gelu(x, by_tanh)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        """By differentiable formulas."""
        if ctx.params[0]:
            t = xp.tanh((x + x * x * x * _TANH_CUBE) * _SQRT_TWO_OVER_PI)
            inner = (x * x * (3 * _TANH_CUBE) + 1) * _SQRT_TWO_OVER_PI
            return g * ((t + 1) * 0.5 + x * 0.5 * (1 - t * t) * inner)
        cdf = (xp.erf(x * _SQRT_HALF) + 1) * 0.5
        return g * (cdf + x * xp.exp(x * x * -0.5) * _INV_SQRT_TWO_PI)

    @staticmethod
    def backward_fast(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        return ctx.kernels.activation.gelu_backward(g, x, y, ctx.params[0])


class Silu(Op):
    saves = ((0,),)
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return ctx.kernels.activation.silu(x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        """By differentiable formulas."""
        s = xp.sigmoid(x)
        return g * (s * (x * (1 - s) + 1))

    @staticmethod
    def backward_fast(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        return ctx.kernels.activation.silu_backward(g, x)


class Mish(Op):
    saves = ((0,),)
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return x * ctx.xp.tanh(_softplus(ctx, x))

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        t = xp.tanh(xp.log(xp.exp(-xp.abs(x)) + 1) + xp.maximum(x, 0))
        return g * (t + x * xp.sigmoid(x) * (1 - t * t))


def _softplus(ctx: Node, z: Array) -> Array:
    """log(1 + exp(z)) without overflow."""
    xp = ctx.xp
    y = ctx.backend.asarray(xp.abs(z))
    xp.negative(y, out=y)
    xp.exp(y, out=y)
    xp.log1p(y, out=y)
    y += xp.maximum(z, 0)
    return y


class Softplus(Op):
    """``params = (beta, threshold)``."""

    saves = ((0,),)
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, beta: float, threshold: float) -> Array:
        beta = weak(beta, x.dtype)
        z = x * beta
        return ctx.xp.where(z > threshold, x, _softplus(ctx, z) / beta)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        beta, threshold = ctx.params
        z = x * beta
        above = xp.astype(z > threshold, g.dtype)
        return g * (above + (1 - above) * xp.sigmoid(z))


class Logsigmoid(Op):
    name = "LogSigmoid"
    saves = ((0,),)
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return -_softplus(ctx, -x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        return g * xp.sigmoid(-x)


class Softsign(Op):
    saves = ((0,),)

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return x / (ctx.xp.abs(x) + 1)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        below = xp.abs(x) + 1
        return g / (below * below)


class Tanhshrink(Op):
    saves = ((0,),)

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return x - ctx.xp.tanh(x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        t = xp.tanh(x)
        return g * t * t


class Glu(Op):
    """``params = (axis,)``: the first half times the sigmoid of the second."""

    saves = ((0,),)
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, axis: int) -> Array:
        first, second = _halves(axis, x.shape)
        return x[first] * ctx.kernels.special.sigmoid(x[second])

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        (axis,) = ctx.params
        first, second = _halves(axis, ctx.shapes[0])
        gate = xp.sigmoid(xp.getitem(x, second))
        through = g * gate
        return xp.concat((through, through * xp.getitem(x, first) * (1 - gate)), axis=axis)


def _halves(axis: int, shape: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    lead, half = (slice(None),) * axis, shape[axis] // 2
    return (*lead, slice(0, half)), (*lead, slice(half, None))


@op(method=False)
def elu(input: "Tensor", alpha: float = 1.0, inplace: bool = False) -> "Tensor":
    """The input where it is positive, ``alpha * (exp(input) - 1)`` elsewhere (Clevert et al., arXiv:1511.07289)."""
    return maybe_inplace(input, apply1(Elu, floating(input, "elu"), float(alpha), 1.0, 1.0), inplace, "elu_")


@op(method=False)
def selu(input: "Tensor", inplace: bool = False) -> "Tensor":
    """ELU with the scales that keep mean 0 and variance 1 (Klambauer et al. 2017, arXiv:1706.02515)."""
    result = apply1(Elu, floating(input, "selu"), _SELU_ALPHA, _SELU_SCALE, 1.0)
    return maybe_inplace(input, result, inplace, "selu_")


@op(method=False)
def celu(input: "Tensor", alpha: float = 1.0, inplace: bool = False) -> "Tensor":
    """The input where it is positive, ``alpha * (exp(input / alpha) - 1)`` elsewhere (Barron 2017, arXiv:1704.07483).

    Raises:
        ValueError: `alpha` is 0.
    """
    if alpha == 0:
        raise ValueError("celu: expected alpha not to be 0")
    return maybe_inplace(input, apply1(Elu, floating(input, "celu"), float(alpha), 1.0, 1.0 / alpha), inplace, "celu_")


@op(method=False)
def gelu(input: "Tensor", approximate: str = "none") -> "Tensor":
    """The input times the normal distribution function of it (Hendrycks and Gimpel 2016, arXiv:1606.08415).

    Args:
        input: a tensor of a floating-point dtype.
        approximate: ``"none"`` for the error function, ``"tanh"`` for the paper's approximation.
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: expected approximate to be 'none' or 'tanh', got {approximate!r}")
    return apply1(Gelu, floating(input, "gelu"), approximate == "tanh")


@op(method=False)
def silu(input: "Tensor", inplace: bool = False) -> "Tensor":
    """``input * sigmoid(input)``, also called swish."""
    return maybe_inplace(input, apply1(Silu, floating(input, "silu")), inplace, "silu_")


@op(method=False)
def mish(input: "Tensor", inplace: bool = False) -> "Tensor":
    """``input * tanh(softplus(input))`` (Misra 2019, arXiv:1908.08681)."""
    return maybe_inplace(input, apply1(Mish, floating(input, "mish")), inplace, "mish_")


@op(method=False)
def softplus(input: "Tensor", beta: float = 1.0, threshold: float = 20.0) -> "Tensor":
    """``log(1 + exp(beta * input)) / beta``; the input itself where ``beta * input`` is above `threshold`."""
    return apply1(Softplus, floating(input, "softplus"), float(beta), float(threshold))


@op(method=False)
def logsigmoid(input: "Tensor") -> "Tensor":
    """``log(sigmoid(input))``, exact also far below 0."""
    return apply1(Logsigmoid, floating(input, "logsigmoid"))


@op(method=False)
def softsign(input: "Tensor") -> "Tensor":
    """``input / (1 + abs(input))``."""
    return apply1(Softsign, floating(input, "softsign"))


@op(method=False)
def tanhshrink(input: "Tensor") -> "Tensor":
    """``input - tanh(input)``."""
    return apply1(Tanhshrink, floating(input, "tanhshrink"))


@op(method=False)
def glu(input: "Tensor", dim: int = -1) -> "Tensor":
    """The first half along `dim` times the sigmoid of the second (Dauphin et al. 2017, arXiv:1612.08083).

    Raises:
        ShapeError: the size of `dim` is odd.
        DTypeError: the input is of integers or bools.
    """
    x = tensor_of(input, "glu")
    check_floating("glu", x)
    axis = axis_of(dim, x._data.ndim, "glu")
    if x._data.ndim == 0 or x._data.shape[axis] % 2:
        raise ShapeError(f"glu: expected an even size of dimension {dim}, got shape {list(x._data.shape)}")
    return apply1(Glu, x, axis)


@op(method=False)
def gumbel_softmax(logits: "Tensor", tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> "Tensor":
    """A sample of the Gumbel-softmax distribution (Jang et al. 2017, arXiv:1611.01144).

    Args:
        logits: unnormalised log-probabilities.
        tau: the temperature.
        hard: one-hot samples; their gradient is that of the soft ones.
        dim: the dimension that sums to 1.
    """
    x = tensor_of(logits, "gumbel_softmax")
    noise = -(x.detach().new_empty(x.shape).exponential_().log())
    soft = ((x + noise) / tau).softmax(dim)
    if not hard:
        return soft
    index = soft.max(dim, keepdim=True)[1]
    one = soft.detach().new_zeros(soft.shape).scatter(dim, index, 1.0)
    return one - soft.detach() + soft
