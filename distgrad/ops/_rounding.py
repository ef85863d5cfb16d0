"""Piecewise constant functions of one tensor: signs and roundings, whose gradient is 0."""

from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._node import Node
from ..autograd._op import Op, apply1
from ._common import tensor_of
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


class _Rounding(Op):
    """Piecewise constant functions: their gradient is 0, and flows."""

    @staticmethod
    def forward(ctx: Node, x: Array, kind: str) -> Array:
        if x.dtype.kind == "b" or (x.dtype.kind in "iu" and kind != "sign"):
            return x.copy()
        functions = {
            "sign": ctx.xp.sign,
            "floor": ctx.xp.floor,
            "ceil": ctx.xp.ceil,
            "trunc": ctx.xp.trunc,
            "round": ctx.xp.rint,
        }
        return functions[kind](x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return xp.zeros_like(g)


class Sign(_Rounding):
    pass


class Floor(_Rounding):
    pass


class Ceil(_Rounding):
    pass


class Trunc(_Rounding):
    pass


class Round(_Rounding):
    pass


@op(inplace=True)
def sign(input: "Tensor") -> "Tensor":
    """-1, 0 or 1; a bool is its own sign."""
    return apply1(Sign, tensor_of(input, "sign"), "sign")


@op(inplace=True)
def floor(input: "Tensor") -> "Tensor":
    """The largest whole number that is not larger."""
    return apply1(Floor, input, "floor")


@op(inplace=True)
def ceil(input: "Tensor") -> "Tensor":
    """The smallest whole number that is not smaller."""
    return apply1(Ceil, input, "ceil")


@op(inplace=True)
def trunc(input: "Tensor") -> "Tensor":
    """The whole part, towards zero."""
    return apply1(Trunc, input, "trunc")


@op(inplace=True)
def round(input: "Tensor", *, decimals: int = 0) -> "Tensor":
    """The nearest number with so many decimals; halves go to the even neighbour."""
    if decimals == 0:
        return apply1(Round, input, "round")
    scale = 10.0**decimals
    return apply1(Round, input * scale, "round") / scale
