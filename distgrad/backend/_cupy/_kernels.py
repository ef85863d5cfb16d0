"""The kernel families on CuPy arrays, put together."""

from typing import Any

from ._attention import CupyAttention
from ._conv import CupyConv
from ._elementwise import CupyActivation, CupySpecial
from ._loss import CupyLoss
from ._norm import CupyNorm
from ._softmax import CupySoftmax


class CupyKernels:
    """All kernel families, made for one module `cupy`.

    Args:
        cupy: the module.
        special: the module of special functions, cupyx.scipy.special.
    """

    def __init__(self, cupy: Any, special: Any) -> None:
        self.special = CupySpecial(cupy, special)
        self.activation = CupyActivation(cupy, self.special)
        self.attention = CupyAttention(cupy)
        self.conv = CupyConv(cupy)
        self.loss = CupyLoss(cupy)
        self.norm = CupyNorm(cupy)
        self.softmax = CupySoftmax(cupy)
