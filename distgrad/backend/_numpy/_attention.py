"""Scaled dot-product attention in blocks of query rows, so that memory grows linearly with the sequence.

A block holds whole rows of scores, so its softmax is exact at once; the backward pass computes the scores again from
the rows' log-sum-exp, after T. Dao et al., "FlashAttention" (2022, arXiv:2205.14135). With a causal mask, keys that no
row of a block sees are never touched.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..._typing import Array
from ._scratch import BLOCK, scratch

_CAUSAL_ROWS = 64  # rows of a block under a causal mask: fewer waste less, more make better products


class _Block(NamedTuple):
    """Heads and rows of one sample, and how many keys they see."""

    sample: int
    heads: slice
    rows: slice
    keys: int


def _blocks(shape: tuple[int, ...], keys: int, causal: bool) -> Iterator[_Block]:
    samples, heads, length = shape[:3]
    rows = min(length, max(1, BLOCK // max(keys, 1)))
    if causal:
        rows = min(rows, _CAUSAL_ROWS)
    group = min(heads, max(1, BLOCK // max(rows * keys, 1)))
    for sample in range(samples):
        for head in range(0, heads, group):
            for top in range(0, length, rows):
                stop = min(top + rows, length)
                seen = min(stop, keys) if causal else keys
                yield _Block(sample, slice(head, min(head + group, heads)), slice(top, stop), seen)


def _empty_like(x: Array, width: int) -> Array:
    """An array (B, H, L, width) whose memory is ordered (B, L, H) if that of x is."""
    b, h, length = x.shape[:3]
    if x.strides[1] < x.strides[2]:
        return np.empty((b, length, h, width), dtype=x.dtype).transpose(0, 2, 1, 3)
    return np.empty((b, h, length, width), dtype=x.dtype)


def _scores(q: Array, k: Array, mask: Array | None, causal: bool, scale: float, block: _Block) -> Array:
    """The masked scores of a block (heads, rows, keys), in scratch memory."""
    queries = q[block.sample, block.heads, block.rows]
    keys = k[block.sample, block.heads, : block.keys]
    shape = (queries.shape[0], queries.shape[1], block.keys)
    scores = scratch("attention.scores", shape, q.dtype)
    np.matmul(queries * scale, keys.swapaxes(1, 2), out=scores)
    if causal:
        first = block.rows.start  # row r sees the keys up to r
        corner = scores[:, :, first:]
        if corner.shape[2]:
            hidden = ~np.tri(corner.shape[1], corner.shape[2], dtype=np.bool_)
            np.copyto(corner, -np.inf, where=hidden)
    if mask is not None:
        part = mask[block.sample, block.heads, block.rows, : block.keys]
        if part.dtype == np.bool_:
            np.copyto(scores, -np.inf, where=~part)
        else:
            scores += part
    return scores


def forward(
    q: Array, k: Array, v: Array, mask: Array | None, keep: Array | None, causal: bool, scale: float, p: float
) -> tuple[Array, Array]:
    """The attention (B, H, L, Ev) and each row's log-sum-exp (B, H, L), from q (B, H, L, E), k (B, H, S, E) and v (B,
    H, S, Ev).

    `mask` (B, H, L, S) is boolean or is added to the scores; `keep` (B, H, L, S) says which weights dropout leaves. A
    row that sees no key gives 0.
    """
    out = _empty_like(q, v.shape[3])
    lse = np.empty(q.shape[:3], dtype=q.dtype)
    for block in _blocks(q.shape, k.shape[2], causal):
        scores = _scores(q, k, mask, causal, scale, block)
        top = np.maximum.reduce(scores, axis=2, keepdims=True, initial=-np.inf)
        if mask is not None:
            top[top == -np.inf] = 0
        scores -= top
        np.exp(scores, out=scores)
        total = np.add.reduce(scores, axis=2, keepdims=True)
        here = (block.sample, block.heads, block.rows)
        lse[here] = (np.log(total) + top)[:, :, 0]
        if mask is not None:
            lse[here][total[:, :, 0] == 0] = np.inf
            total[total == 0] = 1
        if keep is not None:
            scores *= keep[(*here, slice(block.keys))]
            total *= 1 - p
        part = out[here]
        np.matmul(scores, v[block.sample, block.heads, : block.keys], out=part)
        part /= total
    return out, lse


def backward(
    g: Array,
    q: Array,
    k: Array,
    v: Array,
    out: Array,
    lse: Array,
    mask: Array | None,
    keep: Array | None,
    causal: bool,
    scale: float,
    p: float,
    needs_mask: bool,
) -> tuple[Array, Array, Array, Array | None]:
    """The gradients of q, k, v and, if wanted, of an added mask."""
    gq, gk, gv = _empty_like(q, q.shape[3]), _empty_like(k, k.shape[3]), _empty_like(v, v.shape[3])
    gk[...] = 0
    gv[...] = 0
    g_mask = np.zeros(mask.shape, dtype=q.dtype) if needs_mask and mask is not None else None
    inner = np.einsum("bhle,bhle->bhl", g, out)
    for block in _blocks(q.shape, k.shape[2], causal):
        here, seen = (block.sample, block.heads, block.rows), (block.sample, block.heads, slice(block.keys))
        weights = _scores(q, k, mask, causal, scale, block)
        weights -= lse[here][:, :, None]
        np.exp(weights, out=weights)
        gradient = g[here]
        slope = scratch("attention.slope", weights.shape, q.dtype)
        np.matmul(gradient, v[seen].swapaxes(1, 2), out=slope)
        if keep is None:
            gv[seen] += np.matmul(weights.swapaxes(1, 2), gradient)
        else:
            kept = keep[(*here, slice(block.keys))]
            slope *= kept
            slope *= 1 / (1 - p)
            gv[seen] += np.matmul((weights * kept).swapaxes(1, 2), gradient) * (1 / (1 - p))
        slope -= inner[here][:, :, None]
        slope *= weights
        if g_mask is not None:
            g_mask[(*here, slice(block.keys))] = slope
        slope *= scale
        np.matmul(slope, k[seen], out=gq[here])
        gk[seen] += np.matmul(slope.swapaxes(1, 2), q[here])
    return gq, gk, gv, g_mask
