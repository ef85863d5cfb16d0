"""dtypes and promotion: torch's tables."""

import numpy as np
import pytest

import distgrad as dg
from distgrad.errors import DTypeError

SHORT = {
    "b1": dg.bool, "u1": dg.uint8, "i1": dg.int8, "i2": dg.int16, "i4": dg.int32, "i8": dg.int64,
    "f2": dg.float16, "bf": dg.bfloat16, "f4": dg.float32, "f8": dg.float64, "c8": dg.complex64, "cc": dg.complex128,
}  # fmt: skip

# torch.promote_types of row and column.
TENSORS = """
      b1 u1 i1 i2 i4 i8 f2 bf f4 f8 c8 cc
   b1 b1 u1 i1 i2 i4 i8 f2 bf f4 f8 c8 cc
   u1 u1 u1 i2 i2 i4 i8 f2 bf f4 f8 c8 cc
   i1 i1 i2 i1 i2 i4 i8 f2 bf f4 f8 c8 cc
   i2 i2 i2 i2 i2 i4 i8 f2 bf f4 f8 c8 cc
   i4 i4 i4 i4 i4 i4 i8 f2 bf f4 f8 c8 cc
   i8 i8 i8 i8 i8 i8 i8 f2 bf f4 f8 c8 cc
   f2 f2 f2 f2 f2 f2 f2 f2 f4 f4 f8 c8 cc
   bf bf bf bf bf bf bf f4 bf f4 f8 c8 cc
   f4 f4 f4 f4 f4 f4 f4 f4 f4 f4 f8 c8 cc
   f8 f8 f8 f8 f8 f8 f8 f8 f8 f8 f8 cc cc
   c8 c8 c8 c8 c8 c8 c8 c8 c8 c8 cc c8 cc
   cc cc cc cc cc cc cc cc cc cc cc cc cc
"""
# torch.result_type of a tensor with dimensions (row) and one without (column); for complex32 read complex64.
WITHOUT_DIMENSIONS = """
      b1 u1 i1 i2 i4 i8 f2 bf f4 f8 c8 cc
   b1 b1 u1 i1 i2 i4 i8 f2 bf f4 f8 c8 cc
   u1 u1 u1 u1 u1 u1 u1 f2 bf f4 f8 c8 cc
   i1 i1 i1 i1 i1 i1 i1 f2 bf f4 f8 c8 cc
   i2 i2 i2 i2 i2 i2 i2 f2 bf f4 f8 c8 cc
   i4 i4 i4 i4 i4 i4 i4 f2 bf f4 f8 c8 cc
   i8 i8 i8 i8 i8 i8 i8 f2 bf f4 f8 c8 cc
   f2 f2 f2 f2 f2 f2 f2 f2 f2 f2 f2 c8 c8
   bf bf bf bf bf bf bf bf bf bf bf c8 c8
   f4 f4 f4 f4 f4 f4 f4 f4 f4 f4 f4 c8 c8
   f8 f8 f8 f8 f8 f8 f8 f8 f8 f8 f8 cc cc
   c8 c8 c8 c8 c8 c8 c8 c8 c8 c8 c8 c8 c8
   cc cc cc cc cc cc cc cc cc cc cc cc cc
"""


def cells(table: str) -> list[tuple[dg.dtype, dg.dtype, dg.dtype]]:
    head, *rows = [line.split() for line in table.strip().splitlines()]
    return [
        (SHORT[row[0]], SHORT[column], SHORT[cell]) for row in rows for column, cell in zip(head, row[1:], strict=True)
    ]


def test_promotion_of_two_tensors() -> None:
    for a, b, expected in cells(TENSORS):
        assert dg.promote_types(a, b) == expected, (a, b)
        assert dg.result_type(dg.ones(1, dtype=a), dg.ones(2, dtype=b)) == expected, (a, b)


def test_promotion_of_a_tensor_without_dimensions() -> None:
    for a, b, expected in cells(WITHOUT_DIMENSIONS):
        assert dg.result_type(dg.ones(1, dtype=a), dg.ones((), dtype=b)) == expected, (a, b)


@pytest.mark.parametrize("dtype", SHORT.values(), ids=SHORT)
def test_promotion_of_a_number(dtype: dg.dtype) -> None:
    t = dg.ones(1, dtype=dtype)
    inexact = dtype.is_floating_point or dtype.is_complex
    assert dg.result_type(t, True) == dtype
    assert dg.result_type(t, 2) == (dg.int64 if dtype == dg.bool else dtype)
    assert dg.result_type(t, 2.5) == (dtype if inexact else dg.float32)
    complex_ = dtype if dtype.is_complex else dg.complex128 if dtype == dg.float64 else dg.complex64
    assert dg.result_type(t, 1j) == complex_


@pytest.mark.parametrize(("a", "b"), [(dg.int64, dg.float32), (dg.float32, dg.float64), (dg.bfloat16, dg.float16)])
def test_results_have_the_promoted_dtype(a: dg.dtype, b: dg.dtype) -> None:
    x, y = dg.ones(2, dtype=a), dg.ones(2, dtype=b)
    assert (x + y).dtype == (y * x).dtype == dg.promote_types(a, b)


def test_division_of_integers_is_true() -> None:
    assert (dg.tensor([1]) / dg.tensor([2])).dtype == dg.float32
    assert (dg.tensor([1]) / 2).item() == 0.5
    assert (dg.tensor([True]) / 2).dtype == dg.float32


def test_unsigned_64_bits_meet_no_signed_integer() -> None:
    assert dg.promote_types(dg.uint32, dg.int32) == dg.int64
    with pytest.raises(DTypeError, match="cannot combine"):
        dg.promote_types(dg.uint64, dg.int64)


def test_can_cast() -> None:
    order = [[dg.bool], [dg.uint8, dg.int64], [dg.float16, dg.bfloat16, dg.float64], [dg.complex64]]
    for i, sources in enumerate(order):
        for j, targets in enumerate(order):
            assert all(dg.can_cast(a, b) == (i <= j) for a in sources for b in targets)


def test_names() -> None:
    for name in ("float32", "distgrad.float32", "float", float, np.float32, np.dtype("float32")):
        expected = dg.float64 if name is float else dg.float32
        assert dg.zeros(1, dtype=name).dtype == expected
    assert (dg.double, dg.half, dg.int, dg.long, dg.short) == (dg.float64, dg.float16, dg.int32, dg.int64, dg.int16)
    assert repr(dg.float32) == "distgrad.float32"
    assert np.dtype(dg.float32) == np.float32 and np.zeros(1, dtype=dg.int16).dtype == np.int16
    with pytest.raises(DTypeError, match="supported are"):
        dg.zeros(1, dtype="float8")


def test_properties() -> None:
    assert (dg.bfloat16.is_floating_point, dg.bfloat16.itemsize, dg.uint8.is_signed) == (True, 2, False)
    assert (dg.complex64.is_complex, dg.int8.is_signed, dg.bool.is_signed) == (True, True, False)


def test_limits() -> None:
    assert dg.finfo(dg.float16).max == 65504 and dg.finfo(dg.float16).eps == 2**-10
    assert dg.finfo(dg.bfloat16).eps == 2**-7 and dg.finfo(dg.bfloat16).bits == 16
    assert dg.finfo().eps == 2**-23 and dg.finfo(dg.float32).tiny == 2**-126
    assert (dg.iinfo(dg.uint8).min, dg.iinfo(dg.uint8).max, dg.iinfo(dg.int64).bits) == (0, 255, 64)
    assert "max=255" in repr(dg.iinfo(dg.uint8)) and "dtype=float16" in repr(dg.finfo(dg.float16))
