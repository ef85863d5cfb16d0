"""Scaled dot-product attention on CuPy arrays, head by head: two-dimensional products go to cuBLAS without copies.

Memory for scores is that of one head of one sample. The backward pass computes the scores again, after T. Dao et al.,
"FlashAttention" (2022, arXiv:2205.14135).
"""

from collections.abc import Iterator
from typing import Any

from ..._typing import Array


class CupyAttention:
    """Attention of q (B, H, L, E), k (B, H, S, E) and v (B, H, S, Ev); mask and keep are (B, H, L, S) or None."""

    def __init__(self, cupy: Any) -> None:
        self._cp = cupy

    def _scores(self, q: Array, k: Array, mask: Array | None, causal: bool, scale: float) -> Array:
        """The masked scores (L, S) of one head."""
        cp = self._cp
        scores = (q * scale) @ k.T
        if causal:
            seen = cp.arange(k.shape[0]) <= cp.arange(q.shape[0])[:, None]
            scores = cp.where(seen, scores, -cp.inf)
        if mask is not None:
            scores = cp.where(mask, scores, -cp.inf) if mask.dtype.kind == "b" else scores + mask
        return scores

    def forward(
        self,
        q: Array,
        k: Array,
        v: Array,
        mask: Array | None,
        keep: Array | None,
        causal: bool,
        scale: float,
        p: float,
    ) -> tuple[Array, Array]:
        """The result (B, H, L, Ev), 0 in rows that see no key, and the rows' log-sum-exp (B, H, L)."""
        cp = self._cp
        out = cp.empty((*q.shape[:3], v.shape[3]), q.dtype)
        lse = cp.empty(q.shape[:3], q.dtype)
        for head in _heads(q):
            scores = self._scores(q[head], k[head], _at(mask, head), causal, scale)
            top = scores.max(axis=1, keepdims=True)
            top = cp.where(cp.isinf(top), 0, top)
            powers = cp.exp(scores - top)
            total = powers.sum(axis=1, keepdims=True)
            lse[head] = cp.where(total == 0, cp.inf, cp.log(total) + top)[:, 0]
            total = cp.where(total == 0, 1, total)
            if keep is not None:
                powers = powers * keep[head]
                total = total * (1 - p)
            out[head] = (powers.astype(q.dtype, copy=False) @ v[head]) / total
        return out, lse

    def backward(
        self,
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
        cp = self._cp
        gq, gk, gv = cp.empty_like(q), cp.empty_like(k), cp.empty_like(v)
        g_mask = cp.empty(mask.shape, q.dtype) if needs_mask and mask is not None else None
        for head in _heads(q):
            weights = cp.exp(self._scores(q[head], k[head], _at(mask, head), causal, scale) - lse[head][:, None])
            slope = g[head] @ v[head].T
            if keep is None:
                gv[head] = weights.T @ g[head]
            else:
                kept = keep[head] * (1 / (1 - p))
                slope = slope * kept
                gv[head] = (weights * kept).T.astype(q.dtype, copy=False) @ g[head]
            slope = weights * (slope - (g[head] * out[head]).sum(axis=1, keepdims=True))
            if g_mask is not None:
                g_mask[head] = slope
            slope = (slope * scale).astype(q.dtype, copy=False)
            gq[head] = slope @ k[head]
            gk[head] = slope.T @ q[head]
        return gq, gk, gv, g_mask


def _heads(q: Array) -> Iterator[tuple[int, int]]:
    for sample in range(q.shape[0]):
        for head in range(q.shape[1]):
            yield sample, head


def _at(mask: Array | None, head: tuple[int, int]) -> Array | None:
    return None if mask is None else mask[head]
