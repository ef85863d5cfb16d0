"""What NumPy's ufuncs do by ``at`` and ``accumulate``, on CuPy arrays.

CuPy 14 has ``at`` for sums and extremes of some dtypes only, and ``accumulate`` for sums and products only.
"""

from typing import Any

import numpy as np

from ..._typing import Array

_ADDED = {"int32", "int64", "uint32", "uint64", "float16", "float32", "float64"}  # by cupy.add.at
_COMPARED = _ADDED - {"float16"}  # by cupy.maximum.at and cupy.minimum.at


class CupyUfuncs:
    """Updates at places that may repeat, and running combinations along an axis.

    Args:
        cupy: the module.
    """

    def __init__(self, cupy: Any) -> None:
        self._cp = cupy

    def at(self, name: str, target: Array, index: Any, values: Any) -> None:
        """``target[index] = ufunc(target[index], values)``, one value after the other where places repeat."""
        if name == "multiply":
            self._on_host(target, index, values)
        elif target.dtype.kind == "c":
            values = self._cp.asarray(values, target.dtype)
            self.at(name, target.real, index, values.real)
            self.at(name, target.imag, index, values.imag)
        elif target.dtype.name in (_ADDED if name == "add" else _COMPARED):
            getattr(self._cp, name).at(target, index, values)
        else:
            # In a wider type: bfloat16 and 8-bit integers have no atomic operations.
            working = target.astype("int32" if target.dtype.kind in "biu" else "float32")
            getattr(self._cp, name).at(working, index, self._cp.asarray(values).astype(working.dtype))
            target[...] = working.astype(target.dtype)

    def _on_host(self, target: Array, index: Any, values: Any) -> None:
        """Products by NumPy: no atomic operation multiplies, and nobody needs them often."""
        host, parts = target.get(), index if isinstance(index, tuple) else (index,)
        np.multiply.at(host, tuple(_host(self._cp, part) for part in parts), _host(self._cp, values))
        target[...] = self._cp.asarray(host)

    def accumulate(self, name: str, x: Array, axis: int) -> Array:
        """The running maximum, minimum or logaddexp along `axis`, in ``log2(n)`` passes that double what is combined.

        W. D. Hillis and G. L. Steele, "Data parallel algorithms", Communications of the ACM 29 (1986).
        """
        combine, lead = getattr(self._cp, name), (slice(None),) * (axis % max(x.ndim, 1))
        result, step = x.copy(), 1
        while x.ndim and step < x.shape[axis]:
            later, earlier = result[(*lead, slice(step, None))], result[(*lead, slice(None, -step))]
            later[...] = combine(later, earlier)
            step *= 2
        return result


def _host(cupy: Any, value: Any) -> Any:
    return value.get() if isinstance(value, cupy.ndarray) else value
