"""Statistics of data: quantiles, covariances, histograms; differences, and one-hot vectors."""

from typing import TYPE_CHECKING, Any

from ..autograd._base import TensorBase, wrap, wrap_result
from ..backend import OF_NUMPY, backend_of
from ..errors import DTypeError, ShapeError
from ._arithmetic import mul, sub
from ._common import axis_of, tensor_of
from ._join import cat
from ._linalg import matmul
from ._reduce import mean
from ._reduce import sum as sum_of
from ._shape import mT, reshape, squeeze, unsqueeze
from ._sort import sort
from ._spec import op
from ._split import narrow

if TYPE_CHECKING:
    from .._tensor import Tensor


@op()
def cross(input: "Tensor", other: "Tensor", dim: int | None = None) -> "Tensor":
    """The vector products along a dimension of size 3; by default the first such one."""
    a, b = tensor_of(input, "cross"), tensor_of(other, "cross")
    if dim is None:
        dim = next((i for i, n in enumerate(a._data.shape) if n == 3), -1)
    axis = axis_of(dim, a._data.ndim, "cross")
    if a._data.shape[axis] != 3 or b._data.shape[axis - a._data.ndim] != 3:
        raise ShapeError(
            f"cross: expected size 3 in dimension {axis}, got {list(a._data.shape)} and {list(b._data.shape)}"
        )
    place = axis - a._data.ndim
    x, y = ([narrow(t, place, i, 1) for i in range(3)] for t in (a, b))
    pairs = [(1, 2), (2, 0), (0, 1)]
    return cat([sub(mul(x[i], y[j]), mul(x[j], y[i])) for i, j in pairs], place)


@op(name="linalg.cross", method=False)
def linalg_cross(input: "Tensor", other: "Tensor", *, dim: int = -1) -> "Tensor":
    """The vector products along a dimension of size 3; by default the last."""
    return cross(input, other, dim)


