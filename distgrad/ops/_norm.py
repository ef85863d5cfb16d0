"""Normalisation over a batch and over features."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .._shard import current_shard
from .._typing import Array
from ..autograd._node import Node
from ..autograd._op import Op, apply
from ..errors import ShapeError
from ._common import check_floating, optional, tensor_of
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


def per_channel(v: Any, rank: int) -> Any:
    """(C,), an array or a tensor, as (C, 1, ...), to meet (N, C, ...) of `rank` dimensions."""
    return v.reshape(v.shape[0], *(1,) * (rank - 2))


def sum_per_channel(xp: Any, g: Any) -> Any:
    """The sum of (N, C, ...) over all dimensions but the second: the gradient of a bias."""
    return xp.sum(g, axis=(0, *range(2, len(g.shape))))


def in_dtype_of(value: Any, like: Any) -> Any:
    """A sum in the gradient's dtype (sums of half precision are kept in float32)."""
    return None if value is None else value.astype(like.dtype, copy=False)


class BatchNorm(Op):
    """Inputs: x (N, C, ...), weight and bias (C,) or None; outputs: y, the mean and the biased variance of each
    channel.

    ``params = (mean, var, eps)``: the statistics to use; None to use the batch's own, through which gradients then
    flow.
    """

    name = "NativeBatchNorm"
    saves = ((0, 1), (0,), ())
    non_differentiable = (1, 2)
    quiet = True

    @staticmethod
    def forward(
        ctx: Node, x: Array, weight: Array | None, bias: Array | None, mean: Array | None, var: Array | None, eps: float
    ) -> tuple[Array, Array, Array]:
        norm = ctx.kernels.norm
        if mean is None or var is None:
            y, mean, var, invstd = norm.batch_forward(x, weight, bias, eps)
            ctx.cache = (mean, invstd)
            return y, mean, var
        invstd = 1 / ctx.xp.sqrt(var + eps)
        ctx.cache = (mean, invstd)
        return norm.batch_apply(x, mean, invstd, weight, bias), mean, var

    @staticmethod
    def backward(xp: Any, ctx: Node, grads: Any, x: Any, weight: Any) -> Any:
        """By differentiable formulas."""
        g, (mean, var, eps), rank = grads[0], ctx.params, len(ctx.shapes[0])
        axes = (0, *range(2, rank))
        if x is None:
            return None, None, sum_per_channel(xp, g)
        if mean is None:
            centred = x - xp.mean(x, axis=axes, keepdims=True)
            invstd = 1 / xp.sqrt(xp.mean(centred * centred, axis=axes, keepdims=True) + eps)
        else:
            centred = x - per_channel(mean, rank)
            invstd = per_channel(1 / ctx.xp.sqrt(var + eps), rank)
        xhat = centred * invstd
        gx = gw = gb = None
        if ctx.needs[0]:
            h = g if weight is None else g * per_channel(weight, rank)
            if mean is None:
                h = h - xp.mean(h, axis=axes, keepdims=True) - xhat * xp.mean(h * xhat, axis=axes, keepdims=True)
            gx = h * invstd
        if ctx.needs[1]:
            gw = xp.sum(g * xhat, axis=axes)
        if ctx.needs[2]:
            gb = xp.sum(g, axis=axes)
        return gx, gw, gb

    @staticmethod
    def backward_fast(xp: Any, ctx: Node, grads: Any, x: Any, weight: Any) -> Any:
        g, norm = grads[0], ctx.kernels.norm
        if ctx.cache is None or x is None:
            return BatchNorm.backward(xp, ctx, grads, x, weight)
        mean, invstd = ctx.cache
        if ctx.params[0] is None:
            gx, gw, gb = norm.batch_backward(g, x, mean, invstd, weight, ctx.needs)
            return gx, in_dtype_of(gw, g), in_dtype_of(gb, g)
        gw = gb = None
        if ctx.needs[1] or ctx.needs[2]:
            gb, gw = norm.batch_sums(g, x, mean, invstd)
        gx = norm.batch_grad_input(g, x, mean, invstd, weight, None, None) if ctx.needs[0] else None
        return gx, in_dtype_of(gw, g) if ctx.needs[1] else None, in_dtype_of(gb, g) if ctx.needs[2] else None


def of_channels(name: str, channels: int, **given: Any) -> list[Any]:
    """What is given for each channel, checked and as tensors; None as it is."""
    tensors = [optional(t, name) for t in given.values()]
    for key, t in zip(given, tensors, strict=True):
        if t is not None and t._data.shape != (channels,):
            raise ShapeError(
                f"{name}: expected {key} of shape [{channels}], one for each channel of the input, got "
                f"{list(t._data.shape)}"
            )
    return tensors


