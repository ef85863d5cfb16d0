"""Less common functions of one tensor, element by element."""

import math
from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._base import wrap_result
from ..autograd._node import Node
from ..autograd._op import Op, apply1
from ..backend import OF_NUMPY, backend_of, finfo
from ..errors import DTypeError
from ._common import clip, floating, tensor_of, weak
from ._elementwise import clamp
from ._rounding import sign
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


class Erfc(Op):
    saves = ((0,),)
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return ctx.kernels.special.erfc(x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        return g * (xp.exp(-(x * x)) * (-2 / math.sqrt(math.pi)))


class Frac(Op):
    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return x - ctx.xp.trunc(x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return g


class Logit(Op):
    """``params = (eps,)``, a number or None."""

    saves = ((0,),)
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, eps: Any) -> Array:
        if eps is not None:
            x = clip(ctx.xp, x, eps, 1 - eps)
        return ctx.xp.log(x / (1 - x))

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        (eps,) = ctx.params
        low, beyond = (0, math.nan) if eps is None else (eps, 0.0)
        inside = xp.logical_and(x >= low, x <= 1 - low)
        return xp.where(inside, g / (x * (1 - x)), xp.zeros_like(g) + beyond)


class Sinc(Op):
    saves = ((0,),)

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        angle = ctx.xp.where(x == 0, x.dtype.type(1), x) * weak(math.pi, x.dtype)
        return ctx.xp.where(x == 0, x.dtype.type(1), ctx.xp.sin(angle) / angle)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        zero = x * x == 0  # also where the square underflows
        safe = xp.where(zero, xp.ones_like(x), x)
        angle = safe * math.pi
        slope = (angle * xp.cos(angle) - xp.sin(angle)) / (angle * safe)
        return g * xp.where(zero, xp.zeros_like(x), slope)


class NanToNum(Op):
    """``params``: what takes the place of nan, inf and -inf."""

    saves = ((0,),)

    @staticmethod
    def forward(ctx: Node, x: Array, nan: Any, posinf: Any, neginf: Any) -> Array:
        xp = ctx.xp
        result = xp.where(x == math.inf, posinf, xp.where(x == -math.inf, neginf, x))
        return xp.where(x != x, nan, result)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        return xp.where(xp.abs(x) < math.inf, g, xp.zeros_like(g))


@op(inplace=True)
def erfc(input: "Tensor") -> "Tensor":
    """``1 - erf(input)``, with all its digits where that is small."""
    return apply1(Erfc, floating(input, "erfc"))


@op(name="special.ndtr", method=False)
def ndtr(input: "Tensor") -> "Tensor":
    """The distribution function of the standard normal distribution: its area up to each element."""
    return erfc(floating(input, "ndtr") * -math.sqrt(0.5)) * 0.5


@op(inplace=True)
def frac(input: "Tensor") -> "Tensor":
    """The part after the decimal point, with the sign of the input.

    Raises:
        DTypeError: the input is no floating-point tensor.
    """
    t = tensor_of(input, "frac")
    if t._data.dtype.kind in "biu":
        raise DTypeError(f"frac: expected a floating-point dtype, got {OF_NUMPY[t._data.dtype]}")
    return apply1(Frac, t)


@op(inplace=True)
def logit(input: "Tensor", eps: float | None = None) -> "Tensor":
    """``log(input / (1 - input))``, the inverse of `sigmoid`.

    Args:
        input: probabilities, of any shape.
        eps: move the input into [eps, 1 - eps] first; None leaves it, and what is outside [0, 1] gives nan.
    """
    return apply1(Logit, floating(input, "logit"), eps)


@op(inplace=True)
def sinc(input: "Tensor") -> "Tensor":
    """``sin(pi * input) / (pi * input)``, and 1 at 0."""
    return apply1(Sinc, floating(input, "sinc"))


@op(inplace=True)
def nan_to_num(
    input: "Tensor", nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> "Tensor":
    """The input with numbers in the place of nan (0 by default), inf and -inf (the dtype's largest and smallest)."""
    t = tensor_of(input, "nan_to_num")
    dtype = t._data.dtype
    if dtype.kind in "biu":
        return t.clone()
    limits = finfo(OF_NUMPY[dtype])
    wanted = (0.0 if nan is None else nan, limits.max if posinf is None else posinf)
    values = (*wanted, limits.min if neginf is None else neginf)
    return apply1(NanToNum, t, *(dtype.type(v) for v in values))


@op(inplace=True)
def clamp_min(input: "Tensor", min: Any) -> "Tensor":
    """The larger of each element and `min`, a number or a tensor."""
    return clamp(input, min=min)


@op(inplace=True)
def clamp_max(input: "Tensor", max: Any) -> "Tensor":
    """The smaller of each element and `max`, a number or a tensor."""
    return clamp(input, max=max)


@op()
def positive(input: "Tensor") -> "Tensor":
    """The input itself.

    Raises:
        DTypeError: it is bool.
    """
    t = tensor_of(input, "positive")
    if t._data.dtype.kind == "b":
        raise DTypeError("positive: the + operator of a bool tensor is not defined; convert with .to(dtype)")
    return t


@op(inplace=True)
def sgn(input: "Tensor") -> "Tensor":
    """The sign; of a complex number, the number of absolute value 1 in its direction (0 at 0)."""
    t = tensor_of(input, "sgn")
    if t._data.dtype.kind != "c":
        return sign(t)
    xp = backend_of(t._data).xp
    size = xp.abs(t._data)
    return wrap_result(t._data / xp.where(size == 0, size.dtype.type(1), size), t._data)


@op(differentiable=False)
def signbit(input: "Tensor") -> "Tensor":
    """Whether the sign is minus; that of -0.0 is."""
    x = tensor_of(input, "signbit")._data
    return wrap_result(x < 0 if x.dtype.kind in "biu" else backend_of(x).xp.signbit(x), x)


@op(differentiable=False)
def isposinf(input: "Tensor") -> "Tensor":
    """Whether each element is inf."""
    x = tensor_of(input, "isposinf")._data
    return wrap_result(x == math.inf, x)


@op(differentiable=False)
def isneginf(input: "Tensor") -> "Tensor":
    """Whether each element is -inf."""
    x = tensor_of(input, "isneginf")._data
    return wrap_result(x == -math.inf, x)


@op(differentiable=False)
def isreal(input: "Tensor") -> "Tensor":
    """Whether the imaginary part is 0, as of every number that is not complex."""
    x = tensor_of(input, "isreal")._data
    if x.dtype.kind == "c":
        return wrap_result(x.imag == 0, x)
    return wrap_result(backend_of(x).xp.ones(x.shape, dtype="bool"), x)
