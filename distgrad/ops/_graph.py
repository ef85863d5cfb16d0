"""The gradient namespace on Tensors: formulas written for arrays, run with their own gradients recorded."""

from typing import Any

from .._typing import Shape
from ..autograd._base import TensorBase, wrap, wrap_result
from ..autograd._graph_namespace import register_graph_namespace
from ..autograd._op import apply, apply1
from ..backend import backend_of
from . import (
    _arithmetic,
    _arrange,
    _comparison,
    _diagonal,
    _elementwise,
    _extreme,
    _indexing,
    _join,
    _linalg,
    _reduce,
    _rounding,
    _scatter,
    _shape,
)
from ._common import cast


def _tensor(value: Any) -> Any:
    return value if isinstance(value, TensorBase) else wrap(value)


class GraphNamespace:
    """`Namespace` on Tensors."""

    exp = staticmethod(_elementwise.exp)
    log = staticmethod(_elementwise.log)
    sqrt = staticmethod(_elementwise.sqrt)
    sin = staticmethod(_elementwise.sin)
    cos = staticmethod(_elementwise.cos)
    sinh = staticmethod(_elementwise.sinh)
    cosh = staticmethod(_elementwise.cosh)
    tanh = staticmethod(_elementwise.tanh)
    sigmoid = staticmethod(_elementwise.sigmoid)
    erf = staticmethod(_elementwise.erf)
    abs = staticmethod(_elementwise.abs)
    sign = staticmethod(_rounding.sign)
    floor = staticmethod(_rounding.floor)
    matmul = staticmethod(_linalg.matmul)
    swapaxes = staticmethod(_shape.transpose)
    permute_dims = staticmethod(_shape.permute)
    broadcast_to = staticmethod(_shape.expand)
    reshape = staticmethod(_shape.reshape)

    @staticmethod
    def maximum(x: Any, y: Any, /) -> Any:
        return (
            _arithmetic.maximum(_tensor(x), _tensor(y))
            if isinstance(y, TensorBase)
            else _elementwise.clamp(_tensor(x), min=y)
        )

    @staticmethod
    def minimum(x: Any, y: Any, /) -> Any:
        return (
            _arithmetic.minimum(_tensor(x), _tensor(y))
            if isinstance(y, TensorBase)
            else _elementwise.clamp(_tensor(x), max=y)
        )

    @staticmethod
    def logical_and(x: Any, y: Any, /) -> Any:
        return _comparison.logical_and(_tensor(x), _tensor(y))

    @staticmethod
    def logical_not(x: Any, /) -> Any:
        return _comparison.logical_not(_tensor(x))

    @staticmethod
    def where(condition: Any, x: Any, y: Any, /) -> Any:
        return _elementwise.where(_tensor(condition), x, y)

    @staticmethod
    def sum(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
        return x if axis == () else _reduce.sum(x, axis, keepdims)

    @staticmethod
    def mean(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
        return x if axis == () else _reduce.mean(x, axis, keepdims)

    @staticmethod
    def max(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
        return x if axis == () else _extreme.amax(x, axis, keepdims)

    @staticmethod
    def prod(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
        return _reduce.prod(x, axis, keepdims)

    @staticmethod
    def cumulative_sum(x: Any, /, *, axis: int) -> Any:
        return _reduce.cumsum(x, axis)

    @staticmethod
    def concat(arrays: Any, /, *, axis: int = 0) -> Any:
        return _join.cat([_tensor(a) for a in arrays], axis)

    @staticmethod
    def stack(arrays: Any, /, *, axis: int = 0) -> Any:
        return _join.stack([_tensor(a) for a in arrays], axis)

    @staticmethod
    def flip(x: Any, /, *, axis: Any) -> Any:
        return _arrange.flip(x, axis)

    @staticmethod
    def tril(x: Any, /, *, k: int = 0) -> Any:
        return _diagonal.tril(x, k)

    @staticmethod
    def triu(x: Any, /, *, k: int = 0) -> Any:
        return _diagonal.triu(x, k)

    @staticmethod
    def take_along_axis(x: Any, indices: Any, /, *, axis: int) -> Any:
        return apply1(_scatter.Gather, x, indices, axis)

    @staticmethod
    def put_along_axis(values: Any, indices: Any, shape: Shape, /, *, axis: int) -> Any:
        return apply1(_scatter.PutAlong, values, indices, shape, axis)

    @staticmethod
    def expand_dims(x: Any, /, *, axis: int) -> Any:
        return _shape.unsqueeze(x, axis)

    @staticmethod
    def squeeze(x: Any, /, *, axis: int) -> Any:
        return _shape.squeeze(x, axis)

    @staticmethod
    def astype(x: Any, dtype: Any, /) -> Any:
        return cast(_tensor(x), dtype)

    @staticmethod
    def zeros_like(x: Any, /) -> Any:
        return wrap_result(backend_of(x._data).xp.zeros_like(x._data), x._data)

    @staticmethod
    def ones_like(x: Any, /) -> Any:
        return wrap_result(backend_of(x._data).xp.ones_like(x._data), x._data)

    @staticmethod
    def zeros(shape: Shape, like: Any, /) -> Any:
        return wrap(backend_of(like._data).xp.zeros(shape, like._data.dtype))

    @staticmethod
    def getitem(x: Any, index: Any, /) -> Any:
        return apply1(_indexing.Index, x, index)

    @staticmethod
    def scatter(values: Any, index: Any, shape: Shape, /) -> Any:
        return apply1(_indexing.Scatter, values, index, shape)

    @staticmethod
    def call(op: Any, inputs: tuple[Any, ...], params: tuple[Any, ...] = (), /) -> Any:
        return apply(op, tuple(_tensor(x) if hasattr(x, "dtype") else x for x in inputs), params)


register_graph_namespace(GraphNamespace())
