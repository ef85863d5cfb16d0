"""Images sampled at given places (spatial transformers), and the inverse and power forms of pooling."""

import itertools
import math
from typing import TYPE_CHECKING, Any

from .._typing import IntOrInts
from ..autograd._base import wrap
from ..backend import backend_of
from ..errors import ShapeError
from ._common import tensor_of
from ._conv import per_dimension
from ._pool import avg_pool1d, avg_pool2d, avg_pool3d
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor

_CUBIC = -0.75  # the constant of Keys's kernel that torch uses


def _pixel(coordinate: Any, n: int, align_corners: bool) -> Any:
    """A coordinate in [-1, 1] as a position among n pixels."""
    return (coordinate + 1) * ((n - 1) / 2) if align_corners else ((coordinate + 1) * n - 1) * 0.5


def _inside(position: Any, n: int, mode: str, align_corners: bool) -> Any:
    """A position brought among the n pixels, as the padding mode says."""
    if mode == "zeros":
        return position
    if mode == "border":
        return position.clamp(0, n - 1)
    low, high = (0.0, float(n - 1)) if align_corners else (-0.5, n - 0.5)
    span = high - low
    if span == 0:
        return position * 0
    distance = (position - low).abs()
    extra = distance.fmod(span)
    odd = (distance / span).floor() % 2 == 1
    return (low + extra.where(odd.logical_not(), span - extra)).clamp(0, n - 1)


def _pick(flat: Any, places: list[Any], size: tuple[int, ...]) -> Any:
    """The values (N, C, P) of flat images (N, C, pixels) at whole positions (N, P); 0 outside."""
    xp = backend_of(flat._data).xp
    index: Any = 0
    valid: Any = True
    for place, n in zip(places, size, strict=True):
        whole = place.detach()._data
        valid = valid & (whole >= 0) & (whole < n)
        index = index * n + xp.clip(xp.nan_to_num(whole), 0, n - 1).astype("int64")
    n, c = flat._data.shape[:2]
    picked = flat.gather(2, wrap(xp.ascontiguousarray(xp.broadcast_to(index[:, None], (n, c, index.shape[1])))))
    return picked * wrap(valid[:, None].astype(flat._data.dtype))


def _cubic_weights(t: Any) -> list[Any]:
    """The weights of the four pixels around a fraction t between the middle two."""

    def near(d: Any) -> Any:
        return ((_CUBIC + 2) * d - (_CUBIC + 3)) * d * d + 1

    def far(d: Any) -> Any:
        return ((_CUBIC * d - 5 * _CUBIC) * d + 8 * _CUBIC) * d - 4 * _CUBIC

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


def _taps(position: Any, mode: str) -> list[tuple[Any, Any]]:
    """The whole positions that count along one dimension, with their weights."""
    if mode == "nearest":
        return [(position.detach().round(), position * 0 + 1)]  # the gradient of the grid is 0
    low = position.floor().detach()
    t = position - low
    if mode == "bilinear":
        return [(low, 1 - t), (low + 1, t)]
    return [(low + (offset - 1), weight) for offset, weight in enumerate(_cubic_weights(t))]


