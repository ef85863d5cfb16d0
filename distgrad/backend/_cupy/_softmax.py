"""Softmax and log-softmax on CuPy arrays; 16-bit floats are computed in float32."""

from typing import Any

from ..._typing import Array


class CupySoftmax:
    """Softmax along an axis, and its gradients from its result."""

    def __init__(self, cupy: Any) -> None:
        self._cp = cupy

    def _wide(self, *arrays: Array) -> list[Array]:
        return [a.astype("float32") if a.dtype.itemsize == 2 else a for a in arrays]

    def softmax(self, x: Array, axis: int) -> Array:
        """``exp(x) / sum(exp(x))``; nan where all are -inf."""
        (wide,) = self._wide(x)
        powers = self._cp.exp(wide - self._largest(wide, axis))
        return (powers / powers.sum(axis=axis, keepdims=True)).astype(x.dtype, copy=False)

    def log_softmax(self, x: Array, axis: int) -> Array:
        """``x - log(sum(exp(x)))``."""
        (wide,) = self._wide(x)
        shifted = wide - self._largest(wide, axis)
        total = self._cp.exp(shifted).sum(axis=axis, keepdims=True)
        return (shifted - self._cp.log(total)).astype(x.dtype, copy=False)

    def _largest(self, x: Array, axis: int) -> Array:
        return x.max(axis=axis, keepdims=True) if x.size else self._cp.zeros((1,) * x.ndim, x.dtype)

    def softmax_backward(self, g: Array, y: Array, axis: int) -> Array:
        """``y * (g - sum(g * y))``."""
        wide_g, wide_y = self._wide(g, y)
        inner = (wide_g * wide_y).sum(axis=axis, keepdims=True)
        return (wide_y * (wide_g - inner)).astype(y.dtype, copy=False)

    def log_softmax_backward(self, g: Array, y: Array, axis: int) -> Array:
        """``g - exp(y) * sum(g)``."""
        wide_g, wide_y = self._wide(g, y)
        total = wide_g.sum(axis=axis, keepdims=True)
        return (wide_g - self._cp.exp(wide_y) * total).astype(y.dtype, copy=False)
