"""Scaled dot-product attention in blocks of query rows, so that memory grows linearly with the sequence.

A block holds whole rows of scores, so its softmax is exact at once. The backward pass has the weights from the forward
pass where that takes little memory; else it computes them again from the rows' log-sum-exp, after T. Dao et al.,
"FlashAttention" (2022, arXiv:2205.14135). With a causal mask, keys that no row of a block sees are never touched.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

from ..._typing import Array
from ._scratch import BLOCK, scratch
from ._softmax import softmax_backward_rows

_WIDE = (np.dtype(np.float32), np.dtype(np.float64))  # with exponents enough to do without a shift, as a rule
_LARGE = 1e30  # sums of exponentials up to here, and down to its reciprocal, are as good as others
_CAUSAL_ROWS = 64  # rows of a block under a causal mask: fewer waste less, more make better products
_KEPT = 2  # weights are kept if a row of them is at most so many times as long as one of query and value


class Steps(Protocol):
    """What a block is computed with.

    Attributes:
        block: scores of a block, at most, unless one row has more.
    """

    block: int

    def product(self, x: Array, y: Array, out: Array) -> None:
        """``out = x @ y``, stacks of matrices."""
        ...

    def add_product(self, x: Array, y: Array, out: Array) -> None:
        """``out += x @ y``."""
        ...

    def exps(self, x: Array, scale: float, above: int | None) -> None:
        """``x = exp(scale * x)`` of stacks of rows; 0 where row r would see a key above ``r + above``.

        What overflows becomes inf or a number above 1e30, and so does nan, if it does not stay.
        """
        ...

    def softmax_backward(self, g: Array, y: Array) -> None:
        """``g = y * (g - sum(g * y))``, in place of g."""
        ...


class NumpySteps:
    """`Steps` by NumPy."""

    block = BLOCK

    def product(self, x: Array, y: Array, out: Array) -> None:
        """``out = x @ y``."""
        np.matmul(x, y, out=out)

    def add_product(self, x: Array, y: Array, out: Array) -> None:
        """``out += x @ y``."""
        out += np.matmul(x, y, out=scratch("attention.product", out.shape, out.dtype))

    def exps(self, x: Array, scale: float, above: int | None) -> None:
        """``x = exp(scale * x)``, and 0 where keys are hidden."""
        x *= scale
        if above is not None:
            _hide_above(x, above)
        with np.errstate(over="ignore"):
            np.exp(x, out=x)

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


def _blocks(shape: tuple[int, ...], keys: int, causal: bool, size: int) -> Iterator[_Block]:
    """All blocks; those of the same samples and heads from the last rows to the first."""
    samples, heads, length = shape[:3]
    rows = min(length, max(1, size // max(keys, 1)))
    if causal:
        rows = min(rows, _CAUSAL_ROWS)
    one = max(rows * keys, 1)
    for sample in _slices(samples, max(1, size // (one * max(heads, 1)))):
        for head in _slices(heads, max(1, size // one)):
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


def _hide_above(scores: Array, first: int) -> None:
    """Row r sees the keys up to ``first + r``."""
    corner = scores[..., first:]
    np.copyto(corner, -np.inf, where=_above(*corner.shape[2:]))


def _hide(scores: Array, mask: Array, block: _Block) -> None:
    """Applies a mask to the scores of a block, in place."""
    part = mask[block.weights]
    if part.dtype == np.bool_:
        np.copyto(scores, -np.inf, where=~part)
    else:
        scores += part


def _normalise(exps: Array) -> Array | None:
    """Divides rows by their sums, in place, and gives these; None if one has lost digits or overflown."""
    rows = exps.reshape(-1, exps.shape[-1])
    total = rows @ np.ones((rows.shape[1], 1), dtype=rows.dtype)
    if not (total.min() > 1 / _LARGE and total.max() < _LARGE):
        return None
    rows *= np.reciprocal(total)
    return total.reshape(*exps.shape[:3], 1)


def _softmax(scores: Array) -> Array:
    """The softmax of rows of any size, in place, 0 where all are -inf; and their log-sum-exp, there inf."""
    top = np.maximum.reduce(scores, axis=3, keepdims=True, initial=-np.inf)
    top[top == -np.inf] = 0
    scores -= top
    np.exp(scores, out=scores)
    total = np.add.reduce(scores, axis=3, keepdims=True)
    scores /= np.where(total == 0, total.dtype.type(1), total)
    return np.where(total == 0, np.inf, np.log(total) + top)


class _Saved(NamedTuple):
    """What backward needs: the weights of all blocks, or the result and the rows' log-sum-exp (B, H, L, 1)."""

    weights: list[Array] | None
    out: Array
    lse: Array


