"""Normalisation on CuPy arrays: by channels of (N, C, ...), or by rows (M, D). Statistics are float32 at least."""

from typing import Any

from ..._typing import Array
from ._elementwise import wide


def _axes(x: Array) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _column(v: Array, x: Array) -> Array:
    """A value for each channel, shaped so that it broadcasts over x."""
    return v.reshape((1, -1) + (1,) * (x.ndim - 2))


class CupyNorm:
    """Batch and layer normalisation."""

    def __init__(self, cupy: Any) -> None:
        self._cp = cupy

    def batch_statistics(self, x: Array) -> tuple[Array, Array]:
        """Each channel's mean and biased variance."""
        values = wide(x)
        mean = values.mean(axis=_axes(x))
        return mean, self._cp.square(values - _column(mean, x)).mean(axis=_axes(x))

    def batch_apply(self, x: Array, mean: Array, invstd: Array, weight: Array | None, bias: Array | None) -> Array:
        """``(x - mean) * invstd * weight + bias``."""
        scale = invstd if weight is None else invstd * weight
        y = (x - _column(mean, x)) * _column(scale, x)
        return (y if bias is None else y + _column(bias, x)).astype(x.dtype, copy=False)

    def batch_sums(self, g: Array, x: Array, mean: Array, invstd: Array) -> tuple[Array, Array]:
        """Per channel, the sums of g and of ``g * (x - mean) * invstd``."""
        values = wide(g)
        return values.sum(axis=_axes(g)), (values * (x - _column(mean, x))).sum(axis=_axes(g)) * invstd

    def batch_grad_input(
        self,
        g: Array,
        x: Array,
        mean: Array,
        invstd: Array,
        weight: Array | None,
        mean_g: Array | None,
        mean_gx: Array | None,
    ) -> Array:
        """``weight * invstd * (g - mean_g - (x - mean) * invstd * mean_gx)``; without the means, ``weight * invstd *
        g``."""
        scale = _column(invstd if weight is None else invstd * weight, x)
        if mean_g is None or mean_gx is None:
            return (g * scale).astype(g.dtype, copy=False)
        inner = g - _column(mean_g, x) - (x - _column(mean, x)) * _column(invstd * mean_gx, x)
        return (inner * scale).astype(g.dtype, copy=False)

    def batch_forward(
        self, x: Array, weight: Array | None, bias: Array | None, eps: float
    ) -> tuple[Array, Array, Array, Array]:
        """Normalised by the batch's own statistics; each channel's mean, biased variance and 1/std."""
        mean, var = self.batch_statistics(x)
        invstd = 1 / self._cp.sqrt(var + eps)
        return self.batch_apply(x, mean, invstd, weight, bias), mean, var, invstd

    def batch_backward(
        self, g: Array, x: Array, mean: Array, invstd: Array, weight: Array | None, needs: tuple[bool, bool, bool]
    ) -> tuple[Array | None, Array | None, Array | None]:
        """The gradients of x, weight and bias, where needed, through the batch's statistics."""
        gb, gw = self.batch_sums(g, x, mean, invstd)
        count = x.size // x.shape[1]
        gx = self.batch_grad_input(g, x, mean, invstd, weight, gb / count, gw / count) if needs[0] else None
        return gx, gw if needs[1] else None, gb if needs[2] else None

    def layer_forward(
        self, x: Array, weight: Array | None, bias: Array | None, eps: float
    ) -> tuple[Array, Array, Array]:
        """Normalised rows times weight plus bias; the rows' mean and 1/std, (M, 1)."""
        values = wide(x)
        mean = values.mean(axis=1, keepdims=True)
        centred = values - mean
        invstd = 1 / self._cp.sqrt(self._cp.square(centred).mean(axis=1, keepdims=True) + eps)
        y = centred * invstd
        y = y if weight is None else y * weight
        y = y if bias is None else y + bias
        return y.astype(x.dtype, copy=False), mean, invstd

    def layer_backward(
        self, g: Array, x: Array, mean: Array, invstd: Array, weight: Array | None, needs: tuple[bool, bool, bool]
    ) -> tuple[Array | None, Array | None, Array | None]:
        """The gradients of rows, weight and bias, where needed."""
        values = wide(g)
        normalised = (x - mean) * invstd
        gx = None
        if needs[0]:
            inner = values if weight is None else values * weight
            projection = (inner * normalised).mean(axis=1, keepdims=True)
            gx = ((inner - inner.mean(axis=1, keepdims=True) - normalised * projection) * invstd).astype(x.dtype)
        gw = (values * normalised).sum(axis=0) if needs[1] else None
        return gx, gw, values.sum(axis=0) if needs[2] else None

    def group_forward(
        self, x: Array, groups: int, weight: Array | None, bias: Array | None, eps: float
    ) -> tuple[Array, Array, Array]:
        """Each group of channels of each sample normalised, times weight plus bias; mean and 1/std (N, G)."""
        rows = wide(x).reshape(x.shape[0] * groups, -1)
        mean = rows.mean(axis=1, keepdims=True)
        centred = rows - mean
        invstd = 1 / self._cp.sqrt(self._cp.square(centred).mean(axis=1, keepdims=True) + eps)
        y = (centred * invstd).reshape(x.shape)
        y = y if weight is None else y * _column(weight, x)
        y = y if bias is None else y + _column(bias, x)
        shape = (x.shape[0], groups)
        return y.astype(x.dtype, copy=False), mean.reshape(shape), invstd.reshape(shape)

    def group_backward(
        self, g: Array, x: Array, mean: Array, invstd: Array, weight: Array | None, needs: tuple[bool, bool, bool]
    ) -> tuple[Array | None, Array | None, Array | None]:
        """The gradients of x, weight and bias, where needed."""
        values, shape, inverse = wide(g), (mean.size, -1), invstd.reshape(-1, 1)
        normalised = (wide(x).reshape(shape) - mean.reshape(-1, 1)) * inverse
        gx = None
        if needs[0]:
            inner = (values if weight is None else values * _column(weight, x)).reshape(shape)
            projection = (inner * normalised).mean(axis=1, keepdims=True)
            gx = (inner - inner.mean(axis=1, keepdims=True) - normalised * projection) * inverse
            gx = gx.reshape(x.shape).astype(x.dtype, copy=False)
        gw = (values * normalised.reshape(x.shape)).sum(axis=_axes(x)) if needs[1] else None
        return gx, gw, values.sum(axis=_axes(x)) if needs[2] else None
