"""Operations that write into a tensor: one definition serves the in-place form and the one that works on a copy."""

from collections.abc import Callable
from typing import Any, ClassVar

from .._typing import Array
from ..autograd._base import TensorBase, target_of
from ..autograd._inplace import check_writable, wrote
from ..autograd._mode import mode
from ..autograd._node import Node
from ..autograd._op import Op
from ..backend import backend_of
from ..errors import AutogradError, DeviceError


class WriteOp(Op):
    """An operation that overwrites parts of its first input.

    ``write(ctx, data, *others, *params)`` changes `data`; what backward needs of indices and masks is in `params`,
    and nothing is
    saved. ``forward`` does the same to a copy.
    """

    write: ClassVar[Callable[..., None]]

    @staticmethod
    def forward(ctx: Node, x: Array, *rest: Any) -> Array:
        result = ctx.xp.array(x)
        ctx.op.write(ctx, result, *rest)
        return result


def write_in_place(t: Any, op: Any, others: tuple[Any, ...] = (), params: tuple[Any, ...] = ()) -> Any:
    """Applies a `WriteOp` to the memory of `t`, without a copy of it, and records it.

    Args:
        t: the tensor that is written to.
        op: the `WriteOp`.
        others: the further inputs, tensors or numbers.
        params: the further arguments.

    Raises:
        AutogradError: `t` is a leaf that requires grad, or its memory cannot be written to.
    """
    check_writable(t)
    data = t._data
    if not backend_of(data).is_writable(data):
        raise AutogradError(
            f"{op.name}: cannot write to this tensor: it is expanded, where one element stands for "
            "several, or shows read-only memory; clone() it first"
        )
    node = Node(op, backend_of(data), params)
    arrays = tuple([o._data if isinstance(o, TensorBase) else o for o in others])
    edges: tuple[Any, ...] = ()
    if mode.grad:
        edges = (target_of(t), *[target_of(o) if isinstance(o, TensorBase) else None for o in others])
    for other in others:
        if isinstance(other, TensorBase) and other._data.__class__ is not data.__class__:
            raise DeviceError(f"{op.name}: expected all tensors on one device; move one with .to(device)")
    op.write(node, data, *arrays, *params)
    if any(e is not None for e in edges):
        needs = tuple([e is not None for e in edges])
        node.link(needs, (data.shape, *[getattr(a, "shape", None) for a in arrays]), edges, (), ())
        wrote(t, node)
    else:
        wrote(t, None)
    return t


def sum_to(xp: Any, g: Any, shape: tuple[int, ...]) -> Any:
    """The gradient of what was broadcast from `shape`, which may have more leading dimensions of size 1 than `g`."""
    if tuple(g.shape) == tuple(shape):
        return g
    core = tuple(shape[len(shape) - g.ndim :]) if len(shape) > g.ndim else tuple(shape)
    lead = g.ndim - len(core)
    axes = tuple(range(lead)) + tuple(i + lead for i, n in enumerate(core) if n == 1 and g.shape[i + lead] != 1)
    return xp.reshape(xp.sum(g, axis=axes, keepdims=True) if axes else g, tuple(shape))
