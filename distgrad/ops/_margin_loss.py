"""Losses of ranking and margins, and of distributions: compositions of other operations."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..autograd._base import wrap
from ..backend import backend_of
from ..errors import ShapeError
from ._common import floating, tensor_of
from ._cross_entropy import check_reduction, legacy_reduction
from ._distance import pairwise_distance
from ._loss import reduce_losses
from ._smooth_activation import logsigmoid, softplus
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


@op(method=False)
def kl_div(
    input: "Tensor",
    target: "Tensor",
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> "Tensor":
    """The Kullback-Leibler divergence ``target * (log(target) - input)``.

    Args:
        input: log-probabilities.
        target: probabilities, or their logarithms with `log_target`.
        size_average, reduce: torch's deprecated names of `reduction`.
        reduction: ``"mean"``, ``"sum"``, ``"none"``, or ``"batchmean"`` (the sum over the batch size: the divergence
            itself).
        log_target: whether the target is in logarithms.
    """
    x, t = tensor_of(input, "kl_div"), tensor_of(target, "kl_div")
    reduction = legacy_reduction(size_average, reduce, reduction)
    if reduction not in ("mean", "sum", "none", "batchmean"):
        raise ValueError(f"kl_div: expected reduction to be 'mean', 'sum', 'none' or 'batchmean', got {reduction!r}")
    losses = t.exp() * (t - x) if log_target else _times_log(t) - t * x
    if reduction == "batchmean":
        return losses.sum() / (x._data.shape[0] if x._data.ndim else 1)
    return reduce_losses(losses, reduction)


def _times_log(t: Any) -> Any:
    """``t * log(t)``, and 0 at 0."""
    positive = t > 0
    return (t * t.where(positive, 1.0).log()).where(positive | t.isnan(), 0.0)


@op(method=False)
def poisson_nll_loss(
    input: "Tensor",
    target: "Tensor",
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> "Tensor":
    """The negative log-likelihood of counts under a Poisson distribution.

    Args:
        input: the expected count, or its logarithm with `log_input`.
        target: the counts.
        full: add Stirling's approximation of ``log(target!)`` for targets above 1.
        eps: added to the input inside the logarithm.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
    """
    x, t = tensor_of(input, "poisson_nll_loss"), tensor_of(target, "poisson_nll_loss")
    reduction = legacy_reduction(size_average, reduce, reduction)
    check_reduction(reduction, "poisson_nll_loss")
    losses = x.exp() - t * x if log_input else x - t * (x + eps).log()
    if full:
        large = t.where(t > 1, 1.0)
        stirling = large * large.log() - large + (large * (2 * math.pi)).log() * 0.5
        losses = losses + stirling.where(t > 1, 0.0)
    return reduce_losses(losses, reduction)


@op(method=False)
def gaussian_nll_loss(
    input: "Tensor", target: "Tensor", var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> "Tensor":
    """The negative log-likelihood of a target under normal distributions of means `input` and variances `var`.

    Args:
        input, target: (N, ...).
        var: of that shape, or with 1 or no last dimension, or one number; counts as `eps` at least.
        full: add the constant ``log(2 pi) / 2``.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ValueError: a variance is negative.
        ShapeError: `var` has another shape.
    """
    check_reduction(reduction, "gaussian_nll_loss")
    x, t = floating(input, "gaussian_nll_loss"), tensor_of(target, "gaussian_nll_loss")
    v = x.new_full(x._data.shape, var) if isinstance(var, (int, float)) else floating(var, "gaussian_nll_loss")
    if v._data.shape != x._data.shape and x._data.shape[:-1] == v._data.shape:
        v = v.unsqueeze(-1)
    if v._data.ndim != x._data.ndim or any(n not in (1, m) for n, m in zip(v._data.shape, x._data.shape, strict=True)):
        raise ShapeError(
            f"gaussian_nll_loss: expected var of the input's shape {list(x._data.shape)}, got {list(v._data.shape)}"
        )
    if bool((v._data < 0).any()):
        raise ValueError("gaussian_nll_loss: expected variances >= 0, got a negative one")
    v = v + (v.detach().clamp(min=eps) - v.detach())  # clamped, but the gradient passes
    losses = (v.log() + (x - t) ** 2 / v) * 0.5
    if full:
        losses = losses + 0.5 * math.log(2 * math.pi)
    return reduce_losses(losses, reduction)


@op(method=False)
def hinge_embedding_loss(
    input: "Tensor",
    target: "Tensor",
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> "Tensor":
    """The input where the target is 1, ``max(0, margin - input)`` where it is -1."""
    x, t = tensor_of(input, "hinge_embedding_loss"), tensor_of(target, "hinge_embedding_loss")
    reduction = legacy_reduction(size_average, reduce, reduction)
    check_reduction(reduction, "hinge_embedding_loss")
    losses = (margin - x).clamp(min=0).where(t != 1, 0.0) + x.where(t != -1, 0.0)
    return reduce_losses(losses, reduction)


@op(method=False)
def soft_margin_loss(
    input: "Tensor",
    target: "Tensor",
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> "Tensor":
    """``log(1 + exp(-target * input))`` for targets 1 and -1."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    check_reduction(reduction, "soft_margin_loss")
    losses = softplus(-(tensor_of(target, "soft_margin_loss") * tensor_of(input, "soft_margin_loss")), threshold=1e9)
    return reduce_losses(losses, reduction)


