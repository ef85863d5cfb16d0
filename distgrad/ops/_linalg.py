"""Products of matrices."""

from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._node import Node
from ..autograd._op import Op, apply2
from ..errors import ShapeError
from ._common import need_same_dtype, tensor_of
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


class Mm(Op):
    """A product of stacks of matrices, both of two dimensions or more; the leading ones are broadcast."""

    saves = ((1,), (0,))
    broadcasts = True

    @staticmethod
    def forward(ctx: Node, x: Array, y: Array) -> Array:
        return ctx.xp.matmul(x, y)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        gx = xp.matmul(g, xp.swapaxes(y, -1, -2)) if ctx.needs[0] else None
        gy = xp.matmul(xp.swapaxes(x, -1, -2), g) if ctx.needs[1] else None
        return gx, gy


@op()
def matmul(input: "Tensor", other: "Tensor") -> "Tensor":
    """The matrix product, as ``@``: vectors count as a row on the left and a column on the right; leading dimensions are broadcast.

    Args:
        input: (..., n, k) or (k,).
        other: (..., k, m) or (k,).

    Raises:
        ShapeError: the inner sizes differ, or the leading ones cannot be broadcast.
        DTypeError: the dtypes differ.
    """
    a, b = tensor_of(input, "matmul"), tensor_of(other, "matmul")
    need_same_dtype("matmul", input=a, other=b)
    x, y = a._data, b._data
    if x.ndim == 0 or y.ndim == 0 or x.shape[-1] != y.shape[0 if y.ndim == 1 else -2]:
        raise ShapeError(
            f"matmul: the shapes {list(x.shape)} and {list(y.shape)} cannot be multiplied: expected (..., n, k) and (..., k, m) with the same k"
        )
    left = a if x.ndim > 1 else a.unsqueeze(0)
    right = b if y.ndim > 1 else b.unsqueeze(1)
    try:
        result = apply2(Mm, left, right)
    except ValueError:
        raise ShapeError(f"matmul: the leading dimensions of {list(x.shape)} and {list(y.shape)} cannot be broadcast together") from None
    if x.ndim == 1:
        result = result.squeeze(-2)
    return result.squeeze(-1) if y.ndim == 1 else result  # type: ignore[no-any-return]
