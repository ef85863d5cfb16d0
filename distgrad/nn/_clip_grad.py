"""Gradients kept within bounds, after backward and before the optimizer's step."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import ops
from .._tensor import Tensor
from ..autograd import no_grad
from ..autograd._base import share_of
from ..backend import as_array, backend_of

_BLOCK = 1 << 14  # elements
Parameters = Tensor | Iterable[Tensor]


def _gradients(parameters: Parameters) -> list[Tensor]:
    listed = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [p.grad for p in listed if p.grad is not None]


@no_grad()
def get_total_norm(
    tensors: Parameters, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: bool | None = None
) -> Tensor:
    """The norm of all tensors together, as if they were one vector.

    Args:
        tensors: one or several.
        norm_type: the p of the norm; may be inf.
        error_if_nonfinite: raise where it is nan or inf.
        foreach: accepted as in torch.

    Raises:
        RuntimeError: it is nan or inf, and `error_if_nonfinite` is set.
    """
    listed = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    total = _norm_of(listed, float(norm_type))
    if error_if_nonfinite and not math.isfinite(total):
        raise RuntimeError(
            f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, so it cannot be "
            "clipped. Look for the cause, or set `error_if_nonfinite=False` to scale by it anyway"
        )
    dtype = listed[0].dtype if listed else None
    return ops.tensor(total, dtype=dtype, device=listed[0].device if listed else None)


def _norm_of(tensors: list[Tensor], p: float) -> float:
    shares = [share for t in tensors if (share := share_of(t)) is not None]
    whole = [t._data for t in tensors if share_of(t) is None]
    if p == math.inf:
        largest = _largest(whole)
        return max(largest, shares[0].largest(_largest([s.part for s in shares]))) if shares else largest
    total = _power_sum(whole, p)
    if shares:  # of gradients that are spread over the ranks
        total += shares[0].total(_power_sum([s.part for s in shares], p))
    return math.sqrt(total) if p == 2.0 else math.pow(total, 1.0 / p)


def _largest(arrays: list[Any]) -> float:
    return max(_values([backend_of(a).xp.abs(a).max() for a in arrays if a.size]), default=0.0)


def _power_sum(arrays: list[Any], p: float) -> float:
    if p != 2.0:
        return math.fsum(_values([(backend_of(a).xp.abs(a) ** p).sum(dtype="float64") for a in arrays]))
    total = sum(_values([_square_sum(a) for a in arrays]))
    if math.isfinite(total):
        return total
    return sum(_values([(a.astype("float64") ** 2).sum() for a in arrays]))  # float32 may have overflowed


def _values(results: list[Any]) -> list[float]:
    """Results without dimensions as numbers; those of one device in one transfer, for which the program waits once."""
    places: dict[tuple[Any, Any], list[Any]] = {}
    for result in map(as_array, results):  # NumPy's own are scalars
        backend = backend_of(result)
        places.setdefault((backend, backend.device_of(result)), []).append(result)
    found: list[float] = []
    for (backend, _), group in places.items():
        found += backend.to_numpy(backend.xp.stack(group)).tolist()
    return found


def _square_sum(a: Any) -> Any:
    """The sum of squares, by BLAS in blocks that are added up in double precision."""
    backend = backend_of(a)
    flat = a.ravel(order="K")
    if flat.dtype.char != "d":
        flat = flat.astype("float32", copy=False)
    whole = flat.size // _BLOCK * _BLOCK
    blocks, rest = flat[:whole].reshape(-1, _BLOCK), flat[whole:]
    with backend.quiet():
        sums = backend.xp.matmul(blocks[:, None, :], blocks[:, :, None])
        return sums.sum(dtype="float64") + rest.dot(rest)


@no_grad()
def clip_grads_with_norm_(
    parameters: Parameters, max_norm: float, total_norm: Tensor, foreach: bool | None = None
) -> None:
    """Scales gradients in place by ``max_norm / total_norm``, where that is below 1."""
    _scale(_gradients(parameters), float(max_norm), float(total_norm))


def _scale(gradients: list[Tensor], max_norm: float, total_norm: float) -> None:
    factor = max_norm / (total_norm + 1e-6) if not math.isinf(total_norm) else 0.0
    if factor >= 1.0:
        return
    for g in gradients:
        with np.errstate(invalid="ignore"):
            share = share_of(g)
            part = g._data if share is None else share.part
            if g._target is None and part.itemsize >= 4:
                part *= factor  # where it lies; mul_ would make a copy first
                g._cell[0] += 1
            else:
                g.mul_(factor)


def clip_grad_norm_(
    parameters: Parameters,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scales gradients in place so that their norm, taken over all parameters together, is at most `max_norm`.

    Args:
        parameters: one or several; those without a gradient do not count.
        max_norm: the bound.
        norm_type: the p of the norm; may be inf.
        error_if_nonfinite: raise where the norm is nan or inf.
        foreach: accepted as in torch.

    Returns:
        The norm before.

    Example:
        >>> loss.backward()
        >>> nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        >>> optimizer.step()
    """
    gradients = _gradients(parameters)
    total = get_total_norm(gradients, norm_type, error_if_nonfinite)
    _scale(gradients, float(max_norm), float(total))
    return total


@no_grad()
def clip_grad_value_(parameters: Parameters, clip_value: float, foreach: bool | None = None) -> None:
    """Cuts every element of the gradients off to [-clip_value, clip_value], in place."""
    for g in _gradients(parameters):
        g.clamp_(-float(clip_value), float(clip_value))
