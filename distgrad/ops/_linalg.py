"""Products of vectors and matrices."""

import math
from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._base import TensorBase
from ..autograd._node import Node
from ..autograd._op import Op, apply2
from ..errors import ShapeError
from ._arithmetic import Mul, add, mul
from ._common import binary, need_same_dtype, tensor_of
from ._complex import conj
from ._shape import permute, reshape, squeeze, unsqueeze
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


class Mm(Op):
    """The product of two matrices."""

    saves = ((1,), (0,))

    @staticmethod
    def forward(ctx: Node, x: Array, y: Array) -> Array:
        return ctx.backend.namespace.matmul(x, y)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        gx = xp.matmul(g, xp.swapaxes(y, -1, -2)) if ctx.needs[0] else None
        gy = xp.matmul(xp.swapaxes(x, -1, -2), g) if ctx.needs[1] else None
        return gx, gy


class Bmm(Mm):
    """Products of stacks of matrices; the leading dimensions are broadcast."""

    broadcasts = True


class FoldedMm(Op):
    """A stack of matrices times one matrix, as one product: (..., n, k) and (k, m)."""

    name = "UnsafeView"
    saves = ((1,), (0,))

    @staticmethod
    def forward(ctx: Node, x: Array, y: Array) -> Array:
        result = ctx.backend.namespace.matmul(x.reshape(math.prod(x.shape[:-1]), x.shape[-1]), y)
        return result.reshape(*x.shape[:-1], y.shape[-1])

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        (*lead, k), (_, m) = ctx.shapes
        flat = xp.reshape(g, (math.prod(lead), m))
        gx = xp.reshape(xp.matmul(flat, xp.swapaxes(y, 0, 1)), (*lead, k)) if ctx.needs[0] else None
        gy = xp.matmul(xp.swapaxes(xp.reshape(x, (math.prod(lead), k)), 0, 1), flat) if ctx.needs[1] else None
        return gx, gy


class Mv(Op):
    """A matrix times a vector; a stack of matrices likewise: (..., n, k) and (k,)."""

    saves = ((1,), (0,))

    @staticmethod
    def forward(ctx: Node, x: Array, y: Array) -> Array:
        return ctx.backend.namespace.matmul(x, y)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        gx = gy = None
        if ctx.needs[0]:
            gx = xp.expand_dims(g, axis=-1) * y
        if ctx.needs[1]:
            k = ctx.shapes[1][0]
            flat = math.prod(ctx.shapes[0][:-1])
            gy = xp.matmul(xp.swapaxes(xp.reshape(x, (flat, k)), 0, 1), xp.reshape(g, (flat,)))
        return gx, gy


class Dot(Op):
    """The product of two vectors."""

    saves = ((1,), (0,))

    @staticmethod
    def forward(ctx: Node, x: Array, y: Array) -> Array:
        return ctx.backend.namespace.matmul(x, y)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any) -> Any:
        return g * y if ctx.needs[0] else None, g * x if ctx.needs[1] else None


def _cannot(name: str, x: Array, y: Array, wanted: str) -> ShapeError:
    return ShapeError(f"{name}: the shapes {list(x.shape)} and {list(y.shape)} cannot be multiplied: expected {wanted}")


@op()
def matmul(input: "Tensor", other: "Tensor") -> "Tensor":
    """The matrix product, as ``@``: vectors count as a row on the left and a column on the right; leading dimensions
    are broadcast.

    Args:
        input: (..., n, k) or (k,).
        other: (..., k, m) or (k,).

    Raises:
        ShapeError: the inner sizes differ, or the leading ones cannot be broadcast.
        DTypeError: the dtypes differ.
    """
    a, b = tensor_of(input, "matmul"), tensor_of(other, "matmul")
    x, y = a._data, b._data
    if x.dtype != y.dtype:
        need_same_dtype("matmul", input=a, other=b)
    n, m = x.ndim, y.ndim
    if n == 0 or m == 0 or x.shape[-1] != y.shape[0 if m == 1 else -2]:
        raise _cannot("matmul", x, y, "(..., n, k) and (..., k, m) with the same k")
    if m == 2:
        if n == 2:
            return apply2(Mm, a, b)
        if n > 2:
            return apply2(FoldedMm, a, b)
    if m == 1:
        return apply2(Dot if n == 1 else Mv, a, b)
    try:
        result = apply2(Bmm, a if n > 1 else unsqueeze(a, 0), b)
    except ValueError:
        raise ShapeError(
            f"matmul: the leading dimensions of {list(x.shape)} and {list(y.shape)} cannot be broadcast together"
        ) from None
    return squeeze(result, -2) if n == 1 else result


