"""Activation functions that are piecewise linear or made of a few elementary functions."""

from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._inplace import replace_values
from ..autograd._node import Node
from ..autograd._op import Op, apply1
from ._common import tensor_of
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


def maybe_inplace(input: Any, result: "Tensor", inplace: bool, name: str) -> "Tensor":
    """`result`; with `inplace`, `input` after it took its values and its history."""
    return replace_values(input, result, name) if inplace else result


class Relu(Op):
    saves_output = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return ctx.xp.maximum(x, 0)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, y: Any) -> Any:
        return g * (y > 0)


@op(inplace=True)
def relu(input: "Tensor", inplace: bool = False) -> "Tensor":
    """``max(input, 0)``; the gradient at 0 is 0.

    Args:
        input: a tensor of any shape.
        inplace: write the result into `input`.
    """
    result = apply1(Relu, tensor_of(input, "relu"))
    return replace_values(input, result, "relu_") if inplace else result
