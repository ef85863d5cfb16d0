"""Parameters: the tensors that a module registers and an optimizer changes."""

from typing import Any

from ._tensor import Tensor
from .autograd._base import LEAF_MARK, check_can_require_grad
from .errors import DistgradError


class Parameter(Tensor):
    """A tensor that `nn.Module` registers when it is assigned as an attribute.

    Args:
        data: the tensor whose memory the parameter takes; None for an empty one.
        requires_grad: False freezes it.
    """

    def __init__(self, data: Any = None, requires_grad: bool = True) -> None:
        if data is None:
            super().__init__()
        elif isinstance(data, Tensor):
            self._data, self._target = data._data, None
            self._cell, self._base, self._grad, self._extra = [0, 0], None, None, None
        else:
            raise DistgradError(
                f"Parameter: expected a Tensor, got {type(data).__name__}; wrap it with distgrad.tensor() first"
            )
        if requires_grad:
            check_can_require_grad(self._data)
            self._target = LEAF_MARK

    def __repr__(self) -> str:
        return f"Parameter containing:\n{self._repr('tensor')}"
