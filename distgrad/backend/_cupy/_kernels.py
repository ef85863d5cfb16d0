"""The kernel families on CuPy arrays, put together."""

from typing import Any

from ..._typing import Array, Shape
from .._array_pool import ArrayPool
from .._array_rnn import ArrayRnn
from ._attention import CupyAttention
from ._conv import CupyConv
from ._elementwise import CupyActivation, CupySpecial
from ._loss import CupyLoss
from ._norm import CupyNorm
from ._optim import CupyOptim
from ._products import CupyProducts
from ._softmax import CupySoftmax
from ._ufuncs import CupyUfuncs


class CupyKernels:
    """All kernel families, made for one module `cupy`.

    Args:
        cupy: the module.
        special: the module of special functions, cupyx.scipy.special.
    """

    def __init__(self, cupy: Any, special: Any) -> None:
        def scratch(name: str, shape: Shape, dtype: Any) -> Array:
            return cupy.empty(shape, dtype)  # CuPy's memory pool makes this cheap

        def at_once(update: Any, arrays: tuple[Array, ...], *options: Any) -> None:
            update(*arrays, cupy.empty_like(arrays[0]), cupy.empty_like(arrays[0]), *options)

        self.special = CupySpecial(cupy, special)
        self.ufuncs = CupyUfuncs(cupy)
        self.activation = CupyActivation(cupy, self.special)
        self.attention = CupyAttention(cupy)
        self.conv = CupyConv(cupy)
        self.loss = CupyLoss(cupy, self.ufuncs)
        self.norm = CupyNorm(cupy)
        self.optim = CupyOptim(cupy, at_once)
        self.pool = ArrayPool(cupy, scratch, None)
        self.products = CupyProducts(cupy)
        self.rnn = ArrayRnn(cupy)
        self.softmax = CupySoftmax(cupy)
