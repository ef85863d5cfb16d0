"""The hot loops that every backend provides, by family. NumPy and CuPy implement the same protocols."""

from typing import Protocol

from .._typing import Array


class SpecialKernels(Protocol):
    """Elementwise functions that array modules lack."""

    def erf(self, x: Array) -> Array:
        """The error function, to the precision of x's dtype."""
        ...

    def sigmoid(self, x: Array) -> Array:
        """1 / (1 + exp(-x)) without overflow."""
        ...


class Kernels(Protocol):
    """All kernel families of a backend."""

    @property
    def special(self) -> SpecialKernels: ...