class BlockAttention:
    """Attention of q (B, H, L, E), k (B, H, S, E) and v (B, H, S, Ev).

    Args:
        steps: what a block is computed with.
    """

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def _scores(self, q: Array, k: Array, mask: Array | None, causal: bool, block: _Block, out: Array) -> None:
        """The masked scores of a block; q has been scaled."""
        self._steps.product(q, k, out)
        if causal:
            _hide_above(out, block.rows.start)
        if mask is not None:
            _hide(out, mask, block)

    def _weights(
        self, q: Array, k: Array, mask: Array | None, causal: bool, scale: float, block: _Block, out: Array
    ) -> Array:
        """The weights of a block (samples, heads, rows, keys), into `out`; and each row's log-sum-exp."""
        queries, keys = q[block.queries], k[block.seen].swapaxes(2, 3)
        if mask is None and out.size and q.dtype in _WIDE:
            self._steps.product(queries, keys, out)
            self._steps.exps(out, scale, block.rows.start if causal else None)
            total = _normalise(out)
            if total is not None:
                return np.log(total, out=total)
        self._scores(queries * scale, keys, mask, causal, block, out)
        return _softmax(out)

    def forward(
        self, q: Array, k: Array, v: Array, mask: Array | None, keep: Array | None, causal: bool, scale: float, p: float
    ) -> tuple[Array, _Saved]:
        """The attention (B, H, L, Ev), and what the backward pass is to have.

        `mask` (B, H, L, S) is boolean or is added to the scores; `keep` (B, H, L, S) says which weights dropout leaves.
        A row that sees no key gives 0.
        """
        out = _empty_like(q, v.shape[3])
        lse = np.empty((*q.shape[:3], 1), dtype=q.dtype)
        kept: list[Array] | None = [] if k.shape[2] <= _KEPT * (q.shape[3] + v.shape[3]) else None
        for block in _blocks(q.shape, k.shape[2], causal, self._steps.block):
            shape = *lse[block.queries].shape[:3], block.keys
            weights = scratch("attention.weights", shape, q.dtype) if kept is None else np.empty(shape, dtype=q.dtype)
            lse[block.queries] = self._weights(q, k, mask, causal, scale, block, weights)
            if kept is not None:
                kept.append(weights)
            if keep is not None:
                weights = weights * keep[block.weights] * weights.dtype.type(1 / (1 - p))
            self._steps.product(weights, v[block.seen], out[block.queries])
        return out, _Saved(kept, out, lse)

    def _weights_again(
        self, q: Array, k: Array, lse: Array, mask: Array | None, causal: bool, scale: float, block: _Block
    ) -> Array:
        """The weights of a block, from the rows' log-sum-exp; in scratch memory."""
        queries = q[block.queries]
        weights = scratch("attention.weights", (*queries.shape[:3], block.keys), q.dtype)
        self._scores(queries * scale, k[block.seen].swapaxes(2, 3), mask, causal, block, weights)
        weights -= lse[block.queries]
        return np.exp(weights, out=weights)

    def backward(
        self, g: Array, q: Array, k: Array, v: Array, saved: _Saved | None, mask: Array | None, keep: Array | None,
        causal: bool, scale: float, p: float, needs_mask: bool,
    ) -> tuple[Array, Array, Array, Array | None]:  # fmt: skip
        """The gradients of q, k, v and, if wanted, of an added mask."""
        gq, gk, gv = _gradients_of(q, k, v)
        if causal or not q.shape[2]:  # keys that nothing sees
            gk[:, :, q.shape[2] :] = gv[:, :, q.shape[2] :] = 0
        g_mask = np.zeros(mask.shape, dtype=q.dtype) if needs_mask and mask is not None else None
        steps = self._steps
        kept, out, lse = saved or self.forward(q, k, v, mask, keep, causal, scale, p)[1]
        inner = np.vecdot(g, out)[..., None] if kept is None else None
        for number, block in enumerate(_blocks(q.shape, k.shape[2], causal, steps.block)):
            weights = kept[number] if kept else self._weights_again(q, k, lse, mask, causal, scale, block)
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
            if inner is not None:
                slope -= inner[block.queries]
                slope *= weights
            elif slope.size:
                steps.softmax_backward(slope, weights)
            if g_mask is not None:
                g_mask[block.weights] = slope
            slope *= scale
            steps.product(slope, k[block.seen], gq[block.queries])
            put(slope.swapaxes(2, 3), q[block.queries], gk[block.seen])
        return gq, gk, gv, g_mask
