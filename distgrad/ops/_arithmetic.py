"""Arithmetic with broadcasting: two operands, each a tensor or a Python number."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .._typing import Array
from ..autograd._base import TensorBase, wrap_result
from ..autograd._node import Node
from ..autograd._op import Op, apply1, raw, result_dtype
from ..backend import Backend, backend_of, get_default_dtype
from ..errors import DTypeError
from ._common import binary, cast, floating, mismatch, operand, tensor_of
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


class Add(Op):
    broadcasts = True

    @staticmethod
    def forward(ctx: Node, x: Array, y: Array) -> Array:
        return x + y

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return g, g


class Sub(Op):
    broadcasts = True

    @staticmethod
    def forward(ctx: Node, x: Array, y: Array) -> Array:
        return x - y

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return g, -g if ctx.needs[1] else None


class Mul(Op):
    saves = ((1,), (0,))
    broadcasts = True

    @staticmethod
    def forward(ctx: Node, x: Array, y: Array) -> Array:
        return x * y

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        return g * y if ctx.needs[0] else None, g * x if ctx.needs[1] else None


class Div(Op):
    saves = ((1,), (0, 1))
    broadcasts = True
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, y: Array) -> Array:
        return x / y

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        share = g / y
        return share, -share * (x / y) if ctx.needs[1] else None


class DivFloor(Op):
    """The quotient rounded towards minus infinity: piecewise constant."""

    name = "Div"
    broadcasts = True
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, y: Array) -> Array:
        return ctx.xp.floor_divide(x, y)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        zero = xp.zeros_like(g)
        return zero, zero


class DivTrunc(DivFloor):
    """The quotient rounded towards zero."""

    name = "Div"

    @staticmethod
    def forward(ctx: Node, x: Array, y: Array) -> Array:
        if ctx.xp.result_type(x, y).kind not in "biu":
            return ctx.xp.trunc(x / y)
        whole = ctx.xp.floor_divide(x, y)
        return whole + ((whole < 0) & (whole * y != x))


class Pow(Op):
    saves = ((0, 1), (0, 1))
    broadcasts = True
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, y: Array) -> Array:
        if y.__class__ is not int and y.__class__ is not float:
            return _integer_power(ctx.xp, x, y) if y.dtype.kind == "i" else x**y
        if y == 2:
            return x * x
        return ctx.xp.sqrt(x) if y == 0.5 else x**y

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        gx = gy = None
        if ctx.needs[0]:
            gx = _power_gradient(xp, g, x, y)
        if ctx.needs[1]:
            base = xp.ones_like(y) * x
            safe = xp.where(base == 0, xp.ones_like(base), base)
            gy = g * base**y * xp.where(base == 0, xp.zeros_like(base), xp.log(safe))
        return gx, gy


def _integer_power(xp: Any, x: Any, y: Array) -> Array:
    """Powers of integers; to a negative power they are 0, but for 1 and -1."""
    x = xp.asarray(x, dtype=y.dtype)
    return xp.where(y < 0, xp.where(x * x == 1, x ** (y & 1), 0), x ** xp.maximum(y, 0))


def _power_gradient(xp: Any, g: Any, x: Any, y: Any) -> Any:
    if isinstance(y, (int, float)):
        if y == 0:
            return xp.zeros_like(g)
        return g * (x * y) if y == 2 else g * (x ** (y - 1) * y)
    return xp.where(y == 0, xp.zeros_like(g * y), g * y * x ** (y - 1))


class Maximum(Op):
    saves = ((0, 1), (0, 1))
    broadcasts = True

    @staticmethod
    def forward(ctx: Node, x: Array, y: Array) -> Array:
        return ctx.xp.maximum(x, y)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        return _share(xp, ctx, g, x > y, x == y)


class Minimum(Op):
    saves = ((0, 1), (0, 1))
    broadcasts = True

    @staticmethod
    def forward(ctx: Node, x: Array, y: Array) -> Array:
        return ctx.xp.minimum(x, y)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        return _share(xp, ctx, g, x < y, x == y)


def _share(xp: Any, ctx: Node, g: Any, first: Any, tie: Any) -> Any:
    """The gradient to where the result came from, and half to each side of a tie, as torch does."""
    zero, half = xp.zeros_like(g), g * 0.5
    gx = xp.where(first, g, xp.where(tie, half, zero)) if ctx.needs[0] else None
    gy = xp.where(first, zero, xp.where(tie, half, g)) if ctx.needs[1] else None
    return gx, gy


class Remainder(Op):
    saves = ((), (0, 1))
    broadcasts = True
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, y: Array) -> Array:
        return ctx.xp.remainder(x, y)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        return g, -g * xp.floor(x / y) if ctx.needs[1] else None


class Fmod(Op):
    saves = ((), (0, 1))
    broadcasts = True
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, y: Array) -> Array:
        return ctx.xp.fmod(x, y)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        ratio = x / y if ctx.needs[1] else None
        return g, None if ratio is None else -g * (xp.sign(ratio) * xp.floor(xp.abs(ratio)))


class Neg(Op):
    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return -x

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return -g


def _scaled(other: Any, alpha: Any) -> Any:
    return other * alpha


@op(inplace=True)
def add(input: "Tensor", other: Any, *, alpha: Any = 1) -> "Tensor":
    """``input + alpha * other``, broadcast; the dtype is torch's common one."""
    return binary(Add, input, other if alpha == 1 else _scaled(other, alpha))


