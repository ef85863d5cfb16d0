"""Inverse trigonometric and hyperbolic functions, angles, and the hypotenuse."""

import math
from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._node import Node
from ..autograd._op import Op, apply1
from ._common import binary, floating
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


class Asin(Op):
    saves = ((0,),)
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return ctx.xp.arcsin(x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        return g / xp.sqrt(1 - x * x)


class Acos(Op):
    saves = ((0,),)
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return ctx.xp.arccos(x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        return -g / xp.sqrt(1 - x * x)


class Atan(Op):
    saves = ((0,),)

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return ctx.xp.arctan(x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        return g / (x * x + 1)


class Asinh(Op):
    saves = ((0,),)

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return ctx.xp.arcsinh(x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        return g / xp.sqrt(x * x + 1)


class Acosh(Op):
    saves = ((0,),)
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return ctx.xp.arccosh(x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        return g / xp.sqrt(x * x - 1)


class Atanh(Op):
    saves = ((0,),)
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return ctx.xp.arctanh(x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        return g / (1 - x * x)


class Atan2(Op):
    """Inputs: the height, and the width."""

    saves = ((0, 1), (0, 1))
    broadcasts = True
    quiet = True

    @staticmethod
    def forward(ctx: Node, y: Array, x: Array) -> Array:
        return ctx.xp.arctan2(y, x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, y: Any, x: Any) -> Any:
        share = g / (x * x + y * y)
        return share * x if ctx.needs[0] else None, -share * y if ctx.needs[1] else None


class Hypot(Op):
    saves = ((0,), (1,))
    saves_output = True
    broadcasts = True
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, y: Array) -> Array:
        return ctx.xp.hypot(x, y)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any, out: Any) -> Any:
        return g * (x / out) if ctx.needs[0] else None, g * (y / out) if ctx.needs[1] else None


@op(inplace=True)
def asin(input: "Tensor") -> "Tensor":
    """The arc sine, in radians; nan outside [-1, 1]."""
    return apply1(Asin, floating(input, "asin"))


@op(inplace=True)
def acos(input: "Tensor") -> "Tensor":
    """The arc cosine, in radians; nan outside [-1, 1]."""
    return apply1(Acos, floating(input, "acos"))


@op(inplace=True)
def atan(input: "Tensor") -> "Tensor":
    """The arc tangent, in radians."""
    return apply1(Atan, floating(input, "atan"))


@op(inplace=True)
def asinh(input: "Tensor") -> "Tensor":
    """The inverse of `sinh`."""
    return apply1(Asinh, floating(input, "asinh"))


@op(inplace=True)
def acosh(input: "Tensor") -> "Tensor":
    """The inverse of `cosh`; nan below 1."""
    return apply1(Acosh, floating(input, "acosh"))


@op(inplace=True)
def atanh(input: "Tensor") -> "Tensor":
    """The inverse of `tanh`; nan outside [-1, 1]."""
    return apply1(Atanh, floating(input, "atanh"))


@op(inplace=True)
def atan2(input: "Tensor", other: "Tensor") -> "Tensor":
    """The angle of the point (other, input), in radians from -pi to pi; the two are broadcast."""
    return binary(Atan2, floating(input, "atan2"), floating(other, "atan2"))


@op(inplace=True)
def hypot(input: "Tensor", other: "Tensor") -> "Tensor":
    """``sqrt(input**2 + other**2)`` without overflow, broadcast."""
    return binary(Hypot, floating(input, "hypot"), floating(other, "hypot"))


@op(inplace=True)
def deg2rad(input: "Tensor") -> "Tensor":
    """Degrees as radians."""
    return floating(input, "deg2rad") * (math.pi / 180)


@op(inplace=True)
def rad2deg(input: "Tensor") -> "Tensor":
    """Radians as degrees."""
    return floating(input, "rad2deg") * (180 / math.pi)
