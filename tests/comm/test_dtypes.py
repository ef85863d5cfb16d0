"""The table of dtypes that can be communicated."""

import numpy as np
import pytest

from distgrad.comm._dtypes import BY_CODE, BY_DTYPE, ROWS, check_reducible, lookup
from distgrad.comm._types import ReduceOp
from distgrad.errors import DTypeError


def test_rows_are_unique_and_codes_fit_a_byte() -> None:
    assert len(BY_DTYPE) == len(BY_CODE) == len(ROWS)
    assert all(0 < row.code < 256 for row in ROWS)


def test_types_of_16_bits_accumulate_in_float32() -> None:
    for row in ROWS:
        wanted = np.dtype(np.float32) if row.kind == "f" and row.dtype.itemsize == 2 else row.dtype
        assert row.accumulate == (np.dtype(np.uint8) if row.kind == "b" else wanted)
        assert BY_DTYPE[row.accumulate].mpi, "what is accumulated in must have an MPI datatype"


@pytest.mark.parametrize("dtype", ["O", "U3", "M8[s]", ">f4", "i4,f4", "f16"])
def test_others_are_refused(dtype: str) -> None:
    with pytest.raises(DTypeError, match="expected a buffer of a number type"):
        lookup(np.dtype(dtype))


@pytest.mark.parametrize(
    ("dtype", "op"),
    [("int32", "AVG"), ("bool", "AVG"), ("float32", "BAND"), ("complex64", "BXOR"), ("complex64", "MAX")],
)
def test_operations_without_a_meaning_are_refused(dtype: str, op: str) -> None:
    with pytest.raises(DTypeError, match=f"ReduceOp.{op} needs"):
        check_reducible(np.dtype(dtype), ReduceOp[op])


def test_an_operation_must_be_one() -> None:
    with pytest.raises(DTypeError, match=r"expected op to be a ReduceOp, such as ReduceOp\.SUM, got 'sum'"):
        check_reducible(np.dtype(np.float32), "sum")  # type: ignore[arg-type]


def test_the_usual_operations_are_allowed() -> None:
    for row in ROWS:
        check_reducible(row.dtype, ReduceOp.SUM)
        check_reducible(row.dtype, ReduceOp.PRODUCT)
