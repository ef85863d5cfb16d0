"""Several arithmetic operations in one: a tensor plus a scaled product or quotient, and linear interpolation."""

from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._base import TensorBase
from ..autograd._node import Node
from ..autograd._op import Op, apply, raw, result_dtype
from ..errors import DTypeError
from ._common import cast, mismatch, need_same_dtype, tensor_of, weak
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


def _plus(x: Array, term: Array, value: Any) -> Array:
    """``x + value * term``, in the memory of `term` where it has the result's shape."""
    if term.ndim == 0 or term.ndim < x.ndim:
        return x + (term if value == 1 else term * value)
    if value != 1:
        term *= value
    if all(n in (1, m) for n, m in zip(x.shape[::-1], term.shape[::-1], strict=False)):
        term += x
        return term
    return x + term


class Addcmul(Op):
    """Inputs: x, y and z of one dtype. ``params = (value,)``."""

    saves = ((), (2,), (1,))
    broadcasts = True

    @staticmethod
    def forward(ctx: Node, x: Array, y: Array, z: Array, value: Any) -> Array:
        return _plus(x, y * z, value)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, y: Any, z: Any) -> Any:
        (value,) = ctx.params
        scaled = g if value == 1 else g * value
        return g, scaled * z if ctx.needs[1] else None, scaled * y if ctx.needs[2] else None


class Addcdiv(Op):
    """Inputs: x, y and z of one dtype. ``params = (value,)``."""

    saves = ((), (2,), (1, 2))
    broadcasts = True
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, y: Array, z: Array, value: Any) -> Array:
        return _plus(x, y / z, value)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, y: Any, z: Any) -> Any:
        if not (ctx.needs[1] or ctx.needs[2]):
            return g, None, None
        (value,) = ctx.params
        share = (g if value == 1 else g * value) / z
        return g, share, -share * (y / z) if ctx.needs[2] else None


class Lerp(Op):
    """Inputs: start, end, and the weight, which may be a number."""

    saves = ((2,), (2,), (0, 1))
    broadcasts = True

    @staticmethod
    def forward(ctx: Node, start: Array, end: Array, weight: Any) -> Array:
        way = end - start
        # Counted from the nearer end, so that a weight of 1 gives `end` itself.
        if not hasattr(weight, "ndim") or weight.ndim == 0:
            return start + way * weight if abs(weight) < 0.5 else end - way * (1 - weight)
        return ctx.xp.where(abs(weight) < 0.5, start + way * weight, end - way * (1 - weight))

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, start: Any, end: Any, weight: Any) -> Any:
        return (
            g * (1 - weight) if ctx.needs[0] else None,
            g * weight if ctx.needs[1] else None,
            g * (end - start) if ctx.needs[2] else None,
        )


def _ternary(function: Any, name: str, tensors: tuple[Any, ...], value: Any) -> "Tensor":
    dtype = result_dtype(tensors)
    value = int(value) if dtype.kind in "iu" else weak(value, dtype)
    try:
        result: Tensor = apply(function, tuple(cast(t, dtype) for t in tensors), (value,))
    except ValueError:
        raise mismatch(name, *(t._data for t in tensors)) from None
    return result


def _three(name: str, input: Any, tensor1: Any, tensor2: Any) -> tuple[Any, ...]:
    tensors = tuple(tensor_of(t, name) for t in (input, tensor1, tensor2))
    if all(t._data.dtype.kind == "b" for t in tensors):
        raise DTypeError(f"{name}: not defined for bool tensors; convert one of them first, with .to(dtype)")
    return tensors


@op(inplace=True)
def addcmul(input: "Tensor", tensor1: "Tensor", tensor2: "Tensor", *, value: Any = 1) -> "Tensor":
    """``input + value * tensor1 * tensor2``, broadcast, in their common dtype."""
    return _ternary(Addcmul, "addcmul", _three("addcmul", input, tensor1, tensor2), value)


@op(inplace=True)
def addcdiv(input: "Tensor", tensor1: "Tensor", tensor2: "Tensor", *, value: Any = 1) -> "Tensor":
    """``input + value * tensor1 / tensor2``, broadcast, in their common dtype.

    Raises:
        DTypeError: both the dividend and the divisor are integers.
    """
    tensors = _three("addcdiv", input, tensor1, tensor2)
    if all(t._data.dtype.kind in "biu" for t in tensors[1:]):
        raise DTypeError("addcdiv: expected a floating-point tensor1 or tensor2, got integers; convert with .float()")
    return _ternary(Addcdiv, "addcdiv", tensors, value)


@op(inplace=True)
def lerp(input: "Tensor", end: "Tensor", weight: Any) -> "Tensor":
    """``input + weight * (end - input)``: from `input` (weight 0) to `end` (weight 1) on a straight line.

    Args:
        input, end: floating-point tensors of one dtype.
        weight: a number, or a tensor of that dtype; all are broadcast.
    """
    a, b = tensor_of(input, "lerp"), tensor_of(end, "lerp")
    need_same_dtype("lerp", input=a, end=b)
    dtype = a._data.dtype
    if dtype.kind in "biu":
        raise DTypeError("lerp: expected floating-point tensors, got integers; convert with .float()")
    if not isinstance(weight, TensorBase):
        weight = weak(weight, dtype)
    elif weight._data.ndim == 0:
        weight = cast(weight, dtype)
    else:
        need_same_dtype("lerp", input=a, weight=weight)
    try:
        result: Tensor = apply(Lerp, (a, b, weight))
    except ValueError:
        raise mismatch("lerp", *(raw(t) for t in (a, b, weight) if isinstance(t, TensorBase))) from None
    return result
