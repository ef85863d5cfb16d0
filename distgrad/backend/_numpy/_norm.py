"""Normalisation: passes over blocks of rows that stay in cache.

Batch normalisation works on channels-last memory as rows (M, C), several of which make one long row; on channels-first
memory it works plane by plane. Layer normalisation works on rows (M, D).
"""

from collections.abc import Iterator
from typing import Any

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
    """``w * invstd * (g - mean_g - xhat * mean_gx)`` with xhat = (x - mean) * invstd; without means, ``w * invstd *
    g``.
    """
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
    slope, offset, centre, factor = (
        spread(scale * invstd * mean_gx),
        spread(scale * mean_g),
        spread(mean),
        spread(scale),
    )
    for block in _row_blocks(len(long), long[:1].size):
        d = np.subtract(long[block], centre, out=scratch("norm.a", long[block].shape, mean.dtype))
        d *= slope
        d += offset
        part = np.multiply(g_long[block], factor, out=out[block], casting="same_kind")
        np.subtract(part, d, out=part, casting="same_kind")
    return _like(out, x, last)


def batch_forward(
    x: Array, weight: Array | None, bias: Array | None, eps: float
) -> tuple[Array, Array, Array, Array]:
    """The batch normalised by its own statistics; each channel's mean, biased variance and 1/std."""
    mean, var = batch_statistics(x)
    invstd = 1 / np.sqrt(var + eps)
    return batch_apply(x, mean, invstd, weight, bias), mean, var, invstd


def batch_backward(
    g: Array, x: Array, mean: Array, invstd: Array, weight: Array | None, needs: tuple[bool, bool, bool]
) -> tuple[Array | None, Array | None, Array | None]:
    """The gradients of x, weight and bias, where needed, through the batch's statistics."""
    gb, gw = batch_sums(g, x, mean, invstd)
    count = x.size // x.shape[1]
    gx = batch_grad_input(g, x, mean, invstd, weight, gb / count, gw / count) if needs[0] else None
    return gx, gw if needs[1] else None, gb if needs[2] else None


