"""Jacobians, Hessians, and products with them: torch's ``autograd.functional``.

Inputs and outputs are a tensor or a tuple of tensors, and results are arranged as they are. With ``create_graph=True``
the results can be differentiated in turn. With ``strict=True`` an output that does not depend on an input is an error,
where otherwise its derivative is zero.
"""

from collections.abc import Callable
from typing import Any

from ..backend import as_array, backend_of
from ..errors import AutogradError
from ._base import LEAF_MARK, TensorBase, wrap
from ._engine import grad
from ._graph_namespace import graph_namespace
from ._mode import enable_grad

Func = Callable[..., Any]


def vjp(func: Func, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """The outputs of `func` and ``v^T J``, the product of `v` with its Jacobian.

    Args:
        func: takes the inputs, returns a tensor or a tuple.
        inputs: a tensor or a tuple.
        v: as the outputs; None for an output of one element.
        create_graph, strict: see the page.
    """
    with enable_grad():
        args = _inputs(inputs, create_graph)
        outputs = func(*args)
        result = _gradients(_tuple(outputs), args, _given(v), create_graph, strict)
    return _kept(outputs, create_graph), _as(result, inputs)


def jvp(func: Func, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """The outputs of `func` and ``J v``, the product of its Jacobian with `v`; arguments as in `vjp`, `v` as inputs.

    It takes two backward passes: ``u^T J`` is linear in u, and its derivative with respect to u is J.
    """
    with enable_grad():
        args = _inputs(inputs, create_graph)
        outputs = func(*args)
        weights = tuple(_leaf(backend_of(o._data).xp.zeros_like(o._data)) for o in _tuple(outputs))
        products = _gradients(_tuple(outputs), args, weights, True, strict)
        starts = _given(v) or tuple(wrap(backend_of(a._data).xp.ones_like(a._data)) for a in args)
        result = _gradients(products, weights, starts, create_graph, strict)
    return _kept(outputs, create_graph), _as(result, outputs)


def jacobian(func: Func, inputs: Any, create_graph: bool = False, strict: bool = False, vectorize: bool = False) -> Any:
    """The Jacobian of `func`: for each output and input a tensor of the output's shape followed by the input's.

    Args:
        func: takes the inputs, returns a tensor or a tuple.
        inputs: a tensor or a tuple.
        create_graph, strict: see the page.
        vectorize: accepted; the rows are computed one by one.
    """
    with enable_grad():
        args = _inputs(inputs, create_graph)
        outputs = func(*args)
        rows = tuple(_as(_rows(output, args, create_graph, strict), inputs) for output in _tuple(outputs))
    return _as(rows, outputs)


def hessian(func: Func, inputs: Any, create_graph: bool = False, strict: bool = False, vectorize: bool = False) -> Any:
    """The matrix of second derivatives of `func`, which returns one number; arguments as in `jacobian`."""

    def gradient(*args: Any) -> Any:
        return _as(_gradients((_one_number(func(*args)),), args, None, True, strict), inputs)

    return jacobian(gradient, inputs, create_graph, strict, vectorize)


def vhp(func: Func, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """The output of `func`, which is one number, and ``v^T H``, the product of `v` with its Hessian."""
    with enable_grad():
        args = _inputs(inputs, create_graph)
        output = _one_number(func(*args))
        gradient = _gradients((output,), args, None, True, strict)
        result = _gradients(gradient, args, _given(v), create_graph, strict)
    return _kept(output, create_graph), _as(result, inputs)


def hvp(func: Func, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """The output of `func`, which is one number, and ``H v``; the Hessian is symmetric, so this is `vhp`."""
    return vhp(func, inputs, v, create_graph, strict)


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def _given(v: Any) -> tuple[Any, ...] | None:
    return None if v is None else _tuple(v)


def _as(values: tuple[Any, ...], pattern: Any) -> Any:
    """A tuple where the pattern is one, else its only element."""
    return values if isinstance(pattern, (tuple, list)) else values[0]


def _leaf(array: Any) -> Any:
    return wrap(as_array(array), LEAF_MARK)


def _inputs(inputs: Any, create_graph: bool) -> tuple[Any, ...]:
    """Fresh tensors of the inputs' values, which derivatives are taken of; they reach the inputs if `create_graph`."""
    return tuple(t * 1 if create_graph and t.requires_grad else _leaf(t._data) for t in _tuple(inputs))


def _one_number(output: Any) -> Any:
    if not isinstance(output, TensorBase) or output._data.size != 1:
        raise AutogradError("expected func to return one tensor of one element, whose Hessian it then is")
    return output.reshape(())  # type: ignore[attr-defined]


def _gradients(
    outputs: tuple[Any, ...], inputs: tuple[Any, ...], starts: tuple[Any, ...] | None, create_graph: bool, strict: bool
) -> tuple[Any, ...]:
    """The gradients of the outputs, with zeros where an input took no part."""
    pairs = list(zip(outputs, starts or (None,) * len(outputs), strict=True))
    live = [(o, s) for o, s in pairs if o.requires_grad]
    if strict and len(live) < len(pairs):
        raise AutogradError("strict=True: an output does not depend on the inputs")
    found: tuple[Any, ...] = (None,) * len(inputs)
    if live:
        given = [s for _, s in live]
        found = grad(
            [o for o, _ in live], inputs, given, create_graph=create_graph, retain_graph=True, allow_unused=True
        )
    if strict and any(g is None for g in found):
        raise AutogradError("strict=True: the outputs do not depend on one of the inputs")
    zeros = [wrap(backend_of(t._data).xp.zeros_like(t._data)) for t in inputs]
    return tuple(z if g is None else g for g, z in zip(found, zeros, strict=True))


def _rows(output: Any, inputs: tuple[Any, ...], create_graph: bool, strict: bool) -> tuple[Any, ...]:
    """The Jacobian of one output with respect to each input."""
    flat = output.reshape(-1)
    rows = [_gradients((flat[i],), inputs, None, create_graph, strict) for i in range(flat._data.size)]
    result = []
    for number, t in enumerate(inputs):
        shape = (*output._data.shape, *t._data.shape)
        parts = [row[number] for row in rows]
        stacked: Any = graph_namespace().stack(parts) if parts else wrap(backend_of(t._data).xp.zeros(0, t._data.dtype))
        result.append(stacked.reshape(shape) if create_graph else stacked.detach().reshape(shape))
    return tuple(result)


def _kept(outputs: Any, create_graph: bool) -> Any:
    """The outputs for the caller: without their graph, unless it is asked for."""
    return outputs if create_graph else _as(tuple(o.detach() for o in _tuple(outputs)), outputs)
