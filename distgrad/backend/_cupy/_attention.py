"""Scaled dot-product attention on CuPy arrays, some samples at a time, so that the scores stay within a fixed memory.

The backward pass computes the scores again, after T. Dao et al., "FlashAttention" (2022, arXiv:2205.14135). 16-bit
floats are computed in float32, as CuPy's stacked products do anyway.
"""

from collections.abc import Iterator
from typing import Any

from ..._typing import Array
from ._elementwise import wide

_SCORES = 1 << 26  # elements at once: 256 MiB in float32


class CupyAttention:
    """Attention of q (B, H, L, E), k (B, H, S, E) and v (B, H, S, Ev); mask and keep are (B, H, L, S) or None."""

    def __init__(self, cupy: Any) -> None:
        self._cp = cupy

    def _scores(self, q: Array, k: Array, mask: Array | None, causal: bool, scale: float) -> Array:
        """The masked scores (b, H, L, S)."""
        cp = self._cp
        scores = cp.matmul(q * scale, k.swapaxes(2, 3))
        if causal:
            seen = cp.arange(k.shape[2]) <= cp.arange(q.shape[2])[:, None]
            scores = cp.where(seen, scores, -cp.inf)
        if mask is not None:
            scores = cp.where(mask, scores, -cp.inf) if mask.dtype.kind == "b" else scores + mask
        return scores

    def forward(
        self, q: Array, k: Array, v: Array, mask: Array | None, keep: Array | None, causal: bool, scale: float, p: float
    ) -> tuple[Array, tuple[Array, Array]]:
        """The result (B, H, L, Ev), 0 in rows that see no key; that again and the rows' log-sum-exp (B, H, L)."""
        cp = self._cp
        out = cp.empty((*q.shape[:3], v.shape[3]), q.dtype)
        lse = cp.empty(q.shape[:3], q.dtype)
        for part in _parts(q, k):
            scores = self._scores(wide(q[part]), wide(k[part]), _at(mask, part), causal, scale)
            top = scores.max(axis=3, keepdims=True)
            top = cp.where(cp.isinf(top), 0, top)
            powers = cp.exp(scores - top)
            total = powers.sum(axis=3, keepdims=True)
            lse[part] = cp.where(total == 0, cp.inf, cp.log(total) + top)[..., 0]
            total = cp.where(total == 0, 1, total)
            if keep is not None:
                powers *= keep[part]
                total *= 1 - p
            out[part] = cp.matmul(powers, wide(v[part])) / total
        return out, (out, lse)

    def backward(
        self, g: Array, q: Array, k: Array, v: Array, saved: tuple[Array, Array] | None, mask: Array | None,
        keep: Array | None, causal: bool, scale: float, p: float, needs_mask: bool,
    ) -> tuple[Array, Array, Array, Array | None]:  # fmt: skip
        """The gradients of q, k, v and, if wanted, of an added mask."""
        cp = self._cp
        out, lse = saved or self.forward(q, k, v, mask, keep, causal, scale, p)[1]
        gq, gk, gv = cp.empty(q.shape, q.dtype), cp.empty(k.shape, k.dtype), cp.empty(v.shape, v.dtype)
        g_mask = cp.empty(mask.shape, q.dtype) if needs_mask and mask is not None else None
        for part in _parts(q, k):
            q_, k_, v_, g_ = (wide(a[part]) for a in (q, k, v, g))
            weights = cp.exp(self._scores(q_, k_, _at(mask, part), causal, scale) - lse[part][..., None])
            slope = cp.matmul(g_, v_.swapaxes(2, 3))
            kept = weights
            if keep is not None:
                factor = keep[part] * weights.dtype.type(1 / (1 - p))
                slope *= factor
                kept = weights * factor
            gv[part] = cp.matmul(kept.swapaxes(2, 3), g_)
            slope -= (g_ * out[part]).sum(axis=3, keepdims=True)
            slope *= weights
            if g_mask is not None:
                g_mask[part] = slope
            slope *= scale
            gq[part] = cp.matmul(slope, k_)
            gk[part] = cp.matmul(slope.swapaxes(2, 3), q_)
        return gq, gk, gv, g_mask


def _parts(q: Array, k: Array) -> Iterator[slice]:
    """Samples whose scores are computed at once."""
    step = max(1, _SCORES // max(1, q.shape[1] * q.shape[2] * k.shape[2]))
    for first in range(0, q.shape[0], step):
        yield slice(first, first + step)


def _at(mask: Array | None, part: slice) -> Array | None:
    return None if mask is None else mask[part]
