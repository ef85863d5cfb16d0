"""In-place operations in the graph, and views that follow what happens to their base.

An in-place write to a view v of a base b is, for the graph, two steps: the new v from the old one, and the new b,
which is the old b with v put in its place. All other views of b take their values from the new b from then on; they
notice by the history count in the shared cell.
"""

import weakref
from typing import Any

import numpy as np

from .._typing import Array
from ..backend import OF_NUMPY, backend_of
from ..errors import AutogradError, DTypeError, ShapeError
from ._base import LEAF_MARK, TensorBase, producer, register_view_sync, target_of
from ._mode import mode
from ._node import LEAF, Node
from ._op import Op


class _Region(Op):
    """A view's values, taken from its base: ``params = (places, shape of the base)``."""

    name = "AsStrided"

    @staticmethod
    def forward(ctx: Node, x: Array, places: Any, shape: Any) -> Array:
        return x.reshape(-1)[places]

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        places, shape = ctx.params
        size = int(np.prod(shape))
        return xp.reshape(xp.scatter(g, places, (size,)), shape)


class _PutRegion(Op):
    """A base with a view's region replaced: ``params = (places, shape of the base)``."""

    name = "CopySlices"

    @staticmethod
    def forward(ctx: Node, x: Array, v: Array, places: Any, shape: Any) -> Array:
        flat = x.reshape(-1).copy()
        flat[places] = v
        return flat.reshape(shape)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        places, shape = ctx.params
        size = int(np.prod(shape))
        inside = xp.getitem(xp.reshape(g, (size,)), places)
        rest = g - xp.reshape(xp.scatter(inside, places, (size,)), shape) if ctx.needs[0] else None
        return rest, inside


def _region(base: Array, view: Array) -> Array:
    """For each element of `view`, its flat position in `base`, whose memory it shares."""
    backend = backend_of(base)
    xp = backend.xp
    start = backend.address(view) - backend.address(base)
    offsets = xp.zeros((), dtype="int64") + start
    for axis, (n, stride) in enumerate(zip(view.shape, view.strides, strict=True)):
        steps = xp.arange(n, dtype="int64") * stride
        offsets = offsets + steps.reshape((-1,) + (1,) * (view.ndim - axis - 1))
    offsets = xp.broadcast_to(offsets, view.shape)
    # Byte offsets to coordinates, along the axes of the base from the longest stride to the shortest.
    flat = xp.zeros(view.shape, dtype="int64")
    contiguous = xp.cumprod(xp.asarray((1, *base.shape[:0:-1]), dtype="int64"))[::-1]
    for axis in sorted(range(base.ndim), key=lambda i: -base.strides[i]):
        if base.shape[axis] > 1 and base.strides[axis]:
            coordinate = offsets // base.strides[axis]
            offsets = offsets - coordinate * base.strides[axis]
            flat = flat + coordinate * contiguous[axis]
    return flat


def _sync_view(view: TensorBase) -> None:
    """Gives a view whose family's graph changed the target that its base now implies."""
    base = view._base
    assert base is not None
    view._get_extra().seen = view._cell[1]
    target = target_of(base)
    if target is None:
        _retarget(view, None)
        return
    node = Node(_Region, backend_of(view._data), (_region(base._data, view._data), base._data.shape))
    node.link((True,), (base._data.shape,), (target,), (), ())
    _retarget(view, node)


register_view_sync(_sync_view)


def _retarget(t: TensorBase, target: Any) -> None:
    """Gives `t` another place in the graph; a gradient that it retains is from now on that of its new values."""
    extra = t._extra
    if extra is not None and extra.retains_grad and t._target is not None:
        before, _ = producer(t._target)
        before.get_extra().retained = [entry for entry in before.get_extra().retained if entry[1]() is not t]
        if target is not None:
            node, index = producer(target)
            node.get_extra().retained.append((index, weakref.ref(t)))
    t._target = target


