"""The public side of the backward pass: `backward`, `grad`, and callbacks at its end."""

from collections.abc import Callable, Sequence
from typing import Any

from ..backend import as_array, backend_of
from ..errors import AutogradError, ShapeError
from ._accumulate import accumulate_grad, announce, in_dtype
from ._base import TensorBase, producer, target_of, wrap
from ._mode import mode
from ._pass import Pass


def queue_callback(callback: Callable[[], None]) -> None:
    """Runs `callback` at the end of the backward pass that is under way in this thread.

    Raises:
        AutogradError: no backward pass is under way.
    """
    if mode.callbacks is None:
        raise AutogradError(
            "queue_callback: expected to be called during backward (from a hook), but none is under way"
        )
    mode.callbacks.append(callback)


def _start(output: Any, g: Any, graph: bool) -> Any:
    """The gradient with which an output starts, a tensor if a graph is recorded."""
    data = output._data
    if g is None:
        if data.size != 1:
            raise AutogradError(
                f"grad can be implicitly created only for scalar outputs, got shape {list(data.shape)}; "
                "reduce it first (.mean() or .sum()), or pass its gradient"
            )
        one = backend_of(data).xp.asarray(1, dtype=data.dtype).reshape(data.shape)
        return wrap(one) if graph else one
    if not isinstance(g, TensorBase):
        raise AutogradError(f"expected the gradient of an output to be a Tensor or None, got {type(g).__name__}")
    if g._data.shape != data.shape:
        raise ShapeError(f"expected a gradient of the output's shape {list(data.shape)}, got {list(g._data.shape)}")
    return g if graph else g._data


def _execute(outputs: Sequence[Any], grads: Sequence[Any], one: Pass) -> None:
    targets: list[Any] = []
    starts: list[Any] = []
    for output, g in zip(outputs, grads, strict=True):
        target = target_of(output)
        if target is None:
            raise AutogradError(
                "element 0 of tensors does not require grad and does not have a grad_fn: nothing that requires grad "
                "led to this "
                "tensor (was it computed under no_grad, detached, or from frozen parameters?)"
            )
        targets.append(target)
        starts.append(_start(output, g, one.graph))
    grad_before, callbacks_before = mode.grad, mode.callbacks
    callbacks: list[Callable[[], None]] = []
    mode.grad, mode.callbacks = one.graph, callbacks
    try:
        one.run(targets, starts)
        mode.grad = grad_before
        for callback in callbacks:
            callback()
    finally:
        mode.grad, mode.callbacks = grad_before, callbacks_before


def _listed(value: Any) -> list[Any]:
    return [value] if isinstance(value, TensorBase) or value is None else list(value)


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Sums the gradients of `tensors` into the ``.grad`` of the leaves that led to them.

    Args:
        tensors: one tensor or several; of one element each unless `grad_tensors` is given.
        grad_tensors: the gradient of each, of its shape; None means 1.
        retain_graph: keep what the graph saved, for a second call; default `create_graph`.
        create_graph: record the gradient computation too, for higher derivatives.
        inputs: accumulate only into these.

    Raises:
        AutogradError: nothing requires grad, the graph was freed, or a saved tensor was modified in place.
    """
    outputs = _listed(tensors)
    grads = [None] * len(outputs) if grad_tensors is None else _listed(grad_tensors)
    keep = create_graph if retain_graph is None else retain_graph
    if inputs is None:
        make = mode.make_pass
        _execute(outputs, grads, Pass(keep, create_graph, None) if make is None else make(keep, create_graph))
        return
    wanted = _listed(inputs)
    if not wanted:
        raise AutogradError("backward: expected at least one tensor in inputs, got none; leave it None for all leaves")
    found = _captured(outputs, grads, wanted, keep, create_graph)
    callbacks_before = mode.callbacks
    callbacks = mode.callbacks = []  # for the hooks of the leaves
    try:
        for tensor, g in zip(wanted, found, strict=True):
            if g is not None:
                accumulate_grad(tensor, g, owned=False, graph=create_graph)
                announce(tensor)
        for callback in callbacks:
            callback()
    finally:
        mode.callbacks = callbacks_before


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """The gradients of `outputs` with respect to `inputs`; no ``.grad`` is touched.

    Args:
        outputs, inputs: one tensor or several; the graph is followed only where it leads to `inputs`.
        grad_outputs: the gradient of each output, of its shape; None means 1 (outputs of one element).
        retain_graph, create_graph: as in `backward`.
        allow_unused: return None for an input that did not take part instead of raising.
        materialize_grads: return zeros for it.

    Raises:
        AutogradError: an input does not require grad, or took no part.
    """
    if is_grads_batched:
        raise AutogradError("grad: is_grads_batched=True is not supported; call grad once for each row of grad_outputs")
    if not only_inputs:
        raise AutogradError("grad: only_inputs=False is deprecated in torch and not supported; call backward() instead")
    starts, ends = _listed(outputs), _listed(inputs)
    given = [None] * len(starts) if grad_outputs is None else _listed(grad_outputs)
    keep = create_graph if retain_graph is None else retain_graph
    found = _captured(starts, given, ends, keep, create_graph)
    result = []
    for tensor, g in zip(ends, found, strict=True):
        if g is None and materialize_grads:
            result.append(wrap(backend_of(tensor._data).xp.zeros_like(tensor._data)))
        elif g is None and not allow_unused:
            raise AutogradError(
                "one of the differentiated tensors appears to not have been used in the graph; set "
                "allow_unused=True if this is what you want"
            )
        else:
            result.append(g if g is None or create_graph else wrap(as_array(g).copy()))
    return tuple(result)


def _captured(outputs: list[Any], grads: list[Any], inputs: list[Any], retain: bool, graph: bool) -> list[Any]:
    keys = []
    for tensor in inputs:
        target = target_of(tensor)
        if target is None:
            raise AutogradError(
                "one of the differentiated tensors does not require grad; call requires_grad_() on it before "
                "computing with it"
            )
        keys.append((target, 0) if target is tensor else producer(target))
    captured: dict[Any, Any] = dict.fromkeys(keys)
    _execute(outputs, grads, Pass(retain, graph, captured))
    found = [captured[key] for key in keys]
    return [None if g is None else in_dtype(g, t._data.dtype, graph) for g, t in zip(found, inputs, strict=True)]