def _alike(tensors: tuple[Any, ...], name: str) -> list["Tensor"]:
    """Three tensors of one number of dimensions, so that none is broadcast by mistake."""
    found = [tensor_of(t, name) for t in tensors]
    if len({t._data.ndim for t in found}) > 1:
        first, second, third = (list(t._data.shape) for t in found)
        raise ShapeError(
            f"{name}: expected tensors of one number of dimensions, got {first}, {second} and {third}; reshape them"
        )
    return found


@op(method=False)
def margin_ranking_loss(
    input1: "Tensor",
    input2: "Tensor",
    target: "Tensor",
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> "Tensor":
    """``max(0, -target * (input1 - input2) + margin)``: target 1 asks that input1 ranks higher, -1 that input2 does."""
    a, b, t = _alike((input1, input2, target), "margin_ranking_loss")
    reduction = legacy_reduction(size_average, reduce, reduction)
    check_reduction(reduction, "margin_ranking_loss")
    return reduce_losses((-t * (a - b) + margin).clamp(min=0), reduction)


@op(method=False)
def cosine_embedding_loss(
    input1: "Tensor",
    input2: "Tensor",
    target: "Tensor",
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> "Tensor":
    """``1 - cos(input1, input2)`` where the target is 1, ``max(0, cos - margin)`` where it is -1.

    Args:
        input1, input2: (N, D) or (D,).
        target: (N,) or ().
    """
    a, b, t = (tensor_of(v, "cosine_embedding_loss") for v in (input1, input2, target))
    if t._data.ndim not in (0, 1) or not a._data.ndim == b._data.ndim == t._data.ndim + 1:
        raise ShapeError(
            "cosine_embedding_loss: expected a target (N,) with inputs (N, D), or () with (D,), got "
            f"{list(t._data.shape)} with {list(a._data.shape)} and {list(b._data.shape)}"
        )
    reduction = legacy_reduction(size_average, reduce, reduction)
    check_reduction(reduction, "cosine_embedding_loss")
    # torch adds a constant inside the square roots here, where cosine_similarity takes a maximum.
    cosine = (a * b).sum(-1) / (((a * a).sum(-1) + 1e-12) * ((b * b).sum(-1) + 1e-12)).sqrt()
    losses = (1 - cosine).where(t == 1, 0.0) + (cosine - margin).clamp(min=0).where(t == -1, 0.0)
    return reduce_losses(losses, reduction)


@op(method=False)
def triplet_margin_loss(
    anchor: "Tensor",
    positive: "Tensor",
    negative: "Tensor",
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> "Tensor":
    """``max(0, d(anchor, positive) - d(anchor, negative) + margin)`` with the p-norm distance.

    Args:
        anchor, positive, negative: (N, D) or (D,).
        swap: use d(positive, negative) where it is smaller than d(anchor, negative) (Balntas et al. 2016).
    """
    if margin <= 0:
        raise ValueError(f"triplet_margin_loss: expected margin > 0, got {margin}")
    reduction = legacy_reduction(size_average, reduce, reduction)

    def distance(a: Any, b: Any) -> "Tensor":
        return pairwise_distance(a, b, p, eps)

    return triplet_margin_with_distance_loss(
        anchor, positive, negative, distance_function=distance, margin=margin, swap=swap, reduction=reduction
    )


@op(method=False)
def triplet_margin_with_distance_loss(
    anchor: "Tensor",
    positive: "Tensor",
    negative: "Tensor",
    *,
    distance_function: Callable[[Any, Any], Any] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> "Tensor":
    """`triplet_margin_loss` with any distance; `pairwise_distance` by default."""
    check_reduction(reduction, "triplet_margin_loss")
    anchor, positive, negative = _alike((anchor, positive, negative), "triplet_margin_loss")
    if margin <= 0:
        raise ValueError(f"triplet_margin_with_distance_loss: expected margin > 0, got {margin}")
    distance = pairwise_distance if distance_function is None else distance_function
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = far.minimum(distance(positive, negative))
    return reduce_losses((near - far + margin).clamp(min=0), reduction)


@op(method=False)
def multilabel_soft_margin_loss(
    input: "Tensor",
    target: "Tensor",
    weight: "Tensor | None" = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> "Tensor":
    """The mean over classes of the binary cross-entropy with logits.

    Args:
        input, target: (N, C) or (C,).
        weight: (C,) or None.
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    check_reduction(reduction, "multilabel_soft_margin_loss")
    x, t = tensor_of(input, "multilabel_soft_margin_loss"), tensor_of(target, "multilabel_soft_margin_loss")
    losses = -(t * logsigmoid(x) + (1 - t) * logsigmoid(-x))
    return reduce_losses((losses if weight is None else losses * weight).mean(-1), reduction)


@op(method=False)
def multi_margin_loss(
    input: "Tensor",
    target: "Tensor",
    p: int = 1,
    margin: float = 1.0,
    weight: "Tensor | None" = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> "Tensor":
    """The mean over classes of ``max(0, margin - x[target] + x[class]) ** p``, without the target's own.

    Args:
        input: (N, C) or (C,).
        target: classes (N,) or ().
        p: 1 or 2.
        weight: (C,), a factor by the target's class, or None.
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    check_reduction(reduction, "multi_margin_loss")
    if p not in (1, 2):
        raise ValueError(f"multi_margin_loss: expected p to be 1 or 2, got {p}")
    x, t = tensor_of(input, "multi_margin_loss"), tensor_of(target, "multi_margin_loss")
    single = x._data.ndim < 2
    rows, classes = x.reshape(1, -1) if single else x, t.reshape(-1, 1)
    gaps = (margin - rows.gather(1, classes) + rows).clamp(min=0) ** p
    if weight is not None:
        gaps = gaps * weight[classes.reshape(-1)].reshape(-1, 1)
    xp = backend_of(rows._data).xp
    others = wrap(xp.arange(rows._data.shape[1])[None, :] != classes._data)
    losses = gaps.where(others, 0.0).sum(1) / rows._data.shape[1]
    return reduce_losses(losses.squeeze(0) if single and t._data.ndim == 0 else losses, reduction)


@op(method=False)
def multilabel_margin_loss(
    input: "Tensor",
    target: "Tensor",
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> "Tensor":
    """The sum over target classes i and other classes j of ``max(0, 1 - (x[i] - x[j]))``, over the number of classes.

    Args:
        input: (N, C) or (C,).
        target: of that shape: each row's classes, ended by -1.
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    check_reduction(reduction, "multilabel_margin_loss")
    x, t = tensor_of(input, "multilabel_margin_loss"), tensor_of(target, "multilabel_margin_loss")
    if x._data.shape != t._data.shape:
        raise ShapeError(
            f"multilabel_margin_loss: expected a target of the input's shape {list(x._data.shape)}, got "
            f"{list(t._data.shape)}"
        )
    shape = x._data.shape
    rows, classes = x.reshape(-1, shape[-1] if shape else 1), t.reshape(-1, shape[-1] if shape else 1)
    xp = backend_of(rows._data).xp
    listed = xp.cumprod(classes._data >= 0, axis=1).astype(bool)  # before the first -1
    safe = xp.where(listed, classes._data, 0)
    is_target = xp.zeros(rows._data.shape, dtype=bool)
    line = xp.broadcast_to(xp.arange(len(safe))[:, None], safe.shape)
    is_target[line[listed], safe[listed]] = True
    gaps = (1 - rows.gather(1, wrap(safe)).unsqueeze(2) + rows.unsqueeze(1)).clamp(min=0)  # (N, target, class)
    counted = wrap(listed[:, :, None] & ~is_target[:, None, :])
    losses = gaps.where(counted, 0.0).sum((1, 2)) / rows._data.shape[1]
    return reduce_losses(losses.squeeze(0) if len(shape) < 2 else losses, reduction)
