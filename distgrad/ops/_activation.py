"""Activation functions that are piecewise linear."""

from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._inplace import replace_values
from ..autograd._node import Node
from ..autograd._op import Op, apply1, apply2
from ..errors import ShapeError
from ._common import clip, tensor_of, weak
from ._generator import stream_of
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


def maybe_inplace(input: Any, result: "Tensor", inplace: bool, name: str) -> "Tensor":
    """`result`; with `inplace`, `input` after it took its values and its history."""
    return replace_values(input, result, name) if inplace else result


class Relu(Op):
    saves_output = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return ctx.kernels.activation.relu(x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, y: Any) -> Any:
        return g * (y > 0)

    @staticmethod
    def backward_fast(xp: Any, ctx: Node, g: Array, y: Array) -> Array:
        return ctx.kernels.activation.relu_backward(g, y)


class LeakyRelu(Op):
    """``params = (slope,)``."""

    saves = ((0,),)

    @staticmethod
    def forward(ctx: Node, x: Array, slope: float) -> Array:
        y = ctx.backend.asarray(x * weak(slope, x.dtype))
        return (ctx.xp.maximum if slope <= 1 else ctx.xp.minimum)(x, y, out=y)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        (slope,) = ctx.params
        return g * (xp.astype(x > 0, g.dtype) * (1 - slope) + slope)

    @staticmethod
    def backward_fast(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        (slope,) = ctx.params
        if not 0 <= slope <= 1:
            return LeakyRelu.backward(xp, ctx, g, x)
        factor = ctx.backend.asarray(ctx.xp.sign(x))
        ctx.xp.maximum(factor, weak(slope, x.dtype), out=factor)
        factor *= g
        return factor


class Prelu(Op):
    """Inputs: x, and the slope below 0, broadcast against it."""

    saves = ((0, 1), (0,))
    broadcasts = True

    @staticmethod
    def forward(ctx: Node, x: Array, slope: Array) -> Array:
        return ctx.xp.where(x > 0, x, x * slope)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, slope: Any) -> Any:
        below = xp.astype(x <= 0, g.dtype)
        gx = g * (below * (slope - 1) + 1) if ctx.needs[0] else None
        return gx, g * x * below if ctx.needs[1] else None


class Rrelu(Op):
    """``params = (lower, upper)``: a random slope for each negative element."""

    @staticmethod
    def forward(ctx: Node, x: Array, lower: float, upper: float) -> Array:
        xp = ctx.xp
        width, lower = weak(upper - lower, x.dtype), weak(lower, x.dtype)
        slope = xp.asarray(stream_of(None).uniform(x.shape, x.dtype)) * width + lower
        ctx.aux = xp.where(x > 0, xp.ones_like(x), slope)
        return x * ctx.aux

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return g * ctx.aux