@op(method=False)
def grid_sample(
    input: "Tensor",
    grid: "Tensor",
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> "Tensor":
    """The input at the places that `grid` names (Jaderberg et al. 2015, arXiv:1506.02025).

    Args:
        input: (N, C, H, W) or (N, C, D, H, W).
        grid: (N, Ho, Wo, 2) of x, y in [-1, 1], or (N, Do, Ho, Wo, 3) of x, y, z.
        mode: ``"bilinear"``, ``"nearest"`` or ``"bicubic"`` (two dimensions only).
        padding_mode: outside lie ``"zeros"``, the ``"border"`` or a ``"reflection"``.
        align_corners: -1 and 1 are the centres of the corner pixels, not their outer edges.

    Returns:
        (N, C, Ho, Wo) or (N, C, Do, Ho, Wo).

    Raises:
        ShapeError: the sizes do not fit.
        ValueError: there is no such mode.
    """
    x, g = tensor_of(input, "grid_sample"), tensor_of(grid, "grid_sample")
    _check_grid(x, g)
    n, c, *size = x._data.shape
    rank, out = len(size), g._data.shape[1:-1]
    _check_modes(mode, padding_mode, rank)
    places = g.reshape(n, math.prod(out), rank)
    align = bool(align_corners)
    positions = [_pixel(places[:, :, rank - 1 - axis], size[axis], align) for axis in range(rank)]
    if mode != "bicubic":
        positions = [_inside(p, m, padding_mode, align) for p, m in zip(positions, size, strict=True)]
    taps = [_taps(p, mode) for p in positions]
    if mode == "bicubic":
        taps = [[(_inside(p, m, padding_mode, align), w) for p, w in line] for line, m in zip(taps, size, strict=True)]
    flat = x.reshape(n, c, math.prod(size))
    total: Any = 0
    for corner in itertools.product(*taps):
        value = _pick(flat, [place for place, _ in corner], tuple(size))
        for _, weight in corner:
            value = value * weight.unsqueeze(1)
        total = value + total
    return total.reshape(n, c, *out)  # type: ignore[no-any-return]


def _check_grid(x: Any, grid: Any) -> None:
    size, places = x._data.shape, grid._data.shape
    rank = len(size) - 2
    if rank not in (2, 3) or len(places) != len(size) or places[-1] != rank or places[0] != size[0]:
        raise ShapeError(
            "grid_sample: expected an input (N, C, H, W) and a grid (N, Ho, Wo, 2), or both with one dimension more, "
            f"got {list(size)} and {list(places)}"
        )


def _check_modes(mode: str, padding_mode: str, rank: int) -> None:
    modes = ("bilinear", "nearest", "bicubic") if rank == 2 else ("bilinear", "nearest")
    if mode not in modes or padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError(
            f"grid_sample: mode={mode!r} with padding_mode={padding_mode!r} is not supported for {rank} spatial "
            f"dimensions; expected a mode of {', '.join(modes)} with zeros, border or reflection"
        )


@op(method=False)
def affine_grid(theta: "Tensor", size: Any, align_corners: bool | None = None) -> "Tensor":
    """The grid for `grid_sample` of affine maps.

    Args:
        theta: (N, 2, 3) or (N, 3, 4).
        size: the output's (N, C, H, W) or (N, C, D, H, W).
        align_corners: as `grid_sample`.

    Returns:
        (N, H, W, 2) or (N, D, H, W, 3).
    """
    t = tensor_of(theta, "affine_grid")
    n, _, *spatial = (int(s) for s in size)
    rank = len(spatial)
    if t._data.shape != (n, rank, rank + 1):
        raise ShapeError(
            f"affine_grid: expected theta of shape {[n, rank, rank + 1]} for the size {list(size)}, got "
            f"{list(t._data.shape)}"
        )
    xp = backend_of(t._data).xp
    lines = []
    for m in spatial:
        line = xp.linspace(-1, 1, m) if m > 1 else xp.zeros(m)
        lines.append(line if align_corners else line * ((m - 1) / m))
    mesh = xp.meshgrid(*lines, indexing="ij")
    base = xp.stack([*(m.reshape(-1) for m in reversed(mesh)), xp.ones(math.prod(spatial))], axis=1).astype(
        t._data.dtype
    )
    return (wrap(base) @ t.transpose(1, 2)).reshape(n, *spatial, rank)


def _unpool(
    name: str, rank: int, input: Any, indices: Any, kernel_size: Any, stride: Any, padding: Any, output_size: Any
) -> "Tensor":
    x, places = tensor_of(input, name), tensor_of(indices, name)
    if x._data.shape != places._data.shape or x._data.ndim not in (rank + 1, rank + 2):
        raise ShapeError(
            f"{name}: expected indices of the input's shape {list(x._data.shape)}, got {list(places._data.shape)}"
        )
    kernel = per_dimension(kernel_size, rank, name, "kernel_size")
    steps = kernel if stride is None or stride == [] else per_dimension(stride, rank, name, "stride")
    pads = per_dimension(padding, rank, name, "padding")
    shape = x._data.shape
    lead, spatial = shape[:-rank], shape[-rank:]
    default = tuple((n - 1) * s + k - 2 * p for n, s, k, p in zip(spatial, steps, kernel, pads, strict=True))
    size = default if output_size is None else tuple(int(n) for n in tuple(output_size)[-rank:])
    flat = x.reshape(*lead, math.prod(spatial))
    empty = x.new_zeros((*lead, math.prod(size)))
    return empty.scatter(-1, places.reshape(flat._data.shape), flat).reshape(*lead, *size)


@op(method=False)
def max_unpool1d(
    input: "Tensor",
    indices: "Tensor",
    kernel_size: IntOrInts,
    stride: Any = None,
    padding: IntOrInts = 0,
    output_size: Any = None,
) -> "Tensor":
    """Puts maxima back where `max_pool1d` found them, with zeros around: input and indices (N, C, L) or (C, L)."""
    return _unpool("max_unpool1d", 1, input, indices, kernel_size, stride, padding, output_size)


@op(method=False)
def max_unpool2d(
    input: "Tensor",
    indices: "Tensor",
    kernel_size: IntOrInts,
    stride: Any = None,
    padding: IntOrInts = 0,
    output_size: Any = None,
) -> "Tensor":
    """Puts maxima back where `max_pool2d` found them, with zeros around.

    Args:
        input, indices: what `max_pool2d` returned with return_indices=True: (N, C, H, W) or (C, H, W).
        kernel_size, stride, padding: those of the pooling.
        output_size: the size before the pooling, where it is not the one that these imply.
    """
    return _unpool("max_unpool2d", 2, input, indices, kernel_size, stride, padding, output_size)


@op(method=False)
def max_unpool3d(
    input: "Tensor",
    indices: "Tensor",
    kernel_size: IntOrInts,
    stride: Any = None,
    padding: IntOrInts = 0,
    output_size: Any = None,
) -> "Tensor":
    """Puts maxima back where `max_pool3d` found them, with zeros around: (N, C, D, H, W) or (C, D, H, W)."""
    return _unpool("max_unpool3d", 3, input, indices, kernel_size, stride, padding, output_size)


def _lp_pool(
    name: str, rank: int, pool: Any, input: Any, p: float, kernel_size: Any, stride: Any, ceil_mode: bool
) -> "Tensor":
    count = math.prod(per_dimension(kernel_size, rank, name, "kernel_size"))
    mean = pool(tensor_of(input, name) ** p, kernel_size, stride, 0, ceil_mode)
    return (mean.sign() * mean.abs().relu() * count) ** (1 / p)  # type: ignore[no-any-return]


@op(method=False)
def lp_pool1d(
    input: "Tensor", norm_type: float, kernel_size: IntOrInts, stride: Any = None, ceil_mode: bool = False
) -> "Tensor":
    """``sum(x ** p) ** (1 / p)`` of each window, p being `norm_type`: input (N, C, L) or (C, L)."""
    return _lp_pool("lp_pool1d", 1, avg_pool1d, input, float(norm_type), kernel_size, stride, ceil_mode)


@op(method=False)
def lp_pool2d(
    input: "Tensor", norm_type: float, kernel_size: IntOrInts, stride: Any = None, ceil_mode: bool = False
) -> "Tensor":
    """``sum(x ** p) ** (1 / p)`` of each window, p being `norm_type`: input (N, C, H, W) or (C, H, W)."""
    return _lp_pool("lp_pool2d", 2, avg_pool2d, input, float(norm_type), kernel_size, stride, ceil_mode)


@op(method=False)
def lp_pool3d(
    input: "Tensor", norm_type: float, kernel_size: IntOrInts, stride: Any = None, ceil_mode: bool = False
) -> "Tensor":
    """``sum(x ** p) ** (1 / p)`` of each window, p being `norm_type`: input (N, C, D, H, W) or (C, D, H, W)."""
    return _lp_pool("lp_pool3d", 3, avg_pool3d, input, float(norm_type), kernel_size, stride, ceil_mode)
