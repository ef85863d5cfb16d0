"""Losses of pairs: functions of the difference of input and target, and binary cross-entropy."""

import math
import warnings
from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._base import TensorBase
from ..autograd._node import Node
from ..autograd._op import Op, apply, result_dtype
from ..errors import ShapeError
from ._common import cast, check_floating, tensor_of
from ._cross_entropy import check_reduction, legacy_reduction
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


def reduced(losses: Array, reduction: str) -> Array:
    """An array of losses by torch's reduction; the mean of none is nan, quietly."""
    if reduction == "none":
        return losses
    total = losses.sum()
    return total / losses.size if reduction == "mean" else total


def _pair_shape(ctx: Node) -> tuple[int, ...]:
    x, y = ctx.shapes[:2]
    return x if x == y else tuple(ctx.aux)


def _share(ctx: Node, g: Any) -> Any:
    """The gradient of each single loss, when `g` is that of the reduced one."""
    return g if ctx.params[0] != "mean" else g / math.prod(_pair_shape(ctx))


class _DifferenceLoss(Op):
    """A loss ``f(x - y)``; ``params = (reduction, ...)``. Subclasses give `f` and its derivative."""

    saves = ((0, 1), (0, 1))
    broadcasts = True
    quiet = True

    @staticmethod
    def value(xp: Any, d: Array, parameter: float) -> Array:
        raise NotImplementedError

    @staticmethod
    def slope(xp: Any, d: Any, parameter: float) -> Any:
        raise NotImplementedError

    @staticmethod
    def forward(ctx: Node, x: Array, y: Array, reduction: str, parameter: float) -> Array:
        d = ctx.cache = x - y
        ctx.aux = d.shape
        return reduced(ctx.op.value(ctx.xp, d, parameter), reduction)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        d = x - y if ctx.cache is None else ctx.cache
        gx = ctx.op.slope(xp, d, ctx.params[1]) * _share(ctx, g)
        return gx if ctx.needs[0] else None, -gx if ctx.needs[1] else None


class MseLoss(_DifferenceLoss):
    @staticmethod
    def forward(ctx: Node, x: Array, y: Array, reduction: str, parameter: float) -> Array:
        d = ctx.cache = x - y
        ctx.aux = d.shape
        if reduction == "none":
            return d * d
        total = ctx.xp.vdot(d, d)
        return total / d.size if reduction == "mean" else total

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        d = x - y if ctx.cache is None else ctx.cache
        gx = d * (_share(ctx, g) * 2)
        return gx if ctx.needs[0] else None, -gx if ctx.needs[1] else None


class L1Loss(_DifferenceLoss):
    @staticmethod
    def value(xp: Any, d: Array, parameter: float) -> Array:
        return xp.abs(d)

    @staticmethod
    def slope(xp: Any, d: Any, parameter: float) -> Any:
        return xp.sign(d)


class HuberLoss(_DifferenceLoss):
    @staticmethod
    def value(xp: Any, d: Array, parameter: float) -> Array:
        size = xp.abs(d)
        return xp.where(size < parameter, d * d * 0.5, (size - parameter / 2) * parameter)

    @staticmethod
    def slope(xp: Any, d: Any, parameter: float) -> Any:
        return xp.where(xp.abs(d) < parameter, d, xp.sign(d) * parameter)


class SmoothL1Loss(_DifferenceLoss):
    @staticmethod
    def value(xp: Any, d: Array, parameter: float) -> Array:
        size = xp.abs(d)
        return xp.where(size < parameter, d * d * (0.5 / parameter), size - parameter / 2)

    @staticmethod
    def slope(xp: Any, d: Any, parameter: float) -> Any:
        return xp.where(xp.abs(d) < parameter, d / parameter, xp.sign(d))


def pair_of(name: str, input: Any, target: Any) -> tuple[Any, Any]:
    """Both as tensors of one dtype; warns, as torch does, where their shapes differ but broadcast.

    Raises:
        ShapeError: they cannot be broadcast.
        DTypeError: both are of bools.
    """
    x = input if isinstance(input, TensorBase) else tensor_of(input, name)
    y = target if isinstance(target, TensorBase) else tensor_of(target, name)
    a, b = x._data, y._data
    if a.shape != b.shape:
        _warn_of_shapes(name, a.shape, b.shape)
    if a.dtype is not b.dtype and a.dtype != b.dtype:
        dtype = result_dtype((x, y))
        x, y = cast(x, dtype), cast(y, dtype)
    elif a.dtype.kind == "b":
        check_floating(name, x)
    return x, y


