"""Scaled dot-product attention in blocks of query rows, so that memory grows linearly with the sequence.

A block holds whole rows of scores, so its softmax is exact at once. The backward pass has the weights from the forward
pass where that takes little memory, and else computes them again, after T. Dao et al., "FlashAttention" (2022,
arXiv:2205.14135). With a causal mask, keys that no row of a block sees are never touched.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

from ..._typing import Array
from ._scratch import BLOCK, scratch
from ._softmax import softmax_backward_rows, softmax_rows

_CAUSAL_ROWS = 64  # rows of a block under a causal mask: fewer waste less, more make better products
_KEPT = 2  # weights are kept if a row of them is at most so many times as long as one of query and value


class Steps(Protocol):
    """What a block is computed with."""

    def product(self, x: Array, y: Array, out: Array) -> None:
        """``out = x @ y``, stacks of matrices."""
        ...

    def add_product(self, x: Array, y: Array, out: Array) -> None:
        """``out += x @ y``."""
        ...

    def softmax(self, x: Array, out: Array) -> None:
        """The softmax of rows, 0 where all are -inf; x is not `out`."""
        ...

    def softmax_backward(self, g: Array, y: Array) -> None:
        """``g = y * (g - sum(g * y))``, in place of g."""
        ...


class NumpySteps:
    """`Steps` by NumPy."""

    def product(self, x: Array, y: Array, out: Array) -> None:
        """``out = x @ y``."""
        np.matmul(x, y, out=out)

    def add_product(self, x: Array, y: Array, out: Array) -> None:
        """``out += x @ y``."""
        out += np.matmul(x, y, out=scratch("attention.product", out.shape, out.dtype))

    def softmax(self, x: Array, out: Array) -> None:
        """The softmax of rows."""
        softmax_rows(out.reshape(-1, out.shape[-1]), x.reshape(-1, x.shape[-1]), masked=True)

    def softmax_backward(self, g: Array, y: Array) -> None:
        """``g = y * (g - sum(g * y))``."""
        rows = g.reshape(-1, g.shape[-1])
        softmax_backward_rows(rows, y.reshape(rows.shape), rows)


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


def _slices(n: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def _blocks(shape: tuple[int, ...], keys: int, causal: bool) -> Iterator[_Block]:
    """All blocks; those of the same samples and heads from the last rows to the first."""
    samples, heads, length = shape[:3]
    rows = min(length, max(1, BLOCK // max(keys, 1)))
    if causal:
        rows = min(rows, _CAUSAL_ROWS)
    one = max(rows * keys, 1)
    for sample in _slices(samples, max(1, BLOCK // (one * max(heads, 1)))):
        for head in _slices(heads, max(1, BLOCK // one)):
            for part in reversed(_slices(length, max(rows, 1))):
                yield _Block(sample, head, part, min(part.stop, keys) if causal else keys)


def _empty_like(x: Array, width: int) -> Array:
    """An array (B, H, L, width) whose memory is ordered (B, L, H) if that of x is."""
    b, h, length = x.shape[:3]
    if x.strides[1] < x.strides[2]:
        return np.empty((b, length, h, width), dtype=x.dtype).transpose(0, 2, 1, 3)
    return np.empty((b, h, length, width), dtype=x.dtype)


def _gradients_of(q: Array, k: Array, v: Array) -> list[Array]:
    """Arrays like these; where these lie side by side in the rows of one memory, as one product leaves them, so do
    those.
    """
    b, h, length, width = q.shape
    step = h * width * q.itemsize
    places = [x.__array_interface__["data"][0] for x in (q, k, v)]
    rows = q.strides == k.strides == v.strides == (3 * step * length, width * q.itemsize, 3 * step, q.itemsize)
    if rows and q.base is k.base is v.base and places[2] - places[1] == places[1] - places[0] == step:
        return list(np.empty((b, length, 3, h, width), dtype=q.dtype).transpose(2, 0, 3, 1, 4))
    return [_empty_like(x, x.shape[3]) for x in (q, k, v)]


@functools.lru_cache(64)
def _above(rows: int, columns: int) -> Array:
    """Which keys the rows of a block do not see, from the block's first row on."""
    return ~np.tri(rows, columns, dtype=np.bool_)


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


