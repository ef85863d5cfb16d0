"""Normalisation over groups of channels, over planes, and over neighbouring channels."""

import math
from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._base import wrap
from ..autograd._node import Node
from ..autograd._op import Op, apply
from ..backend import backend_of
from ..errors import ShapeError
from ._common import check_floating, tensor_of
from ._norm import batch_norm, in_dtype_of, move_towards, of_channels, per_channel, sum_per_channel
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


class GroupNorm(Op):
    """Inputs: x (N, C, ...), weight and bias (C,) or None; ``params = (groups, eps)``."""

    name = "NativeGroupNorm"
    saves = ((0, 1), (0,), ())
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, weight: Array | None, bias: Array | None, groups: int, eps: float) -> Array:
        out, *ctx.cache = ctx.kernels.norm.group_forward(x, groups, weight, bias, eps)
        return out

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, weight: Any) -> Any:
        """By differentiable formulas."""
        groups, eps = ctx.params
        shape = ctx.shapes[0]
        rank, rows = len(shape), (shape[0] * groups, math.prod(shape[1:]) // groups)
        axes = (0, *range(2, rank))
        if x is None:
            return None, None, sum_per_channel(xp, g)
        xs = xp.reshape(x, rows)
        centred = xs - xp.mean(xs, axis=1, keepdims=True)
        invstd = 1 / xp.sqrt(xp.mean(centred * centred, axis=1, keepdims=True) + eps)
        xhat = centred * invstd
        gx = gw = gb = None
        if ctx.needs[0]:
            h = xp.reshape(g if weight is None else g * per_channel(weight, rank), rows)
            h = h - xp.mean(h, axis=1, keepdims=True) - xhat * xp.mean(h * xhat, axis=1, keepdims=True)
            gx = xp.reshape(h * invstd, shape)
        if ctx.needs[1]:
            gw = xp.sum(g * xp.reshape(xhat, shape), axis=axes)
        if ctx.needs[2]:
            gb = xp.sum(g, axis=axes)
        return gx, gw, gb

    @staticmethod
    def backward_fast(xp: Any, ctx: Node, g: Any, x: Any, weight: Any) -> Any:
        if ctx.cache is None or x is None:
            return GroupNorm.backward(xp, ctx, g, x, weight)
        gx, gw, gb = ctx.kernels.norm.group_backward(g, x, *ctx.cache, weight, ctx.needs)
        return gx, in_dtype_of(gw, g), in_dtype_of(gb, g)


@op(method=False)
def group_norm(
    input: "Tensor", num_groups: int, weight: "Tensor | None" = None, bias: "Tensor | None" = None, eps: float = 1e-05
) -> "Tensor":
    """Each group of channels of each sample normalised, then scaled and shifted (Wu and He 2018, arXiv:1803.08494).

    Args:
        input: (N, C, ...).
        num_groups: divides C.
        weight, bias: (C,) or None.
        eps: added to the variance.

    Raises:
        ShapeError: sizes do not fit.
    """
    x = tensor_of(input, "group_norm")
    check_floating("group_norm", x)
    if x._data.ndim < 2 or num_groups < 1 or x._data.shape[1] % num_groups:
        raise ShapeError(
            "group_norm: expected an input (N, C, ...) with a number of channels divisible by "
            f"num_groups={num_groups}, got "
            f"{list(x._data.shape)}"
        )
    weight, bias = of_channels("group_norm", x._data.shape[1], weight=weight, bias=bias)
    return apply(GroupNorm, (x, weight, bias), (num_groups, eps))  # type: ignore[no-any-return]


@op(method=False)
def instance_norm(
    input: "Tensor",
    running_mean: "Tensor | None" = None,
    running_var: "Tensor | None" = None,
    weight: "Tensor | None" = None,
    bias: "Tensor | None" = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-05,
) -> "Tensor":
    """Each channel of each sample normalised (Ulyanov et al. 2016, arXiv:1607.08022).

    Args:
        input: (N, C, ...).
        running_mean, running_var: (C,) or None; moved towards the mean of the samples' statistics, or used instead of
            them.
        weight, bias: (C,) or None.
        use_input_stats: normalise by the samples' own statistics.
        momentum, eps: as `batch_norm`.

    Raises:
        ShapeError: sizes do not fit.
        ValueError: one value per channel, or no statistics.
    """
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    x = tensor_of(input, "instance_norm")
    check_floating("instance_norm", x)
    if x._data.ndim < 3:
        raise ShapeError(f"instance_norm: expected an input of shape (N, C, ...), got {list(x._data.shape)}")
    n, channels = x._data.shape[:2]
    count = math.prod(x._data.shape[2:])
    if count == 1:
        raise ValueError(f"Expected more than 1 spatial element when training, got input size {list(x._data.shape)}")
    running_mean, running_var, weight, bias = of_channels(
        "instance_norm", channels, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias
    )
    if running_mean is not None or running_var is not None:
        planes = x._data.reshape(n, channels, count)
        move_towards(running_mean, planes.mean(axis=2).mean(axis=0), momentum)
        move_towards(running_var, planes.var(axis=2).mean(axis=0) * (count / (count - 1)), momentum)
    return apply(GroupNorm, (x, weight, bias), (channels, eps))  # type: ignore[no-any-return]


@op(method=False)
def local_response_norm(
    input: "Tensor", size: int, alpha: float = 0.0001, beta: float = 0.75, k: float = 1.0
) -> "Tensor":
    """``input / (k + alpha * mean of the squares of `size` neighbouring channels) ** beta`` (Krizhevsky et al. 2012).

    Args:
        input: (N, C, ...), of three dimensions or more.
        size: the number of channels.
        alpha, beta, k: the constants of the formula.
    """
    x = tensor_of(input, "local_response_norm")
    if x._data.ndim < 3:
        raise ShapeError(
            "local_response_norm: expected an input of shape (N, C, ...) with 3 dimensions or more, got "
            f"{list(x._data.shape)}"
        )
    channels = x._data.shape[1]
    xp = backend_of(x._data).xp
    distance = xp.arange(channels)[:, None] - xp.arange(channels)  # input channel minus output channel
    near = (distance >= -(size // 2)) & (distance < size - size // 2)
    squares = (x * x).transpose(1, -1) @ wrap(near.astype(x._data.dtype))
    return x / ((squares.transpose(1, -1) * (alpha / size) + k) ** beta)