@op(inplace=True)
def sub(input: "Tensor", other: Any, *, alpha: Any = 1) -> "Tensor":
    """``input - alpha * other``, broadcast.

    Raises:
        DTypeError: both are bool; use ``^`` or ``logical_xor``.
    """
    if result_is_bool(input, other):
        raise DTypeError("sub: subtraction of two bool tensors is not defined; use ^ or logical_xor()")
    return binary(Sub, input, other if alpha == 1 else _scaled(other, alpha))


def result_is_bool(a: Any, b: Any) -> bool:
    """Whether both operands are bools."""
    return all(x.dtype == np.bool_ if hasattr(x, "ndim") else isinstance(x, bool) for x in (raw(a), raw(b)))


@op(inplace=True)
def mul(input: "Tensor", other: Any) -> "Tensor":
    """``input * other``, broadcast."""
    return binary(Mul, input, other)


@op(inplace=True)
def div(input: "Tensor", other: Any, *, rounding_mode: str | None = None) -> "Tensor":
    """``input / other``, broadcast. Integers give the default floating-point dtype, unless `rounding_mode` is given.

    Args:
        input, other: tensors or numbers.
        rounding_mode: None (true division), ``"trunc"`` (towards zero) or ``"floor"``.
    """
    if rounding_mode is None:
        return _true_divide(input, other)
    if rounding_mode == "floor":
        return binary(DivFloor, input, other)
    if rounding_mode == "trunc":
        return binary(DivTrunc, input, other)
    raise ValueError(f"div: expected rounding_mode None, 'trunc' or 'floor', got {rounding_mode!r}")


def _true_divide(input: Any, other: Any) -> "Tensor":
    a, b = operand(input, "div"), operand(other, "div")
    if isinstance(a, TensorBase) and a._data.dtype.kind in "fV" and (b.__class__ is float or b.__class__ is int):
        return binary(Div, a, b)
    dtype = result_dtype((a, b))
    if dtype.kind in "biu":
        dtype = get_default_dtype().numpy
    return binary(Div, _as(a, dtype), _as(b, dtype))


def _as(a: Any, dtype: Any) -> Any:
    return cast(a, dtype) if isinstance(a, TensorBase) else dtype.type(a).item()


def _backend(t: Any) -> Backend:
    return backend_of(t._data)


def _xp(t: Any) -> Any:
    return _backend(t).xp


def _need_no_zero(name: str, a: Any, b: Any) -> None:
    """Integers have no value for a division by 0, which NumPy would answer with 0."""
    y = raw(b)
    if result_dtype((a, b)).kind in "iu" and not (y.all() if isinstance(b, TensorBase) else y):
        raise RuntimeError(
            f"ZeroDivisionError: {name}: an integer is divided by 0; convert with .float() for inf or nan"
        )


def _plain(value: Any, like: Any) -> "Tensor":
    """A result through which no gradient flows."""
    return wrap_result(value, like._data)


@op(inplace=True)
def floor_divide(input: "Tensor", other: Any) -> "Tensor":
    """``input // other``: the quotient rounded towards minus infinity. No gradient flows through it."""
    a, b = operand(input, "floor_divide"), operand(other, "floor_divide")
    _need_no_zero("floor_divide", a, b)
    dtype = result_dtype((a, b))
    t = a if isinstance(a, TensorBase) else b
    x, y = (_xp(t).asarray(raw(v), dtype=dtype) for v in (a, b))
    try:
        with _backend(t).quiet():
            return _plain(_xp(t).floor_divide(x, y), t)
    except ValueError:
        raise mismatch("floor_divide", x, y) from None


@op(inplace=True)
def remainder(input: "Tensor", other: Any) -> "Tensor":
    """``input % other``: the remainder has the sign of `other`, as Python's."""
    a, b = operand(input, "remainder"), operand(other, "remainder")
    _need_no_zero("remainder", a, b)
    return binary(Remainder, a, b)


@op(inplace=True)
def fmod(input: "Tensor", other: Any) -> "Tensor":
    """The remainder of the division rounded towards zero: it has the sign of `input`, as C's."""
    a, b = operand(input, "fmod"), operand(other, "fmod")
    _need_no_zero("fmod", a, b)
    return binary(Fmod, a, b)


@op(inplace=True)
def pow(input: Any, exponent: Any) -> "Tensor":
    """``input ** exponent``, broadcast; either may be a number."""
    if isinstance(input, TensorBase) and isinstance(exponent, int) and exponent < 0 and input._data.dtype.kind in "iu":
        raise DTypeError("pow: integers to negative integer powers are not allowed; convert with .float() first")
    return binary(Pow, input, exponent)


@op()
def maximum(input: "Tensor", other: "Tensor") -> "Tensor":
    """The larger of two, elementwise; nan where either is. The gradient of a tie is shared."""
    return binary(Maximum, tensor_of(input, "maximum"), tensor_of(other, "maximum"))


@op()
def minimum(input: "Tensor", other: "Tensor") -> "Tensor":
    """The smaller of two, elementwise; nan where either is. The gradient of a tie is shared."""
    return binary(Minimum, tensor_of(input, "minimum"), tensor_of(other, "minimum"))


@op(inplace=True)
def neg(input: "Tensor") -> "Tensor":
    """``-input``.

    Raises:
        DTypeError: the input is bool; use ``~``.
    """
    if tensor_of(input, "neg")._data.dtype == np.bool_:
        raise DTypeError("neg: negation of a bool tensor is not defined; use ~ or logical_not()")
    return apply1(Neg, input)


@op(inplace=True)
def reciprocal(input: "Tensor") -> "Tensor":
    """``1 / input``."""
    return binary(Div, 1.0, floating(input, "reciprocal"))