def _checked(name: str, a: Any, b: Any, dims: tuple[int, int], wanted: str) -> tuple[Any, Any]:
    """Two tensors of one dtype, the given numbers of dimensions and a common inner size."""
    a, b = tensor_of(a, name), tensor_of(b, name)
    need_same_dtype(name, input=a, other=b)
    x, y = a._data, b._data
    if (x.ndim, y.ndim) != dims or x.shape[-1] != y.shape[-2 if dims[1] > 1 else 0]:
        raise _cannot(name, x, y, wanted)
    return a, b


@op()
def mm(input: "Tensor", mat2: "Tensor") -> "Tensor":
    """The product of two matrices: (n, k) and (k, m) give (n, m)."""
    return apply2(Mm, *_checked("mm", input, mat2, (2, 2), "(n, k) and (k, m)"))


@op()
def bmm(input: "Tensor", mat2: "Tensor") -> "Tensor":
    """The products of two stacks of matrices: (b, n, k) and (b, k, m) give (b, n, m)."""
    a, b = _checked("bmm", input, mat2, (3, 3), "(b, n, k) and (b, k, m)")
    if a._data.shape[0] != b._data.shape[0]:
        raise _cannot("bmm", a._data, b._data, "(b, n, k) and (b, k, m) with the same b")
    return apply2(Bmm, a, b)


@op()
def mv(input: "Tensor", vec: "Tensor") -> "Tensor":
    """A matrix times a vector: (n, k) and (k,) give (n,)."""
    return apply2(Mv, *_checked("mv", input, vec, (2, 1), "(n, k) and (k,)"))


@op()
def dot(input: "Tensor", tensor: "Tensor") -> "Tensor":
    """The sum of the products of two vectors of one length."""
    return apply2(Dot, *_checked("dot", input, tensor, (1, 1), "two vectors of one length"))


@op()
def vdot(input: "Tensor", other: "Tensor") -> "Tensor":
    """As `dot`, with the first vector conjugated."""
    a, b = _checked("vdot", input, other, (1, 1), "two vectors of one length")
    return apply2(Dot, conj(a), b)


@op()
def inner(input: "Tensor", other: "Tensor") -> "Tensor":
    """The sums of the products along the last dimensions of two tensors; of a number and a tensor, their product.

    Args:
        input: (..., k).
        other: (..., k). The result has the other dimensions of both.
    """
    a, b = tensor_of(input, "inner"), tensor_of(other, "inner")
    x, y = a._data, b._data
    if x.ndim == 0 or y.ndim == 0:
        return mul(a, b)
    if x.shape[-1] != y.shape[-1]:
        raise _cannot("inner", x, y, "the same last size")
    k = x.shape[-1]
    result = matmul(reshape(a, (math.prod(x.shape[:-1]), k)), reshape(b, (math.prod(y.shape[:-1]), k)).t())
    return reshape(result, (*x.shape[:-1], *y.shape[:-1]))


@op()
def outer(input: "Tensor", vec2: "Tensor") -> "Tensor":
    """All products of an element of one vector with one of another: (n,) and (m,) give (n, m)."""
    a, b = tensor_of(input, "outer"), tensor_of(vec2, "outer")
    if a._data.ndim != 1 or b._data.ndim != 1:
        raise _cannot("outer", a._data, b._data, "two vectors")
    return binary(Mul, unsqueeze(a, 1), b)


def _plus(input: Any, result: Any, beta: Any, alpha: Any) -> "Tensor":
    """``beta * input + alpha * result``; an input with ``beta=0`` is ignored, nan and all."""
    input = tensor_of(input, "input of a sum with a product")
    if input._data.ndim > result._data.ndim:
        raise ShapeError(
            f"expected an input that can be broadcast to the product's shape {list(result._data.shape)}, got "
            f"{list(input._data.shape)}"
        )
    kind = result._data.dtype.kind
    if kind in "biu":  # torch takes the factors in the dtype of the tensors
        beta, alpha = (bool(beta), bool(alpha)) if kind == "b" else (int(beta), int(alpha))
    scaled = result if alpha == 1 else mul(result, alpha)
    if beta == 0:
        shape = result._data.shape
        return scaled if shape == input._data.shape else scaled.expand(*shape)
    return add(input if beta == 1 else mul(input, beta), scaled)


@op(inplace=True)
def addmm(input: "Tensor", mat1: "Tensor", mat2: "Tensor", *, beta: Any = 1, alpha: Any = 1) -> "Tensor":
    """``beta * input + alpha * (mat1 @ mat2)``; `input` is broadcast to (n, m)."""
    return _plus(input, mm(mat1, mat2), beta, alpha)


@op(inplace=True)
def addmv(input: "Tensor", mat: "Tensor", vec: "Tensor", *, beta: Any = 1, alpha: Any = 1) -> "Tensor":
    """``beta * input + alpha * (mat @ vec)``; `input` is broadcast to (n,)."""
    return _plus(input, mv(mat, vec), beta, alpha)


