"""New random tensors."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .._typing import Array, Shape
from ..autograd._base import TensorBase, wrap
from ..backend import as_dtype, backend_of, get_default_dtype
from ..backend._random import Stream
from ..errors import DTypeError, ShapeError
from ._common import tensor_of
from ._creation import deliver, new_shape
from ._generator import Generator, stream_of

if TYPE_CHECKING:
    from .._tensor import Tensor


def _float_dtype(dtype: Any, name: str) -> Any:
    chosen = get_default_dtype() if dtype is None else as_dtype(dtype)
    if not chosen.is_floating_point:
        raise DTypeError(
            f"{name}: expected a floating-point dtype, got {chosen}; draw in float32 and convert with .to(dtype)"
        )
    return chosen.numpy


# ---- new tensors -----------------------------------------------------------------------------------------------------


def rand(
    *size: Any,
    generator: Generator | None = None,
    out: Any = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> "Tensor":
    """Uniform numbers in [0, 1)."""
    array = stream_of(generator).uniform(new_shape(size), _float_dtype(dtype if out is None else out.dtype, "rand"))
    return deliver(array, requires_grad, out, device)


def randn(
    *size: Any,
    generator: Generator | None = None,
    out: Any = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> "Tensor":
    """Normal numbers of mean 0 and standard deviation 1."""
    array = stream_of(generator).normal(new_shape(size), _float_dtype(dtype if out is None else out.dtype, "randn"))
    return deliver(array, requires_grad, out, device)


def drawn_integers(low: Any, high: Any, shape: Shape, generator: Generator | None, dtype: Any, name: str) -> Array:
    if not low < high:
        raise ValueError(f"{name}: expected low < high, got low={low} and high={high}")
    return stream_of(generator).integers(int(low), int(high), shape).astype(dtype, copy=False)


def randint(
    low: int,
    high: Any = None,
    size: Any = None,
    *,
    generator: Generator | None = None,
    out: Any = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> "Tensor":
    """Integers from `low` to ``high - 1``: ``randint(high, size)`` or ``randint(low, high, size)``; int64 by default.

    Raises:
        ValueError: low >= high.
    """
    if size is None:
        low, high, size = 0, low, high
    elif high is None:
        low, high = 0, low
    chosen = as_dtype("int64" if dtype is None else dtype).numpy if out is None else out._data.dtype
    array = drawn_integers(low, high, new_shape((size,)), generator, chosen, "randint")
    return deliver(array, requires_grad, out, device)


def randperm(
    n: int,
    *,
    generator: Generator | None = None,
    out: Any = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> "Tensor":
    """The integers from 0 to ``n - 1`` in random order; int64 by default."""
    if n < 0:
        raise ValueError(f"randperm: expected n >= 0, got {n}")
    chosen = as_dtype("int64" if dtype is None else dtype).numpy
    return deliver(stream_of(generator).permutation(int(n)).astype(chosen, copy=False), requires_grad, out, device)


def _like_shape(input: Any, dtype: Any, device: Any, name: str) -> tuple[Shape, Any, Any]:
    """Shape, NumPy dtype and device of a ``*_like`` result."""
    data = tensor_of(input, name)._data
    where = backend_of(data).device_of(data) if device is None else device
    return data.shape, data.dtype if dtype is None else as_dtype(dtype).numpy, where


def rand_like(
    input: "Tensor",
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> "Tensor":
    """Uniform numbers in [0, 1) of the shape, dtype and device of `input`."""
    shape, chosen, where = _like_shape(input, dtype, device, "rand_like")
    return rand(shape, generator=generator, dtype=chosen, device=where, requires_grad=requires_grad)


def randn_like(
    input: "Tensor",
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> "Tensor":
    """Standard normal numbers of the shape, dtype and device of `input`."""
    shape, chosen, where = _like_shape(input, dtype, device, "randn_like")
    return randn(shape, generator=generator, dtype=chosen, device=where, requires_grad=requires_grad)


def randint_like(
    input: "Tensor",
    low: int,
    high: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> "Tensor":
    """Integers from `low` (0 in ``randint_like(input, high)``) to ``high - 1``, of the shape and dtype of `input`."""
    shape, chosen, where = _like_shape(input, dtype, device, "randint_like")
    return randint(low, high, shape, generator=generator, dtype=chosen, device=where, requires_grad=requires_grad)


def normal(
    mean: Any,
    std: Any = 1.0,
    size: Any = None,
    *,
    generator: Generator | None = None,
    out: Any = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> "Tensor":
    """Normal numbers.

    Args:
        mean, std: tensors that are broadcast, or numbers; two numbers need `size`.
        size: the shape, when both are numbers.

    Raises:
        ValueError: a standard deviation is negative.
    """
    given = [t for t in (mean, std) if isinstance(t, TensorBase)]
    lowest = std if not isinstance(std, TensorBase) else std._data.min() if std._data.size else 0
    if lowest < 0:
        raise ValueError(f"normal: expected all elements of std >= 0, got {float(lowest)}")
    if not given:
        if size is None:
            raise TypeError("normal: expected a size, as in normal(0.0, 1.0, (2, 3)), when mean and std are numbers")
        shape, chosen, where = new_shape((size,)), _float_dtype(dtype, "normal"), device
    else:
        shape = np.broadcast_shapes(*(t._data.shape for t in given))
        first = given[0]._data
        chosen, where = first.dtype, backend_of(first).device_of(first)
    m, s = (backend_of(t._data).to_numpy(t._data) if isinstance(t, TensorBase) else t for t in (mean, std))
    drawn = stream_of(generator).normal(shape, chosen) * s + m
    return deliver(np.asarray(drawn, dtype=chosen), requires_grad, out, where)


def bernoulli(input: "Tensor", p: Any = None, *, generator: Generator | None = None, out: Any = None) -> "Tensor":
    """1 with the probability that `input` gives (or `p`, if given), else 0, in the dtype of `input`.

    Raises:
        ValueError: a probability is not in [0, 1].
    """
    t = tensor_of(input, "bernoulli")
    drawn = drawn_bernoulli(t._data if p is None else p, t._data.shape, generator, "bernoulli")
    return deliver(on_device_of(t, drawn).astype(t._data.dtype), False, out)


def drawn_bernoulli(p: Any, shape: Shape, generator: Generator | None, name: str) -> Array:
    """A host array of bools, true with probability `p`: a number, an array or a tensor."""
    if isinstance(p, (int, float)):
        if not 0 <= p <= 1:
            raise ValueError(f"{name}: expected a probability in [0, 1], got {p}")
        return stream_of(generator).bernoulli(float(p), shape)
    probabilities = p._data if isinstance(p, TensorBase) else p
    host = backend_of(probabilities).to_numpy(probabilities)
    if host.size and not (host.min() >= 0 and host.max() <= 1):
        raise ValueError(f"{name}: expected probabilities in [0, 1], got values from {host.min()} to {host.max()}")
    return stream_of(generator).uniform(shape, np.dtype(np.float64)) < host.astype(np.float64)


def on_device_of(t: Any, host: Array) -> Array:
    """A host array on the device of `t`."""
    backend = backend_of(t._data)
    return host if backend.type == "cpu" else backend.from_host(host, backend.device_of(t._data))


def multinomial(
    input: "Tensor", num_samples: int, replacement: bool = False, *, generator: Generator | None = None, out: Any = None
) -> "Tensor":
    """Indices drawn by weight from each row.

    Args:
        input: weights >= 0, of shape (classes) or (rows, classes); they need not sum to 1.
        num_samples: how many from each row.
        replacement: whether a class may be drawn again.

    Returns:
        int64 of shape (num_samples) or (rows, num_samples).

    Raises:
        ValueError: a weight is negative or not finite, all of a row are 0, or there are fewer positive ones than draws.
    """
    t = tensor_of(input, "multinomial")
    host = backend_of(t._data).to_numpy(t._data).astype(np.float64)
    if host.ndim not in (1, 2):
        raise ShapeError(f"multinomial: expected weights of shape (classes) or (rows, classes), got {list(host.shape)}")
    rows = host.reshape(-1, host.shape[-1])
    _check_weights(rows, num_samples, replacement)
    drawn = (_with_replacement if replacement else _without_replacement)(rows, num_samples, stream_of(generator))
    result = drawn.reshape(*host.shape[:-1], num_samples)
    return deliver(on_device_of(t, result), False, out)


def _check_weights(rows: Array, num_samples: int, replacement: bool) -> None:
    if num_samples <= 0:
        raise ValueError(f"multinomial: expected num_samples > 0, got {num_samples}")
    if not (np.isfinite(rows).all() and (rows >= 0).all()):
        raise ValueError("multinomial: expected finite weights >= 0, got a negative, infinite or nan one")
    positive = (rows > 0).sum(axis=1)
    if rows.size and positive.min() == 0:
        raise ValueError("multinomial: expected a positive weight in each row, got a row of zeros")
    if not replacement and num_samples > rows.shape[1]:
        raise ValueError(
            f"multinomial: cannot draw {num_samples} of {rows.shape[1]} classes without replacement; pass "
            "replacement=True"
        )
    if not replacement and rows.size and positive.min() < num_samples:
        raise ValueError(
            f"multinomial: expected {num_samples} positive weights in each row to draw without replacement, got "
            f"{positive.min()}"
        )


def _with_replacement(rows: Array, num_samples: int, stream: Stream) -> Array:
    cumulative = rows.cumsum(axis=1)
    drawn = stream.uniform((rows.shape[0], num_samples), np.dtype(np.float64)) * cumulative[:, -1:]
    return np.stack([np.searchsorted(c, u, side="right") for c, u in zip(cumulative, drawn, strict=True)]).astype(
        np.int64
    )


def _without_replacement(rows: Array, num_samples: int, stream: Stream) -> Array:
    # The smallest of exponential waiting times with these rates (Efraimidis and Spirakis, 2006).
    with np.errstate(divide="ignore"):
        waits = stream.exponential(rows.shape) / rows
    first = np.argpartition(waits, num_samples - 1, axis=1)[:, :num_samples]
    order = np.argsort(np.take_along_axis(waits, first, axis=1), axis=1)
    return np.take_along_axis(first, order, axis=1).astype(np.int64)


def poisson(input: "Tensor", generator: Generator | None = None) -> "Tensor":
    """Poisson numbers with the rates that `input` gives, in its dtype."""
    t = tensor_of(input, "poisson")
    host = backend_of(t._data).to_numpy(t._data)
    if host.size and host.min() < 0:
        raise ValueError(f"poisson: expected rates >= 0, got {host.min()}")
    drawn = stream_of(generator).generator.poisson(host.astype(np.float64))
    return wrap(on_device_of(t, np.asarray(drawn).astype(host.dtype)))


def binomial(count: "Tensor", prob: "Tensor", generator: Generator | None = None) -> "Tensor":
    """Binomial numbers: successes among `count` trials of probability `prob`, broadcast, in the dtype of `count`."""
    n, p = tensor_of(count, "binomial"), tensor_of(prob, "binomial")
    counts, probabilities = (backend_of(x._data).to_numpy(x._data) for x in (n, p))
    drawn = stream_of(generator).generator.binomial(counts.astype(np.int64), probabilities.astype(np.float64))
    return wrap(on_device_of(n, np.asarray(drawn).astype(counts.dtype)))
