"""Multi-head attention as a function of its parameters."""

import math
from typing import Any

from .. import ops
from .._tensor import Tensor
from ..errors import DTypeError, ShapeError


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
    *,
    batch_first: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """What `MultiheadAttention` computes, with its parameters as arguments; see there.

    Args:
        static_k: (N * num_heads, S, head size) keys to be used as they are; static_v likewise.
    """
    _check_inputs(query, key, value, embed_dim_to_check, num_heads)
    single = query.ndim == 2
    if is_causal and attn_mask is None:
        raise ValueError("Need attn_mask if specifying the is_causal hint.")
    weights: Any = in_proj_weight
    if use_separate_proj_weight:
        weights = (q_proj_weight, k_proj_weight, v_proj_weight)
    q, k, v = _projected(query, key, value, weights, in_proj_bias)
    q, k, v = (_heads(t, num_heads, single, batch_first) for t in (q, k, v))
    batch = q.shape[0]
    k, v = (t if s is None else s.reshape(batch, num_heads, *s.shape[1:]) for t, s in ((k, static_k), (v, static_v)))
    k, v, added = _with_additions(k, v, bias_k, bias_v, add_zero_attn)
    causal_only = is_causal and key_padding_mask is None and not need_weights and added == 0
    mask = None if causal_only else _merged_mask(attn_mask, key_padding_mask, q, k, added)
    p = dropout_p if training else 0.0
    attention = _attention_weights(q, k, mask, p) if need_weights else None
    if attention is None:
        mixed = ops.scaled_dot_product_attention(q, k, v, mask, p, causal_only)
    else:
        mixed = ops.matmul(attention, v)
        attention = _shown(attention, average_attn_weights, single)
    order = (0, 2, 1, 3) if batch_first or single else (2, 0, 1, 3)
    joined = mixed.permute(*order).reshape(*query.shape[:-1], embed_dim_to_check)
    return ops.linear(joined, out_proj_weight, out_proj_bias), attention


def _shown(attention: Tensor, average: bool, single: bool) -> Tensor:
    """The weights as the caller gets them: without heads, or without a batch, where these are not wanted."""
    attention = attention.mean(dim=1) if average else attention
    return attention.squeeze(0) if single else attention


def _check_inputs(query: Tensor, key: Tensor, value: Tensor, embed_dim: int, num_heads: int) -> None:
    if not all(isinstance(t, Tensor) for t in (query, key, value)):
        found = ", ".join(type(t).__name__ for t in (query, key, value))
        raise TypeError(f"multi_head_attention_forward: expected tensors for query, key and value, got {found}")
    if query.ndim not in (2, 3) or key.ndim != query.ndim or value.ndim != query.ndim:
        raise ShapeError(
            "multi-head attention: expected query, key and value of 3 dimensions (or 2 for one sequence), got "
            f"{list(query.shape)}, {list(key.shape)} and {list(value.shape)}"
        )
    if query.shape[-1] != embed_dim:
        raise ShapeError(f"multi-head attention: expected queries of size {embed_dim}, got {query.shape[-1]}")
    if embed_dim % num_heads:
        raise ShapeError(f"embed_dim {embed_dim} not divisible by num_heads {num_heads}")
    if key.shape[:-1] != value.shape[:-1]:
        raise ShapeError(
            f"multi-head attention: expected keys and values of one length and batch, got {list(key.shape)} and "
            f"{list(value.shape)}"
        )


def _projected(query: Tensor, key: Tensor, value: Tensor, weights: Any, bias: Tensor | None) -> tuple[Tensor, ...]:
    """Queries, keys and values, projected; by one product where they are the same tensor."""
    if isinstance(weights, tuple):
        biases = (None, None, None) if bias is None else bias.chunk(3)
        inputs = (query, key, value)
        return tuple(ops.linear(t, w, b) for t, w, b in zip(inputs, weights, biases, strict=True))
    size = query.shape[-1]
    if query is key and key is value:
        return tuple(ops.linear(query, weights, bias).chunk(3, -1))
    parts = [weights[i * size : (i + 1) * size] for i in range(3)]
    biases = (None, None, None) if bias is None else bias.chunk(3)
    if key is value:
        both = ops.linear(key, weights[size:], None if bias is None else bias[size:])
        return (ops.linear(query, parts[0], biases[0]), *both.chunk(2, -1))
    return tuple(ops.linear(t, w, b) for t, w, b in zip((query, key, value), parts, biases, strict=True))


