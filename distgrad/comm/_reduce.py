"""Element-wise reductions of host arrays, for the backends that add up by themselves."""

import contextvars
import functools
import threading
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from .._typing import Array
from ._dtypes import lookup
from ._types import ReduceOp

CHUNK_BYTES = 128 * 1024  # partial results of this size stay in the L2 cache between two passes

_Kernel: TypeAlias = Callable[[Sequence[Array], Sequence[Array]], None]  # of outputs and inputs

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
    elif any(np.may_share_memory(output, source) for source in inputs[2:]):  # accumulating in it would lose that input
        step = CHUNK_BYTES // output.itemsize
        total = np.empty(min(step, output.size), output.dtype)
        for start in range(0, output.size, step):
            part = slice(start, min(start + step, output.size))
            reduce_to([total[: part.stop - start], output[part]], [source[part] for source in inputs], op)
    else:
        reduce_to([output], inputs, op)


def reduced(inputs: Sequence[Array], op: ReduceOp) -> Array:
    """The inputs combined, in new memory; see `reduce_into`."""
    output = np.empty_like(inputs[0])
    reduce_into(output, inputs, op)
    return output


def reduce_to(outputs: Sequence[Array], inputs: Sequence[Array], op: ReduceOp) -> None:
    """Combine two or more inputs in their order, and write the result to every output while it is in the cache.

    Args:
        outputs: arrays of shape (n,), which may be inputs; the first of them the first or second input alone.
        inputs: one array of shape (n,) for each rank.
        op: how to combine; 16-bit floats are accumulated in float32 and rounded once.
    """
    _thread.context.run(_reduce_chunks, _kernel(outputs[0].dtype, op, len(inputs)), outputs, inputs)


def _reduce_chunks(reduce: _Kernel, outputs: Sequence[Array], inputs: Sequence[Array]) -> None:
    n, step = inputs[0].size, CHUNK_BYTES // inputs[0].itemsize
    if n <= step:
        reduce(outputs, inputs)
        return
    whole = n - n % step
    sources = zip(*(array[:whole].reshape(-1, step) for array in inputs), strict=True)  # rows cost less than slices
    if outputs is inputs:
        for arrays in sources:
            reduce(arrays, arrays)
    else:
        targets = zip(*(array[:whole].reshape(-1, step) for array in outputs), strict=True)
        for results, arrays in zip(targets, sources, strict=True):
            reduce(results, arrays)
    if whole < n:
        reduce([array[whole:] for array in outputs], [array[whole:] for array in inputs])


class _PerThread(threading.local):
    """A context in which floating-point errors are no warnings: an overflow is for the caller to look for, as with MPI.

    To enter it takes a twentieth of the time of `np.errstate`.
    """

    def __init__(self) -> None:
        self.context = contextvars.Context()
        self.context.run(np.seterr, all="ignore")


_thread = _PerThread()


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
        if len(inputs) > 1 and self.dtype == inputs[0].dtype:
            self._combine(inputs[0], inputs[1], out=total)
            self.go_on(total, inputs[2:])
        else:
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


@functools.lru_cache(maxsize=256)
def _kernel(dtype: "np.dtype[np.generic]", op: ReduceOp, size: int) -> _Kernel:
    """A function that combines one chunk of `size` inputs into outputs."""
    wide = lookup(dtype).accumulate
    combine = _COMBINE[op]
    scale, factor = _division(wide, size) if op is ReduceOp.AVG else (None, None)

    def plain(outputs: Sequence[Array], inputs: Sequence[Array]) -> None:
        result = outputs[0]
        combine(inputs[0], inputs[1], out=result)
        for source in inputs[2:]:
            combine(result, source, out=result)
        if scale is not None:
            scale(result, factor, out=result)
        for other in outputs[1:]:
            other[:] = result  # half the time of np.copyto where arrays are small

    def widened(outputs: Sequence[Array], inputs: Sequence[Array]) -> None:
        total = inputs[0].astype(wide)
        for source in inputs[1:]:
            combine(total, source.astype(wide), out=total)
        if scale is not None:
            scale(total, factor, out=total)
        for output in outputs:
            output[...] = total

    return widened if wide.itemsize > dtype.itemsize else plain