def check_writable(t: TensorBase) -> None:
    """Raises where torch forbids an in-place operation: on a leaf that requires grad, or a view of one, while
    recording."""
    if not isinstance(t, TensorBase):
        raise TypeError(
            f"expected a Tensor to write into, got {type(t).__name__}; make one with tensor() or from_numpy()"
        )
    if not mode.grad:
        return
    if t._target is LEAF_MARK:
        raise AutogradError(
            "a leaf Variable that requires grad is being used in an in-place operation; do it under no_grad(), on "
            ".data, or out of place"
        )
    if t._base is None:
        return
    if target_of(t) is None and target_of(t._base) is not None:
        raise AutogradError(
            "a view was created in no_grad mode and is being modified in place with grad mode enabled, which leaves "
            "open what its gradient is; make the view inside the same mode, or clone() it first"
        )
    if t._base._target is LEAF_MARK:
        raise AutogradError(
            "a view of a leaf Variable that requires grad is being used in an in-place operation; do it under "
            "no_grad(), or clone() first"
        )


def wrote(t: TensorBase, target: Any) -> None:
    """Records that `t` was written in place and, while recording, that its gradient now flows to `target` (None:
    nowhere)."""
    cell = t._cell
    cell[0] += 1
    base = t._base
    if not mode.grad or (target is None and t._target is None and (base is None or base._target is None)):
        return
    cell[1] += 1
    if base is None:
        _retarget(t, target)
        return
    node = Node(_PutRegion, backend_of(t._data), (_region(base._data, t._data), base._data.shape))
    edges = (target_of(base), target)
    needs = (edges[0] is not None, edges[1] is not None)
    if any(needs):
        node.link(needs, (base._data.shape, t._data.shape), edges, (), ())
        _retarget(base, node)
    _sync_view(t)


def _keep_originals(target: Any, t: TensorBase, since: int | None) -> None:
    """Gives the nodes of an in-place operation on `t` copies of what they saved of the memory that it overwrites.

    Args:
        target: the end of the operation's graph.
        t: the tensor, not yet overwritten.
        since: its nodes are younger than this; None looks only at the last.
    """
    data, copy = t._data, None
    stack = [producer(target)[0]]
    while stack:
        node = stack.pop()
        if node.saved.__class__ is not tuple:  # it is computed again, when nothing is overwritten yet
            node.cells = tuple(cell for cell in node.cells if cell is not t._cell)
            node.versions = sum(cell[0] for cell in node.cells)
        elif any(array is data for array in node.saved):
            copy = data.copy() if copy is None else copy
            node.saved = tuple(copy if array is data else array for array in node.saved)
            node.cells = tuple(cell for cell in node.cells if cell is not t._cell)
            node.versions = sum(cell[0] for cell in node.cells)
        if since is not None:
            nodes = [producer(edge)[0] for edge in node.edges if edge is not None and edge.kind != LEAF]
            stack += [n for n in nodes if n.sequence > since]


def replace_values(t: TensorBase, result: TensorBase, name: str, since: int | None = None) -> Any:
    """Makes `t` hold the values and the history of `result`: the common end of the in-place operations.

    Args:
        t: the tensor that is written to.
        result: the operation's result out of place.
        name: the operation's name, for errors.
        since: a sequence number drawn before the operation ran, if it may consist of several nodes.

    Raises:
        ShapeError: the result does not have t's shape.
        DTypeError: the result's dtype is of a higher category than t's.
    """
    check_writable(t)
    data, value = t._data, result._data
    if value.shape != data.shape:
        raise ShapeError(
            f"{name}: an in-place result must keep its shape: expected {list(data.shape)}, got {list(value.shape)}"
        )
    if value.dtype != data.dtype and OF_NUMPY[value.dtype].category > OF_NUMPY[data.dtype].category:
        raise DTypeError(
            f"{name}: result type {OF_NUMPY[value.dtype]} can't be cast to the tensor's {OF_NUMPY[data.dtype]} in "
            f"place; use {name.rstrip('_')}() instead"
        )
    target = target_of(result)
    if not backend_of(data).is_writable(data):
        raise AutogradError(
            f"{name}: this tensor is expanded or read-only memory, where one element stands for several; clone() it "
            "first"
        )
    if target is not None and target is not result:
        _keep_originals(target, t, since)
    data[...] = value
    wrote(t, None if target is result else target)
    return t


def become_view(t: TensorBase, view: TensorBase) -> Any:
    """Makes `t` the tensor that `view`, a view of it, is: the end of the in-place operations that change a shape."""
    check_writable(t)
    target = target_of(view)
    t._data = view._data
    if target is not None:
        t._target = target
    return t
