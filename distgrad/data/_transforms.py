"""Transforms of images, on NumPy arrays (H, W) or (H, W, C) and on tensors (..., H, W).

Random ones draw from the default generator, so that `distgrad.manual_seed` fixes them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import ops
from .._tensor import Tensor
from ..backend import as_dtype
from ..errors import ShapeError

_MODES = {"constant": "constant", "edge": "edge", "reflect": "reflect", "symmetric": "symmetric"}


class Compose:
    """Several transforms, one after the other.

    Example:
        >>> Compose([RandomCrop(32, padding=4), RandomHorizontalFlip(), ToTensor(), Normalize((0.5,), (0.5,))])
    """

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = transforms

    def __call__(self, image: Any) -> Any:
        for transform in self.transforms:
            image = transform(image)
        return image

    def __repr__(self) -> str:
        lines = "".join(f"\n    {transform}" for transform in self.transforms)
        return f"Compose({lines}\n)"


class Lambda:
    """A function as a transform."""

    def __init__(self, lambd: Callable[[Any], Any]) -> None:
        if not callable(lambd):
            raise TypeError(f"Argument lambd should be callable, got {type(lambd).__name__}")
        self.lambd = lambd

    def __call__(self, image: Any) -> Any:
        return self.lambd(image)

    def __repr__(self) -> str:
        return "Lambda()"


class ToTensor:
    """An array (H, W) or (H, W, C) as a tensor (C, H, W); uint8 becomes float32 in [0, 1]."""

    def __call__(self, image: Any) -> Tensor:
        array = np.asarray(image)
        if array.ndim not in (2, 3):
            raise ShapeError(f"ToTensor: expected an array (H, W) or (H, W, C), got shape {list(array.shape)}")
        planes = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
        if array.dtype == np.uint8:
            return ops.from_numpy(np.divide(planes, np.float32(255), dtype=np.float32, order="C"))
        return ops.from_numpy(np.array(planes, order="C"))

    def __repr__(self) -> str:
        return "ToTensor()"


class Normalize:
    """(image - mean) / std, channel by channel.

    Args:
        mean: one for each channel of a tensor (..., C, H, W).
        std: one for each channel, not 0.
        inplace: write into the tensor that is given.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], inplace: bool = False) -> None:
        if any(s == 0 for s in std):
            raise ValueError(f"Normalize: expected standard deviations that are not 0, got {tuple(std)}")
        self.mean = mean
        self.std = std
        self.inplace = inplace

    def __call__(self, image: Tensor) -> Tensor:
        if not isinstance(image, Tensor) or not image.is_floating_point():
            raise TypeError(
                f"Normalize: expected a floating-point Tensor, got {type(image).__name__}; put ToTensor() before it"
            )
        if image.ndim < 3 or (image.shape[-3] not in (len(self.mean), 1) and len(self.mean) != 1):
            raise ShapeError(f"Normalize: expected (..., {len(self.mean)}, H, W), got {list(image.shape)}")
        mean = ops.tensor(list(self.mean), dtype=image.dtype, device=image.device).reshape(-1, 1, 1)
        std = ops.tensor(list(self.std), dtype=image.dtype, device=image.device).reshape(-1, 1, 1)
        return image.sub_(mean).div_(std) if self.inplace else (image - mean).div_(std)

    def __repr__(self) -> str:
        return f"Normalize(mean={self.mean}, std={self.std})"