@op(method=False)
def batch_norm(
    input: "Tensor",
    running_mean: "Tensor | None",
    running_var: "Tensor | None",
    weight: "Tensor | None" = None,
    bias: "Tensor | None" = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-05,
) -> "Tensor":
    """Each channel normalised over the batch (Ioffe and Szegedy 2015, arXiv:1502.03167).

    Args:
        input: (N, C) or (N, C, ...).
        running_mean, running_var: (C,), used when not training; in training, moved towards the batch's statistics (the
            variance unbiased) by `momentum`. None only in training.
        weight, bias: (C,) or None.
        training: use the batch's own statistics.
        momentum: the share of the batch in the running statistics.
        eps: added to the variance.

    Raises:
        ShapeError: sizes do not fit.
        ValueError: training on one value per channel, or no statistics.
    """
    x = tensor_of(input, "batch_norm")
    check_floating("batch_norm", x)
    if x._data.size == 0:
        return x * 1
    if x._data.ndim < 2:
        raise ShapeError(f"batch_norm: expected an input of shape (N, C, ...), got {list(x._data.shape)}")
    channels = x._data.shape[1]
    running_mean, running_var, weight, bias = of_channels(
        "batch_norm", channels, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias
    )
    if not training:
        if running_mean is None or running_var is None:
            raise ValueError("batch_norm: expected running_mean and running_var when training=False, got None")
        return apply(BatchNorm, (x, weight, bias), (running_mean._data, running_var._data, eps))[0]  # type: ignore[no-any-return]
    count = x._data.size // max(channels, 1)
    if count == 1 and current_shard() is None:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {list(x._data.shape)}")
    result, mean, var = apply(BatchNorm, (x, weight, bias), (None, None, eps))
    move_towards(running_mean, mean._data, momentum)
    move_towards(running_var, var._data, momentum, count / max(count - 1, 1))
    return result  # type: ignore[no-any-return]


def move_towards(running: Any, value: Array, momentum: float, factor: float | None = None) -> None:
    """``running = (1 - momentum) * running + momentum * (factor * value)``, in place and outside the graph."""
    if running is None:
        return
    if factor is not None:
        value = value * factor
    running._data *= 1 - momentum
    running._data += (value * momentum).astype(running._data.dtype, copy=False)
    running._cell[0] += 1


