"""Reductions of host arrays: order, rounding, memory that is shared between input and output."""

import itertools
import warnings

import numpy as np
import pytest

from distgrad.comm._reduce import CHUNK_BYTES, divide, reduce_into, reduce_to, reduced
from distgrad.comm._types import ReduceOp

N = CHUNK_BYTES // 4 * 2 + 77  # two whole chunks of float32 and a rest


def inputs(count: int, dtype: str = "float32", n: int = N) -> list[np.ndarray]:
    random = np.random.default_rng(count)
    return [random.standard_normal(n).astype(dtype) for _ in range(count)]


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_order_is_that_of_the_ranks(count: int) -> None:
    arrays = inputs(count)
    want = arrays[0]
    for array in arrays[1:]:
        want = want + array  # floating-point sums depend on the order, to the last bit
    assert np.array_equal(reduced(arrays, ReduceOp.SUM), want)
    reduce_to(arrays, arrays, ReduceOp.SUM)
    assert all(np.array_equal(array, want) for array in arrays)


def test_order_matters_in_this_test() -> None:
    arrays = inputs(3)
    results = [reduced(list(order), ReduceOp.SUM).tobytes() for order in itertools.permutations(arrays)]
    assert len(set(results)) > 1


def test_16_bit_sums_are_rounded_once() -> None:
    ones = [np.full(10, value, np.float16) for value in (2048, 1, 1)]
    assert (reduced(ones, ReduceOp.SUM) == 2050).all()  # 2048 + 1 alone would round to 2048
    big = [np.full(10, 60000, np.float16)] * 2
    assert (reduced(big, ReduceOp.AVG) == 60000).all()  # the sum is beyond float16


@pytest.mark.parametrize("place", range(4))
def test_the_output_may_be_any_input(place: int) -> None:
    arrays = inputs(4)
    want = reduced(arrays, ReduceOp.SUM)
    reduce_into(arrays[place], arrays, ReduceOp.SUM)
    assert np.array_equal(arrays[place], want)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8])
def test_divide_is_the_correctly_rounded_division(size: int) -> None:
    values = inputs(1)[0]
    got = values.copy()
    divide(got, size)
    assert np.array_equal(got, values / np.float32(size))


def test_an_overflow_is_not_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = reduced([np.full(3, 3e38, np.float32)] * 2, ReduceOp.SUM)
        lost = reduced([np.full(3, 60000, np.float16)] * 2, ReduceOp.SUM)
    assert np.isinf(result).all() and np.isinf(lost).all()
