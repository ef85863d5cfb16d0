"""Element-wise reductions of host arrays, for the backends that add up by themselves."""

import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from .._typing import Array
from ._dtypes import lookup
from ._types import ReduceOp

CHUNK_BYTES = 128 * 1024  # partial results of this size stay in the L2 cache between two passes

_COMBINE: dict[ReduceOp, Callable[..., Array]] = {
    ReduceOp.SUM: np.add,
    ReduceOp.AVG: np.add,
    ReduceOp.PRODUCT: np.multiply,
    ReduceOp.MIN: np.minimum,
    ReduceOp.MAX: np.maximum,
    ReduceOp.BAND: np.bitwise_and,
    ReduceOp.BOR: np.bitwise_or,
    ReduceOp.BXOR: np.bitwise_xor,
}


def divide(buffer: Array, size: int) -> None:
    """Divide in place by the number of ranks."""
    scale, factor = _division(buffer.dtype, size)
    scale(buffer, factor, out=buffer)


def _division(dtype: "np.dtype[np.generic]", size: int) -> tuple[Callable[..., Array], Array]:
    """How to divide by the number of ranks: a power of two by multiplying, which is exact as well and faster."""
    if size & (size - 1) == 0:
        return np.multiply, np.array(1 / size, dtype)
    return np.divide, np.array(size, dtype)


def reduce_into(output: Array, inputs: Sequence[Array], op: ReduceOp) -> None:
    """Combine the inputs in their order, one cache-sized chunk after the other.

    Args:
        output: shape (n,); it may be one of the inputs.
        inputs: one array of shape (n,) for each rank.
        op: how to combine; 16-bit floats are accumulated in float32 and rounded once.
    """
    if len(inputs) == 1:
        np.copyto(output, inputs[0])
        return
    late = any(np.may_share_memory(output, source) for source in inputs[2:])
    reduce = _kernel(output.dtype, op, len(inputs))
    with np.errstate(all="ignore"):  # an overflow is for the caller to look for, as with MPI
        for result, *chunks in _chunks([output, *inputs]):
            if late:  # accumulating in it would lose that input
                total = np.empty_like(result)
                reduce(total, chunks)
                np.copyto(result, total)
            else:
                reduce(result, chunks)


def reduced(inputs: Sequence[Array], op: ReduceOp) -> Array:
    """The inputs combined, in new memory; see `reduce_into`."""
    output = np.empty_like(inputs[0])
    reduce_into(output, inputs, op)
    return output


def reduce_in_place(arrays: Sequence[Array], op: ReduceOp) -> None:
    """Combine the arrays in their order and write the result into each of them, while it is in the cache.

    Args:
        arrays: one array of shape (n,) for each rank.
        op: how to combine; 16-bit floats are accumulated in float32 and rounded once.
    """
    reduce = _kernel(arrays[0].dtype, op, len(arrays))
    with np.errstate(all="ignore"):
        for chunks in _chunks(arrays):
            result = chunks[0]
            reduce(result, chunks)
            for other in chunks[1:]:
                np.copyto(other, result)


class Carried:
    """A reduction in steps, as of ranks on several nodes: totals are of the dtype of accumulation and rounded once.

    The result is that of `reduce_into` over all inputs in the order of the steps, to the last bit.

    Args:
        dtype: that of the inputs.
        op: how to combine.
        size: the number of inputs in all steps together.
    """

    def __init__(self, dtype: "np.dtype[np.generic]", op: ReduceOp, size: int) -> None:
        wide = lookup(dtype).accumulate
        self.dtype = wide if wide.itemsize > dtype.itemsize else dtype
        self._combine = _COMBINE[op]
        self._scale = _division(wide, size) if op is ReduceOp.AVG else None

    def begin(self, total: Array, inputs: Sequence[Array]) -> None:
        """Combine the first inputs into `total`, which is of `self.dtype`."""
        np.copyto(total, inputs[0])
        self.go_on(total, inputs[1:])

    def go_on(self, total: Array, inputs: Sequence[Array]) -> None:
        """Combine the next inputs into `total`."""
        for source in inputs:
            self._combine(total, source.astype(self.dtype, copy=False), out=total)

    def end(self, result: Array, total: Array) -> None:
        """Write the result of all steps, in the dtype of the inputs; `total` is used up."""
        if self._scale is not None:
            scale, factor = self._scale
            scale(total, factor, out=total)
        result[...] = total


def _chunks(arrays: Sequence[Array]) -> Iterator[Sequence[Array]]:
    """The arrays side by side, cut into chunks; rows of a 2-D view cost less than slices."""
    n, step = arrays[0].size, CHUNK_BYTES // arrays[0].itemsize
    if n <= step:
        yield arrays
        return
    whole = n - n % step
    yield from zip(*(array[:whole].reshape(-1, step) for array in arrays), strict=True)
    if whole < n:
        yield [array[whole:] for array in arrays]


@functools.lru_cache(maxsize=256)
def _kernel(dtype: "np.dtype[np.generic]", op: ReduceOp, size: int) -> Callable[[Array, Sequence[Array]], None]:
    """A function that combines one chunk of `size` arrays into a result, which may be the first or second of them."""
    wide = lookup(dtype).accumulate
    combine = _COMBINE[op]
    scale, factor = _division(wide, size) if op is ReduceOp.AVG else (None, None)

    def plain(result: Array, inputs: Sequence[Array]) -> None:
        combine(inputs[0], inputs[1], out=result)
        for source in inputs[2:]:
            combine(result, source, out=result)
        if scale is not None:
            scale(result, factor, out=result)

    def widened(result: Array, inputs: Sequence[Array]) -> None:
        total = inputs[0].astype(wide)
        plain(total, [total, *(source.astype(wide) for source in inputs[1:])])
        result[...] = total

    return widened if wide.itemsize > dtype.itemsize else plain
