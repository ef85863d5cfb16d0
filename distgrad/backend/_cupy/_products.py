"""Matrix products of CuPy arrays."""

from ..._typing import Array
from .._array_products import ArrayProducts


class CupyProducts(ArrayProducts):
    """`ProductKernels` by cuBLAS."""

    def matmul(self, x: Array, y: Array, out: Array | None = None) -> Array:
        """By cuBLAS, which takes 16-bit matrices; CuPy has no product of stacked bfloat16 ones."""
        if x.dtype.kind == "V" and max(x.ndim, y.ndim) > 2:
            return super().matmul(x, y, out)
        return self._xp.matmul(x, y, out=out)