def layer_forward(x: Array, weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """Rows (M, D) normalised, then times `weight` plus `bias` (D,); and the rows' mean and 1/std (M, 1)."""
    m, d = x.shape
    wide = np.float32 if x.dtype.itemsize < 4 else x.dtype
    out = np.empty((m, d), dtype=wide)
    mean, invstd = np.empty((2, m, 1), dtype=wide)
    average = np.full((d, 1), 1 / d if d else 0, dtype=wide)
    for block in _row_blocks(m, 2 * d):
        part, h, scale = x[block].astype(wide, copy=False), out[block], invstd[block]
        np.matmul(part, average, out=mean[block])
        np.subtract(part, mean[block], out=h)
        np.divide(np.vecdot(h, h)[:, None], d, out=scale)
        scale += eps
        np.sqrt(scale, out=scale)
        np.reciprocal(scale, out=scale)
        h *= scale
        if weight is not None:
            h *= weight
        if bias is not None:
            h += bias
    return out.astype(x.dtype, copy=False), mean, invstd


def layer_backward(
    g: Array, x: Array, mean: Array, invstd: Array, weight: Array | None, needs: tuple[bool, bool, bool]
) -> tuple[Array | None, Array | None, Array | None]:
    """The gradients of the rows, of the weight and of the bias."""
    m, d = x.shape
    wide = mean.dtype
    gx = np.empty((m, d), dtype=wide) if needs[0] else None
    gw, gb = np.zeros((2, d), dtype=wide)
    average = np.full((d, 1), -1 / d if d else 0, dtype=wide)
    for block in _row_blocks(m, 2 * d):
        part = g[block].astype(wide, copy=False)
        xhat = np.subtract(x[block], mean[block], out=scratch("norm.a", part.shape, wide))
        xhat *= invstd[block]
        if needs[1]:
            gw += np.einsum("ij,ij->j", part, xhat)
        if needs[2]:
            gb += np.ones(len(part), dtype=wide) @ part
        if gx is None:
            continue
        target = gx[block]
        inner = part if weight is None else np.multiply(part, weight, out=target)
        projection = np.vecdot(inner, xhat)[:, None]
        projection /= -d
        xhat *= projection
        xhat += inner @ average
        np.add(inner, xhat, out=target)
        target *= invstd[block]
    return (
        (None if gx is None else gx.astype(x.dtype, copy=False)),
        (gw if needs[1] else None),
        (gb if needs[2] else None),
    )


def group_forward(
    x: Array, groups: int, weight: Array | None, bias: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    """Each group of channels of each sample of (N, C, ...) normalised, then the affine map per channel; mean and 1/std
    (N, G).
    """
    n, c = x.shape[:2]
    planes = _planes(x)
    wide = np.float32 if x.dtype.itemsize < 4 else x.dtype
    rows = planes.reshape(n * groups, -1)
    mean, invstd = _row_statistics(rows, eps, wide)
    scale, shift = _per_plane(mean, invstd, n, c, weight, bias)
    out = np.empty(planes.shape, dtype=x.dtype)
    for block in _row_blocks(n, max(planes[:1].size, 1)):
        part = np.multiply(planes[block], scale[block], out=out[block], casting="same_kind")
        np.add(part, shift[block], out=part, casting="same_kind")
    return out.reshape(x.shape), mean.reshape(n, groups), invstd.reshape(n, groups)


def _row_statistics(rows: Array, eps: float, wide: Any) -> tuple[Array, Array]:
    """The mean and 1/std of each row."""
    m, d = rows.shape
    mean, invstd = np.empty((2, m), dtype=wide)
    for block in _row_blocks(m, d):
        part = rows[block].astype(wide, copy=False)
        np.divide(np.add.reduce(part, axis=1), d, out=mean[block])
        h = np.subtract(part, mean[block][:, None], out=scratch("norm.a", part.shape, wide))
        np.divide(np.vecdot(h, h), d, out=invstd[block])
    invstd += eps
    np.sqrt(invstd, out=invstd)
    return mean, np.reciprocal(invstd, out=invstd)


def _per_plane(
    mean: Array, invstd: Array, n: int, c: int, weight: Array | None, bias: Array | None
) -> tuple[Array, Array]:
    """Factor and summand of each channel of each sample (N, C, 1), for which ``x * factor + summand`` is the result."""
    width = n * c // mean.size if mean.size else 1
    scale = np.repeat(invstd.reshape(n, -1), width, axis=1)
    centre = np.repeat(mean.reshape(n, -1), width, axis=1)
    if weight is not None:
        scale = scale * weight
    shift = centre * -scale
    if bias is not None:
        shift += bias
    return scale[:, :, None], shift[:, :, None]


def group_backward(
    g: Array, x: Array, mean: Array, invstd: Array, weight: Array | None, needs: tuple[bool, bool, bool]
) -> tuple[Array | None, Array | None, Array | None]:
    """The gradients of x, of the weight and of the bias."""
    n, c = x.shape[:2]
    planes, slopes = _planes(x), _planes(g)
    groups, wide = mean.shape[1], mean.dtype
    width, size = c // groups, planes.shape[2]
    centre = np.repeat(mean, width, axis=1)  # (N, C)
    inverse = np.repeat(invstd, width, axis=1)
    sums = np.add.reduce(slopes, axis=2, dtype=wide)  # of g over each plane
    products = np.vecdot(slopes, planes).astype(wide, copy=False)  # of g x
    products = (products - centre * sums) * inverse  # of g xhat
    gw = np.add.reduce(products, axis=0) if needs[1] else None
    gb = np.add.reduce(sums, axis=0) if needs[2] else None
    if not needs[0]:
        return None, gw, gb
    w = np.ones(c, dtype=wide) if weight is None else weight
    count = width * size
    mean_g = np.repeat((sums * w).reshape(n, groups, width).sum(axis=2) / count, width, axis=1)
    mean_gx = np.repeat((products * w).reshape(n, groups, width).sum(axis=2) / count, width, axis=1)
    # inverse * (w g - mean_g - (x - centre) inverse mean_gx)
    factor, slope = inverse * w, inverse * inverse * mean_gx
    offset = inverse * mean_g - slope * centre
    gx = np.empty(planes.shape, dtype=x.dtype)
    for block in _row_blocks(n, max(planes[:1].size, 1)):
        d = np.multiply(planes[block], slope[block][:, :, None], out=scratch("norm.a", planes[block].shape, wide))
        d += offset[block][:, :, None]
        part = np.multiply(slopes[block], factor[block][:, :, None], out=gx[block], casting="same_kind")
        np.subtract(part, d, out=part, casting="same_kind")
    return gx.reshape(x.shape), gw, gb
