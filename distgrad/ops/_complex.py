"""What complex tensors need beyond arithmetic."""

from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._node import Node
from ..autograd._op import Op, apply1
from ._common import tensor_of
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


class Conj(Op):
    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return ctx.xp.conjugate(x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return xp.call(Conj, (g,))


@op()
def conj(input: "Tensor") -> "Tensor":
    """The complex conjugate; a real tensor itself."""
    t = tensor_of(input, "conj")
    return apply1(Conj, t) if t._data.dtype.kind == "c" else t
