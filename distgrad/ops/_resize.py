"""Images in another size: interpolation, and channels turned into pixels."""

import math
from typing import TYPE_CHECKING, Any

from .._typing import Array, Shape
from ..autograd._base import wrap
from ..backend import backend_of
from ..errors import ShapeError
from ._common import tensor_of
from ._pool import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor

_LINEAR = {"linear": 1, "bilinear": 2, "trilinear": 3}
_CUBIC = -0.75  # the constant of Keys's kernel that torch uses


@op(method=False)
def pixel_shuffle(input: "Tensor", upscale_factor: int) -> "Tensor":
    """(..., C r^2, H, W) to (..., C, H r, W r) (Shi et al. 2016, arXiv:1609.05158)."""
    x, r = tensor_of(input, "pixel_shuffle"), upscale_factor
    shape = x._data.shape
    if len(shape) < 3 or r < 1 or shape[-3] % (r * r):
        raise ShapeError(f"pixel_shuffle: expected channels divisible by {r} squared, got shape {list(shape)}")
    *lead, c, h, w = shape
    k = len(lead)
    axes = (*range(k), k, k + 3, k + 1, k + 4, k + 2)
    parts = x.reshape(*lead, c // (r * r), r, r, h, w).permute(*axes)
    return parts.reshape(*lead, c // (r * r), h * r, w * r)


@op(method=False)
def pixel_unshuffle(input: "Tensor", downscale_factor: int) -> "Tensor":
    """(..., C, H r, W r) to (..., C r^2, H, W): the inverse of `pixel_shuffle`."""
    x, r = tensor_of(input, "pixel_unshuffle"), downscale_factor
    shape = x._data.shape
    if len(shape) < 3 or r < 1 or shape[-1] % r or shape[-2] % r:
        raise ShapeError(f"pixel_unshuffle: expected height and width divisible by {r}, got shape {list(shape)}")
    *lead, c, h, w = shape
    k = len(lead)
    axes = (*range(k), k, k + 2, k + 4, k + 1, k + 3)
    parts = x.reshape(*lead, c, h // r, r, w // r, r).permute(*axes)
    return parts.reshape(*lead, c * r * r, h // r, w // r)


@op(method=False)
def channel_shuffle(input: "Tensor", groups: int) -> "Tensor":
    """The channels of (N, C, ...) dealt out over `groups` (Zhang et al. 2018, arXiv:1707.01083)."""
    x = tensor_of(input, "channel_shuffle")
    n, c, *rest = x._data.shape
    if groups < 1 or c % groups:
        raise ShapeError(
            f"channel_shuffle: expected channels divisible by groups={groups}, got shape {list(x._data.shape)}"
        )
    return x.reshape(n, groups, c // groups, *rest).transpose(1, 2).reshape(n, c, *rest)


def _sizes(x: Any, size: Any, scale_factor: Any) -> tuple[Shape, tuple[float | None, ...]]:
    """The output's sizes, and the scale factor given for each dimension."""
    spatial = x._data.shape[2:]
    rank = len(spatial)
    if (size is None) == (scale_factor is None):
        raise ValueError("interpolate: expected exactly one of size and scale_factor")
    given = size if size is not None else scale_factor
    values = tuple(given) if isinstance(given, (tuple, list)) else (given,) * rank
    if len(values) != rank:
        raise ShapeError(
            f"interpolate: expected one number or {rank}, for an input of shape {list(x._data.shape)}, got "
            f"{list(values)}"
        )
    if size is not None:
        return tuple(int(v) for v in values), (None,) * rank
    return tuple(math.floor(n * float(s)) for n, s in zip(spatial, values, strict=True)), tuple(
        float(v) for v in values
    )


def _positions(xp: Any, n: int, m: int, scale: float | None, align_corners: bool) -> Array:
    """Where each of m outputs lies among n inputs."""
    if align_corners:
        return xp.arange(m, dtype="float64") * ((n - 1) / (m - 1) if m > 1 else 0.0)
    step = 1 / scale if scale is not None else n / m
    return (xp.arange(m, dtype="float64") + 0.5) * step - 0.5


def _linear_matrix(xp: Any, n: int, m: int, scale: float | None, align_corners: bool) -> Array:
    """The matrix (n, m) of linear interpolation."""
    position = xp.clip(_positions(xp, n, m, scale, align_corners), 0, None)
    low = xp.minimum(xp.floor(position).astype("int64"), n - 1)
    high = xp.minimum(low + 1, n - 1)
    share = xp.clip(position - low, 0, 1)
    line = xp.arange(n)[:, None]
    return (line == low) * (1 - share) + (line == high) * share


def _cubic_matrix(xp: Any, n: int, m: int, scale: float | None, align_corners: bool) -> Array:
    """The matrix (n, m) of cubic convolution (Keys 1981)."""
    position = _positions(xp, n, m, scale, align_corners)
    low = xp.floor(position)
    t = position - low
    line = xp.arange(n)[:, None]
    matrix = xp.zeros((n, m))
    for offset in range(-1, 3):
        d = xp.abs(t - offset)
        near = ((_CUBIC + 2) * d - (_CUBIC + 3)) * d * d + 1
        far = ((_CUBIC * d - 5 * _CUBIC) * d + 8 * _CUBIC) * d - 4 * _CUBIC
        place = xp.clip(low.astype("int64") + offset, 0, n - 1)
        matrix = matrix + (line == place) * xp.where(d <= 1, near, far)
    return matrix


def _nearest(x: Any, out: Shape, scales: tuple[float | None, ...], exact: bool) -> Any:
    xp = backend_of(x._data).xp
    for axis, (m, scale) in enumerate(zip(out, scales, strict=True), start=2):
        n = x._data.shape[axis]
        step = 1 / scale if scale is not None else n / m
        index = xp.floor((xp.arange(m) + (0.5 if exact else 0.0)) * step).astype("int64")
        x = x.index_select(axis, wrap(xp.minimum(index, n - 1)))
    return x


def _by_matrices(x: Any, out: Shape, scales: tuple[float | None, ...], align_corners: bool, cubic: bool) -> Any:
    xp = backend_of(x._data).xp
    dtype = x._data.dtype
    make = _cubic_matrix if cubic else _linear_matrix
    for axis, (m, scale) in enumerate(zip(out, scales, strict=True), start=2):
        n = x._data.shape[axis]
        if n != m or scale is not None or cubic:
            matrix = make(xp, n, m, scale, align_corners)
            x = (x.transpose(axis, -1) @ wrap(matrix.astype(dtype))).transpose(axis, -1)
    return x


@op(method=False)
def interpolate(
    input: "Tensor",
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> "Tensor":
    """The input in another spatial size.

    Args:
        input: (N, C, L), (N, C, H, W) or (N, C, D, H, W).
        size: the output's spatial sizes; or
        scale_factor: what to multiply the input's by. Each a number, or one for each dimension.
        mode: ``"nearest"``, ``"nearest-exact"``, ``"linear"``, ``"bilinear"``, ``"trilinear"``, ``"bicubic"`` or
            ``"area"``.
        align_corners: the corner pixels' centres of input and output coincide (linear and cubic modes).
        recompute_scale_factor: compute the scale from the sizes instead of taking `scale_factor` as it is.
        antialias: not supported.

    Raises:
        ValueError: arguments that do not go together.
    """
    x = tensor_of(input, "interpolate")
    rank = x._data.ndim - 2
    if rank not in (1, 2, 3):
        raise ShapeError(
            f"interpolate: expected an input of 3, 4 or 5 dimensions (N, C, ...), got shape {list(x._data.shape)}"
        )
    if antialias:
        raise NotImplementedError("interpolate: antialias=True is not supported; blur the input first")
    smooth = mode in _LINEAR or mode == "bicubic"
    if align_corners is not None and not smooth:
        raise ValueError(f"interpolate: align_corners goes only with the linear and cubic modes, got mode={mode!r}")
    out, scales = _sizes(x, size, scale_factor)
    if recompute_scale_factor:
        scales = (None,) * rank
    if mode in ("nearest", "nearest-exact"):
        return _nearest(x, out, scales, mode == "nearest-exact")  # type: ignore[no-any-return]
    if mode == "area":
        pools: tuple[Any, ...] = (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)
        return pools[rank - 1](x, out)  # type: ignore[no-any-return]
    if not smooth or _LINEAR.get(mode, 2) != rank:
        raise ValueError(
            "interpolate: expected one of 'nearest', 'nearest-exact', 'area', "
            f"{('linear', 'bilinear', 'trilinear')[rank - 1]!r}"
            f"{' and bicubic' if rank == 2 else ''} for an input of {rank + 2} dimensions, got mode={mode!r}"
        )
    return _by_matrices(x, out, scales, bool(align_corners), mode == "bicubic")  # type: ignore[no-any-return]


@op(method=False)
def upsample(
    input: "Tensor",
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> "Tensor":
    """torch's older name of `interpolate`."""
    return interpolate(input, size, scale_factor, mode, align_corners)


@op(method=False)
def upsample_nearest(input: "Tensor", size: Any = None, scale_factor: Any = None) -> "Tensor":
    """`interpolate` with ``mode="nearest"``."""
    return interpolate(input, size, scale_factor, "nearest")


@op(method=False)
def upsample_bilinear(input: "Tensor", size: Any = None, scale_factor: Any = None) -> "Tensor":
    """`interpolate` with ``mode="bilinear"`` and ``align_corners=True``."""
    return interpolate(input, size, scale_factor, "bilinear", True)
