"""The affine maps of dense layers."""

import math
from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._base import TensorBase
from ..autograd._node import Node
from ..autograd._op import Op, apply
from ..errors import DTypeError, ShapeError
from ._common import tensor_of
from ._linalg import matmul
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


class Linear(Op):
    """Inputs: x (..., k), weight (n, k), and bias (n,) or None."""

    name = "Addmm"
    saves = ((1,), (0,), ())
    direct = 1

    @staticmethod
    def forward(ctx: Node, x: Array, weight: Array, bias: Array | None) -> Array:
        if x.dtype != weight.dtype or (bias is not None and bias.dtype != weight.dtype):
            raise DTypeError(
                f"linear: expected one dtype, got input {x.dtype}, weight {weight.dtype}"
                f"{'' if bias is None else f', bias {bias.dtype}'}; convert with .to(dtype)"
            )
        n, k = weight.shape
        try:
            rows = x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), k)
            y = ctx.backend.kernels.products.linear(rows, weight, bias)
        except ValueError:
            raise _misfit(x, weight, bias) from None
        return y if x.ndim == 2 else y.reshape(*x.shape[:-1], n)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, weight: Any) -> Any:
        shape, (n, k), _ = ctx.shapes
        rows = math.prod(shape[:-1])
        if len(shape) != 2:
            g = xp.reshape(g, (rows, n))
        gx = gw = gb = None
        if ctx.needs[0]:
            gx = xp.matmul(g, weight)
            if len(shape) != 2:
                gx = xp.reshape(gx, shape)
        if ctx.needs[1]:
            gw = xp.matmul(xp.swapaxes(g, 0, 1), x if len(shape) == 2 else xp.reshape(x, (rows, k)))
        if ctx.needs[2]:
            gb = xp.sum(g, axis=0)
        return gx, gw, gb

    @staticmethod
    def backward_fast(xp: Any, ctx: Node, g: Any, x: Any, weight: Any) -> Any:
        shape, (n, k), _ = ctx.shapes
        if len(shape) != 2:
            g = g.reshape(-1, n)
            x = x if x is None else x.reshape(-1, k)
        gx = gw = gb = None
        if ctx.needs[0]:
            gx = xp.matmul(g, weight)
            if len(shape) != 2:
                gx = gx.reshape(shape)
        if ctx.needs[1]:
            gw = xp.matmul(g.T, x, out=ctx.out)
        if ctx.needs[2]:
            gb = xp.sum(g, axis=0)
        return gx, gw, gb


def _misfit(x: Array, weight: Array, bias: Array | None) -> ShapeError:
    n, k = weight.shape
    if x.ndim == 0 or x.shape[-1] != k:
        return ShapeError(
            f"linear: expected an input of shape (..., {k}) for a weight of shape {list(weight.shape)}, got "
            f"{list(x.shape)}; "
            "the weight is (out_features, in_features)"
        )
    assert bias is not None
    return ShapeError(
        f"linear: expected a bias of shape [{n}] for a weight of shape {list(weight.shape)}, got {list(bias.shape)}"
    )


@op(method=False)
def linear(input: "Tensor", weight: "Tensor", bias: "Tensor | None" = None) -> "Tensor":
    """``input @ weight.T + bias`` as one operation.

    Args:
        input: (..., in_features).
        weight: (out_features, in_features), or (in_features,) for a result without the last dimension.
        bias: (out_features,) or None.

    Raises:
        ShapeError: the sizes do not fit.
        DTypeError: the dtypes differ.
    """
    if not isinstance(input, TensorBase):
        input = tensor_of(input, "linear")
    if not isinstance(weight, TensorBase):
        weight = tensor_of(weight, "linear")
    if weight._data.ndim != 2:
        result = matmul(input, weight)
        return result if bias is None else result + bias
    if input._data.ndim == 0:
        raise _misfit(input._data, weight._data, None)
    return apply(Linear, (input, weight, bias))  # type: ignore[no-any-return]


class Bilinear(Op):
    """Inputs: x (m, i), y (m, j), weight (n, i, j)."""

    saves = ((1, 2), (0, 2), (0, 1))

    @staticmethod
    def forward(ctx: Node, x: Array, y: Array, weight: Array) -> Array:
        n, i, j = weight.shape
        mixed = ctx.xp.matmul(x, weight.transpose(1, 0, 2).reshape(i, n * j)).reshape(-1, n, j)  # (m, n, j)
        return ctx.xp.matmul(mixed, y[:, :, None])[:, :, 0]

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, y: Any, weight: Any) -> Any:
        (m, i), (_, j), (n, _, _) = ctx.shapes
        gx = gy = gw = None
        if ctx.needs[0]:
            outer = xp.reshape(xp.expand_dims(g, axis=2) * xp.expand_dims(y, axis=1), (m, n * j))
            gx = xp.matmul(outer, xp.reshape(xp.permute_dims(weight, (0, 2, 1)), (n * j, i)))
        if ctx.needs[1] or ctx.needs[2]:
            outer = xp.reshape(xp.expand_dims(g, axis=2) * xp.expand_dims(x, axis=1), (m, n * i))
            if ctx.needs[1]:
                gy = xp.matmul(outer, xp.reshape(weight, (n * i, j)))
            if ctx.needs[2]:
                gw = xp.reshape(xp.matmul(xp.swapaxes(outer, 0, 1), y), (n, i, j))
        return gx, gy, gw


@op(method=False)
def bilinear(input1: "Tensor", input2: "Tensor", weight: "Tensor", bias: "Tensor | None" = None) -> "Tensor":
    """``input1 @ weight[k] @ input2 + bias[k]`` for each output feature k.

    Args:
        input1: (..., in1_features).
        input2: (..., in2_features), with the same leading sizes.
        weight: (out_features, in1_features, in2_features).
        bias: (out_features,) or None.

    Raises:
        ShapeError: the sizes do not fit.
    """
    a, b = tensor_of(input1, "bilinear"), tensor_of(input2, "bilinear")
    weight = tensor_of(weight, "bilinear")
    if weight._data.ndim != 3:
        raise ShapeError(f"bilinear: expected a weight of 3 dimensions, got shape {list(weight._data.shape)}")
    n, i, j = weight._data.shape
    lead = a._data.shape[:-1]
    if a._data.shape[-1] != i or b._data.shape[-1] != j or b._data.shape[:-1] != lead:
        raise ShapeError(
            f"bilinear: expected inputs of shapes (..., {i}) and (..., {j}) with equal leading sizes for a weight of "
            f"shape {[n, i, j]}, got {list(a._data.shape)} and {list(b._data.shape)}"
        )
    rows = math.prod(lead)
    result = apply(Bilinear, (a.reshape(rows, i), b.reshape(rows, j), weight)).reshape(*lead, n)
    return result if bias is None else result + bias  # type: ignore[no-any-return]