class LayerNorm(Op):
    """Inputs: x (..., *shape), weight and bias of that shape or None; ``params = (elements of shape, eps)``."""

    name = "NativeLayerNorm"
    saves = ((0, 1), (0,), ())
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, weight: Array | None, bias: Array | None, size: int, eps: float) -> Array:
        flat = (None if p is None else p.reshape(size) for p in (weight, bias))
        out, *ctx.cache = ctx.kernels.norm.layer_forward(x.reshape(-1, size) if size else x.reshape(0, 0), *flat, eps)
        return out.reshape(x.shape)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, weight: Any) -> Any:
        """By differentiable formulas."""
        size, eps = ctx.params
        shape = ctx.shapes[0]
        rows = (math.prod(shape) // max(size, 1), size)
        if x is None:
            return None, None, xp.reshape(xp.sum(xp.reshape(g, rows), axis=0), ctx.shapes[2])
        xs, gs = xp.reshape(x, rows), xp.reshape(g, rows)
        centred = xs - xp.mean(xs, axis=1, keepdims=True)
        invstd = 1 / xp.sqrt(xp.mean(centred * centred, axis=1, keepdims=True) + eps)
        xhat = centred * invstd
        gx = gw = gb = None
        if ctx.needs[0]:
            h = gs if weight is None else gs * xp.reshape(weight, (size,))
            h = h - xp.mean(h, axis=1, keepdims=True) - xhat * xp.mean(h * xhat, axis=1, keepdims=True)
            gx = xp.reshape(h * invstd, shape)
        if ctx.needs[1]:
            gw = xp.reshape(xp.sum(gs * xhat, axis=0), ctx.shapes[1])
        if ctx.needs[2]:
            gb = xp.reshape(xp.sum(gs, axis=0), ctx.shapes[2])
        return gx, gw, gb

    @staticmethod
    def backward_fast(xp: Any, ctx: Node, g: Any, x: Any, weight: Any) -> Any:
        size, _ = ctx.params
        if ctx.cache is None or x is None or not size:
            return LayerNorm.backward(xp, ctx, g, x, weight)
        w = None if weight is None else weight.reshape(size)
        rows = ctx.cache[0].shape[0], size
        gx, gw, gb = ctx.kernels.norm.layer_backward(g.reshape(rows), x.reshape(rows), *ctx.cache, w, ctx.needs)
        shapes = ctx.shapes
        return (
            None if gx is None else gx.reshape(shapes[0]),
            None if gw is None else in_dtype_of(gw.reshape(shapes[1]), g),
            None if gb is None else in_dtype_of(gb.reshape(shapes[2]), g),
        )


def _trailing(name: str, x: Any, normalized_shape: Any, **given: Any) -> tuple[int, list[Any]]:
    """The number of elements over which to normalise, and what is given for each, checked and as tensors."""
    sizes = normalized_shape if isinstance(normalized_shape, Sequence) else (normalized_shape,)
    shape = tuple(int(n) for n in sizes)
    if not shape or x._data.shape[-len(shape) :] != shape:
        raise ShapeError(
            f"{name}: expected an input of shape (..., {', '.join(map(str, shape))}), got {list(x._data.shape)}"
        )
    tensors = [optional(t, name) for t in given.values()]
    for key, t in zip(given, tensors, strict=True):
        if t is not None and t._data.shape != shape:
            raise ShapeError(f"{name}: expected {key} of shape {list(shape)}, got {list(t._data.shape)}")
    return math.prod(shape), tensors


@op(method=False)
def layer_norm(
    input: "Tensor",
    normalized_shape: Any,
    weight: "Tensor | None" = None,
    bias: "Tensor | None" = None,
    eps: float = 1e-05,
) -> "Tensor":
    """The last dimensions normalised to mean 0 and variance 1, then scaled and shifted (Ba et al. 2016,
    arXiv:1607.06450).

    Args:
        input: (..., *normalized_shape).
        normalized_shape: the sizes of the last dimensions.
        weight, bias: of that shape, or None.
        eps: added to the variance.

    Raises:
        ShapeError: sizes do not fit.
    """
    x = tensor_of(input, "layer_norm")
    check_floating("layer_norm", x)
    size, (weight, bias) = _trailing("layer_norm", x, normalized_shape, weight=weight, bias=bias)
    return apply(LayerNorm, (x, weight, bias), (size, eps))  # type: ignore[no-any-return]


class RmsNorm(Op):
    """Inputs: x (..., *shape), weight of that shape or None; ``params = (number of elements of shape, eps)``."""

    saves = ((0, 1), (0,))
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, weight: Array | None, size: int, eps: float) -> Array:
        rows = x.reshape(-1, size)
        inverse = 1 / ctx.xp.sqrt(ctx.xp.einsum("ij,ij->i", rows, rows)[:, None] / size + eps)
        y = rows * inverse.astype(x.dtype, copy=False)
        if weight is not None:
            y *= weight.reshape(size)
        return y.reshape(x.shape)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, weight: Any) -> Any:
        size, eps = ctx.params
        shape = ctx.shapes[0]
        rows = (math.prod(shape) // size, size)
        xs, gs = xp.reshape(x, rows), xp.reshape(g, rows)
        inverse = 1 / xp.sqrt(xp.mean(xs * xs, axis=1, keepdims=True) + eps)
        xhat = xs * inverse
        gx = gw = None
        if ctx.needs[0]:
            h = gs if weight is None else gs * xp.reshape(weight, (size,))
            gx = xp.reshape((h - xhat * xp.mean(h * xhat, axis=1, keepdims=True)) * inverse, shape)
        if ctx.needs[1]:
            gw = xp.reshape(xp.sum(gs * xhat, axis=0), ctx.shapes[1])
        return gx, gw


_EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}


@op(method=False)
def rms_norm(
    input: "Tensor", normalized_shape: Any, weight: "Tensor | None" = None, eps: float | None = None
) -> "Tensor":
    """The last dimensions divided by their root mean square, then scaled (Zhang and Sennrich 2019, arXiv:1910.07467).

    Args:
        input: (..., *normalized_shape).
        normalized_shape: the sizes of the last dimensions.
        weight: of that shape, or None.
        eps: added to the mean square; by default the dtype's machine epsilon.

    Raises:
        ShapeError: sizes do not fit.
    """
    x = tensor_of(input, "rms_norm")
    check_floating("rms_norm", x)
    size, (weight,) = _trailing("rms_norm", x, normalized_shape, weight=weight)
    return apply(RmsNorm, (x, weight), (size, _EPSILON[x._data.dtype.name] if eps is None else eps))  # type: ignore[no-any-return]