class ConvertImageDtype:
    """A tensor in another dtype, its values scaled: [0, 255] for uint8, [0, 1] for floating-point ones."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = as_dtype(dtype)

    def __call__(self, image: Tensor) -> Tensor:
        if image.dtype.is_floating_point == self.dtype.is_floating_point:
            return image.to(self.dtype)
        if self.dtype.is_floating_point:
            return image.to(self.dtype).div_(np.iinfo(image.dtype.numpy).max)
        return (image * (np.iinfo(self.dtype.numpy).max + 1.0 - 1e-3)).to(self.dtype)

    def __repr__(self) -> str:
        return f"ConvertImageDtype({self.dtype})"


def _spatial(image: Any) -> tuple[int, int]:
    """Height and width."""
    shape = tuple(image.shape)
    return shape[-2:] if isinstance(image, Tensor) else shape[:2]


def _window(image: Any, top: int, left: int, height: int, width: int) -> Any:
    rows, columns = slice(top, top + height), slice(left, left + width)
    return image[..., rows, columns] if isinstance(image, Tensor) else image[rows, columns]


def _reversed(image: Any, axis: int) -> Any:
    """Mirrored along height (0) or width (1), in memory of its own."""
    if isinstance(image, Tensor):
        return ops.flip(image, (image.ndim - 2 + axis,))
    return np.ascontiguousarray(np.flip(image, axis))


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[-1])


def _draw() -> float:
    return ops.rand(1).item()  # type: ignore[no-any-return]


def _draw_below(n: int) -> int:
    return int(ops.randint(0, n, (1,)).item())


class Pad:
    """Pixels added around an image.

    Args:
        padding: one number; (left and right, top and bottom); or (left, top, right, bottom).
        fill: their value.
        padding_mode: ``"constant"``, ``"edge"``, ``"reflect"`` or ``"symmetric"``.
    """

    def __init__(self, padding: Any, fill: float = 0, padding_mode: str = "constant") -> None:
        if padding_mode not in _MODES:
            raise ValueError(f"Pad: expected padding_mode to be one of {list(_MODES)}, got {padding_mode!r}")
        self.padding = padding
        self.fill = fill
        self.padding_mode = padding_mode
        edges = (padding,) * 4 if isinstance(padding, int) else tuple(padding)
        self._left, self._top, self._right, self._bottom = edges * 2 if len(edges) == 2 else edges

    def __call__(self, image: Any) -> Any:
        height, width = (self._top, self._bottom), (self._left, self._right)
        if isinstance(image, Tensor):
            edges = [(0, 0)] * (image.ndim - 2) + [height, width]
            return ops.from_numpy(self._padded(image.numpy(force=True), edges)).to(image.device)
        return self._padded(image, [height, width] + [(0, 0)] * (image.ndim - 2))

    def _padded(self, array: "np.ndarray[Any, Any]", edges: list[tuple[int, int]]) -> "np.ndarray[Any, Any]":
        if self.padding_mode == "constant":
            return np.pad(array, edges, constant_values=self.fill)
        return np.pad(array, edges, mode=self.padding_mode)  # type: ignore[call-overload, no-any-return]

    def __repr__(self) -> str:
        return f"Pad(padding={self.padding}, fill={self.fill}, padding_mode={self.padding_mode})"


class CenterCrop:
    """The middle of an image.

    Args:
        size: one number for a square, or (height, width).
    """

    def __init__(self, size: Any) -> None:
        self.size = _pair(size)

    def __call__(self, image: Any) -> Any:
        (height, width), (h, w) = _spatial(image), self.size
        _need_room("CenterCrop", (height, width), self.size)
        return _window(image, round((height - h) / 2), round((width - w) / 2), h, w)

    def __repr__(self) -> str:
        return f"CenterCrop(size={self.size})"


def _need_room(name: str, have: tuple[int, int], want: tuple[int, int]) -> None:
    if have[0] < want[0] or have[1] < want[1]:
        raise ShapeError(
            f"{name}: expected an image of at least {want[0]} x {want[1]} pixels, got {have[0]} x {have[1]}; "
            "pad it first"
        )


class RandomCrop:
    """A random part of an image.

    Args:
        size: one number for a square, or (height, width).
        padding: pixels added around it first, as in `Pad`.
        pad_if_needed: add more where the image is smaller than `size`.
        fill: the value of added pixels.
        padding_mode: as in `Pad`.
    """

    def __init__(
        self,
        size: Any,
        padding: Any = None,
        pad_if_needed: bool = False,
        fill: float = 0,
        padding_mode: str = "constant",
    ) -> None:
        self.size = _pair(size)
        self.padding = padding
        self.pad_if_needed = pad_if_needed
        self.fill = fill
        self.padding_mode = padding_mode
        self._pad = None if padding is None else Pad(padding, fill, padding_mode)

    def __call__(self, image: Any) -> Any:
        if self._pad is not None:
            image = self._pad(image)
        h, w = self.size
        if self.pad_if_needed:
            more_h, more_w = max(h - _spatial(image)[0], 0), max(w - _spatial(image)[1], 0)
            if more_h or more_w:
                image = Pad((more_w, more_h), self.fill, self.padding_mode)(image)
        height, width = _spatial(image)
        _need_room("RandomCrop", (height, width), self.size)
        return _window(image, _draw_below(height - h + 1), _draw_below(width - w + 1), h, w)

    def __repr__(self) -> str:
        return f"RandomCrop(size={self.size}, padding={self.padding})"


class RandomHorizontalFlip:
    """The image mirrored left to right with probability p."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def __call__(self, image: Any) -> Any:
        return _reversed(image, 1) if _draw() < self.p else image

    def __repr__(self) -> str:
        return f"RandomHorizontalFlip(p={self.p})"


class RandomVerticalFlip:
    """The image mirrored top to bottom with probability p."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def __call__(self, image: Any) -> Any:
        return _reversed(image, 0) if _draw() < self.p else image

    def __repr__(self) -> str:
        return f"RandomVerticalFlip(p={self.p})"


class RandomApply:
    """Transforms that are applied with probability p, all or none."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]], p: float = 0.5) -> None:
        self.transforms = transforms
        self.p = p

    def __call__(self, image: Any) -> Any:
        return Compose(self.transforms)(image) if _draw() < self.p else image

    def __repr__(self) -> str:
        return f"RandomApply(p={self.p}, {list(self.transforms)})"