class Threshold(Op):
    """``params = (threshold, value)``."""

    saves = ((0,),)

    @staticmethod
    def forward(ctx: Node, x: Array, threshold: float, value: float) -> Array:
        return ctx.xp.where(x <= threshold, x.dtype.type(value), x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        return g * (x > ctx.params[0])


class Hardtanh(Op):
    """``params = (low, high)``; the gradient on the bounds is 0."""

    saves = ((0,),)

    @staticmethod
    def forward(ctx: Node, x: Array, low: float, high: float) -> Array:
        return clip(ctx.xp, x, low, high)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        low, high = ctx.params
        return g * xp.logical_and(x > low, x < high)


class Hardsigmoid(Op):
    saves = ((0,),)

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return clip(ctx.xp, x / weak(6, x.dtype) + weak(0.5, x.dtype), 0, 1)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        return g * xp.logical_and(x > -3, x < 3) * (1 / 6)


class Hardswish(Op):
    saves = ((0,),)

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return x * (clip(ctx.xp, x + weak(3, x.dtype), 0, 6) / weak(6, x.dtype))

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        slope = xp.logical_and(x > -3, x < 3) * (x / 3 + 0.5)
        return g * (slope + xp.astype(x >= 3, g.dtype))


class Hardshrink(Op):
    """``params = (lambd,)``."""

    saves = ((0,),)

    @staticmethod
    def forward(ctx: Node, x: Array, lambd: float) -> Array:
        return ctx.xp.where((x >= -lambd) & (x <= lambd), x.dtype.type(0), x)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        return g * (xp.abs(x) > ctx.params[0])


class Softshrink(Op):
    """``params = (lambd,)``."""

    saves = ((0,),)

    @staticmethod
    def forward(ctx: Node, x: Array, lambd: float) -> Array:
        return x - clip(ctx.xp, x, -lambd, lambd)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        return g * (xp.abs(x) > ctx.params[0])


@op(inplace=True)
def relu(input: "Tensor", inplace: bool = False) -> "Tensor":
    """``max(input, 0)``; the gradient at 0 is 0.

    Args:
        input: a tensor of any shape.
        inplace: write the result into `input`.
    """
    result = apply1(Relu, tensor_of(input, "relu"))
    return replace_values(input, result, "relu_") if inplace else result


@op(method=False)
def relu6(input: "Tensor", inplace: bool = False) -> "Tensor":
    """``min(max(input, 0), 6)``."""
    return maybe_inplace(input, apply1(Hardtanh, tensor_of(input, "relu6"), 0, 6), inplace, "relu6_")


@op(method=False)
def leaky_relu(input: "Tensor", negative_slope: float = 0.01, inplace: bool = False) -> "Tensor":
    """The input where it is positive, `negative_slope` times it elsewhere."""
    result = apply1(LeakyRelu, tensor_of(input, "leaky_relu"), float(negative_slope))
    return maybe_inplace(input, result, inplace, "leaky_relu_")


@op()
def prelu(input: "Tensor", weight: "Tensor") -> "Tensor":
    """The input where it is positive, `weight` times it elsewhere (He et al. 2015, arXiv:1502.01852).

    Args:
        input: (N, C, ...), or of any shape for a weight of one element.
        weight: of one element, or (C,).

    Raises:
        ShapeError: the weight does not fit the channels.
    """
    x, w = tensor_of(input, "prelu"), tensor_of(weight, "prelu")
    channels = x._data.shape[1] if x._data.ndim > 1 else 1
    if w._data.ndim > 1 or w._data.size not in (1, channels):
        raise ShapeError(
            f"prelu: expected a weight of 1 or {channels} elements for an input {list(x._data.shape)}, got "
            f"{list(w._data.shape)}"
        )
    if w._data.size == 1:
        return apply2(Prelu, x, w.reshape((1,) * x._data.ndim))
    return apply2(Prelu, x, w.reshape(-1, *(1,) * (x._data.ndim - 2)))


@op(method=False)
def rrelu(
    input: "Tensor", lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False
) -> "Tensor":
    """Leaky ReLU whose slope is drawn from [lower, upper] in training, and their mean else (arXiv:1505.00853)."""
    x = tensor_of(input, "rrelu")
    result = apply1(Rrelu, x, lower, upper) if training else leaky_relu(x, (lower + upper) / 2)
    return maybe_inplace(input, result, inplace, "rrelu_")


@op(method=False)
def threshold(input: "Tensor", threshold: float, value: float, inplace: bool = False) -> "Tensor":
    """The input where it is above `threshold`, `value` elsewhere."""
    result = apply1(Threshold, tensor_of(input, "threshold"), threshold, value)
    return maybe_inplace(input, result, inplace, "threshold_")


@op(method=False)
def hardtanh(input: "Tensor", min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> "Tensor":
    """The input moved into [min_val, max_val]."""
    x = tensor_of(input, "hardtanh")
    if x._data.dtype.kind in "iu":
        min_val, max_val = int(min_val), int(max_val)
    result = apply1(Hardtanh, x, min_val, max_val)
    return maybe_inplace(input, result, inplace, "hardtanh_")


@op(method=False)
def hardsigmoid(input: "Tensor", inplace: bool = False) -> "Tensor":
    """``clamp(input / 6 + 1/2, 0, 1)``."""
    return maybe_inplace(input, apply1(Hardsigmoid, tensor_of(input, "hardsigmoid")), inplace, "hardsigmoid_")


@op(method=False)
def hardswish(input: "Tensor", inplace: bool = False) -> "Tensor":
    """``input * hardsigmoid(input)`` (Howard et al. 2019, arXiv:1905.02244)."""
    return maybe_inplace(input, apply1(Hardswish, tensor_of(input, "hardswish")), inplace, "hardswish_")


@op()
def hardshrink(input: "Tensor", lambd: float = 0.5) -> "Tensor":
    """The input, but 0 between -lambd and lambd."""
    return apply1(Hardshrink, tensor_of(input, "hardshrink"), lambd)


@op(method=False)
def softshrink(input: "Tensor", lambd: float = 0.5) -> "Tensor":
    """The input moved towards 0 by `lambd`, and 0 between."""
    if lambd < 0:
        raise ValueError(f"softshrink: expected lambd >= 0, got {lambd}")
    return apply1(Softshrink, tensor_of(input, "softshrink"), lambd)