def _heads(t: Tensor, num_heads: int, single: bool, batch_first: bool) -> Tensor:
    """(L, N, E), (N, L, E) or (L, E) as (N, heads, L, E / heads)."""
    if single:
        t = t.unsqueeze(0)
    parts = t.reshape(t.shape[0], t.shape[1], num_heads, t.shape[2] // num_heads)
    return parts.permute(0, 2, 1, 3) if batch_first or single else parts.permute(1, 2, 0, 3)


def _with_additions(
    k: Tensor, v: Tensor, bias_k: Tensor | None, bias_v: Tensor | None, add_zero_attn: bool
) -> tuple[Tensor, Tensor, int]:
    """Keys and values with the learned one and the zero one behind them; and how many these are."""
    batch, heads, _, size = k.shape
    added = 0
    if bias_k is not None and bias_v is not None:
        k = ops.cat([k, bias_k.reshape(1, heads, 1, size).expand(batch, heads, 1, size)], 2)
        v = ops.cat([v, bias_v.reshape(1, heads, 1, size).expand(batch, heads, 1, size)], 2)
        added += 1
    if add_zero_attn:
        zero = ops.zeros(batch, heads, 1, size, dtype=k.dtype, device=k.device)
        k, v = ops.cat([k, zero], 2), ops.cat([v, zero], 2)
        added += 1
    return k, v, added


def _merged_mask(
    attn_mask: Tensor | None, key_padding_mask: Tensor | None, q: Tensor, k: Tensor, added: int
) -> Tensor | None:
    """Both masks as one that is added to the scores, broadcastable to (N, heads, L, S)."""
    batch, heads, length, _ = q.shape
    total = k.shape[2]
    merged: Tensor | None = None
    if attn_mask is not None:
        merged = _additive(attn_mask, q, added, "attn_mask")
        if merged.ndim == 3:
            _need_shape("attn_mask", merged, (batch * heads, length, total))
            merged = merged.reshape(batch, heads, length, total)
        else:
            _need_shape("attn_mask", merged, (length, total))
    if key_padding_mask is not None:
        padding = _additive(key_padding_mask, q, added, "key_padding_mask")
        padding = padding.unsqueeze(0) if padding.ndim == 1 else padding
        _need_shape("key_padding_mask", padding, (batch, total))
        padding = padding.reshape(batch, 1, 1, total)
        merged = padding if merged is None else merged + padding
    return merged


def _need_shape(name: str, mask: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(mask.shape) != shape:
        raise ShapeError(
            f"multi-head attention: expected {name} of shape {list(shape)} (with added keys), got {list(mask.shape)}"
        )


def _additive(mask: Tensor, like: Tensor, added: int, name: str) -> Tensor:
    """A mask of booleans as one of 0 and -inf, and room for the added keys."""
    if mask.dtype.name == "bool":
        hidden = ops.zeros(mask.shape, dtype=like.dtype, device=like.device)
        mask = hidden.masked_fill_(mask, -math.inf)
    elif not mask.is_floating_point():
        raise DTypeError(
            f"multi-head attention: only bool and floating types of {name} are supported, got {mask.dtype}"
        )
    return ops.pad(mask, (0, added)) if added else mask


def _attention_weights(q: Tensor, k: Tensor, mask: Tensor | None, dropout_p: float) -> Tensor:
    scores = ops.matmul(q * math.sqrt(1.0 / q.shape[-1]), k.transpose(-2, -1))
    if mask is not None:
        scores = scores + mask
    weights = ops.softmax(scores, -1)
    return ops.dropout(weights, dropout_p) if dropout_p > 0.0 else weights
