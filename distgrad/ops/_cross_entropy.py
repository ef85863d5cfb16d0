"""Losses of classification: cross-entropy as one fused operation, and the negative log-likelihood."""

import math
from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._base import TensorBase
from ..autograd._node import Node
from ..autograd._op import Op, apply
from ..errors import DTypeError, ShapeError
from ._common import check_floating, tensor_of
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


def check_reduction(reduction: str, name: str) -> None:
    """Raises where `reduction` is none of torch's three.

    Raises:
        ValueError: it is something else.
    """
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{name}: expected reduction to be 'mean', 'sum' or 'none', got {reduction!r}")


def legacy_reduction(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """The reduction that torch's two deprecated flags stand for."""
    if size_average is None and reduce is None:
        return reduction
    if reduce is False:
        return "none"
    return "sum" if size_average is False else "mean"


def rows_of(x: Any, xp: Any) -> Any:
    """(N, C, d1, ...) as (N * d1 * ..., C)."""
    if len(x.shape) == 2:
        return x
    n, c = x.shape[:2]
    rest = math.prod(x.shape[2:])
    return xp.reshape(xp.permute_dims(xp.reshape(x, (n, c, rest)), (0, 2, 1)), (n * rest, c))


def from_rows(g: Any, shape: tuple[int, ...], xp: Any) -> Any:
    """The inverse of `rows_of`."""
    if len(shape) == 2:
        return g
    n, c = shape[:2]
    rest = math.prod(shape[2:])
    return xp.reshape(xp.permute_dims(xp.reshape(g, (n, rest, c)), (0, 2, 1)), shape)


class CrossEntropy(Op):
    """Inputs: x (N, C, ...), target (N, ...) of classes, weight (C,) or None.

    ``params = (reduction, ignore_index, label_smoothing)``. The loss of a row with target t is
    ``(1 - e) w_t (L - x_t) + e/C sum_c w_c (L - x_c)`` with ``L = logsumexp(x)``, so its gradient is
    ``a softmax(x) - (1 - e) w_t onehot(t) - e/C w`` with ``a = (1 - e) w_t + e/C sum_c w_c``.
    """

    name = "CrossEntropyLoss"
    saves = ((0,), (), ())
    quiet = True

    @staticmethod
    def forward(
        ctx: Node, x: Array, target: Array, weight: Array | None, reduction: str, ignore: int, smooth: float
    ) -> Array:
        xp, kernels = ctx.xp, ctx.kernels.loss
        rows = rows_of(x, ctx.backend.namespace)
        if x.dtype.itemsize == 2:
            rows = rows.astype("float32")
        classes, keep = kernels.check_classes(target.reshape(-1), rows.shape[1], ignore)
        w = None if weight is None else weight[classes]
        if keep is not None:
            w = keep.astype(x.dtype) if w is None else w * keep
        shift, exps, total, lse, picked = kernels.exp_rows(rows, classes)
        losses = lse - picked if w is None else (lse - picked) * w
        if keep is not None:
            losses = xp.where(keep, losses, 0)
        if smooth:
            spread = _spread(xp, rows, lse, weight, keep)
            losses = (1 - smooth) * losses + (smooth / rows.shape[1]) * spread
        count = rows.shape[0] if w is None else w.sum()
        ctx.cache = (exps, total)
        ctx.aux = (classes, keep, w, weight, count, shift, rows.dtype)
        if reduction == "none":
            return losses.reshape(target.shape).astype(x.dtype, copy=False)
        total_loss = losses.sum()
        return (total_loss / count if reduction == "mean" else total_loss).astype(x.dtype, copy=False)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        """By differentiable formulas."""
        reduction, _, smooth = ctx.params
        count, shift, dtype = ctx.aux[4:]
        rows = rows_of(x, xp)
        n, c = rows.shape
        exps = xp.exp(rows - shift)
        soft = exps / xp.sum(exps, axis=1, keepdims=True)
        onehot, a, flat = _constants(ctx, n, c, smooth, dtype)
        g = xp.reshape(g, (n, 1)) if reduction == "none" else g / count if reduction == "mean" else g
        return xp.astype(from_rows((soft * a - (onehot + flat)) * g, ctx.shapes[0], xp), x.dtype), None, None

    @staticmethod
    def backward_fast(xp: Any, ctx: Node, g: Any, x: Any) -> Any:
        if ctx.cache is None:
            return CrossEntropy.backward(xp, ctx, g, x)
        reduction, _, smooth = ctx.params
        classes, keep, w, weight, count, *_ = ctx.aux
        exps, total = ctx.cache
        n, c = exps.shape
        scale = g.reshape(n) if reduction == "none" else g / count if reduction == "mean" else g
        at_class = scale if w is None else scale * w
        subtract = ctx.kernels.loss.scaled_minus_onehot
        if not smooth:
            per_row = at_class if w is None and reduction != "none" else at_class.reshape(n, 1)
            result = subtract(exps, classes, per_row / total, at_class)
            return from_rows(result.astype(x.dtype, copy=False), ctx.shapes[0], xp), None, None
        at_class = at_class * (1 - smooth)
        each = scale * (smooth / c) if keep is None else scale * (smooth / c) * keep
        whole = at_class + each * (c if weight is None else weight.sum())
        per_row = whole.reshape(n, 1) if whole.size == n else whole
        result = subtract(exps, classes, per_row / total, at_class)
        column = each.reshape(-1, 1)
        result -= column if weight is None else column * weight
        return from_rows(result.astype(x.dtype, copy=False), ctx.shapes[0], xp), None, None


def _spread(xp: Any, rows: Array, lse: Array, weight: Array | None, keep: Array | None) -> Array:
    """For each row, ``sum_c w_c (L - x_c)``."""
    if weight is None:
        spread = lse * rows.shape[1] - rows.sum(axis=1)
    else:
        spread = lse * weight.sum() - rows @ weight
    return spread if keep is None else xp.where(keep, spread, 0)


def _constants(ctx: Node, n: int, c: int, smooth: float, dtype: Any) -> tuple[Any, Any, Any]:
    """For the differentiable gradient: the weighted one-hot rows, each row's factor of the softmax, the smoothing's
    share.
    """
    classes, keep, w, weight, *_ = ctx.aux
    xp = ctx.xp
    onehot = xp.zeros((n, c), dtype=dtype)
    a = xp.full((n, 1), 1.0 - smooth, dtype=dtype) if w is None else ((1 - smooth) * w).reshape(n, 1)
    onehot[xp.arange(n), classes] = a[:, 0]
    if not smooth:
        return onehot, a, xp.zeros((1, 1), dtype=dtype)
    per_class = xp.full((1, c), smooth / c, dtype=dtype) if weight is None else (weight * (smooth / c)).reshape(1, c)
    mask = xp.ones((n, 1), dtype=dtype) if keep is None else keep.astype(dtype).reshape(n, 1)
    flat = mask * per_class
    return onehot, a + flat.sum(axis=1, keepdims=True), flat


def _need_class_target(name: str, x: Array, target: Array) -> None:
    expected = (x.shape[0], *x.shape[2:]) if x.ndim > 1 else ()
    if target.shape != expected:
        raise ShapeError(
            f"{name}: expected a target of shape {list(expected)} (one class per sample) for an input of shape "
            f"{list(x.shape)}, "
            f"got {list(target.shape)}"
        )
    if target.dtype.kind not in "iu":
        raise DTypeError(
            f"{name}: expected a target of an integer dtype (class indices), got {target.dtype}; convert it with "
            ".long(), or pass class "
            "probabilities in the input's shape"
        )


def _class_inputs(name: str, input: Any, target: Any, weight: Any) -> Any:
    """The three inputs checked, with a batch dimension; and whether it was added."""
    x, t = tensor_of(input, name), tensor_of(target, name)
    if x._data.ndim == 0:
        raise ShapeError(f"{name}: expected an input of shape (N, C, ...) or (C,), got a 0-d tensor")
    check_floating(name, x)
    _need_class_target(name, x._data, t._data)
    classes = x._data.shape[1 if x._data.ndim > 1 else 0]
    weight = None if weight is None else tensor_of(weight, name)
    if weight is not None and weight._data.shape != (classes,):
        raise ShapeError(
            f"{name}: expected a weight for each of the {classes} classes, got shape {list(weight._data.shape)}"
        )
    single = x._data.ndim == 1
    return (x.unsqueeze(0), t.unsqueeze(0), weight, single) if single else (x, t, weight, single)


@op(method=False)
def cross_entropy(
    input: "Tensor",
    target: "Tensor",
    weight: "Tensor | None" = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> "Tensor":
    """The cross-entropy between logits and targets; softmax, logarithm and loss as one operation.

    Args:
        input: logits (N, C, d1, ...) or (C,).
        target: classes (N, d1, ...) of an integer dtype, or class probabilities in the shape and dtype of `input`.
        weight: (C,), a factor for each class.
        size_average, reduce: torch's deprecated names of `reduction`.
        ignore_index: a class whose samples count neither in the loss nor in the mean.
        reduction: ``"mean"`` (weighted by the targets' weights), ``"sum"`` or ``"none"``.
        label_smoothing: the share of the target spread evenly over all classes (Szegedy et al. 2016, arXiv:1512.00567).

    Raises:
        ShapeError: the shapes do not fit.
        DTypeError: class targets that are not integers, or an input of integers.
        IndexError: a class outside [0, C).
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    check_reduction(reduction, "cross_entropy")
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"cross_entropy: expected label_smoothing between 0 and 1, got {label_smoothing}")
    x = tensor_of(input, "cross_entropy")
    if isinstance(target, TensorBase) and target._data.shape == x._data.shape and target._data.dtype.kind not in "iub":
        return _soft_cross_entropy(x, target, weight, reduction, label_smoothing)
    x, t, weight, single = _class_inputs("cross_entropy", x, target, weight)
    result: Tensor = apply(CrossEntropy, (x, t, weight), (reduction, ignore_index, label_smoothing))
    return result.squeeze(0) if single and reduction == "none" else result


def _soft_cross_entropy(x: Any, target: Any, weight: Any, reduction: str, smooth: float) -> "Tensor":
    """Cross-entropy against probabilities."""
    dim = 1 if x._data.ndim > 1 else 0
    classes = x._data.shape[dim]
    if smooth:
        target = target * (1 - smooth) + smooth / classes
    logp = x.log_softmax(dim)
    if weight is not None:
        logp = logp * weight.reshape(-1, *(1,) * (x._data.ndim - dim - 1))
    losses = -(logp * target).sum(dim)
    if reduction == "none":
        return losses  # type: ignore[no-any-return]
    total = losses.sum()
    return total / max(x._data.size // classes, 1) if reduction == "mean" else total  # type: ignore[no-any-return]


class NllLoss(Op):
    """Inputs: log-probabilities (N, C, ...), target (N, ...), weight (C,) or None; ``params = (reduction,
    ignore_index)``.
    """

    quiet = True

    @staticmethod
    def forward(ctx: Node, x: Array, target: Array, weight: Array | None, reduction: str, ignore: int) -> Array:
        xp = ctx.xp
        classes, keep = ctx.kernels.loss.check_classes(target.reshape(-1), x.shape[1], ignore)
        w = None if weight is None else weight[classes]
        if keep is not None:
            w = keep.astype(x.dtype) if w is None else w * keep
        place = xp.expand_dims(classes.reshape(target.shape), 1)
        picked = xp.take_along_axis(x, place, 1).reshape(-1)
        losses = -picked if w is None else xp.where(w == 0, 0, -picked * w)
        count = classes.size if w is None else w.sum()
        ctx.aux = (place, w, count)
        if reduction == "none":
            return losses.reshape(target.shape)
        return losses.sum() / count if reduction == "mean" else losses.sum()

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        place, w, count = ctx.aux
        if ctx.params[0] == "mean":
            g = g / count
        if ctx.params[0] == "none":
            g = xp.reshape(g, place.shape)
        negative = -g if w is None else g * -w.reshape(place.shape)
        return xp.put_along_axis(xp.broadcast_to(negative, place.shape), place, ctx.shapes[0], axis=1), None, None


@op(method=False)
def nll_loss(
    input: "Tensor",
    target: "Tensor",
    weight: "Tensor | None" = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> "Tensor":
    """The negative log-likelihood: minus the log-probability of each target class.

    Args:
        input: log-probabilities (N, C, d1, ...) or (C,).
        target: classes (N, d1, ...) of an integer dtype.
        weight: (C,), a factor for each class.
        size_average, reduce: torch's deprecated names of `reduction`.
        ignore_index: a class whose samples count neither in the loss nor in the mean.
        reduction: ``"mean"`` (weighted by the targets' weights), ``"sum"`` or ``"none"``.

    Raises:
        ShapeError, DTypeError, IndexError: as `cross_entropy`.
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    check_reduction(reduction, "nll_loss")
    x, t, weight, single = _class_inputs("nll_loss", input, target, weight)
    result: Tensor = apply(NllLoss, (x, t, weight), (reduction, ignore_index))
    return result.squeeze(0) if single and reduction == "none" else result