def _warn_of_shapes(name: str, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    pairs = zip(a[::-1], b[::-1], strict=False)
    if not all(m == n or 1 in (m, n) for m, n in pairs):
        raise ShapeError(
            f"{name}: expected a target of the input's shape {list(a)}, got {list(b)}, and they cannot be broadcast"
        )
    warnings.warn(
        f"{name}: using a target size ({list(b)}) that is different to the input size ({list(a)}). This will likely "
        "lead to incorrect "
        "results due to broadcasting; give both the same size",
        UserWarning,
        stacklevel=4,
    )


def _difference(op: Any, name: str, input: Any, target: Any, reduction: str, parameter: float, weight: Any) -> "Tensor":
    check_reduction(reduction, name)
    x, y = pair_of(name, input, target)
    if weight is None:
        return apply(op, (x, y), (reduction, parameter))  # type: ignore[no-any-return]
    return weighted(apply(op, (x, y), ("none", parameter)), weight, reduction)


def weighted(losses: Any, weight: Any, reduction: str) -> "Tensor":
    """Losses times weights; the mean is over the weights."""
    losses = losses * weight
    if reduction == "none":
        return losses  # type: ignore[no-any-return]
    return losses.sum() / weight.expand(losses.shape).sum() if reduction == "mean" else losses.sum()  # type: ignore[no-any-return]


def reduce_losses(losses: Any, reduction: str) -> "Tensor":
    """A tensor of losses by torch's reduction."""
    return losses.mean() if reduction == "mean" else losses.sum() if reduction == "sum" else losses  # type: ignore[no-any-return]


@op(method=False)
def mse_loss(
    input: "Tensor",
    target: "Tensor",
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: "Tensor | None" = None,
) -> "Tensor":
    """The squared difference of input and target, averaged (``"mean"``), summed or as it is (``"none"``).

    Args:
        input, target: tensors of one shape.
        size_average, reduce: torch's deprecated names of `reduction`.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        weight: a factor for each element.
    """
    return _difference(
        MseLoss, "mse_loss", input, target, legacy_reduction(size_average, reduce, reduction), 0.0, weight
    )


@op(method=False)
def l1_loss(
    input: "Tensor",
    target: "Tensor",
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: "Tensor | None" = None,
) -> "Tensor":
    """The absolute difference of input and target; arguments as `mse_loss`."""
    return _difference(L1Loss, "l1_loss", input, target, legacy_reduction(size_average, reduce, reduction), 0.0, weight)


@op(method=False)
def smooth_l1_loss(
    input: "Tensor",
    target: "Tensor",
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> "Tensor":
    """The squared difference over 2 beta where it is smaller than `beta`, the absolute difference minus beta / 2
    elsewhere.

    Raises:
        ValueError: `beta` is negative.
    """
    if beta < 0:
        raise ValueError(f"smooth_l1_loss: expected beta >= 0, got {beta}")
    reduction = legacy_reduction(size_average, reduce, reduction)
    return _difference(SmoothL1Loss if beta else L1Loss, "smooth_l1_loss", input, target, reduction, float(beta), None)


@op(method=False)
def huber_loss(
    input: "Tensor", target: "Tensor", reduction: str = "mean", delta: float = 1.0, weight: "Tensor | None" = None
) -> "Tensor":
    """Half the squared difference where it is smaller than `delta`, ``delta * (abs - delta / 2)`` elsewhere (Huber
    1964).

    Raises:
        ValueError: `delta` is not positive.
    """
    if delta <= 0:
        raise ValueError(f"huber_loss: expected delta > 0, got {delta}")
    return _difference(HuberLoss, "huber_loss", input, target, reduction, float(delta), weight)


class BinaryCrossEntropy(Op):
    """Inputs: probabilities x and targets t of one shape; ``params = (reduction,)``. Logarithms are not below -100, as
    torch's.
    """

    saves = ((0, 1), (0,))
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, t: Array, reduction: str) -> Array:
        xp = ctx.xp
        log_x, log_rest = xp.maximum(xp.log(x), -100), xp.maximum(xp.log1p(-x), -100)
        return reduced((t - 1) * log_rest - t * log_x, reduction)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, t: Any) -> Any:
        g = _share(ctx, g)
        gx = g * (x - t) / xp.maximum((1 - x) * x, 1e-12) if ctx.needs[0] else None
        gt = None
        if ctx.needs[1]:
            gt = g * (xp.maximum(xp.log(1 - x), -100) - xp.maximum(xp.log(x), -100))
        return gx, gt


