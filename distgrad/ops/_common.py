"""How arguments of public functions become tensors of one dtype: shared by the op families."""

from collections.abc import Iterable, Sequence
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np

from .._typing import Array
from ..autograd._base import TensorBase, wrap
from ..autograd._node import Node
from ..autograd._op import Op, apply1, apply2, apply_with_number, result_dtype
from ..backend import CPU, OF_NUMPY, as_dtype, backend_of, backends_by_array_type, get_default_dtype
from ..errors import DTypeError, ShapeError

if TYPE_CHECKING:
    from .._tensor import Tensor

Number = (bool, int, float, complex, np.bool_, np.number)


class ToCopy(Op):
    """A change of dtype."""

    @staticmethod
    def forward(ctx: Node, x: Array, dtype: Any) -> Array:
        ctx.aux = x.dtype
        return x.astype(dtype)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return xp.astype(g, ctx.aux)


def cast(t: Any, dtype: Any) -> "Tensor":
    """`t` in the NumPy dtype `dtype`; itself if it has it already."""
    if t._data.dtype == dtype:
        return t  # type: ignore[no-any-return]
    return apply1(ToCopy, t, dtype)


def tensor_of(value: Any, name: str) -> "Tensor":
    """A tensor as it is, an array as a tensor on the same memory.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(value, TensorBase):
        return value  # type: ignore[return-value]
    if isinstance(value, np.ndarray):
        return wrap(CPU.asarray(value))
    if value.__class__ in backends_by_array_type:
        return wrap(value)
    raise TypeError(f"{name}: expected a Tensor, got {type(value).__name__}")


def operand(value: Any, name: str) -> Any:
    """A tensor or an array as a tensor; a Python or NumPy number as a Python number.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(value, TensorBase) or value.__class__ in (float, int, bool):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, complex):
        return value
    return tensor_of(value, name)


def binary(op: Any, a: Any, b: Any) -> "Tensor":
    """Applies an elementwise operation of two operands, tensors or numbers, in torch's common dtype."""
    name: str = op.name.lower()
    if isinstance(a, TensorBase) and isinstance(b, TensorBase):
        x, y = a._data, b._data
        if x.dtype is not y.dtype and x.dtype != y.dtype:
            dtype = result_dtype((a, b))
            a, b = cast(a, dtype), cast(b, dtype)
        try:
            return apply2(op, a, b)
        except ValueError:
            raise mismatch(name, x, y) from None
    a, b = operand(a, name), operand(b, name)
    if isinstance(a, TensorBase) and isinstance(b, TensorBase):
        return binary(op, a, b)
    if not isinstance(a, TensorBase) and not isinstance(b, TensorBase):
        raise TypeError(f"{name}: expected at least one Tensor, got {type(a).__name__} and {type(b).__name__}")
    dtype = result_dtype((a, b))
    if isinstance(a, TensorBase):
        return apply_with_number(op, cast(a, dtype), weak(b, dtype))
    return apply_with_number(op, cast(b, dtype), weak(a, dtype), True)


def weak(value: Any, dtype: Any) -> Any:
    """A Python number for an operation with an array of `dtype` that is to keep it: bfloat16, unlike NumPy's own types,
    would become float32 beside a Python float."""
    return dtype.type(value) if dtype.kind == "V" else value


def clip(xp: Any, x: Array, low: Any, high: Any) -> Array:
    """Each element moved into [low, high], two numbers; of bfloat16, too, which NumPy's own would make float32."""
    if x.dtype.kind == "V":
        return xp.minimum(xp.maximum(x, weak(low, x.dtype)), weak(high, x.dtype))
    return xp.clip(x, low, high)


def _python_dtype(value: Any) -> Any:
    if isinstance(value, bool):
        return np.bool_
    return np.int64 if isinstance(value, int) else get_default_dtype().numpy


def mismatch(name: str, *arrays: Array) -> ShapeError:
    """The error for arrays that cannot be broadcast against each other."""
    shapes = [str(list(x.shape)) for x in arrays]
    return ShapeError(
        f"{name}: the shapes {', '.join(shapes[:-1])} and {shapes[-1]} cannot be broadcast together: from the last "
        "dimension backwards they must be equal, or 1"
    )


