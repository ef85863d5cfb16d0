"""How a model's outputs are led past the reducer: each gets one more input, a leaf that a backward pass reaches."""

from collections.abc import Callable
from typing import Any

from .._tensor import Tensor
from .._typing import Array
from ..autograd._base import LEAF_MARK, wrap
from ..autograd._node import Node
from ..autograd._op import Op, apply1
from ..backend import Backend, backend_of
from ._nested import map_tensors

_BOTH = (True, True)


class _Distributed(Op):
    """The identity on x. ``params = (factor, zero)``: backward multiplies by the factor, and gives the trigger `zero`.

    The trigger is made a second input after the fact, which spares an operation of two inputs.
    """

    view = True

    @staticmethod
    def forward(ctx: Node, x: Array, factor: float, zero: Array) -> Array:
        return x

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return scaled(xp, g, ctx.params[0]), xp.zeros((), g)

    @staticmethod
    def backward_fast(xp: Any, ctx: Node, g: Any) -> Any:
        factor, zero = ctx.params
        return (g if factor == 1.0 else scaled(xp, g, factor)), zero


class _Scaled(Op):
    """The identity on x, whose gradient is multiplied by a factor. ``params = (factor,)``."""

    view = True

    @staticmethod
    def forward(ctx: Node, x: Array, factor: float) -> Array:
        return x

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return scaled(xp, g, ctx.params[0])


def scaled(xp: Any, g: Any, factor: float) -> Any:
    """A gradient by a factor; where that is 0, nothing of it is left, not even NaN."""
    if factor == 1.0:
        return g
    return xp.astype(g * factor, g.dtype) if factor else xp.zeros_like(g)


def scale_gradients(value: Any, factor: float) -> Any:
    """`value` with every tensor in it that requires grad replaced by one whose gradient is multiplied by `factor`."""
    if factor == 1.0:
        return value
    return map_tensors(value, lambda t: apply1(_Scaled, t, factor) if t.requires_grad else t)


class Watch:
    """The triggers of one reducer, one for each backend.

    Args:
        on_reached: called during a backward pass that came through an output of the model.
    """

    def __init__(self, on_reached: Callable[[], None]) -> None:
        self._on_reached = on_reached
        self._triggers: dict[Backend, Tensor] = {}

    def outputs(self, value: Any, factor: float) -> Any:
        """What a forward pass returned, with every tensor in it leading to the trigger.

        Args:
            value: tensors, nested in any way that `map_tensors` knows.
            factor: by which the gradients of these tensors are multiplied on their way into the model.
        """
        return map_tensors(value, lambda t: self._one(t, factor))

    def _one(self, t: Tensor, factor: float) -> Tensor:
        if not t.requires_grad:
            return t
        trigger = self._trigger(backend_of(t._data))
        result = apply1(_Distributed, t, factor, trigger._data)
        node = result._target
        if isinstance(node, Node):  # else nothing is recorded here
            node.edges, node.needs, node.shapes = (*node.edges, trigger), _BOTH, (*node.shapes, ())
        return result

    def _trigger(self, backend: Backend) -> Tensor:
        if backend not in self._triggers:
            trigger: Tensor = wrap(backend.xp.zeros((), "float32"), LEAF_MARK)
            on_reached = self._on_reached

            def hook(t: Tensor) -> None:
                t._grad = None
                on_reached()

            trigger.register_post_accumulate_grad_hook(hook)
            trigger._get_extra().grad_slot = wrap(trigger._data)  # its gradient is always the same zero
            self._triggers[backend] = trigger
        return self._triggers[backend]
