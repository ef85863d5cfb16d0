"""Element-wise reductions of host arrays, for the backends that add up by themselves."""

from collections.abc import Callable, Sequence

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
    if size & (size - 1) == 0:
        np.multiply(buffer, buffer.dtype.type(1 / size), out=buffer)  # exact, and faster than a division
    else:
        np.divide(buffer, buffer.dtype.type(size), out=buffer)


def reduce_into(outputs: Sequence[Array], inputs: Sequence[Array], op: ReduceOp) -> None:
    """Combine the inputs in their order and write the result to every output, one cache-sized chunk after the other.

    Args:
        outputs: arrays of shape (n,); an output may be the input at the same position, and no other.
        inputs: one array of shape (n,) for each rank.
        op: how to combine; 16-bit floats are accumulated in float32 and rounded once.
    """
    first = inputs[0]
    wide = lookup(first.dtype).accumulate.itemsize > first.itemsize
    step = CHUNK_BYTES // (4 if wide else first.itemsize)
    reduce_chunk = _reduce_wide if wide else _reduce_plain
    for start in range(0, first.size, step):
        chunk = slice(start, start + step)
        reduce_chunk([output[chunk] for output in outputs], [source[chunk] for source in inputs], op)


def _reduce_plain(outputs: Sequence[Array], inputs: Sequence[Array], op: ReduceOp) -> None:
    """Accumulate in the first output, which is then copied to the others."""
    result, combine = outputs[0], _COMBINE[op]
    if len(inputs) == 1:
        result[...] = inputs[0]
    else:
        combine(inputs[0], inputs[1], out=result)
        for source in inputs[2:]:
            combine(result, source, out=result)
    if op is ReduceOp.AVG:
        divide(result, len(inputs))
    for output in outputs[1:]:
        output[...] = result


def _reduce_wide(outputs: Sequence[Array], inputs: Sequence[Array], op: ReduceOp) -> None:
    """Accumulate in float32, then round to each output."""
    combine = _COMBINE[op]
    result = inputs[0].astype(np.float32)
    for source in inputs[1:]:
        combine(result, source.astype(np.float32), out=result)
    if op is ReduceOp.AVG:
        divide(result, len(inputs))
    for output in outputs:
        output[...] = result
