"""Layer and batch normalisation by oneDNN, in 0.1 to 0.75 of the NumPy kernels' time."""

from ctypes import c_float, c_uint

import numpy as np

from ..._typing import Array, Shape
from .._kernels import NormKernels
from .._numpy._channels import channels_last
from ._core import BACKWARD, DIFF, DST, FORWARD, SRC, Core, Family, Primitive, Thread, row_major
from ._dense import FLOAT32, is_plain
from ._images import channels_last_layout, new_images, packed
from ._library import Handle

_MEAN, _VARIANCE, _SCALE, _SHIFT, _DIFF_SCALE, _DIFF_SHIFT = 49, 50, 51, 52, 255, 256
_USE_STATISTICS, _USE_SCALE, _USE_SHIFT = 1, 2, 4
SMALL = 1 << 10  # elements, below which NumPy is as fast
ROWS = 1 << 9  # values of a channel, above which oneDNN's sums lose digits, and statistics are NumPy's


def _flags(scale: bool, shift: bool) -> c_uint:
    return c_uint(_USE_SCALE * scale + _USE_SHIFT * shift)


def _affine(layout: Handle, scale: bool, shift: bool) -> dict[int, Handle]:
    return {number: layout for number, used in ((_SCALE, scale), (_SHIFT, shift)) if used}


class _LayerForward:
    """Rows (M, D) normalised, and each one's mean and variance."""

    def __init__(self, local: Thread, shape: Shape, scale: bool, shift: bool, eps: float) -> None:
        library = local.library
        rows, one, each = library.layout(shape, row_major(shape)), _vector(local, shape[0]), _vector(local, shape[1])
        flags = _flags(scale, shift)
        about = library.describe("layer_normalization_forward", FORWARD, rows, rows, one, c_float(eps), flags)
        args = {SRC: rows, DST: rows, _MEAN: one, _VARIANCE: one, **_affine(each, scale, shift)}
        self.run = Primitive(local, about, args)


class _LayerBackward:
    """The gradients of the rows, of weight and of bias."""

    def __init__(self, local: Thread, shape: Shape) -> None:
        library = local.library
        rows, one, each = library.layout(shape, row_major(shape)), _vector(local, shape[0]), _vector(local, shape[1])
        options = c_float(0), _flags(True, True)  # the variance comes with eps in it
        hint = library.describe("layer_normalization_forward", FORWARD, rows, rows, one, *options)
        about = library.describe("layer_normalization_backward", BACKWARD, rows, rows, rows, one, *options, hint)
        args = {SRC: rows, DIFF + DST: rows, DIFF + SRC: rows, _MEAN: one, _VARIANCE: one, _SCALE: each}
        args.update({_SHIFT: each, _DIFF_SCALE: each, _DIFF_SHIFT: each})  # the shift is asked for, and not used
        self.run = Primitive(local, about, args)


class _BatchForward:
    """Images (N, C, ...), channels-last, normalised by each channel's mean and variance, computed or `given`."""

    def __init__(self, local: Thread, shape: Shape, scale: bool, shift: bool, eps: float, given: bool) -> None:
        images, each = channels_last_layout(local.library, shape), _vector(local, shape[1])
        options = c_float(eps), c_uint(_flags(scale, shift).value | given * _USE_STATISTICS)
        about = local.library.describe("batch_normalization_forward", FORWARD, images, images, *options)
        args = {SRC: images, DST: images, _MEAN: each, _VARIANCE: each, **_affine(each, scale, shift)}
        self.run = Primitive(local, about, args)


class _BatchBackward:
    """The gradients of images, weight and bias."""

    def __init__(self, local: Thread, shape: Shape) -> None:
        library = local.library
        images, each = channels_last_layout(library, shape), _vector(local, shape[1])
        options = c_float(0), _flags(True, True)
        hint = library.describe("batch_normalization_forward", FORWARD, images, images, *options)
        about = library.describe("batch_normalization_backward", BACKWARD, images, images, images, *options, hint)
        args = {SRC: images, DIFF + DST: images, DIFF + SRC: images, _MEAN: each, _VARIANCE: each, _SCALE: each}
        self.run = Primitive(local, about, {**args, _DIFF_SCALE: each, _DIFF_SHIFT: each})


def _vector(local: Thread, size: int) -> Handle:
    return local.library.layout((size,), (1,))


def _given(*arrays: Array | None) -> list[Array]:
    return [np.ascontiguousarray(a) for a in arrays if a is not None]


def _is_channels_last(x: Array) -> bool:
    return x.size >= SMALL and is_plain(channels_last(x))


