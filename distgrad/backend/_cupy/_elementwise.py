"""Special and activation functions on CuPy arrays."""

import math
from typing import Any

from ..._typing import Array

_SQRT_TWO_OVER_PI = math.sqrt(2 / math.pi)
_CUBE = 0.044715  # of GELU's tanh form


class CupySpecial:
    """Elementwise functions that cupy lacks."""

    def __init__(self, cupy: Any, special: Any) -> None:
        self._cp = cupy
        self._special = special

    def erf(self, x: Array) -> Array:
        """The error function."""
        return self._special.erf(x)

    def sigmoid(self, x: Array) -> Array:
        """1 / (1 + exp(-x)); exp's overflow to inf gives the right 0."""
        return 1 / (1 + self._cp.exp(-x))


class CupyActivation:
    """Activation functions of several elementary functions."""

    def __init__(self, cupy: Any, special: CupySpecial) -> None:
        self._cp = cupy
        self._special = special

    def gelu(self, x: Array, by_tanh: bool) -> Array:
        """``x / 2 * (1 + erf(x / sqrt(2)))``, or its tanh form."""
        if by_tanh:
            return x * 0.5 * (1 + self._cp.tanh(x * (_SQRT_TWO_OVER_PI * (1 + _CUBE * x * x))))
        return x * 0.5 * (1 + self._special.erf(x * math.sqrt(0.5)))

    def gelu_backward(self, g: Array, x: Array, y: Array, by_tanh: bool) -> Array:
        """The gradient of x, with y the result of `gelu`."""
        if by_tanh:
            t = self._cp.tanh(x * (_SQRT_TWO_OVER_PI * (1 + _CUBE * x * x)))
            inner = _SQRT_TWO_OVER_PI * (1 + 3 * _CUBE * x * x)
            return g * (0.5 * (1 + t) + x * 0.5 * (1 - t * t) * inner)
        cdf = 0.5 * (1 + self._special.erf(x * math.sqrt(0.5)))
        return g * (cdf + x * self._cp.exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi)))

    def silu(self, x: Array) -> Array:
        """``x * sigmoid(x)``."""
        return x * self._special.sigmoid(x)

    def silu_backward(self, g: Array, x: Array) -> Array:
        """The gradient of x."""
        s = self._special.sigmoid(x)
        return g * (s * (1 + x * (1 - s)))
