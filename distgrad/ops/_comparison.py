"""Comparisons and logic: results without gradients."""

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..autograd._base import TensorBase, wrap_result
from ..autograd._op import raw, result_dtype
from ..backend import backend_of
from ..errors import DTypeError
from ._common import mismatch, operand, tensor_of
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


def _compare(name: str, function: Callable[[Any, Any], Any], a: Any, b: Any) -> "Tensor":
    a, b = operand(a, name), operand(b, name)
    like = a if isinstance(a, TensorBase) else b
    x, y = raw(a), raw(b)
    if isinstance(a, TensorBase) and isinstance(b, TensorBase) and x.dtype != y.dtype:
        dtype = result_dtype((a, b))
        x, y = x.astype(dtype), y.astype(dtype)
    try:
        return wrap_result(function(x, y), like._data)
    except ValueError:
        raise mismatch(name, x, y) from None


@op(differentiable=False, inplace=True)
def eq(input: "Tensor", other: Any) -> "Tensor":
    """``input == other``, elementwise."""
    return _compare("eq", operator.eq, input, other)


@op(differentiable=False, inplace=True)
def ne(input: "Tensor", other: Any) -> "Tensor":
    """``input != other``, elementwise."""
    return _compare("ne", operator.ne, input, other)


@op(differentiable=False, inplace=True)
def lt(input: "Tensor", other: Any) -> "Tensor":
    """``input < other``, elementwise."""
    return _compare("lt", operator.lt, input, other)


@op(differentiable=False, inplace=True)
def le(input: "Tensor", other: Any) -> "Tensor":
    """``input <= other``, elementwise."""
    return _compare("le", operator.le, input, other)


@op(differentiable=False, inplace=True)
def gt(input: "Tensor", other: Any) -> "Tensor":
    """``input > other``, elementwise."""
    return _compare("gt", operator.gt, input, other)


@op(differentiable=False, inplace=True)
def ge(input: "Tensor", other: Any) -> "Tensor":
    """``input >= other``, elementwise."""
    return _compare("ge", operator.ge, input, other)


def _integral(name: str, *values: Any) -> None:
    for value in values:
        kind = value._data.dtype.kind if isinstance(value, TensorBase) else "i" if isinstance(value, int) else "f"
        if kind not in "biu":
            raise DTypeError(f"{name}: expected bool or integer operands, got a floating-point one")


@op(differentiable=False, inplace=True)
def bitwise_and(input: "Tensor", other: Any) -> "Tensor":
    """``input & other`` of bools or integers."""
    _integral("bitwise_and", input, other)
    return _compare("bitwise_and", operator.and_, input, other)


@op(differentiable=False, inplace=True)
def bitwise_or(input: "Tensor", other: Any) -> "Tensor":
    """``input | other`` of bools or integers."""
    _integral("bitwise_or", input, other)
    return _compare("bitwise_or", operator.or_, input, other)


@op(differentiable=False, inplace=True)
def bitwise_xor(input: "Tensor", other: Any) -> "Tensor":
    """``input ^ other`` of bools or integers."""
    _integral("bitwise_xor", input, other)
    return _compare("bitwise_xor", operator.xor, input, other)


@op(differentiable=False, inplace=True)
def bitwise_not(input: "Tensor") -> "Tensor":
    """``~input`` of bools or integers."""
    _integral("bitwise_not", input)
    return wrap_result(~input._data, input._data)


@op(differentiable=False, inplace=True)
def bitwise_left_shift(input: Any, other: Any) -> "Tensor":
    """``input << other`` of integers, either of which may be a number."""
    _integral("bitwise_left_shift", input, other)
    return _compare("bitwise_left_shift", operator.lshift, input, other)


@op(differentiable=False, inplace=True)
def bitwise_right_shift(input: Any, other: Any) -> "Tensor":
    """``input >> other`` of integers, either of which may be a number; the sign is kept."""
    _integral("bitwise_right_shift", input, other)
    return _compare("bitwise_right_shift", operator.rshift, input, other)


def _logical(name: str, function: str, *tensors: Any) -> "Tensor":
    raw = [tensor_of(t, name)._data for t in tensors]
    arrays, like = [x != 0 for x in raw], raw[0]
    xp = backend_of(like).xp
    functions = {"and": xp.logical_and, "or": xp.logical_or, "xor": xp.logical_xor, "not": xp.logical_not}
    try:
        return wrap_result(functions[function](*arrays), like)
    except ValueError:
        raise mismatch(name, *arrays) from None


@op(differentiable=False, inplace=True)
def logical_and(input: "Tensor", other: "Tensor") -> "Tensor":
    """Whether both are true (not 0)."""
    return _logical("logical_and", "and", input, other)


@op(differentiable=False, inplace=True)
def logical_or(input: "Tensor", other: "Tensor") -> "Tensor":
    """Whether either is true (not 0)."""
    return _logical("logical_or", "or", input, other)


@op(differentiable=False, inplace=True)
def logical_xor(input: "Tensor", other: "Tensor") -> "Tensor":
    """Whether exactly one is true (not 0)."""
    return _logical("logical_xor", "xor", input, other)


@op(differentiable=False, inplace=True)
def logical_not(input: "Tensor") -> "Tensor":
    """Whether it is false (0)."""
    return _logical("logical_not", "not", input)


@op(differentiable=False)
def isclose(
    input: "Tensor", other: "Tensor", rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> "Tensor":
    """Whether ``|input - other| <= atol + rtol * |other|``, elementwise."""
    a, b = tensor_of(input, "isclose"), tensor_of(other, "isclose")
    backend = backend_of(a._data)
    try:
        with backend.quiet():
            return wrap_result(backend.xp.isclose(a._data, b._data, rtol=rtol, atol=atol, equal_nan=equal_nan), a._data)
    except ValueError:
        raise mismatch("isclose", a._data, b._data) from None


@op(differentiable=False)
def allclose(
    input: "Tensor", other: "Tensor", rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> bool:
    """Whether `isclose` holds everywhere."""
    return bool(isclose(input, other, rtol, atol, equal_nan)._data.all())


@op(differentiable=False)
def equal(input: "Tensor", other: "Tensor") -> bool:
    """Whether both have the same shape and elements."""
    x, y = tensor_of(input, "equal")._data, tensor_of(other, "equal")._data
    return x.shape == y.shape and bool((x == y).all())
