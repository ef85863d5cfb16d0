"""Where a gradient ends: summed to the shape of its tensor, in its dtype, and added to the ``.grad`` of a leaf."""

from typing import Any

from .._typing import Shape
from ..backend import as_array
from ._base import wrap
from ._graph_namespace import graph_namespace
from ._sparse import SparseRows, accumulate_sparse


def accumulate_grad(leaf: Any, g: Any, *, owned: bool, graph: bool) -> None:
    """Adds `g` to ``leaf.grad``, in the arena's memory where the leaf has a slot."""
    before = leaf._grad
    if g.__class__ is SparseRows:
        accumulate_sparse(leaf, g)
    elif graph:
        # A tensor of its own: `g` may be the gradient of other leaves, too.
        leaf._grad = g * 1 if before is None else _dense(before) + g
    elif before is None:
        slot = None if leaf._extra is None else leaf._extra.grad_slot
        if slot is None:
            g = as_array(g)
            leaf._grad = wrap(g if owned else g.copy())
        else:
            if g is not slot._data:  # an operation may have written it there itself
                slot._data[...] = g
            leaf._grad = slot
    elif before._target is None and not before.is_sparse:
        before._data += g
        before._cell[0] += 1
    else:
        leaf._grad = wrap(as_array(_dense(before)._data + g))


def _dense(grad: Any) -> Any:
    return grad.to_dense() if grad.is_sparse else grad


def announce(leaf: Any) -> None:
    """Calls the hooks of a leaf whose ``.grad`` is complete."""
    if leaf._extra is not None:
        for hook in tuple(leaf._extra.post_accumulate.values()):
            hook(leaf)


def in_dtype(g: Any, dtype: Any, graph: bool) -> Any:
    """`g` in the dtype of its tensor: formulas with numbers take bfloat16 to float32."""
    if (g._data if graph else g).dtype == dtype:
        return g
    return graph_namespace().astype(g, dtype) if graph else g.astype(dtype)


def sum_to(g: Any, shape: Shape | None) -> Any:
    """Undoes broadcasting: the sum of `g` over the axes along which `shape` was stretched."""
    if g is None or g.shape == shape or shape is None:
        return g
    lead = g.ndim - len(shape)
    axes = tuple(range(lead)) + tuple(i + lead for i, n in enumerate(shape) if n == 1 and g.shape[i + lead] != 1)
    if axes:
        g = g.sum(axis=axes, keepdims=True, dtype=g.dtype)
    return g.reshape(shape)


def sum_tensor_to(g: Any, shape: Shape | None) -> Any:
    """`sum_to` on Tensors, recorded."""
    if g is None or shape is None or tuple(g.shape) == shape:
        return g
    lead = g.ndim - len(shape)
    axes = tuple(range(lead)) + tuple(i + lead for i, n in enumerate(shape) if n == 1 and g.shape[i + lead] != 1)
    if axes:
        g = graph_namespace().sum(g, axis=axes, keepdims=True)
    return graph_namespace().reshape(g, shape)