@op()
def diff(input: "Tensor", n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> "Tensor":
    """The differences between neighbours along a dimension, `n` times.

    Args:
        input: a tensor of at least one dimension.
        n: how often.
        dim: the dimension.
        prepend, append: tensors put before and after `input` first.
    """
    input = tensor_of(input, "diff")
    axis = axis_of(dim, input._data.ndim, "diff")
    parts = [t for t in (prepend, input, append) if t is not None]
    t = cat(parts, axis) if len(parts) > 1 else input
    for _ in range(n):
        size = t._data.shape[axis]
        if size == 0:
            return t
        after, before = narrow(t, axis, 1, size - 1), narrow(t, axis, 0, size - 1)
        t = after ^ before if t._data.dtype.kind == "b" else sub(after, before)
    return t.clone() if t is input else t


@op()
def quantile(
    input: "Tensor", q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> "Tensor":
    """The q-th quantiles of all elements or along a dimension.

    Args:
        input: a floating-point tensor; where there is a nan, the result is nan.
        q: a number or a 1-d tensor of numbers from 0 to 1; a tensor's quantiles become the first dimension.
        dim: the dimension; None for the flattened tensor.
        keepdim: keep the dimension as 1.
        interpolation: between two elements: ``linear``, ``lower``, ``higher``, ``midpoint`` or ``nearest``.
    """
    return _quantile(input, q, dim, keepdim, interpolation, False)


@op()
def nanquantile(
    input: "Tensor", q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> "Tensor":
    """As `quantile`, of the elements that are not nan."""
    return _quantile(input, q, dim, keepdim, interpolation, True)


def _quantile(input: Any, q: Any, dim: Any, keepdim: bool, interpolation: str, ignore_nan: bool) -> "Tensor":
    t = tensor_of(input, "quantile")
    xp = backend_of(t._data).xp
    dtype = t._data.dtype
    if dtype.kind != "f":
        raise DTypeError(f"quantile: expected a floating-point dtype, got {OF_NUMPY[dtype]}; convert with .float()")
    quantiles = tensor_of(q if isinstance(q, TensorBase) else xp.asarray(q, dtype=dtype), "quantile")
    levels = quantiles._data
    if levels.size and not ((levels >= 0) & (levels <= 1)).all():
        raise ValueError(f"quantile: expected q between 0 and 1, got {levels}")
    full = (1,) * t._data.ndim
    line = reshape(t, -1) if dim is None else t.movedim(dim, -1) if t._data.ndim else reshape(t, 1)
    ordered = sort(line, -1).values  # (..., n), nan last
    n = line._data.shape[-1]
    nans = (line._data != line._data).sum(axis=-1, keepdims=True)
    last = xp.maximum(n - nans, 1) - 1 if ignore_nan else n - 1 + 0 * nans
    rank = mul(reshape(quantiles, -1), wrap(last.astype(dtype)))  # (..., levels)
    low, high, weight = _neighbours(xp, rank, interpolation)
    below, above = (ordered.gather(-1, wrap(xp.asarray(i))) for i in (low, high))
    result = below + (above - below) * weight
    if not ignore_nan:
        result = result.masked_fill(wrap(xp.broadcast_to(nans > 0, rank._data.shape)), float("nan"))
    result = result.movedim(-1, 0)  # (levels, ...)
    if keepdim and dim is None:
        result = reshape(result, (levels.size, *full))
    elif keepdim and t._data.ndim:
        result = unsqueeze(result, axis_of(dim, t._data.ndim, "quantile") + 1)
    elif t._data.ndim == 0:
        result = reshape(result, levels.size)
    return result if levels.ndim else squeeze(result, 0)


def _neighbours(xp: Any, ranks: Any, interpolation: str) -> tuple[Any, Any, Any]:
    """The places of the elements below and above ranks (a tensor), and the weight of the latter."""
    rank = ranks._data
    low, high = xp.floor(rank), xp.ceil(rank)
    if interpolation in ("lower", "higher", "nearest"):
        low = high = {"lower": low, "higher": high, "nearest": xp.rint(rank)}[interpolation]
        weight = wrap(xp.zeros_like(rank))
    elif interpolation == "midpoint":
        weight = wrap(xp.where(low == high, 0, 0.5).astype(rank.dtype))
    elif interpolation == "linear":
        weight = sub(ranks, wrap(low))
    else:
        raise ValueError(f"quantile: expected linear, lower, higher, midpoint or nearest, got {interpolation!r}")
    return low.astype("int64"), high.astype("int64"), weight


@op()
def cov(input: "Tensor", *, correction: int = 1, fweights: Any = None, aweights: Any = None) -> "Tensor":
    """The covariances of variables (rows) over observations (columns).

    Args:
        input: (variables, observations), or one variable (observations,).
        correction: the sum of products is divided by ``n - correction``.
        fweights: how often each observation counts, integers.
        aweights: the weight of each observation.

    Raises:
        ShapeError: the input has more than 2 dimensions, or weights are not one for each observation.
    """
    x = tensor_of(input, "cov")
    if x._data.ndim > 2:
        raise ShapeError(f"cov: expected 2 dimensions at most, got shape {list(x._data.shape)}")
    if x._data.ndim != 2:
        x = reshape(x, (1, -1))
    if x._data.dtype.kind in "biu":
        x = x.float()
    n = x._data.shape[1]
    for name, given in (("fweights", fweights), ("aweights", aweights)):
        if given is not None and (shape := tensor_of(given, "cov")._data.shape) != (n,):
            raise ShapeError(f"cov: expected {name} of shape {[n]}, got {list(shape)}")
    weights = fweights if aweights is None else aweights if fweights is None else fweights * aweights
    if weights is None:
        centred = sub(x, mean(x, 1, True))
        total = matmul(centred, mT(centred)) / max(n - correction, 0)
    else:
        weights = weights.to(dtype=x.dtype)
        whole = weights.sum()
        centred = sub(x, sum_of(mul(x, weights), 1, True) / whole)
        lost = correction if aweights is None else correction * (weights * aweights).sum() / whole
        total = matmul(mul(centred, weights), mT(centred)) / (whole - lost).clamp(min=0)
    return total if x._data.shape[0] != 1 else reshape(total, ())


@op()
def corrcoef(input: "Tensor") -> "Tensor":
    """The correlations of variables (rows) over observations (columns), between -1 and 1."""
    c = cov(input)
    if c._data.ndim == 0:
        return c / c
    deviation = c.diagonal().sqrt()
    return (c / unsqueeze(deviation, 1) / unsqueeze(deviation, 0)).clamp(-1, 1)


@op(differentiable=False)
def histc(input: "Tensor", bins: int = 100, min: float = 0, max: float = 0) -> "Tensor":
    """How many elements lie in each of `bins` equal intervals from `min` to `max` (those of the data, if both are
    equal)."""
    x = tensor_of(input, "histc")._data
    xp = backend_of(x).xp
    low, high = (float(x.min()), float(x.max())) if min == max and x.size else (float(min), float(max))
    if low == high:
        low, high = low - 1, high + 1
    counts, _ = xp.histogram(x.reshape(-1), bins=int(bins), range=(low, high))
    return wrap(counts.astype(x.dtype))


@op(differentiable=False)
def bincount(input: "Tensor", weights: Any = None, minlength: int = 0) -> "Tensor":
    """How often each number from 0 on occurs in a 1-d tensor of integers >= 0; or the sum of the weights there."""
    x = tensor_of(input, "bincount")._data
    xp = backend_of(x).xp
    if x.ndim != 1 or x.dtype.kind not in "iu" or (x.size and x.min() < 0):
        raise ShapeError(
            f"bincount: expected a 1-d tensor of integers >= 0, got shape {list(x.shape)} of {OF_NUMPY[x.dtype]}"
        )
    w = None if weights is None else tensor_of(weights, "bincount")._data
    if w is not None and w.shape != x.shape:
        raise ShapeError(f"bincount: expected weights of the input's shape {list(x.shape)}, got {list(w.shape)}")
    found = xp.bincount(x, w, minlength)
    wanted = "int64" if w is None else "float32" if w.dtype == "float32" else "float64"
    return wrap_result(found.astype(wanted), x)
