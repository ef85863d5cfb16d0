"""The gradient namespace on NumPy arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..._typing import Array, Shape
from . import _special

_add_reduce: Any = np.add.reduce  # its stubs refuse keepdims as a variable


class NumpyNamespace:
    """`Namespace` by NumPy: most names are NumPy's own functions."""

    exp = staticmethod(np.exp)
    log = staticmethod(np.log)
    sqrt = staticmethod(np.sqrt)
    sin = staticmethod(np.sin)
    cos = staticmethod(np.cos)
    sinh = staticmethod(np.sinh)
    cosh = staticmethod(np.cosh)
    tanh = staticmethod(np.tanh)
    sigmoid = staticmethod(_special.sigmoid)
    erf = staticmethod(_special.erf)
    abs = staticmethod(np.abs)
    sign = staticmethod(np.sign)
    floor = staticmethod(np.floor)
    maximum = staticmethod(np.maximum)
    minimum = staticmethod(np.minimum)
    logical_and = staticmethod(np.logical_and)
    logical_not = staticmethod(np.logical_not)
    where = staticmethod(np.where)
    matmul = staticmethod(np.matmul)
    broadcast_to = staticmethod(np.broadcast_to)
    permute_dims = staticmethod(np.transpose)
    swapaxes = staticmethod(np.swapaxes)
    tril = staticmethod(np.tril)
    triu = staticmethod(np.triu)
    zeros_like = staticmethod(np.zeros_like)
    ones_like = staticmethod(np.ones_like)

    @staticmethod
    def sum(x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
        return _add_reduce(x, axis=axis, keepdims=keepdims, dtype=x.dtype)

    @staticmethod
    def mean(x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
        return np.mean(x, axis=axis, keepdims=keepdims)

    @staticmethod
    def max(x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
        return np.max(x, axis=axis, keepdims=keepdims)

    @staticmethod
    def prod(x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
        return np.prod(x, axis=axis, keepdims=keepdims)

    @staticmethod
    def cumulative_sum(x: Array, /, *, axis: int) -> Array:
        return np.cumsum(x, axis=axis, dtype=x.dtype)

    @staticmethod
    def reshape(x: Array, /, shape: Shape) -> Array:
        return x.reshape(shape)

    @staticmethod
    def expand_dims(x: Array, /, *, axis: int) -> Array:
        return np.expand_dims(x, axis)

    @staticmethod
    def squeeze(x: Array, /, *, axis: int) -> Array:
        return np.squeeze(x, axis)

    @staticmethod
    def concat(arrays: Sequence[Array], /, *, axis: int = 0) -> Array:
        return np.concatenate(arrays, axis=axis)

    @staticmethod
    def stack(arrays: Sequence[Array], /, *, axis: int = 0) -> Array:
        return np.stack(arrays, axis=axis)

    @staticmethod
    def flip(x: Array, /, *, axis: Any) -> Array:
        return np.flip(x, axis)

    @staticmethod
    def astype(x: Array, dtype: Any, /) -> Array:
        return np.asarray(x).astype(dtype, copy=False)

    @staticmethod
    def zeros(shape: Shape, like: Array, /) -> Array:
        return np.zeros(shape, dtype=like.dtype)

    @staticmethod
    def take_along_axis(x: Array, indices: Array, /, *, axis: int) -> Array:
        return np.take_along_axis(x, indices, axis)

    @staticmethod
    def getitem(x: Array, index: Any, /) -> Array:
        return x[index]

    @staticmethod
    def scatter(values: Array, index: Any, shape: Shape, /) -> Array:
        result = np.zeros(shape, dtype=values.dtype)
        parts = index if isinstance(index, tuple) else (index,)
        if any(isinstance(part, np.ndarray) and part.dtype != np.bool_ for part in parts):
            np.add.at(result, index, values)  # an integer array may name a place twice
        else:
            result[index] = values
        return result

    @staticmethod
    def put_along_axis(values: Array, indices: Array, shape: Shape, /, *, axis: int) -> Array:
        result = np.zeros(shape, dtype=values.dtype)
        places = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
        places[axis] = indices
        np.add.at(result, tuple(places), values)
        return result

    @staticmethod
    def call(op: Any, inputs: tuple[Any, ...], params: tuple[Any, ...] = (), /) -> Any:
        return op.on_arrays(inputs, params)
