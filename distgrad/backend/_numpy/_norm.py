"""Normalisation: passes over blocks of rows that stay in cache.

Batch normalisation works on channels-last memory as rows (M, C), several of which make one long row; on channels-first memory it
works plane by plane. Layer normalisation works on rows (M, D).
"""

from collections.abc import Iterator

import numpy as np

from ..._typing import Array
from ._channels import channels_first, channels_last, column_sums, folded
from ._scratch import BLOCK, scratch


def _row_blocks(rows: int, columns: int) -> Iterator[slice]:
    step = max(1, BLOCK // 2 // max(columns, 1))
    for first in range(0, rows, step):
        yield slice(first, min(first + step, rows))


def _as_rows(x: Array) -> Array | None:
    """Channels-last memory as (M, C); None if it is not."""
    last = channels_last(x)
    return last.reshape(-1, x.shape[1]) if last.flags.c_contiguous else None


def _planes(x: Array) -> Array:
    """(N, C, ...) as a contiguous (N, C, S)."""
    return np.ascontiguousarray(x).reshape(x.shape[0], x.shape[1], -1)


def batch_statistics(x: Array) -> tuple[Array, Array]:
    """The mean and the biased variance of each channel of (N, C, ...), in float32 at least."""
    rows = _as_rows(x)
    wide = np.float32 if x.dtype.itemsize < 4 else x.dtype
    if rows is None:
        return _plane_statistics(_planes(x).astype(wide, copy=False))
    rows = rows.astype(wide, copy=False)
    mean = column_sums(rows) / rows.shape[0]
    long, fold = folded(rows)
    centre = np.tile(mean, fold)
    total = np.zeros(long.shape[1], dtype=wide)
    for block in _row_blocks(*long.shape):
        d = np.subtract(long[block], centre, out=scratch("norm.a", long[block].shape, wide))
        total += np.einsum("ij,ij->j", d, d)
    return mean, total.reshape(fold, -1).sum(axis=0) / rows.shape[0]


def _plane_statistics(planes: Array) -> tuple[Array, Array]:
    n, c, s = planes.shape
    mean = planes.sum(axis=2).sum(axis=0) / (n * s)
    total = np.zeros(c, dtype=planes.dtype)
    for block in _row_blocks(n, c * s):
        d = np.subtract(planes[block], mean[:, None], out=scratch("norm.a", planes[block].shape, planes.dtype))
        total += np.einsum("ncs,ncs->c", d, d)
    return mean, total / (n * s)


def batch_apply(x: Array, mean: Array, invstd: Array, weight: Array | None, bias: Array | None) -> Array:
    """``(x - mean) * invstd * weight + bias`` per channel of (N, C, ...), in the layout of x."""
    scale = invstd if weight is None else invstd * weight
    rows = _as_rows(x)
    if rows is not None:
        long, fold = folded(rows)
        centre, scale = np.tile(mean, fold), np.tile(scale, fold)
        shift = None if bias is None else np.tile(bias, fold)
    else:
        long = _planes(x)
        centre, scale = mean[:, None], scale[:, None]
        shift = None if bias is None else bias[:, None]
    out = np.empty(long.shape, dtype=x.dtype)
    for block in _row_blocks(len(long), long[:1].size):
        part = np.subtract(long[block], centre, out=out[block], casting="same_kind")
        np.multiply(part, scale, out=part, casting="same_kind")
        if shift is not None:
            np.add(part, shift, out=part, casting="same_kind")
    return _like(out, x, rows is not None)


def _like(out: Array, x: Array, last: bool) -> Array:
    return channels_first(out.reshape(x.shape[0], *x.shape[2:], x.shape[1])) if last else out.reshape(x.shape)


def batch_sums(g: Array, x: Array, mean: Array, invstd: Array) -> tuple[Array, Array]:
    """Per channel, the sums of g and of g * (x - mean) * invstd: the gradients of bias and weight."""
    g_rows, rows = _as_rows(g), _as_rows(x)
    wide = mean.dtype
    if g_rows is not None and rows is not None:
        long, fold = folded(rows)
        g_long = g_rows.reshape(long.shape)
        centre = np.tile(mean, fold)
        first, second = np.zeros((2, long.shape[1]), dtype=wide)
        for block in _row_blocks(*long.shape):
            d = np.subtract(long[block], centre, out=scratch("norm.a", long[block].shape, wide))
            first += np.add.reduce(g_long[block], axis=0, dtype=wide)
            second += np.einsum("ij,ij->j", d, g_long[block])
        return first.reshape(fold, -1).sum(axis=0), second.reshape(fold, -1).sum(axis=0) * invstd
    planes, g_planes = _planes(x), _planes(g)
    first, second = np.zeros((2, x.shape[1]), dtype=wide)
    for block in _row_blocks(len(planes), planes[:1].size):
        d = np.subtract(planes[block], mean[:, None], out=scratch("norm.a", planes[block].shape, wide))
        first += g_planes[block].sum(axis=(0, 2), dtype=wide)
        second += np.einsum("ncs,ncs->c", d, g_planes[block])
    return first, second * invstd


def batch_grad_input(
    g: Array, x: Array, mean: Array, invstd: Array, weight: Array | None, mean_g: Array | None, mean_gx: Array | None
) -> Array:
    """``w * invstd * (g - mean_g - xhat * mean_gx)`` with xhat = (x - mean) * invstd; without means, ``w * invstd * g``."""
    scale = invstd if weight is None else invstd * weight
    g_rows, rows = _as_rows(g), _as_rows(x)
    last = g_rows is not None and rows is not None
    if last:
        long, fold = folded(rows)
        g_long = g_rows.reshape(long.shape)  # type: ignore[union-attr]
    else:
        long, g_long, fold = _planes(x), _planes(g), 0

    def spread(v: Array) -> Array:
        return np.tile(v, fold) if fold else v[:, None]

    out = np.empty(long.shape, dtype=g.dtype)
    if mean_g is None or mean_gx is None:
        np.multiply(g_long, spread(scale), out=out, casting="same_kind")
        return _like(out, x, last)
    # out = scale * g - slope * (x - mean) - offset
    slope, offset, centre, factor = spread(scale * invstd * mean_gx), spread(scale * mean_g), spread(mean), spread(scale)
    for block in _row_blocks(len(long), long[:1].size):
        d = np.subtract(long[block], centre, out=scratch("norm.a", long[block].shape, mean.dtype))
        d *= slope
        d += offset
        part = np.multiply(g_long[block], factor, out=out[block], casting="same_kind")
        np.subtract(part, d, out=part, casting="same_kind")
    return _like(out, x, last)


def layer_forward(x: Array, weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """Rows (M, D) normalised, then times `weight` plus `bias` (D,); and the rows' mean and 1/std (M, 1)."""
    m, d = x.shape
    wide = np.float32 if x.dtype.itemsize < 4 else x.dtype
    out = np.empty((m, d), dtype=x.dtype)
    mean, invstd = np.empty((2, m, 1), dtype=wide)
    average = np.full((d, 1), 1 / d if d else 0, dtype=wide)
    for block in _row_blocks(m, d):
        part = x[block].astype(wide, copy=False)
        np.matmul(part, average, out=mean[block])
        h = out[block] if out.dtype == wide else np.empty(part.shape, dtype=wide)
        np.subtract(part, mean[block], out=h)
        scale = invstd[block]
        np.divide(np.einsum("ij,ij->i", h, h)[:, None], d, out=scale)
        scale += eps
        np.reciprocal(np.sqrt(scale, out=scale), out=scale)
        h *= scale
        if weight is not None:
            h *= weight
        if bias is not None:
            h += bias
        if h.base is not out:
            out[block] = h
    return out, mean, invstd


def layer_backward(
    g: Array, x: Array, mean: Array, invstd: Array, weight: Array | None, needs: tuple[bool, bool, bool]
) -> tuple[Array | None, Array | None, Array | None]:
    """The gradients of the rows, of the weight and of the bias."""
    m, d = x.shape
    wide = mean.dtype
    gx = np.empty((m, d), dtype=x.dtype) if needs[0] else None
    gw, gb = np.zeros((2, d), dtype=wide)
    average = np.full((d, 1), 1 / d if d else 0, dtype=wide)
    for block in _row_blocks(m, d):
        part = g[block].astype(wide, copy=False)
        xhat = np.subtract(x[block], mean[block], out=scratch("norm.a", part.shape, wide))
        xhat *= invstd[block]
        product = scratch("norm.b", part.shape, wide)
        if needs[1]:
            gw += np.einsum("ij,ij->j", part, xhat)
        if needs[2]:
            gb += np.ones(len(part), dtype=wide) @ part
        if gx is None:
            continue
        inner = part if weight is None else np.multiply(part, weight, out=product)
        projection = np.einsum("ij,ij->i", inner, xhat)[:, None] / d
        centre = inner @ average
        xhat *= projection
        xhat += centre
        np.subtract(inner, xhat, out=xhat)
        np.multiply(xhat, invstd[block], out=gx[block], casting="same_kind")
    return gx, (gw if needs[1] else None), (gb if needs[2] else None)
