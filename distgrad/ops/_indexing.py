"""Reading and writing parts of tensors."""

from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._base import TensorBase
from ..autograd._node import Node
from ..autograd._op import Op, apply1
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


class Index(Op):
    """``params = (index,)``: integer or boolean arrays among it, so the result is a copy."""

    @staticmethod
    def forward(ctx: Node, x: Array, index: Any) -> Array:
        return x[index]

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return xp.scatter(g, ctx.params[0], ctx.shapes[0])


class Slice(Index):
    """A basic index: the result is a view."""

    view = True


class Scatter(Op):
    """The adjoint of `Index`: ``params = (index, shape)``."""

    @staticmethod
    def forward(ctx: Node, values: Array, index: Any, shape: Any) -> Array:
        return ctx.backend.namespace.scatter(values, index, shape)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return xp.getitem(g, ctx.params[0])


def _raw_index(index: Any) -> tuple[Any, bool]:
    """An index with tensors replaced by arrays and lists by arrays, and whether it is a basic one."""
    parts = index if isinstance(index, tuple) else (index,)
    raw = tuple(p._data if isinstance(p, TensorBase) else p for p in parts)
    basic = all(p is None or p is Ellipsis or isinstance(p, slice) or (isinstance(p, int) and not isinstance(p, bool)) for p in raw)
    return raw, basic


@op(name="__getitem__")
def getitem(input: "Tensor", index: Any) -> "Tensor":
    """``input[index]``: ints, slices, None, Ellipsis (a view); boolean and integer tensors or arrays (a copy)."""
    raw, basic = _raw_index(index)
    return apply1(Slice if basic else Index, input, raw)  # type: ignore[no-any-return]
