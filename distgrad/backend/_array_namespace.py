"""The gradient namespace on raw arrays, for any array module with NumPy's interface."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._typing import Array, Shape
from ._kernels import ProductKernels, SpecialKernels


class ArrayNamespace:
    """`Namespace` by the functions of `xp` (numpy or cupy), most of them its own.

    Args:
        xp: the array module.
        special: the backend's elementwise functions that `xp` lacks.
        products: the backend's matrix products.
    """

    def __init__(self, xp: Any, special: SpecialKernels, products: ProductKernels) -> None:
        self._xp = xp
        self.matmul = products.matmul
        self._add_reduce = xp.add.reduce if hasattr(xp.add, "reduce") else xp.sum
        self.exp, self.log, self.sqrt = xp.exp, xp.log, xp.sqrt
        self.sin, self.cos = xp.sin, xp.cos
        self.sinh, self.cosh, self.tanh = xp.sinh, xp.cosh, xp.tanh
        self.sigmoid, self.erf = special.sigmoid, special.erf
        self.abs, self.sign, self.floor = xp.abs, xp.sign, xp.floor
        self.maximum, self.minimum = xp.maximum, xp.minimum
        self.logical_and, self.logical_not, self.where = xp.logical_and, xp.logical_not, xp.where
        self.broadcast_to, self.permute_dims, self.swapaxes = xp.broadcast_to, xp.transpose, xp.swapaxes
        self.tril, self.triu = xp.tril, xp.triu
        self.zeros_like, self.ones_like = xp.zeros_like, xp.ones_like

    def sum(self, x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
        return self._add_reduce(x, axis=axis, keepdims=keepdims, dtype=x.dtype)

    def mean(self, x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
        return self._xp.mean(x, axis=axis, keepdims=keepdims)

    def max(self, x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
        return self._xp.max(x, axis=axis, keepdims=keepdims)

    def prod(self, x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
        return self._xp.prod(x, axis=axis, keepdims=keepdims)

    def cumulative_sum(self, x: Array, /, *, axis: int) -> Array:
        return self._xp.cumsum(x, axis=axis, dtype=x.dtype)

    def reshape(self, x: Array, /, shape: Shape) -> Array:
        return x.reshape(shape)

    def expand_dims(self, x: Array, /, *, axis: int) -> Array:
        return self._xp.expand_dims(x, axis)

    def squeeze(self, x: Array, /, *, axis: int) -> Array:
        return self._xp.squeeze(x, axis)

    def concat(self, arrays: Sequence[Array], /, *, axis: int = 0) -> Array:
        return self._xp.concatenate(arrays, axis=axis)

    def stack(self, arrays: Sequence[Array], /, *, axis: int = 0) -> Array:
        return self._xp.stack(arrays, axis=axis)

    def flip(self, x: Array, /, *, axis: Any) -> Array:
        return self._xp.flip(x, axis)

    def astype(self, x: Array, dtype: Any, /) -> Array:
        return self._xp.asarray(x).astype(dtype, copy=False)

    def zeros(self, shape: Shape, like: Array, /) -> Array:
        return self._xp.zeros(shape, dtype=like.dtype)

    def take_along_axis(self, x: Array, indices: Array, /, *, axis: int) -> Array:
        if indices.shape != x.shape:  # an index may be smaller than x in the other axes, too
            x = x[tuple([slice(None) if i == axis else slice(n) for i, n in enumerate(indices.shape)])]
        return self._xp.take_along_axis(x, indices, axis)

    def getitem(self, x: Array, index: Any, /) -> Array:
        return x[index]

    def scatter(self, values: Array, index: Any, shape: Shape, /) -> Array:
        result = self._xp.zeros(shape, dtype=values.dtype)
        parts = index if isinstance(index, tuple) else (index,)
        if all(getattr(part, "dtype", np.bool_) == np.bool_ for part in parts):
            result[index] = values
            return result
        # An integer array may name a place twice, so values are added; on flat places that is several times faster.
        places = _flat_places(self._xp, parts, shape)
        if places is None or not places.size:
            self._add_at(result, index, values)
        else:
            self._add_at(result.reshape(-1), places, values.reshape(-1))
        return result

    def put_along_axis(self, values: Array, indices: Array, shape: Shape, /, *, axis: int) -> Array:
        result = self._xp.zeros(shape, dtype=values.dtype)
        places, stride = 0, 1
        for i in range(len(shape) - 1, -1, -1):
            tail = (1,) * (len(shape) - i - 1)
            steps = indices if i == axis else self._xp.arange(indices.shape[i]).reshape(-1, *tail)
            places = places + steps * stride
            stride *= shape[i]
        self._add_at(result.reshape(-1), self._xp.asarray(places).reshape(-1), values.reshape(-1))
        return result

    def _add_at(self, target: Array, index: Any, values: Array) -> None:
        self._xp.add.at(target, index, values)

    def call(self, op: Any, inputs: tuple[Any, ...], params: tuple[Any, ...] = (), /) -> Any:
        return op.on_arrays(inputs, params)


def _flat_places(xp: Any, parts: tuple[Any, ...], shape: Shape) -> Array | None:
    """The flat places that an index of some whole axes, then integer arrays, names; None for an index of another
    form."""
    parts = parts[:-1] if parts[-1] is Ellipsis else parts
    lead = 0
    while lead < len(parts) and isinstance(parts[lead], slice) and parts[lead] == slice(None):
        lead += 1
    arrays = parts[lead:]
    if not arrays or not all(getattr(a, "dtype", np.bool_) != np.bool_ for a in arrays):
        return None
    stop = lead + len(arrays)
    inner = math.prod(shape[stop:])
    places, stride = 0, inner
    for array, n in zip(arrays[::-1], shape[lead:stop][::-1], strict=True):
        places = places + (array + (array < 0) * n) * stride
        stride *= n
    outer = xp.arange(math.prod(shape[:lead])) * stride
    places = outer[:, None, None] + xp.asarray(places).reshape(-1)[:, None] + xp.arange(inner)
    return places.reshape(-1)
