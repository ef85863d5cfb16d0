"""Dropout in its forms: random elements, or whole channels, set to zero."""

import math
from typing import TYPE_CHECKING, Any

from .._typing import Array, Shape
from ..autograd._node import Node
from ..autograd._op import Op, apply1
from ..errors import ShapeError
from ._activation import maybe_inplace
from ._common import check_floating, tensor_of
from ._generator import stream_of
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


class Dropout(Op):
    """``params = (p, shape of the mask)``: the mask is broadcast, what is kept is scaled."""

    @staticmethod
    def forward(ctx: Node, x: Array, p: float, shape: Shape) -> Array:
        keep = ctx.aux = ctx.xp.asarray(stream_of(None).bernoulli(1 - p, shape))
        y = x * keep
        y *= 1 / (1 - p)
        return y

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return g * ctx.aux * (1 / (1 - ctx.params[0]))


class AlphaDropout(Op):
    """``params = (p, shape of the mask)``: what is dropped takes SELU's lower limit, and the result keeps mean 0 and
    variance 1.
    """

    @staticmethod
    def forward(ctx: Node, x: Array, p: float, shape: Shape) -> Array:
        low = -1.7580993408473766  # -scale * alpha of SELU
        keep = ctx.xp.asarray(stream_of(None).bernoulli(1 - p, shape))
        a = 1 / math.sqrt((low * low * p + 1) * (1 - p))
        ctx.aux = (keep, a)
        return (ctx.xp.where(keep, x, low) * a - a * p * low).astype(x.dtype, copy=False)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        keep, a = ctx.aux
        return g * keep * a


def _dropped(name: str, kind: Any, input: Any, p: float, training: bool, inplace: bool, features: bool) -> "Tensor":
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    x = tensor_of(input, name)
    if not training or p == 0:
        return x
    check_floating(name, x)
    shape = x._data.shape
    if features:
        if len(shape) < 2:
            raise ShapeError(f"{name}: expected an input of at least 2 dimensions (N, C, ...), got shape {list(shape)}")
        shape = (*shape[:2], *(1,) * (len(shape) - 2))
    result = x * 0.0 if p == 1 else apply1(kind, x, float(p), shape)
    return maybe_inplace(x, result, inplace, name)


@op(method=False)
def dropout(input: "Tensor", p: float = 0.5, training: bool = True, inplace: bool = False) -> "Tensor":
    """Each element set to 0 with probability `p`, the others divided by ``1 - p`` (Srivastava et al. 2014).

    Args:
        input: a tensor of any shape.
        p: the probability of 0.
        training: if False, the input is returned as it is.
        inplace: write the result into `input`.

    Raises:
        ValueError: `p` is no probability.
    """
    return _dropped("dropout", Dropout, input, p, training, inplace, False)


def _without_batch(name: str, input: Any, p: float, training: bool, inplace: bool, ranks: tuple[int, int]) -> "Tensor":
    x = tensor_of(input, name)
    if x._data.ndim not in ranks:
        raise ShapeError(
            f"{name}: expected an input of {ranks[0]} or {ranks[1]} dimensions, got shape {list(x._data.shape)}"
        )
    if x._data.ndim == ranks[1]:
        return _dropped(name, Dropout, x, p, training, inplace, True)
    return _dropped(name, Dropout, x.unsqueeze(0), p, training, inplace, True).squeeze(0)


@op(method=False)
def dropout1d(input: "Tensor", p: float = 0.5, training: bool = True, inplace: bool = False) -> "Tensor":
    """Whole channels of (N, C, L) or (C, L) set to 0 with probability `p`."""
    return _without_batch("dropout1d", input, p, training, inplace, (2, 3))


@op(method=False)
def dropout2d(input: "Tensor", p: float = 0.5, training: bool = True, inplace: bool = False) -> "Tensor":
    """Whole channels of (N, C, H, W) set to 0 with probability `p`; (N, C, L) is taken as such, as in torch."""
    return _dropped("dropout2d", Dropout, input, p, training, inplace, True)


@op(method=False)
def dropout3d(input: "Tensor", p: float = 0.5, training: bool = True, inplace: bool = False) -> "Tensor":
    """Whole channels of (N, C, D, H, W) or (C, D, H, W) set to 0 with probability `p`."""
    return _without_batch("dropout3d", input, p, training, inplace, (4, 5))


@op(method=False)
def alpha_dropout(input: "Tensor", p: float = 0.5, training: bool = False, inplace: bool = False) -> "Tensor":
    """Dropout that keeps mean and variance of what SELU gives (Klambauer et al. 2017, arXiv:1706.02515)."""
    return _dropped("alpha_dropout", AlphaDropout, input, p, training, inplace, False)


@op(method=False)
def feature_alpha_dropout(input: "Tensor", p: float = 0.5, training: bool = False, inplace: bool = False) -> "Tensor":
    """`alpha_dropout` of whole channels of (N, C, ...)."""
    return _dropped("feature_alpha_dropout", AlphaDropout, input, p, training, inplace, True)