def floating(t: Any, name: str) -> "Tensor":
    """`t` in a floating-point dtype: integers and bools become the default dtype."""
    if not isinstance(t, TensorBase):
        t = tensor_of(t, name)
    return t if t._data.dtype.kind in "fcV" else cast(t, get_default_dtype().numpy)


def check_floating(name: str, t: Any, advice: str = "convert with .float()") -> None:
    """Raises for integers and bools, where only a result in floating point has a meaning.

    Raises:
        DTypeError: the tensor's dtype is neither floating-point nor complex.
    """
    if t._data.dtype.kind in "biu":
        raise DTypeError(f"{name}: expected a floating-point dtype, got {t.dtype}; {advice}")


def floating_in(value: Any, dtype: Any, name: str) -> "Tensor":
    """`value` as a tensor of the torch-style `dtype`, by default its own, which has to be floating-point or complex.

    Raises:
        DTypeError: it is not.
    """
    t = to_dtype(tensor_of(value, name), dtype)
    check_floating(name, t, "convert with .float() or pass dtype=")
    return t


def optional(value: Any, name: str) -> Any:
    """A tensor or an array as a tensor, None as it is."""
    return value if value is None or isinstance(value, TensorBase) else tensor_of(value, name)


def to_dtype(t: "Tensor", dtype: Any) -> "Tensor":
    """`t` in the torch-style `dtype`; itself if that is None or its own."""
    return t if dtype is None else cast(t, as_dtype(dtype).numpy)


def axis_of(dim: int, ndim: int, name: str) -> int:
    """A dimension counted from the front.

    Raises:
        IndexError: there is no such dimension.
        TypeError: it is no integer.
    """
    limit = max(ndim, 1)
    try:
        there = -limit <= dim < limit
    except TypeError:
        raise TypeError(f"{name}: expected a dimension as an integer, got {dim!r}") from None
    if not there:
        raise IndexError(f"{name}: dimension out of range (expected to be in [{-limit}, {limit - 1}], but got {dim})")
    return dim + limit if dim < 0 else dim


def axes_of(dim: Any, ndim: int, name: str) -> tuple[int, ...]:
    """Several dimensions counted from the front; None or () means all.

    Raises:
        IndexError: one does not exist.
        ShapeError: one is named twice.
        TypeError: one is no integer.
    """
    if dim is None or (isinstance(dim, Sequence) and len(dim) == 0):
        return tuple(range(ndim))
    dims = (dim,) if isinstance(dim, int) or not isinstance(dim, Iterable) else tuple(dim)
    try:
        axes = tuple([axis_of(index(d), ndim, name) for d in dims])
    except TypeError:
        raise TypeError(f"{name}: expected dimensions as integers, got {dim!r}") from None
    if len(set(axes)) != len(axes):
        raise ShapeError(f"{name}: a dimension appears twice in dim={dim}")
    return axes if ndim else ()


def sizes(shape: tuple[Any, ...]) -> tuple[int, ...]:
    """The integers meant by ``f(2, 3)`` and by ``f((2, 3))`` alike.

    Raises:
        TypeError: one is no integer.
    """
    if len(shape) == 1 and not isinstance(shape[0], int) and isinstance(shape[0], Sequence):
        shape = tuple(shape[0])
    return tuple(map(_integer, shape))


def _integer(n: Any) -> int:
    try:
        return index(n)
    except TypeError:
        raise TypeError(f"expected integers, got {n!r} of class {type(n).__name__}; convert with int()") from None


def need_same_dtype(name: str, **tensors: Any) -> None:
    """Raises where the tensors of a function do not have one dtype.

    Raises:
        DTypeError: they differ; the message names each.
    """
    given = {key: OF_NUMPY[tensor_of(t, name)._data.dtype] for key, t in tensors.items() if t is not None}
    if len(set(given.values())) > 1:
        listed = ", ".join(f"{key} {value.name}" for key, value in given.items())
        raise DTypeError(f"{name}: expected one dtype, got {listed}; convert with .to(dtype)")


def number_tensor(value: Any, like: TensorBase) -> "Tensor":
    """A Python number as a 0-d tensor of the dtype that torch gives it, on the device of `like`."""
    xp = backend_of(like._data).xp
    return wrap(xp.asarray(value, dtype=_python_dtype(value)))
