"""Softmax and log-softmax on CuPy arrays; 16-bit floats are computed in float32."""

from typing import Any

from ..._typing import Array
from ._elementwise import wide


class CupySoftmax:
    """Softmax along an axis, and its gradients from its result."""

    def __init__(self, cupy: Any) -> None:
        self._cp = cupy

    def softmax(self, x: Array, axis: int) -> Array:
        """``exp(x) / sum(exp(x))``; nan where all are -inf."""
        v = wide(x)
        powers = self._cp.exp(v - self._largest(v, axis))
        return (powers / powers.sum(axis=axis, keepdims=True)).astype(x.dtype, copy=False)

    def log_softmax(self, x: Array, axis: int) -> Array:
        """``x - log(sum(exp(x)))``."""
        v = wide(x)
        shifted = v - self._largest(v, axis)
        total = self._cp.exp(shifted).sum(axis=axis, keepdims=True)
        return (shifted - self._cp.log(total)).astype(x.dtype, copy=False)

    def _largest(self, x: Array, axis: int) -> Array:
        return x.max(axis=axis, keepdims=True) if x.size else self._cp.zeros((1,) * x.ndim, x.dtype)

    def softmax_backward(self, g: Array, y: Array, axis: int) -> Array:
        """``y * (g - sum(g * y))``."""
        wide_g, wide_y = wide(g), wide(y)
        inner = (wide_g * wide_y).sum(axis=axis, keepdims=True)
        return (wide_y * (wide_g - inner)).astype(y.dtype, copy=False)

    def log_softmax_backward(self, g: Array, y: Array, axis: int) -> Array:
        """``g - exp(y) * sum(g)``."""
        wide_g, wide_y = wide(g), wide(y)
        total = wide_g.sum(axis=axis, keepdims=True)
        return (wide_g - self._cp.exp(wide_y) * total).astype(y.dtype, copy=False)