@op(inplace=True)
def addr(input: "Tensor", vec1: "Tensor", vec2: "Tensor", *, beta: Any = 1, alpha: Any = 1) -> "Tensor":
    """``beta * input + alpha * outer(vec1, vec2)``; `input` is broadcast to (n, m)."""
    return _plus(input, outer(vec1, vec2), beta, alpha)


@op(inplace=True)
def baddbmm(input: "Tensor", batch1: "Tensor", batch2: "Tensor", *, beta: Any = 1, alpha: Any = 1) -> "Tensor":
    """``beta * input + alpha * bmm(batch1, batch2)``; `input` is broadcast to (b, n, m)."""
    return _plus(input, bmm(batch1, batch2), beta, alpha)


@op(inplace=True)
def addbmm(input: "Tensor", batch1: "Tensor", batch2: "Tensor", *, beta: Any = 1, alpha: Any = 1) -> "Tensor":
    """``beta * input + alpha * bmm(batch1, batch2).sum(0)``; `input` is broadcast to (n, m)."""
    return _plus(input, bmm(batch1, batch2).sum(0), beta, alpha)


@op(method=False)
def chain_matmul(*matrices: "Tensor") -> "Tensor":
    """The product of several matrices, from left to right."""
    result = matrices[0]
    for m in matrices[1:]:
        result = mm(result, m)
    return result


@op(method=False)
def tensordot(a: "Tensor", b: "Tensor", dims: Any = 2) -> "Tensor":
    """The sums of the products over some dimensions of each tensor.

    Args:
        a, b: the tensors.
        dims: how many: the last of `a` with the first of `b`; or two lists, the dimensions of each. The result has the
            remaining dimensions of `a`, then those of `b`.

    Raises:
        ShapeError: the sizes of a pair differ.
    """
    a, b = tensor_of(a, "tensordot"), tensor_of(b, "tensordot")
    left, right = _contracted(a, b, dims)
    x, y = a._data, b._data
    for i, j in zip(left, right, strict=True):
        if x.shape[i] != y.shape[j] and 1 in (x.shape[i], y.shape[j]):  # a size of 1 is broadcast
            a, b = (a, b.sum(j, True)) if x.shape[i] == 1 else (a.sum(i, True), b)
    x, y = a._data, b._data
    if any(x.shape[i] != y.shape[j] for i, j in zip(left, right, strict=True)):
        raise _cannot("tensordot", x, y, f"equal sizes in the dimensions {left} and {right}")
    keep_a = [i for i in range(x.ndim) if i not in left]
    keep_b = [i for i in range(y.ndim) if i not in right]
    size = math.prod([x.shape[i] for i in left])
    first = reshape(permute(a, *keep_a, *left), (math.prod([x.shape[i] for i in keep_a]), size))
    second = reshape(permute(b, *right, *keep_b), (size, math.prod([y.shape[i] for i in keep_b])))
    return reshape(matmul(first, second), tuple([x.shape[i] for i in keep_a] + [y.shape[i] for i in keep_b]))


def _contracted(a: Any, b: Any, dims: Any) -> tuple[list[int], list[int]]:
    a, b = tensor_of(a, "tensordot"), tensor_of(b, "tensordot")
    if isinstance(dims, TensorBase):
        dims = dims._data.tolist()
    if isinstance(dims, int):
        if not 0 <= dims <= min(a._data.ndim, b._data.ndim):
            raise ShapeError(f"tensordot: expected 0 <= dims <= the number of dimensions of both tensors, got {dims}")
        return list(range(a._data.ndim - dims, a._data.ndim)), list(range(dims))
    left, right = ([d] if isinstance(d, int) else list(d) for d in dims)
    if len(left) != len(right):
        raise ShapeError(f"tensordot: expected as many dimensions of a as of b, got {left} and {right}")
    return [d % a._data.ndim for d in left], [d % b._data.ndim for d in right]


@op()
def kron(input: "Tensor", other: "Tensor") -> "Tensor":
    """The Kronecker product: each element of `input` times the whole of `other`, in its place."""
    input, other = tensor_of(input, "kron"), tensor_of(other, "kron")
    x, y = input._data, other._data
    n = max(x.ndim, y.ndim)
    rows = (1,) * (n - x.ndim) + x.shape
    columns = (1,) * (n - y.ndim) + y.shape
    left = reshape(input, tuple([s for r in rows for s in (r, 1)]))
    right = reshape(other, tuple([s for c in columns for s in (1, c)]))
    return reshape(mul(left, right), tuple([r * c for r, c in zip(rows, columns, strict=True)]))


@op(method=False, name="linalg.vecdot")
def vecdot(x: "Tensor", y: "Tensor", *, dim: int = -1) -> "Tensor":
    """The sums of the products of two tensors along a dimension, broadcast in the others."""
    return mul(conj(x), y).sum(dim)
