"""Random numbers written into a tensor: ``Tensor.uniform_`` and its like. The tensor's history ends."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .._typing import Array
from ..autograd._inplace import check_writable, wrote
from ..errors import DTypeError
from ._generator import Generator, stream_of
from ._random import drawn_bernoulli, drawn_integers, on_device_of

if TYPE_CHECKING:
    from .._tensor import Tensor


def _fill(t: Any, host: Array) -> Any:
    """Writes drawn numbers into a tensor, whose history ends."""
    check_writable(t)
    t._data[...] = on_device_of(t, host)
    wrote(t, None)
    return t


def _need_float(t: Any, name: str) -> Any:
    if t._data.dtype.kind not in "fV":
        raise DTypeError(f"{name}: expected a floating-point tensor, got {t.dtype}; convert it with .float() first")
    return t._data.dtype


def uniform_(input: "Tensor", from_: float = 0.0, to: float = 1.0, *, generator: Generator | None = None) -> "Tensor":
    """Fills a tensor with uniform numbers in [from, to).

    Raises:
        ValueError: from > to.
    """
    if not from_ <= to:
        raise ValueError(f"uniform_: expected from <= to, got from={from_} and to={to}")
    dtype = _need_float(input, "uniform_")
    drawn = stream_of(generator).uniform(input._data.shape, dtype)
    if (from_, to) != (0.0, 1.0):
        drawn *= dtype.type(to - from_)
        drawn += dtype.type(from_)
    return _fill(input, drawn)  # type: ignore[no-any-return]


def normal_(input: "Tensor", mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> "Tensor":
    """Fills a tensor with normal numbers.

    Raises:
        ValueError: std < 0.
    """
    if std < 0:
        raise ValueError(f"normal_: expected std >= 0, got {std}")
    dtype = _need_float(input, "normal_")
    drawn = stream_of(generator).normal(input._data.shape, dtype)
    if (mean, std) != (0.0, 1.0):
        drawn *= dtype.type(std)
        drawn += dtype.type(mean)
    return _fill(input, drawn)  # type: ignore[no-any-return]


def exponential_(input: "Tensor", lambd: float = 1.0, *, generator: Generator | None = None) -> "Tensor":
    """Fills a tensor with exponential numbers of rate `lambd`."""
    if not lambd > 0:
        raise ValueError(f"exponential_: expected lambd > 0, got {lambd}")
    _need_float(input, "exponential_")
    return _fill(input, stream_of(generator).exponential(input._data.shape) / lambd)  # type: ignore[no-any-return]


def cauchy_(
    input: "Tensor", median: float = 0.0, sigma: float = 1.0, *, generator: Generator | None = None
) -> "Tensor":
    """Fills a tensor with Cauchy numbers."""
    if not sigma > 0:
        raise ValueError(f"cauchy_: expected sigma > 0, got {sigma}")
    _need_float(input, "cauchy_")
    drawn = stream_of(generator).generator.standard_cauchy(input._data.shape)
    return _fill(input, drawn * sigma + median)  # type: ignore[no-any-return]


def log_normal_(
    input: "Tensor", mean: float = 1.0, std: float = 2.0, *, generator: Generator | None = None
) -> "Tensor":
    """Fills a tensor with numbers whose logarithms are normal, of this mean and standard deviation."""
    if not std > 0:
        raise ValueError(f"log_normal_: expected std > 0, got {std}")
    _need_float(input, "log_normal_")
    drawn = stream_of(generator).generator.lognormal(mean, std, input._data.shape)
    return _fill(input, drawn)  # type: ignore[no-any-return]


def geometric_(input: "Tensor", p: float, *, generator: Generator | None = None) -> "Tensor":
    """Fills a tensor with geometric numbers: the trial (from 1) of the first success of probability `p`."""
    if not 0 < p < 1:
        raise ValueError(f"geometric_: expected 0 < p < 1, got {p}")
    return _fill(input, stream_of(generator).generator.geometric(p, input._data.shape))  # type: ignore[no-any-return]


def bernoulli_(input: "Tensor", p: Any = 0.5, *, generator: Generator | None = None) -> "Tensor":
    """Fills a tensor with 1 (probability `p`: a number or a tensor) and 0."""
    return _fill(input, drawn_bernoulli(p, input._data.shape, generator, "bernoulli_"))  # type: ignore[no-any-return]


def random_(input: "Tensor", from_: int = 0, to: Any = None, *, generator: Generator | None = None) -> "Tensor":
    """Fills a tensor with integers from `from` to ``to - 1``; by default up to the last that its dtype counts exactly.

    ``random_(n)`` draws from 0 to ``n - 1``.
    """
    if to is None and from_ != 0:
        from_, to = 0, from_
    if to is None:
        to = _largest(input._data.dtype) + 1
    drawn = drawn_integers(from_, to, input._data.shape, generator, np.int64, "random_")
    return _fill(input, drawn.astype(input._data.dtype))  # type: ignore[no-any-return]


def _largest(dtype: Any) -> int:
    if dtype.kind in "iu":
        return min(int(np.iinfo(dtype).max), 2**63 - 2)
    if dtype.kind == "b":
        return 1
    digits = {"float16": 11, "float32": 24, "float64": 53}.get(dtype.name, 8)
    return int(math.ldexp(1, digits))