class BlockAttention:
    """Attention of q (B, H, L, E), k (B, H, S, E) and v (B, H, S, Ev).

    Args:
        steps: what a block is computed with.
    """

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def _weights(
        self, q: Array, k: Array, mask: Array | None, causal: bool, scale: float, block: _Block, kept: bool
    ) -> Array:
        """The weights of a block (samples, heads, rows, keys), in scratch memory unless they are `kept`."""
        queries = q[block.queries]
        shape = *queries.shape[:3], block.keys
        scores = scratch("attention.scores", shape, q.dtype)
        self._steps.product(queries, k[block.seen].swapaxes(2, 3), scores)
        scores *= scale
        _hide(scores, mask, causal, block)
        weights = np.empty(shape, dtype=q.dtype) if kept else scratch("attention.weights", shape, q.dtype)
        if weights.size:
            self._steps.softmax(scores, weights)
        return weights

    def forward(
        self, q: Array, k: Array, v: Array, mask: Array | None, keep: Array | None, causal: bool, scale: float, p: float
    ) -> tuple[Array, list[Array] | None]:
        """The attention (B, H, L, Ev), and the weights for the backward pass, if it is to have them.

        `mask` (B, H, L, S) is boolean or is added to the scores; `keep` (B, H, L, S) says which weights dropout leaves.
        A row that sees no key gives 0.
        """
        out = _empty_like(q, v.shape[3])
        kept: list[Array] | None = [] if k.shape[2] <= _KEPT * (q.shape[3] + v.shape[3]) else None
        for block in _blocks(q.shape, k.shape[2], causal):
            weights = self._weights(q, k, mask, causal, scale, block, kept is not None)
            if kept is not None:
                kept.append(weights)
            if keep is not None:
                weights = weights * keep[block.weights] * weights.dtype.type(1 / (1 - p))
            self._steps.product(weights, v[block.seen], out[block.queries])
        return out, kept

    def backward(
        self, g: Array, q: Array, k: Array, v: Array, saved: list[Array] | None, mask: Array | None, keep: Array | None,
        causal: bool, scale: float, p: float, needs_mask: bool,
    ) -> tuple[Array, Array, Array, Array | None]:  # fmt: skip
        """The gradients of q, k, v and, if wanted, of an added mask."""
        gq, gk, gv = _gradients_of(q, k, v)
        if causal or not q.shape[2]:  # keys that nothing sees
            gk[:, :, q.shape[2] :] = gv[:, :, q.shape[2] :] = 0
        g_mask = np.zeros(mask.shape, dtype=q.dtype) if needs_mask and mask is not None else None
        steps = self._steps
        for number, block in enumerate(_blocks(q.shape, k.shape[2], causal)):
            weights = self._weights(q, k, mask, causal, scale, block, False) if saved is None else saved[number]
            # The first block of its samples and heads sees all keys.
            put = steps.product if block.rows.stop == q.shape[2] else steps.add_product
            gradient = g[block.queries]
            slope = scratch("attention.slope", weights.shape, q.dtype)
            steps.product(gradient, v[block.seen].swapaxes(2, 3), slope)
            used = weights
            if keep is not None:
                factor = keep[block.weights] * weights.dtype.type(1 / (1 - p))
                slope *= factor
                used = weights * factor
            put(used.swapaxes(2, 3), gradient, gv[block.seen])
            if slope.size:
                steps.softmax_backward(slope, weights)
            if g_mask is not None:
                g_mask[block.weights] = slope
            slope *= scale
            steps.product(slope, k[block.seen], gq[block.queries])
            put(slope.swapaxes(2, 3), q[block.queries], gk[block.seen])
        return gq, gk, gv, g_mask
