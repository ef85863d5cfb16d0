"""The kernel families on CuPy arrays."""

from typing import Any

from ..._typing import Array


class CupyKernels:
    """All kernel families, made for one module `cupy`."""

    def __init__(self, cupy: Any) -> None:
        self.special = CupySpecial(cupy)


class CupySpecial:
    """Elementwise functions."""

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy

    def erf(self, x: Array) -> Array:
        """The error function."""
        raise NotImplementedError

    def sigmoid(self, x: Array) -> Array:
        """1 / (1 + exp(-x)); exp's overflow to inf gives the right 0."""
        return 1 / (1 + self._cupy.exp(-x))
