"""The one table of what can be communicated: NumPy dtype, code on the wire, MPI datatype, dtype of accumulation."""

import functools
from typing import NamedTuple

import numpy as np

from ..errors import DTypeError
from ._types import ReduceOp

try:
    from ml_dtypes import bfloat16 as _bfloat16
except ImportError:  # an optional package: without it NumPy knows no bfloat16, so none can come here
    _bfloat16 = None


class DTypeRow(NamedTuple):
    """How one dtype is communicated.

    `mpi` names the datatype in which MPI reduces it. "" says that MPI has none that works everywhere: the 16-bit
    floats (BFLOAT16_T is null on the wheels of MPICH 5.0 and Open MPI 5.0) and bool are reduced as `accumulate`.
    """

    dtype: "np.dtype[np.generic]"
    code: int
    mpi: str
    accumulate: "np.dtype[np.generic]"
    kind: str  # "f" real, "c" complex, "i" integer, "b" bool


def _row(code: int, name: str, mpi: str, kind: str, accumulate: str = "") -> DTypeRow:
    return DTypeRow(np.dtype(name), code, mpi, np.dtype(accumulate or name), kind)


ROWS = [
    _row(1, "float32", "FLOAT", "f"),
    _row(2, "float64", "DOUBLE", "f"),
    _row(3, "float16", "", "f", "float32"),
    _row(4, "int8", "INT8_T", "i"),
    _row(5, "int16", "INT16_T", "i"),
    _row(6, "int32", "INT32_T", "i"),
    _row(7, "int64", "INT64_T", "i"),
    _row(8, "uint8", "UINT8_T", "i"),
    _row(9, "uint16", "UINT16_T", "i"),
    _row(10, "uint32", "UINT32_T", "i"),
    _row(11, "uint64", "UINT64_T", "i"),
    _row(12, "bool", "", "b", "uint8"),
    _row(13, "complex64", "C_FLOAT_COMPLEX", "c"),
    _row(14, "complex128", "C_DOUBLE_COMPLEX", "c"),
]
if _bfloat16 is not None:
    ROWS.append(DTypeRow(np.dtype(_bfloat16), 15, "", np.dtype("float32"), "f"))

BY_DTYPE = {row.dtype: row for row in ROWS}
BY_CODE = {row.code: row for row in ROWS}

_BITWISE = (ReduceOp.BAND, ReduceOp.BOR, ReduceOp.BXOR)


def lookup(dtype: "np.dtype[np.generic]") -> DTypeRow:
    """The row of `dtype`.

    Raises:
        DTypeError: the dtype cannot be communicated (objects, strings, dates, records, swapped byte order).
    """
    row = BY_DTYPE.get(dtype)
    if row is None:
        raise DTypeError(
            f"expected a buffer of a number type ({', '.join(str(row.dtype) for row in ROWS)}), got dtype {dtype}; "
            "convert it with .astype(), or send it with one of the *_object functions"
        )
    return row


def check_reducible(dtype: "np.dtype[np.generic]", op: ReduceOp) -> None:
    """Raise DTypeError where `op` has no meaning for `dtype`, or is none."""
    if not isinstance(op, ReduceOp):
        raise DTypeError(f"expected op to be a ReduceOp, such as ReduceOp.SUM, got {op!r}")
    _check_reducible(dtype, op)


@functools.cache  # every all-reduce asks
def _check_reducible(dtype: "np.dtype[np.generic]", op: ReduceOp) -> None:
    kind = lookup(dtype).kind
    if op is ReduceOp.AVG and kind in "ib":
        raise DTypeError(f"ReduceOp.AVG needs a floating-point buffer, got {dtype}; convert it, or use SUM and divide")
    if op in _BITWISE and kind in "fc":
        raise DTypeError(f"ReduceOp.{op.name} needs an integer or bool buffer, got {dtype}")
    if op in (ReduceOp.MIN, ReduceOp.MAX) and kind == "c":
        raise DTypeError(f"ReduceOp.{op.name} needs an ordered dtype, got {dtype}: complex numbers have no order")
