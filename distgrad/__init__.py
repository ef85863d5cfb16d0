"""distgrad: data-parallel training on many processes, under torch's names."""

from . import _environment as _environment  # first: it decides thread counts before NumPy loads
from ._tensor import Size as Size
from ._tensor import Tensor as Tensor
from .ops import tensor as tensor
