"""The gradient namespace on CuPy arrays, where it differs from NumPy's."""

from typing import Any

from ..._typing import Array
from .._array_namespace import ArrayNamespace
from ._elementwise import CupySpecial
from ._ufuncs import CupyUfuncs


class CupyNamespace(ArrayNamespace):
    """`Namespace` on CuPy arrays."""

    def __init__(self, cupy: Any, special: CupySpecial, ufuncs: CupyUfuncs) -> None:
        super().__init__(cupy, special)
        self._ufuncs = ufuncs

    def matmul(self, x: Array, y: Array, /, out: Array | None = None) -> Array:
        """By cuBLAS, which takes 16-bit matrices; CuPy has no product of stacked bfloat16 ones."""
        if x.dtype.kind == "V" and max(x.ndim, y.ndim) > 2:
            return super().matmul(x, y, out)
        return self._xp.matmul(x, y, out=out)

    def _add_at(self, target: Array, index: Any, values: Array) -> None:
        self._ufuncs.at("add", target, index, values)
