"""Elementwise functions of one tensor."""

import math
from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._base import TensorBase, wrap_result
from ..autograd._node import Node
from ..autograd._op import Op, apply, apply1, raw, result_dtype
from ..backend import backend_of
from ._arithmetic import Mul
from ._common import binary, cast, floating, mismatch, number_tensor, operand, tensor_of, weak
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


class Exp(Op):
    saves_output = True
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return ctx.xp.exp(x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, y: Any) -> Any:
        return g * y


class Expm1(Op):
    saves_output = True
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return ctx.xp.expm1(x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, y: Any) -> Any:
        return g * (y + 1)


class Log(Op):
    saves = ((0,),)
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return ctx.xp.log(x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        return g / x


class Log1p(Op):
    saves = ((0,),)
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return ctx.xp.log1p(x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        return g / (x + 1)


class Sqrt(Op):
    saves_output = True
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return ctx.xp.sqrt(x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, y: Any) -> Any:
        return g / (y * 2)


class Rsqrt(Op):
    saves_output = True
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return 1 / ctx.xp.sqrt(x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, y: Any) -> Any:
        return g * (y * y * y * -0.5)


class Abs(Op):
    saves = ((0,),)

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return ctx.xp.abs(x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        return g * xp.sign(x)


class Sin(Op):
    saves = ((0,),)
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return ctx.xp.sin(x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        return g * xp.cos(x)


class Cos(Op):
    saves = ((0,),)
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return ctx.xp.cos(x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        return -g * xp.sin(x)


class Tan(Op):
    saves_output = True
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return ctx.xp.tan(x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, y: Any) -> Any:
        return g * (y * y + 1)


class Tanh(Op):
    saves_output = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return ctx.xp.tanh(x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, y: Any) -> Any:
        return g * (1 - y * y)


class Sigmoid(Op):
    saves_output = True
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return ctx.kernels.special.sigmoid(x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, y: Any) -> Any:
        return g * (y * (1 - y))


class Erf(Op):
    saves = ((0,),)
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return ctx.kernels.special.erf(x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        return g * (xp.exp(-(x * x)) * (2 / math.sqrt(math.pi)))


class Clamp(Op):
    """Inputs: x, and each bound as a number or None."""

    name = "Clamp"
    saves = ((0,),)

    @staticmethod
    def forward(ctx: Node, x: Array, low: Any, high: Any) -> Array:
        if low is not None:
            x = ctx.xp.maximum(x, low)
        return x if high is None else ctx.xp.minimum(x, high)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        low, high = ctx.params
        inside = None if low is None else x >= low
        if high is not None:
            inside = x <= high if inside is None else xp.logical_and(inside, x <= high)
        return xp.where(inside, g, xp.zeros_like(g))


class Where(Op):
    """Inputs: the condition, and two operands of one dtype (either may be a number)."""

    saves = ((), (0,), (0,))
    broadcasts = True

    @staticmethod
    def forward(ctx: Node, condition: Array, x: Array, y: Array) -> Array:
        return ctx.xp.where(condition, x, y)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, condition: Any) -> Any:
        zero = xp.zeros_like(g)
        return (
            None,
            xp.where(condition, g, zero) if ctx.needs[1] else None,
            xp.where(condition, zero, g) if ctx.needs[2] else None,
        )


@op(inplace=True)
def exp(input: "Tensor") -> "Tensor":
    """e to the power of each element."""
    return apply1(Exp, floating(input, "exp"))


@op(inplace=True)
def expm1(input: "Tensor") -> "Tensor":
    """``exp(input) - 1``, exact near 0."""
    return apply1(Expm1, floating(input, "expm1"))


@op(inplace=True)
def exp2(input: "Tensor") -> "Tensor":
    """2 to the power of each element."""
    return apply1(Exp, floating(input, "exp2") * math.log(2.0))


@op(inplace=True)
def log(input: "Tensor") -> "Tensor":
    """The natural logarithm; -inf at 0, nan below."""
    return apply1(Log, floating(input, "log"))


@op(inplace=True)
def log1p(input: "Tensor") -> "Tensor":
    """``log(1 + input)``, exact near 0."""
    return apply1(Log1p, floating(input, "log1p"))


@op(inplace=True)
def log2(input: "Tensor") -> "Tensor":
    """The logarithm to base 2."""
    return apply1(Log, floating(input, "log2")) * (1 / math.log(2.0))


@op(inplace=True)
def log10(input: "Tensor") -> "Tensor":
    """The logarithm to base 10."""
    return apply1(Log, floating(input, "log10")) * (1 / math.log(10.0))


@op(inplace=True)
def sqrt(input: "Tensor") -> "Tensor":
    """The square root; nan below 0."""
    return apply1(Sqrt, floating(input, "sqrt"))


@op(inplace=True)
def rsqrt(input: "Tensor") -> "Tensor":
    """``1 / sqrt(input)``."""
    return apply1(Rsqrt, floating(input, "rsqrt"))


@op(inplace=True)
def abs(input: "Tensor") -> "Tensor":
    """The absolute value; the gradient at 0 is 0."""
    return apply1(Abs, input)


@op(inplace=True)
def square(input: "Tensor") -> "Tensor":
    """``input * input``; bools count as integers."""
    t = tensor_of(input, "square")
    t = cast(t, "int64") if t._data.dtype == "bool" else t
    return binary(Mul, t, t)


@op(inplace=True)
def sin(input: "Tensor") -> "Tensor":
    """The sine."""
    return apply1(Sin, floating(input, "sin"))


@op(inplace=True)
def cos(input: "Tensor") -> "Tensor":
    """The cosine."""
    return apply1(Cos, floating(input, "cos"))


@op(inplace=True)
def tan(input: "Tensor") -> "Tensor":
    """The tangent."""
    return apply1(Tan, floating(input, "tan"))


@op(inplace=True)
def tanh(input: "Tensor") -> "Tensor":
    """The hyperbolic tangent."""
    return apply1(Tanh, floating(input, "tanh"))


@op(inplace=True)
def sinh(input: "Tensor") -> "Tensor":
    """The hyperbolic sine."""
    x = floating(input, "sinh")
    return (exp(x) - exp(-x)) * 0.5


@op(inplace=True)
def cosh(input: "Tensor") -> "Tensor":
    """The hyperbolic cosine."""
    x = floating(input, "cosh")
    return (exp(x) + exp(-x)) * 0.5


@op(inplace=True)
def sigmoid(input: "Tensor") -> "Tensor":
    """``1 / (1 + exp(-input))``."""
    return apply1(Sigmoid, floating(input, "sigmoid"))


@op(inplace=True)
def erf(input: "Tensor") -> "Tensor":
    """The error function."""
    return apply1(Erf, floating(input, "erf"))


@op(inplace=True)
def clamp(input: "Tensor", min: Any = None, max: Any = None) -> "Tensor":
    """Each element moved into [min, max]; a bound may be a number, a tensor or None. `max` wins where the two cross.

    Raises:
        ValueError: both bounds are None.
    """
    if min is None and max is None:
        raise ValueError("clamp: expected at least one of min and max, got neither")
    if isinstance(min, TensorBase) or isinstance(max, TensorBase):
        return _clamp_to_tensors(input, min, max)
    dtype = result_dtype((input, *(b for b in (min, max) if b is not None)))
    low, high = (None if bound is None else weak(bound, dtype) for bound in (min, max))
    return apply1(Clamp, cast(input, dtype), low, high)


def _clamp_to_tensors(x: Any, low: Any, high: Any) -> "Tensor":
    # The gradient of an element on a bound goes to the element, as in torch: hence where(), and not maximum().
    if low is not None:
        x = where(x < low, low, x)
    result: Tensor = x if high is None else where(x > high, high, x)
    return result


@op()
def where(condition: "Tensor", input: Any = None, other: Any = None) -> Any:
    """``input`` where the condition holds, `other` elsewhere; all three are broadcast.

    With the condition alone: the indices of its true elements, as `nonzero(as_tuple=True)`.
    """
    condition = tensor_of(condition, "where")
    if input is None and other is None:
        backend = backend_of(condition._data)
        return tuple(wrap_result(i, condition._data) for i in backend.xp.nonzero(condition._data))
    a, b = operand(input, "where"), operand(other, "where")
    tensors = [t for t in (a, b) if isinstance(t, TensorBase)]
    if not tensors:
        a = number_tensor(a, condition)
    dtype = result_dtype((a, b))
    a, b = (cast(t, dtype) if isinstance(t, TensorBase) else dtype.type(t) for t in (a, b))
    try:
        return apply(Where, (condition, a, b))
    except ValueError:
        raise mismatch("where", *(raw(t) for t in (condition, a, b) if isinstance(t, TensorBase))) from None


def _predicate(input: Any, name: str) -> Any:
    t = tensor_of(input, name)
    return t, backend_of(t._data).xp


@op(differentiable=False)
def isnan(input: "Tensor") -> "Tensor":
    """Whether each element is nan."""
    t, xp = _predicate(input, "isnan")
    return wrap_result(xp.isnan(t._data), t._data)


@op(differentiable=False)
def isinf(input: "Tensor") -> "Tensor":
    """Whether each element is inf or -inf."""
    t, xp = _predicate(input, "isinf")
    return wrap_result(xp.isinf(t._data), t._data)


@op(differentiable=False)
def isfinite(input: "Tensor") -> "Tensor":
    """Whether each element is neither nan nor infinite."""
    t, xp = _predicate(input, "isfinite")
    return wrap_result(xp.isfinite(t._data), t._data)
