"""Special and activation functions on CuPy arrays; 16-bit floats are computed in float32."""

import math
from typing import Any

from ..._typing import Array

_SQRT_TWO_OVER_PI = math.sqrt(2 / math.pi)
_CUBE = 0.044715  # of GELU's tanh form


def wide(x: Array) -> Array:
    """16-bit floats as float32; the rest as it is."""
    return x.astype("float32") if x.dtype.itemsize == 2 and x.dtype.kind in "fV" else x


class CupySpecial:
    """Elementwise functions that cupy lacks.

    Args:
        cupy: the module.
        special: the module of special functions, cupyx.scipy.special.
    """

    def __init__(self, cupy: Any, special: Any) -> None:
        self._cp = cupy
        self._special = special

    def erf(self, x: Array) -> Array:
        """The error function."""
        return self._special.erf(wide(x)).astype(x.dtype, copy=False)

    def erfc(self, x: Array) -> Array:
        """``1 - erf(x)``."""
        return self._special.erfc(wide(x)).astype(x.dtype, copy=False)

    def sigmoid(self, x: Array) -> Array:
        """1 / (1 + exp(-x)); exp's overflow to inf gives the right 0."""
        return (1 / (1 + self._cp.exp(-wide(x)))).astype(x.dtype, copy=False)


class CupyActivation:
    """Activation functions of several elementary functions."""

    def __init__(self, cupy: Any, special: CupySpecial) -> None:
        self._cp = cupy
        self._special = special

    def gelu(self, x: Array, by_tanh: bool) -> Array:
        """``x / 2 * (1 + erf(x / sqrt(2)))``, or its tanh form."""
        v = wide(x)
        return (v * self._cdf(v, by_tanh)).astype(x.dtype, copy=False)

    def _cdf(self, x: Array, by_tanh: bool) -> Array:
        if by_tanh:
            return 0.5 * (1 + self._cp.tanh(x * (_SQRT_TWO_OVER_PI * (1 + _CUBE * x * x))))
        return 0.5 * (1 + self._special.erf(x * math.sqrt(0.5)))

    def gelu_backward(self, g: Array, x: Array, y: Array, by_tanh: bool) -> Array:
        """The gradient of x, with y the result of `gelu`."""
        v = wide(x)
        cdf = self._cdf(v, by_tanh)
        if by_tanh:  # the derivative of (1 + tanh(u)) / 2 is 2 cdf (1 - cdf) u'
            density = 2 * cdf * (1 - cdf) * (_SQRT_TWO_OVER_PI * (1 + 3 * _CUBE * v * v))
        else:
            density = self._cp.exp(v * v * -0.5) * (1 / math.sqrt(2 * math.pi))
        return (g * (cdf + v * density)).astype(x.dtype, copy=False)

    def silu(self, x: Array) -> Array:
        """``x * sigmoid(x)``."""
        v = wide(x)
        return (v * self._special.sigmoid(v)).astype(x.dtype, copy=False)

    def silu_backward(self, g: Array, x: Array) -> Array:
        """The gradient of x."""
        v = wide(x)
        s = self._special.sigmoid(v)
        return (g * (s * (1 + v * (1 - s)))).astype(x.dtype, copy=False)

    def relu(self, x: Array) -> Array:
        """``max(x, 0)``."""
        return self._cp.maximum(x, 0)

    def relu_backward(self, g: Array, y: Array) -> Array:
        """The gradient of ``y = max(x, 0)``."""
        return g * (y > 0)
