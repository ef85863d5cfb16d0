"""Normalisation on CuPy arrays: by channels of (N, C, ...), or by rows (M, D). Statistics are float32 at least."""

from typing import Any

from ..._typing import Array


def _wide(x: Array) -> Array:
    return x.astype("float32") if x.dtype.itemsize == 2 else x


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
        wide = _wide(x)
        mean = wide.mean(axis=_axes(x))
        return mean, self._cp.square(wide - _column(mean, x)).mean(axis=_axes(x))

    def batch_apply(self, x: Array, mean: Array, invstd: Array, weight: Array | None, bias: Array | None) -> Array:
        """``(x - mean) * invstd * weight + bias``."""
        scale = invstd if weight is None else invstd * weight
        y = (x - _column(mean, x)) * _column(scale, x)
        return (y if bias is None else y + _column(bias, x)).astype(x.dtype, copy=False)

    def batch_sums(self, g: Array, x: Array, mean: Array, invstd: Array) -> tuple[Array, Array]:
        """Per channel, the sums of g and of ``g * (x - mean) * invstd``."""
        wide = _wide(g)
        return wide.sum(axis=_axes(g)), (wide * (x - _column(mean, x))).sum(axis=_axes(g)) * invstd

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

    def layer_forward(
        self, x: Array, weight: Array | None, bias: Array | None, eps: float
    ) -> tuple[Array, Array, Array]:
        """Normalised rows times weight plus bias; the rows' mean and 1/std, (M, 1)."""
        wide = _wide(x)
        mean = wide.mean(axis=1, keepdims=True)
        centred = wide - mean
        invstd = 1 / self._cp.sqrt(self._cp.square(centred).mean(axis=1, keepdims=True) + eps)
        y = centred * invstd
        y = y if weight is None else y * weight
        y = y if bias is None else y + bias
        return y.astype(x.dtype, copy=False), mean, invstd

    def layer_backward(
        self, g: Array, x: Array, mean: Array, invstd: Array, weight: Array | None, needs: tuple[bool, bool, bool]
    ) -> tuple[Array | None, Array | None, Array | None]:
        """The gradients of rows, weight and bias, where needed."""
        wide = _wide(g)
        normalised = (x - mean) * invstd
        gx = None
        if needs[0]:
            inner = wide if weight is None else wide * weight
            projection = (inner * normalised).mean(axis=1, keepdims=True)
            gx = ((inner - inner.mean(axis=1, keepdims=True) - normalised * projection) * invstd).astype(x.dtype)
        gw = (wide * normalised).sum(axis=0) if needs[1] else None
        return gx, gw, wide.sum(axis=0) if needs[2] else None