class BinaryCrossEntropyWithLogits(Op):
    """Inputs: logits x and targets t of one shape, pos_weight of that shape or None; ``params = (reduction,)``."""

    saves = ((0, 1, 2), (0, 2), ())
    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, t: Array, pos_weight: Array | None, reduction: str) -> Array:
        xp = ctx.xp
        # log(1 + exp(-x)) without overflow is log1p(exp(-|x|)) + max(-x, 0).
        tail = xp.log1p(xp.exp(-xp.abs(x))) - xp.minimum(x, 0)
        if pos_weight is not None:
            tail *= (pos_weight - 1) * t + 1
        return reduced((1 - t) * x + tail, reduction)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, t: Any, pos_weight: Any) -> Any:
        g = _share(ctx, g)
        gx = gt = None
        if ctx.needs[0]:
            if pos_weight is None:
                gx = (xp.sigmoid(x) - t) * g
            else:
                factor = (pos_weight - 1) * t + 1
                gx = ((1 - t) - factor * xp.sigmoid(-x)) * g
        if ctx.needs[1]:
            gt = -x * g
            if pos_weight is not None:
                softplus = xp.log(xp.exp(-xp.abs(x)) + 1) - xp.minimum(x, 0)
                gt = ((pos_weight - 1) * softplus - x) * g
        return gx, gt, None


def _binary_pair(name: str, input: Any, target: Any) -> tuple[Any, Any]:
    x, t = tensor_of(input, name), tensor_of(target, name)
    check_floating(name, x)
    if x._data.shape != t._data.shape:
        raise ShapeError(
            f"{name}: expected a target of the input's shape {list(x._data.shape)}, got {list(t._data.shape)}; "
            "unsqueeze or squeeze one of them"
        )
    return x, cast(t, x._data.dtype)


@op(method=False)
def binary_cross_entropy(
    input: "Tensor",
    target: "Tensor",
    weight: "Tensor | None" = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> "Tensor":
    """The cross-entropy of probabilities in [0, 1] against targets in [0, 1].

    Args:
        input, target: tensors of one shape.
        weight: a factor for each element, broadcast.
        size_average, reduce: torch's deprecated names of `reduction`.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ShapeError: the shapes differ.
        ValueError: an input is outside [0, 1].
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    check_reduction(reduction, "binary_cross_entropy")
    x, t = _binary_pair("binary_cross_entropy", input, target)
    if x._data.size and not bool((x._data.min() >= 0) & (x._data.max() <= 1)):
        raise ValueError(
            "binary_cross_entropy: expected all inputs between 0 and 1; apply sigmoid, or use "
            "binary_cross_entropy_with_logits"
        )
    if weight is None:
        return apply(BinaryCrossEntropy, (x, t), (reduction,))  # type: ignore[no-any-return]
    return reduce_losses(apply(BinaryCrossEntropy, (x, t), ("none",)) * weight, reduction)


@op(method=False)
def binary_cross_entropy_with_logits(
    input: "Tensor",
    target: "Tensor",
    weight: "Tensor | None" = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: "Tensor | None" = None,
) -> "Tensor":
    """The binary cross-entropy of ``sigmoid(input)``, exact also for large logits.

    Args:
        input, target: tensors of one shape.
        weight: a factor for each element, broadcast.
        size_average, reduce: torch's deprecated names of `reduction`.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        pos_weight: a factor for the positive part of each loss, broadcast.

    Raises:
        ShapeError: the shapes differ.
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    check_reduction(reduction, "binary_cross_entropy_with_logits")
    x, t = _binary_pair("binary_cross_entropy_with_logits", input, target)
    if pos_weight is not None:
        pos_weight = tensor_of(pos_weight, "binary_cross_entropy_with_logits")
        pos_weight = cast(pos_weight, x._data.dtype).expand(x._data.shape)
    if weight is None:
        return apply(BinaryCrossEntropyWithLogits, (x, t, pos_weight), (reduction,))  # type: ignore[no-any-return]
    losses = apply(BinaryCrossEntropyWithLogits, (x, t, pos_weight), ("none",))
    return reduce_losses(losses * weight, reduction)