def _are_float32(*arrays: Array | None) -> bool:
    return all(a is None or a.dtype == FLOAT32 for a in arrays)


def _empty(count: int, size: int) -> list[Array]:
    return [np.empty(size, dtype=FLOAT32) for _ in range(count)]


def _scale(weight: Array | None, size: int) -> Array:
    return np.ones(size, dtype=FLOAT32) if weight is None else np.ascontiguousarray(weight)


def _variance(invstd: Array) -> Array:
    """What gives `invstd` again, with eps 0."""
    return np.reciprocal(invstd * invstd)


class OneDnnNorm(Family[NormKernels]):
    """`NormKernels` that use oneDNN where it is faster."""

    def __init__(self, core: Core, numpy: NormKernels) -> None:
        super().__init__(core, numpy)
        self.batch_statistics, self.batch_apply = numpy.batch_statistics, numpy.batch_apply
        self.batch_sums, self.batch_grad_input = numpy.batch_sums, numpy.batch_grad_input
        self.group_forward, self.group_backward = numpy.group_forward, numpy.group_backward

    def layer_forward(
        self, x: Array, weight: Array | None, bias: Array | None, eps: float
    ) -> tuple[Array, Array, Array]:
        """Normalised rows times weight plus bias; the rows' mean and 1/std, (M, 1)."""
        fits = x.size >= SMALL and is_plain(x) and _are_float32(weight, bias)
        key = x.shape, weight is not None, bias is not None, float(eps)
        plan = self._core.plan(_LayerForward, *key) if fits else None
        if plan is None:
            return self._numpy.layer_forward(x, weight, bias, eps)
        out = np.empty(x.shape, dtype=FLOAT32)
        mean, variance = np.empty((2, x.shape[0], 1), dtype=FLOAT32)
        plan.run(x, out, mean, variance, *_given(weight, bias))
        return out, mean, _inverse_root(variance, eps)

    def layer_backward(
        self, g: Array, x: Array, mean: Array, invstd: Array, weight: Array | None, needs: tuple[bool, bool, bool]
    ) -> tuple[Array | None, Array | None, Array | None]:
        """The gradients of rows, weight and bias, where needed."""
        fits = x.size >= SMALL and is_plain(x) and _are_float32(g, weight)
        plan = self._core.plan(_LayerBackward, x.shape) if fits else None
        if plan is None:
            return self._numpy.layer_backward(g, x, mean, invstd, weight, needs)
        gx = np.empty(x.shape, dtype=FLOAT32)
        gw, gb = np.empty((2, x.shape[1]), dtype=FLOAT32)
        scale = _scale(weight, x.shape[1])
        plan.run(x, np.ascontiguousarray(g), gx, mean, _variance(invstd), scale, scale, gw, gb)
        return gx if needs[0] else None, gw if needs[1] else None, gb if needs[2] else None

    def batch_forward(
        self, x: Array, weight: Array | None, bias: Array | None, eps: float
    ) -> tuple[Array, Array, Array, Array]:
        """Normalised by the batch's own statistics; each channel's mean, biased variance and 1/std."""
        fits = _is_channels_last(x) and _are_float32(weight, bias)
        given = x.size > ROWS * x.shape[1]
        key = x.shape, weight is not None, bias is not None, float(eps), given
        plan = self._core.plan(_BatchForward, *key) if fits else None
        if plan is None:
            return self._numpy.batch_forward(x, weight, bias, eps)
        out, result = new_images(x.shape)
        mean, variance = self._numpy.batch_statistics(x) if given else _empty(2, x.shape[1])
        plan.run(x, out, mean, variance, *_given(weight, bias))
        return result, mean, variance, _inverse_root(variance, eps)

    def batch_backward(
        self, g: Array, x: Array, mean: Array, invstd: Array, weight: Array | None, needs: tuple[bool, bool, bool]
    ) -> tuple[Array | None, Array | None, Array | None]:
        """The gradients of x, weight and bias, where needed, through the batch's statistics."""
        fits = _is_channels_last(x) and _are_float32(g, weight)
        plan = self._core.plan(_BatchBackward, x.shape) if fits else None
        if plan is None:
            return self._numpy.batch_backward(g, x, mean, invstd, weight, needs)
        out, gx = new_images(x.shape)
        gw, gb = _empty(2, x.shape[1])
        plan.run(x, packed(self._core, g), out, mean, _variance(invstd), _scale(weight, x.shape[1]), gw, gb)
        return gx if needs[0] else None, gw if needs[1] else None, gb if needs[2] else None


def _inverse_root(variance: Array, eps: float) -> Array:
    root = np.sqrt(variance + np.float32(eps))
    return np.reciprocal(root, out=root)
