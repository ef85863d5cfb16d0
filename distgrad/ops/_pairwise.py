"""Less common functions of two tensors, element by element, with broadcasting."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .._typing import Array
from ..autograd._base import TensorBase, wrap_result
from ..autograd._node import Node
from ..autograd._op import Op, result_dtype
from ..backend import OF_NUMPY, backend_of, get_default_dtype
from ..errors import DTypeError
from ._arithmetic import mul, pow, sub
from ._common import binary, cast, floating, mismatch, need_same_dtype, number_tensor, operand, tensor_of
from ._rounding import floor
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


class Fmax(Op):
    """The gradient goes to the first where the two are equal."""

    saves = ((0, 1), (0, 1))
    broadcasts = True
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, y: Array) -> Array:
        return ctx.xp.fmax(x, y)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        return _chosen(xp, ctx, g, x >= y, y)


class Fmin(Op):
    """The gradient goes to the first where the two are equal."""

    saves = ((0, 1), (0, 1))
    broadcasts = True
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, y: Array) -> Array:
        return ctx.xp.fmin(x, y)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        return _chosen(xp, ctx, g, x <= y, y)


def _chosen(xp: Any, ctx: Node, g: Any, wins: Any, y: Any) -> Any:
    first = xp.logical_not(xp.logical_and(y == y, xp.logical_not(wins)))  # it wins, or the second is nan
    zero = xp.zeros_like(g)
    return xp.where(first, g, zero) if ctx.needs[0] else None, xp.where(first, zero, g) if ctx.needs[1] else None


class Copysign(Op):
    saves = ((0,), ())
    saves_output = True
    broadcasts = True

    @staticmethod
    def forward(ctx: Node, x: Array, y: Array) -> Array:
        return ctx.xp.copysign(x, y)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, out: Any) -> Any:
        return g * (xp.sign(x) * xp.sign(out)) if ctx.needs[0] else None, xp.zeros_like(g)


class Logaddexp(Op):
    saves = ((0, 1), (0, 1))
    broadcasts = True
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, y: Array) -> Array:
        return ctx.xp.logaddexp(x, y)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        return g * xp.sigmoid(x - y) if ctx.needs[0] else None, g * xp.sigmoid(y - x) if ctx.needs[1] else None


class Logaddexp2(Op):
    saves = ((0, 1), (0, 1))
    broadcasts = True
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, y: Array) -> Array:
        return ctx.xp.logaddexp2(x, y)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        distance = xp.astype((x - y) * math.log(2.0), g.dtype)
        return (
            g * xp.sigmoid(distance) if ctx.needs[0] else None,
            g * xp.sigmoid(-distance) if ctx.needs[1] else None,
        )


class Xlogy(Op):
    saves = ((0, 1), (0, 1))
    broadcasts = True
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, y: Array) -> Array:
        product = x * ctx.xp.log(y)
        return ctx.xp.where((x == 0) & (y == y), product.dtype.type(0), product)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        gx = None
        if ctx.needs[0]:
            y = xp.ones_like(g) * y
            nothing = xp.logical_and(x == 0, y <= 0)
            gx = g * xp.log(xp.where(nothing, xp.ones_like(y), y))
        return gx, g * x / y if ctx.needs[1] else None


class Nextafter(Op):
    saves = ((0, 1), ())
    broadcasts = True
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, y: Array) -> Array:
        return ctx.xp.nextafter(x, y)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        zero = xp.zeros_like(g)
        return xp.where(x == y, zero, g) if ctx.needs[0] else None, zero


def _floats(function: Any, name: str, a: Any, b: Any) -> "Tensor":
    """A function of two operands, with integers as floating-point numbers; one of the two may be a number."""
    a, b = operand(a, name), operand(b, name)
    given = [t for t in (a, b) if isinstance(t, TensorBase)]
    if not given:
        raise TypeError(f"{name}: expected at least one Tensor, got {type(a).__name__} and {type(b).__name__}")
    a, b = (t if isinstance(t, TensorBase) else number_tensor(t, given[0]) for t in (a, b))
    dtype = result_dtype((a, b))
    if dtype.kind in "biu":
        dtype = get_default_dtype().numpy
    return binary(function, cast(a, dtype), cast(b, dtype))


def _pair(name: str, a: Any, b: Any) -> tuple[Any, Any]:
    """Two tensors in their common dtype."""
    a, b = tensor_of(a, name), tensor_of(b, name)
    dtype = result_dtype((a, b))
    return cast(a, dtype), cast(b, dtype)


def _plain(name: str, function: Callable[[Any, Any], Any], a: Any, b: Any) -> "Tensor":
    """A result without gradient."""
    try:
        with backend_of(a._data).quiet():
            return wrap_result(function(a._data, b._data), a._data)
    except ValueError:
        raise mismatch(name, a._data, b._data) from None


@op()
def fmax(input: "Tensor", other: "Tensor") -> "Tensor":
    """The larger of two; where one is nan, the other."""
    return binary(Fmax, tensor_of(input, "fmax"), tensor_of(other, "fmax"))


@op()
def fmin(input: "Tensor", other: "Tensor") -> "Tensor":
    """The smaller of two; where one is nan, the other."""
    return binary(Fmin, tensor_of(input, "fmin"), tensor_of(other, "fmin"))


@op(inplace=True)
def copysign(input: "Tensor", other: Any) -> "Tensor":
    """The absolute value of `input` with the sign of `other`, a tensor or a number."""
    return _floats(Copysign, "copysign", input, other)


@op()
def logaddexp(input: "Tensor", other: "Tensor") -> "Tensor":
    """``log(exp(input) + exp(other))`` without overflow."""
    return binary(Logaddexp, floating(input, "logaddexp"), floating(other, "logaddexp"))


@op()
def logaddexp2(input: "Tensor", other: "Tensor") -> "Tensor":
    """``log2(2**input + 2**other)`` without overflow."""
    return binary(Logaddexp2, floating(input, "logaddexp2"), floating(other, "logaddexp2"))


@op(inplace=True)
def xlogy(input: Any, other: Any) -> "Tensor":
    """``input * log(other)``, and 0 where `input` is 0 (unless `other` is nan); either may be a number."""
    return _floats(Xlogy, "xlogy", input, other)


@op(inplace=True)
def ldexp(input: "Tensor", other: "Tensor") -> "Tensor":
    """``input * 2**other``."""
    x, exponent = floating(input, "ldexp"), tensor_of(other, "ldexp")
    if exponent._data.dtype.kind in "biu":
        exponent = cast(exponent, x._data.dtype)
    half = floor(exponent * 0.5)  # in two steps, because 2**other alone may overflow
    return mul(mul(x, pow(2.0, half)), pow(2.0, exponent - half))


@op(inplace=True)
def float_power(input: Any, exponent: Any) -> "Tensor":
    """``input ** exponent`` in float64 (complex128 if either is complex); either may be a number."""
    operands = operand(input, "float_power"), operand(exponent, "float_power")
    dtype = np.dtype("complex128" if result_dtype(operands).kind == "c" else "float64")
    return pow(*(cast(t, dtype) if isinstance(t, TensorBase) else t for t in operands))


@op(method=False)
def rsub(input: "Tensor", other: Any, *, alpha: Any = 1) -> "Tensor":
    """``other - alpha * input``."""
    return sub(other, input, alpha=alpha)


@op(differentiable=False, inplace=True)
def heaviside(input: "Tensor", values: "Tensor") -> "Tensor":
    """0 below 0, 1 above, and `values` at 0; both have one dtype."""
    a, b = tensor_of(input, "heaviside"), tensor_of(values, "heaviside")
    need_same_dtype("heaviside", input=a, values=b)
    xp = backend_of(a._data).xp
    return _plain("heaviside", lambda x, y: xp.where(x == 0, y, (x > 0).astype(x.dtype)), a, b)


@op(inplace=True)
def nextafter(input: "Tensor", other: "Tensor") -> "Tensor":
    """The floating-point number that follows `input` in the direction of `other`."""
    a, b = _pair("nextafter", input, other)
    if a._data.dtype.kind in "biu":
        raise DTypeError(f"nextafter: expected a floating-point dtype, got {OF_NUMPY[a._data.dtype]}")
    return binary(Nextafter, a, b)


def _integers(name: str, input: Any, other: Any) -> tuple[Any, Any]:
    a, b = _pair(name, input, other)
    if a._data.dtype.kind not in "iu":
        raise DTypeError(f"{name}: expected an integer dtype, got {OF_NUMPY[a._data.dtype]}")
    return a, b


@op(differentiable=False, inplace=True)
def gcd(input: "Tensor", other: "Tensor") -> "Tensor":
    """The greatest common divisor of integers; that of 0 and 0 is 0."""
    a, b = _integers("gcd", input, other)
    return _plain("gcd", backend_of(a._data).xp.gcd, a, b)


@op(differentiable=False, inplace=True)
def lcm(input: "Tensor", other: "Tensor") -> "Tensor":
    """The least common multiple of integers, not negative."""
    a, b = _integers("lcm", input, other)
    return _plain("lcm", backend_of(a._data).xp.lcm, a, b)
