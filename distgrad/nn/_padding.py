"""Padding layers: each takes one number for all edges, or one for each, the last dimension's first."""

from typing import Any

from .._tensor import Tensor
from . import functional as F
from ._module import Module
from ._new import repeated


class _Padding(Module):
    """What all paddings have: how much on each edge."""

    dims: int
    mode: str

    def __init__(self, padding: Any) -> None:
        super().__init__()
        self.padding = repeated(padding, 2 * self.dims, "padding")

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPadding(_Padding):
    """Padding with one value."""

    mode = "constant"

    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class _ZeroPadding(_ConstantPadding):
    """Padding with zeros."""

    def __init__(self, padding: Any) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ConstantPad1d(_ConstantPadding):
    """Adds (left, right) to the last dimension."""

    dims = 1


class ConstantPad2d(_ConstantPadding):
    """Adds (left, right, top, bottom) to the last two dimensions."""

    dims = 2


class ConstantPad3d(_ConstantPadding):
    """Adds (left, right, top, bottom, front, back) to the last three dimensions."""

    dims = 3


class ZeroPad1d(_ZeroPadding):
    """Adds zeros to the last dimension."""

    dims = 1


class ZeroPad2d(_ZeroPadding):
    """Adds zeros to the last two dimensions."""

    dims = 2


class ZeroPad3d(_ZeroPadding):
    """Adds zeros to the last three dimensions."""

    dims = 3


class ReflectionPad1d(_Padding):
    """Mirrors the last dimension at its edges, which are not repeated."""

    dims, mode = 1, "reflect"


class ReflectionPad2d(_Padding):
    """Mirrors the last two dimensions at their edges, which are not repeated."""

    dims, mode = 2, "reflect"


class ReflectionPad3d(_Padding):
    """Mirrors the last three dimensions at their edges, which are not repeated."""

    dims, mode = 3, "reflect"


class ReplicationPad1d(_Padding):
    """Repeats the edges of the last dimension."""

    dims, mode = 1, "replicate"


class ReplicationPad2d(_Padding):
    """Repeats the edges of the last two dimensions."""

    dims, mode = 2, "replicate"


class ReplicationPad3d(_Padding):
    """Repeats the edges of the last three dimensions."""

    dims, mode = 3, "replicate"


class CircularPad1d(_Padding):
    """Continues the last dimension from its other end."""

    dims, mode = 1, "circular"


class CircularPad2d(_Padding):
    """Continues the last two dimensions from their other ends."""

    dims, mode = 2, "circular"


class CircularPad3d(_Padding):
    """Continues the last three dimensions from their other ends."""

    dims, mode = 3, "circular"
