"""Scaled dot-product attention."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .._typing import Array
from ..autograd._base import wrap
from ..autograd._node import Node
from ..autograd._op import Op, apply
from ..errors import DTypeError, ShapeError
from ._common import check_floating, need_same_dtype, tensor_of
from ._generator import stream_of
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


class Attention(Op):
    """Inputs: q (B, H, L, E), k (B, H, S, E), v (B, H, S, Ev), mask (B, H, L, S) or None.

    ``params = (causal, scale, dropout probability)``.
    """

    name = "ScaledDotProductAttention"
    saves = ((0, 1, 2, 3),) * 4
    quiet = True

    @staticmethod
    def forward(
        ctx: Node, q: Array, k: Array, v: Array, mask: Array | None, causal: bool, scale: float, p: float
    ) -> Any:
        keep = None
        if p:
            keep = ctx.aux = ctx.xp.asarray(stream_of(None).bernoulli(1 - p, (*q.shape[:3], k.shape[2])))
        out, ctx.cache = ctx.kernels.attention.forward(q, k, v, mask, keep, causal, scale, p)
        return out

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, q: Any, k: Any, v: Any, mask: Any) -> Any:
        """By differentiable formulas, on whole matrices of scores."""
        (causal, scale, p), keep = ctx.params, ctx.aux
        scores = xp.matmul(q, xp.swapaxes(k, -1, -2)) * scale
        weights = _softmax(xp, ctx.xp, scores, mask, causal)
        kept = weights if keep is None else weights * keep * (1 / (1 - p))
        slope = xp.matmul(g, xp.swapaxes(v, -1, -2))
        if keep is not None:
            slope = slope * keep * (1 / (1 - p))
        slope = weights * (slope - xp.sum(slope * weights, axis=3, keepdims=True))
        gq = xp.matmul(slope, k) * scale
        gk = xp.matmul(xp.swapaxes(slope, -1, -2), q) * scale
        gv = xp.matmul(xp.swapaxes(kept, -1, -2), g)
        return gq, gk, gv, slope if ctx.needs[3] else None

    @staticmethod
    def backward_fast(xp: Any, ctx: Node, g: Any, q: Any, k: Any, v: Any, mask: Any) -> Any:
        causal, scale, p = ctx.params
        return ctx.kernels.attention.backward(g, q, k, v, ctx.cache, mask, ctx.aux, causal, scale, p, ctx.needs[3])


def _softmax(xp: Any, array_module: Any, scores: Any, mask: Any, causal: bool) -> Any:
    """The weights of masked scores (..., L, S); 0 in rows that see no key."""
    hidden = None
    if causal:
        hidden = ~array_module.tri(*scores.shape[-2:], dtype=bool)
    if mask is not None:
        if _is_bool(mask):
            blocked = xp.logical_not(mask)
            scores = xp.where(blocked, -math.inf, scores)
        else:
            scores = scores + mask
    if hidden is not None:
        scores = xp.where(hidden, -math.inf, scores)
    raw = scores if isinstance(scores, array_module.ndarray) else scores._data
    top = raw.max(axis=-1, keepdims=True)
    top = array_module.where(
        top == -math.inf, array_module.zeros_like(top), top
    )  # a constant: the softmax does not depend on it
    exps = xp.exp(scores - top)
    total = xp.sum(exps, axis=-1, keepdims=True)
    return exps / xp.where(total == 0, xp.ones_like(total), total)


def _is_bool(mask: Any) -> bool:
    return bool((mask._data if hasattr(mask, "_data") else mask).dtype.kind == "b")


def _check(q: Any, k: Any, v: Any) -> None:
    check_floating("scaled_dot_product_attention", q)
    need_same_dtype("scaled_dot_product_attention", query=q, key=k, value=v)
    a, b, c = q._data.shape, k._data.shape, v._data.shape
    if min(len(a), len(b), len(c)) < 2:
        raise ShapeError(
            f"scaled_dot_product_attention: expected query, key and value of 2 dimensions or more, got {list(a)}, "
            f"{list(b)}, {list(c)}"
        )
    if a[-1] != b[-1] or b[-2] != c[-2]:
        raise ShapeError(
            "scaled_dot_product_attention: expected query (..., L, E), key (..., S, E) and value (..., S, Ev), got "
            f"{list(a)}, {list(b)} and {list(c)}"
        )


def _repeat_heads(t: Any, heads: int) -> Any:
    """Each head of (..., h, S, E) repeated so that there are `heads` of them."""
    *lead, own, length, width = t._data.shape
    if own == heads:
        return t
    if heads % own:
        raise ShapeError(
            f"scaled_dot_product_attention: expected the query's {heads} heads to be a multiple of the key's {own}"
        )
    return t.unsqueeze(-3).expand(*lead, own, heads // own, length, width).reshape(*lead, heads, length, width)


def _four(t: Any, lead: tuple[int, ...]) -> Any:
    """(..., L, E) broadcast to the leading sizes `lead` and brought to four dimensions."""
    shape = t._data.shape
    if shape[:-2] != lead:
        t = t.expand(*lead, *shape[-2:])
    if len(lead) == 2:
        return t
    outer = math.prod(lead[:-1])
    return t.reshape(outer, lead[-1] if lead else 1, *shape[-2:])


@op(method=False)
def scaled_dot_product_attention(
    query: "Tensor",
    key: "Tensor",
    value: "Tensor",
    attn_mask: "Tensor | None" = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> "Tensor":
    """``softmax(query @ key.T * scale + mask) @ value`` (Vaswani et al. 2017, arXiv:1706.03762), in memory linear in L
    and S.

    Args:
        query: (..., L, E).
        key: (..., S, E).
        value: (..., S, Ev).
        attn_mask: broadcast to (..., L, S); boolean (True: may be seen) or added to the scores.
        dropout_p: the probability with which each weight is dropped.
        is_causal: row i sees the keys up to i; not together with `attn_mask`.
        scale: by default ``1 / sqrt(E)``.
        enable_gqa: the query may have more heads than key and value (its third dimension from the end), which are then
            shared.

    Returns:
        (..., L, Ev).

    Raises:
        ShapeError: the sizes do not fit.
        ValueError: both a mask and `is_causal`.
    """
    q, k, v = (tensor_of(t, "scaled_dot_product_attention") for t in (query, key, value))
    _check(q, k, v)
    if attn_mask is not None and is_causal:
        raise ValueError(
            "scaled_dot_product_attention: expected attn_mask=None with is_causal=True; put the causal mask into "
            "attn_mask"
        )
    if enable_gqa:
        k, v = _repeat_heads(k, q._data.shape[-3]), _repeat_heads(v, q._data.shape[-3])
    try:
        lead = _common_lead(q, k, v)
    except ValueError:
        shapes = ", ".join(str(list(t._data.shape)) for t in (q, k, v))
        raise ShapeError(
            f"scaled_dot_product_attention: the leading dimensions of {shapes} cannot be broadcast; use "
            "enable_gqa=True to share heads"
        ) from None
    length, keys, width = q._data.shape[-2], k._data.shape[-2], v._data.shape[-1]
    mask = None if attn_mask is None else _mask_of(attn_mask, q._data.dtype).expand(*lead, length, keys)
    factor = 1 / math.sqrt(q._data.shape[-1]) if scale is None else float(scale)
    inputs = (*(_four(t, lead) for t in (q, k, v)), None if mask is None else _four(mask, lead))
    result = apply(Attention, inputs, (bool(is_causal), factor, float(dropout_p)))
    return result if len(lead) == 2 else result.reshape(*lead, length, width)  # type: ignore[no-any-return]


def _common_lead(*tensors: Any) -> tuple[int, ...]:
    leads = {t._data.shape[:-2] for t in tensors}
    if len(leads) == 1:
        return leads.pop()  # type: ignore[no-any-return]
    return np.broadcast_shapes(*leads)


def _mask_of(mask: Any, dtype: Any) -> Any:
    t = tensor_of(mask, "scaled_dot_product_attention")
    if t._data.dtype.kind != "b" and t._data.dtype != dtype:
        raise DTypeError(
            f"scaled_dot_product_attention: expected attn_mask to be bool or {dtype} as the query, got {t._data.dtype}"
        )
    return t if t._data.ndim else wrap(t._data.reshape(1, 1))
