"""Sequences and grids: arange, linspace, eye, index grids."""

import math
from itertools import combinations as _combinations
from itertools import combinations_with_replacement as _combinations_with_replacement
from typing import TYPE_CHECKING, Any

import numpy as np

from .._typing import Array
from ..autograd._base import wrap
from ..backend import as_dtype, backend_of, get_default_dtype
from ..errors import ShapeError
from ._common import tensor_of
from ._creation import deliver, dtype_or_default, number_of, place
from ._join import cat
from ._shape import expand, reshape

if TYPE_CHECKING:
    from .._tensor import Tensor


def _ends(start: Any, end: Any, step: Any, name: str) -> tuple[Any, Any, Any]:
    """Where a range begins and ends, and its step, as numbers; one number alone is the end."""
    if end is None:
        start, end = 0, start
    start, end, step = number_of(start), number_of(end), number_of(step)
    if step == 0 or (end - start) * step < 0:
        raise ValueError(f"{name}: expected a step other than 0 that leads from {start} to {end}, got {step}")
    return start, end, step


def arange(
    start: Any,
    end: Any = None,
    step: Any = 1,
    *,
    out: Any = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> "Tensor":
    """``start, start + step, ...`` below `end`: ``arange(end)``, ``arange(start, end)``; int64 if all are ints.

    Raises:
        ValueError: the step is 0, or leads away from `end`.
    """
    start, end, step = _ends(start, end, step, "arange")
    whole = all(isinstance(v, int) for v in (start, end, step))
    inferred = np.dtype(np.int64) if whole else get_default_dtype().numpy
    chosen = inferred if dtype is None and out is None else dtype_or_default(dtype, out)
    xp = place(device).xp
    if whole:
        return deliver(
            xp.arange(start, end, step, dtype=np.int64).astype(chosen, copy=False), requires_grad, out, device
        )
    count = math.ceil((end - start) / step)
    values = xp.arange(count, dtype=np.float64)
    if chosen.kind in "iu":  # torch converts start and step first
        return deliver(values.astype(chosen) * int(step) + int(start), requires_grad, out, device)
    values *= step
    values += start
    return deliver(values.astype(chosen, copy=False), requires_grad, out, device)


def range_(
    start: Any = 0,
    end: Any = None,
    step: Any = 1,
    *,
    out: Any = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> "Tensor":
    """As `arange`, with `end` included where a step reaches it, in the default dtype; torch's old `range`."""
    start, end, step = _ends(start, end, step, "range")
    values = place(device).xp.arange(math.floor((end - start) / step) + 1, dtype=np.float64) * step + start
    return deliver(values.astype(dtype_or_default(dtype, out), copy=False), requires_grad, out, device)


def linspace(
    start: Any,
    end: Any,
    steps: int,
    *,
    out: Any = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> "Tensor":
    """`steps` numbers evenly spaced from `start` to `end`, both included.

    Raises:
        ValueError: steps < 0.
    """
    chosen = dtype_or_default(dtype, out)
    values = _spaced(place(device).xp, number_of(start), number_of(end), steps, chosen, "linspace")
    return deliver(values.astype(chosen, copy=False), requires_grad, out, device)


def _spaced(xp: Any, start: Any, end: Any, steps: int, dtype: Any, name: str) -> Array:
    if steps < 0:
        raise ValueError(f"{name}: expected steps >= 0, got {steps}")
    if dtype.kind in "iu":
        start, end = int(start), int(end)
    step = (end - start) / (steps - 1) if steps > 1 else 0.0
    places = xp.arange(steps, dtype=np.complex128 if dtype.kind == "c" else np.float64)
    # From both ends, as torch, so that the last number is exactly `end` and the sequence is symmetric.
    forward, backward = places * step, places[::-1] * step
    return xp.where(
        xp.arange(steps) < steps // 2 if steps > 1 else xp.ones(steps, dtype=bool), start + forward, end - backward
    )


def logspace(
    start: Any,
    end: Any,
    steps: int,
    base: float = 10.0,
    *,
    out: Any = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> "Tensor":
    """``base ** linspace(start, end, steps)``."""
    chosen = dtype_or_default(dtype, out)
    xp = place(device).xp
    exponents = _spaced(xp, number_of(start), number_of(end), steps, np.dtype(np.float64), "logspace")
    return deliver(xp.power(float(base), exponents).astype(chosen, copy=False), requires_grad, out, device)


def eye(
    n: int,
    m: int | None = None,
    *,
    out: Any = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> "Tensor":
    """Ones on the diagonal of an n x m matrix (n x n by default), zeros elsewhere."""
    if n < 0 or (m is not None and m < 0):
        raise ValueError(f"eye: expected sizes >= 0, got {n} and {m}")
    return deliver(place(device).xp.eye(n, m, dtype=dtype_or_default(dtype, out)), requires_grad, out, device)


def _triangle(name: str, row: int, col: int, offset: int, dtype: Any, device: Any) -> "Tensor":
    if row < 0 or col < 0:
        raise ValueError(f"{name}: expected sizes >= 0, got {row} and {col}")
    xp = place(device).xp
    below = xp.arange(row)[:, None] + offset >= xp.arange(col)
    mask = below if name == "tril_indices" else (xp.arange(row)[:, None] + offset <= xp.arange(col))
    chosen = as_dtype("int64" if dtype is None else dtype).numpy
    return wrap(xp.stack(xp.nonzero(mask)).astype(chosen, copy=False))


def tril_indices(
    row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None, layout: Any = None
) -> "Tensor":
    """The places of the lower triangle of a row x col matrix, as (2, count) indices in row-major order."""
    return _triangle("tril_indices", row, col, offset, dtype, device)


def triu_indices(
    row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None, layout: Any = None
) -> "Tensor":
    """The places of the upper triangle of a row x col matrix, as (2, count) indices in row-major order."""
    return _triangle("triu_indices", row, col, offset, dtype, device)


def meshgrid(*tensors: Any, indexing: str = "ij") -> "tuple[Tensor, ...]":
    """Grids of the coordinates in 1-d tensors, one for each, expanded without memory.

    Args:
        tensors: 1-d or 0-d tensors, or one list of them.
        indexing: ``"ij"`` (the first tensor runs along the rows) or ``"xy"`` (along the columns, as in plots).
    """
    given = list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else list(tensors)
    if indexing not in ("ij", "xy"):
        raise ValueError(f"meshgrid: expected indexing 'ij' or 'xy', got {indexing!r}")
    if not given or any(tensor_of(t, "meshgrid")._data.ndim > 1 for t in given):
        raise ShapeError("meshgrid: expected at least one tensor, and only 0-d and 1-d ones")
    order = list(range(len(given)))
    if indexing == "xy" and len(given) > 1:
        order[0], order[1] = 1, 0
    shape = [0] * len(given)
    for axis, t in zip(order, given, strict=True):
        shape[axis] = t._data.size
    grids = []
    for axis, t in zip(order, given, strict=True):
        column = reshape(t, *(t._data.size if i == axis else 1 for i in range(len(given))))
        grids.append(expand(column, *shape))
    return tuple(grids)


def cartesian_prod(*tensors: Any) -> "Tensor":
    """All combinations of one element of each 1-d tensor, as rows."""
    if len(tensors) == 1:
        return reshape(tensors[0], -1)
    grids = [reshape(g, -1, 1) for g in meshgrid(*tensors)]
    return cat(grids, dim=1)


def combinations(input: "Tensor", r: int = 2, with_replacement: bool = False) -> "Tensor":
    """All ways to choose `r` elements of a 1-d tensor, as rows, in the order of `itertools`."""
    data = tensor_of(input, "combinations")._data
    choose = _combinations_with_replacement if with_replacement else _combinations
    places = np.array(list(choose(range(data.size), r)), dtype=np.int64).reshape(-1, r)
    return input[backend_of(data).xp.asarray(places)] if places.size else wrap(data[:0].reshape(0, r))
