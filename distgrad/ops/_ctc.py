"""Connectionist temporal classification."""

import math
from typing import TYPE_CHECKING, Any

from ..autograd._base import wrap
from ..backend import backend_of
from ..errors import ShapeError
from ._common import tensor_of
from ._cross_entropy import check_reduction
from ._join import cat, stack
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


def _lengths(value: Any) -> list[int]:
    return [int(n) for n in (value.reshape(-1).tolist() if hasattr(value, "tolist") else value)]


def _labels(targets: Any, lengths: list[int], blank: int) -> list[list[int]]:
    """Each sample's target with a blank before, after and between its classes."""
    values = targets.tolist()
    if targets._data.ndim == 1:
        ends = [sum(lengths[: i + 1]) for i in range(len(lengths))]
        values = [values[end - n : end] for end, n in zip(ends, lengths, strict=True)]
    return [[blank, *(c for label in row[:n] for c in (label, blank))] for row, n in zip(values, lengths, strict=True)]


def _shifted(a: Any, by: int) -> Any:
    """The columns moved to the right, with -inf where they came from."""
    return (
        cat((a.new_full((a._data.shape[0], by), -math.inf), a[:, :-by]), 1)
        if a._data.shape[1] > by
        else a * 0 - math.inf
    )


@op(method=False)
def ctc_loss(
    log_probs: "Tensor",
    targets: "Tensor",
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> "Tensor":
    """Minus the log-probability of all alignments of the targets (Graves et al. 2006).

    Args:
        log_probs: (T, N, C) or (T, C), logarithms of probabilities.
        targets: (N, S), or the targets one after the other in one dimension; classes other than `blank`.
        input_lengths, target_lengths: (N,), how many steps and classes of each sample count.
        blank: the class that stands for none.
        reduction: ``"mean"`` (each loss over its target's length, then over the batch), ``"sum"`` or ``"none"``.
        zero_infinity: an impossible target counts 0 instead of inf.
    """
    check_reduction(reduction, "ctc_loss")
    x, t = tensor_of(log_probs, "ctc_loss"), tensor_of(targets, "ctc_loss")
    single = x._data.ndim == 2
    if single:
        x = x.unsqueeze(1)
        t = t if t._data.ndim == 2 else t.unsqueeze(0)
    if x._data.ndim != 3:
        raise ShapeError(f"ctc_loss: expected log_probs of shape (T, N, C) or (T, C), got {list(x._data.shape)}")
    steps, sizes = _lengths(input_lengths), _lengths(target_lengths)
    losses = _slope_of_softmax(x, steps) - _log_likelihood(x, _labels(t, sizes, blank), steps, blank)
    if zero_infinity:
        losses = losses.where(losses != math.inf, 0.0)
    if reduction == "none":
        return losses.squeeze(0) if single else losses  # type: ignore[no-any-return]
    if reduction == "sum":
        return losses.sum()  # type: ignore[no-any-return]
    return (losses / losses.new_tensor([float(max(n, 1)) for n in sizes])).mean()  # type: ignore[no-any-return]


def _slope_of_softmax(x: Any, steps: list[int]) -> Any:
    """0 for each sample; its gradient makes that of the loss what torch's is, which takes `x` for the output of a log-
    softmax.
    """
    xp = backend_of(x._data).xp
    counts = wrap((xp.arange(x._data.shape[0])[:, None] < xp.asarray(steps)[None, :]).astype(x._data.dtype))
    total = (x.exp().sum(2) * counts).sum(0)
    return total - total.detach()


def _log_likelihood(x: Any, labels: list[list[int]], steps: list[int], blank: int) -> Any:
    """The log-probability (N,) of each sample's target, by the forward recursion over time."""
    xp = backend_of(x._data).xp
    batch, width = len(labels), max(map(len, labels))
    padded = xp.asarray([row + [blank] * (width - len(row)) for row in labels], dtype="int64")
    real = xp.arange(width)[None, :] < xp.asarray([len(row) for row in labels])[:, None]
    jump = xp.zeros((batch, width), dtype=bool)  # whether the blank between two different classes may be left out
    jump[:, 2:] = (padded[:, 2:] != blank) & (padded[:, 2:] != padded[:, :-2])
    emitted = [x[t].gather(1, wrap(padded)) for t in range(max(steps))]
    first = wrap((xp.arange(width)[None, :] < 2) & real)
    alpha = emitted[0].where(first, -math.inf)
    history = [alpha]
    for t in range(1, max(steps)):
        ways = stack((alpha, _shifted(alpha, 1), _shifted(alpha, 2).where(wrap(jump), -math.inf)), 0)
        alpha = (_log_sum(ways) + emitted[t]).where(wrap(real), -math.inf)
        history.append(alpha)
    rows = []
    for i, (row, n) in enumerate(zip(labels, steps, strict=True)):
        rows.append(_log_sum(history[n - 1][i, max(len(row) - 2, 0) : len(row)]))
    return stack(rows, 0)


def _log_sum(ways: Any) -> Any:
    """logsumexp over the first dimension, whose gradient is 0 where all are -inf."""
    top = ways.detach().amax(0)
    top = top.where(top != -math.inf, 0.0)
    total = (ways - top).exp().sum(0)
    possible = total > 0
    return (total.where(possible, 1.0).log() + top).where(possible, -math.inf)
