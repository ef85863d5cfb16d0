"""Scaled dot-product attention in blocks of query rows, so that memory grows linearly with the sequence.

A block holds whole rows of scores, so its softmax is exact at once; the backward pass computes the scores again from
the rows' log-sum-exp, after T. Dao et al., "FlashAttention" (2022, arXiv:2205.14135). With a causal mask, keys that no
row of a block sees are never touched.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..._typing import Array
from ._scratch import BLOCK, scratch

_CAUSAL_ROWS = 64  # rows of a block under a causal mask: fewer waste less, more make better products
_SAFE = 80.0  # exp of this, times a million, is a float32


class _Block(NamedTuple):
    """Samples, heads and rows, and how many keys they see."""

    samples: slice
    heads: slice
    rows: slice
    keys: int

    @property
    def queries(self) -> tuple[slice, slice, slice]:
        return self.samples, self.heads, self.rows

    @property
    def seen(self) -> tuple[slice, slice, slice]:
        return self.samples, self.heads, slice(self.keys)

    @property
    def weights(self) -> tuple[slice, slice, slice, slice]:
        return self.samples, self.heads, self.rows, slice(self.keys)


def _slices(n: int, step: int) -> Iterator[slice]:
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def _blocks(shape: tuple[int, ...], keys: int, causal: bool) -> Iterator[_Block]:
    samples, heads, length = shape[:3]
    rows = min(length, max(1, BLOCK // max(keys, 1)))
    if causal:
        rows = min(rows, _CAUSAL_ROWS)
    one = max(rows * keys, 1)
    for sample in _slices(samples, max(1, BLOCK // (one * max(heads, 1)))):
        for head in _slices(heads, max(1, BLOCK // one)):
            for part in _slices(length, max(rows, 1)):
                yield _Block(sample, head, part, min(part.stop, keys) if causal else keys)


def _empty_like(x: Array, width: int) -> Array:
    """An array (B, H, L, width) whose memory is ordered (B, L, H) if that of x is."""
    b, h, length = x.shape[:3]
    if x.strides[1] < x.strides[2]:
        return np.empty((b, length, h, width), dtype=x.dtype).transpose(0, 2, 1, 3)
    return np.empty((b, h, length, width), dtype=x.dtype)


@functools.lru_cache(64)
def _above(rows: int, columns: int) -> Array:
    """Which keys the rows of a block do not see, from the block's first row on."""
    return ~np.tri(rows, columns, dtype=np.bool_)


def _scores(q: Array, k: Array, scale: float, block: _Block) -> Array:
    """The scores of a block (samples, heads, rows, keys), in scratch memory."""
    queries = q[block.queries]
    scores = scratch("attention.scores", (*queries.shape[:3], block.keys), q.dtype)
    return np.matmul(queries * scale, k[block.seen].swapaxes(2, 3), out=scores)


def _hide(scores: Array, mask: Array | None, causal: bool, block: _Block) -> None:
    """Applies the masks to the scores of a block, in place."""
    if causal:
        corner = scores[..., block.rows.start :]  # row r sees the keys up to r
        np.copyto(corner, -np.inf, where=_above(*corner.shape[2:]))
    if mask is None:
        return
    part = mask[block.weights]
    if part.dtype == np.bool_:
        np.copyto(scores, -np.inf, where=~part)
    else:
        scores += part


def _is_moderate(scores: Array) -> bool:
    """Whether exp needs no shift by each row's maximum; two passes over all are faster than one by rows."""
    return bool(scores.size and max(scores.max(), -scores.min()) <= _SAFE)


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
        scores = _scores(q, k, scale, block)
        top: Array | float = 0.0
        if mask is None and _is_moderate(scores):
            _hide(scores, mask, causal, block)
        else:
            _hide(scores, mask, causal, block)
            top = np.maximum.reduce(scores, axis=3, keepdims=True, initial=-np.inf)
            top[top == -np.inf] = 0
            scores -= top
        np.exp(scores, out=scores)
        ones = np.ones((block.keys, 1), dtype=scores.dtype)
        total = (scores.reshape(-1, block.keys) @ ones).reshape(*scores.shape[:3], 1)
        lse[block.queries] = np.where(total == 0, np.inf, np.log(total) + top)[..., 0]
        total[total == 0] = 1  # a row that sees no key
        if keep is not None:
            scores *= keep[block.weights]
            total *= 1 - p
        part = out[block.queries]
        np.matmul(scores, v[block.seen], out=part)
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
    inner = np.vecdot(g, out)
    for block in _blocks(q.shape, k.shape[2], causal):
        weights = _scores(q, k, scale, block)
        _hide(weights, mask, causal, block)
        weights -= lse[block.queries][..., None]
        np.exp(weights, out=weights)
        gradient = g[block.queries]
        slope = scratch("attention.slope", weights.shape, q.dtype)
        np.matmul(gradient, v[block.seen].swapaxes(2, 3), out=slope)
        if keep is None:
            gv[block.seen] += np.matmul(weights.swapaxes(2, 3), gradient)
        else:
            kept = keep[block.weights]
            slope *= kept
            slope *= 1 / (1 - p)
            gv[block.seen] += np.matmul((weights * kept).swapaxes(2, 3), gradient) * (1 / (1 - p))
        slope -= inner[block.queries][..., None]
        slope *= weights
        if g_mask is not None:
            g_mask[block.weights] = slope
        slope *= scale
        np.matmul(slope, k[block.seen], out=gq[block.queries])
        gk[block.seen] += np.matmul(slope.swapaxes(2, 3), q[block.queries])
    return gq, gk, gv, g_mask
