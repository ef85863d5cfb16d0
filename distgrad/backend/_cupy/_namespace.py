"""The gradient namespace on CuPy arrays, where it differs from NumPy's."""

from typing import Any

from ..._typing import Array
from .._array_namespace import ArrayNamespace
from ._elementwise import CupySpecial
from ._products import CupyProducts
from ._ufuncs import CupyUfuncs


class CupyNamespace(ArrayNamespace):
    """`Namespace` on CuPy arrays."""

    def __init__(self, cupy: Any, special: CupySpecial, products: CupyProducts, ufuncs: CupyUfuncs) -> None:
        super().__init__(cupy, special, products)
        self._ufuncs = ufuncs

    def _add_at(self, target: Array, index: Any, values: Array) -> None:
        self._ufuncs.at("add", target, index, values)
