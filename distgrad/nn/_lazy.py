"""Layers that learn the size of their input from the first one, and then become the ordinary layer."""

from collections.abc import Callable
from typing import Any, Self

from .. import ops
from .._parameter import Parameter
from .._tensor import Tensor
from ..autograd import no_grad
from ._conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from ._linear import Linear
from ._module import Module
from ._norm import BatchNorm1d, BatchNorm2d, BatchNorm3d, InstanceNorm1d, InstanceNorm2d, InstanceNorm3d


class UninitializedParameter(Parameter):
    """A parameter whose shape is not known yet."""

    def __init__(self, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(ops.empty(0, device=device, dtype=dtype), requires_grad)

    def materialize(self, shape: Any, device: Any = None, dtype: Any = None) -> None:
        """Takes memory of a shape, whose values are not set, and becomes an ordinary parameter."""
        self._set_data(ops.empty(*shape, device=device or self.device, dtype=dtype or self.dtype)._data)
        self.__class__ = Parameter  # type: ignore[assignment]


class UninitializedBuffer(Tensor):
    """A buffer whose shape is not known yet."""

    def __init__(self, requires_grad: bool = False, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self._data = ops.empty(0, device=device, dtype=dtype)._data

    def materialize(self, shape: Any, device: Any = None, dtype: Any = None) -> None:
        """Takes memory of a shape, whose values are not set, and becomes an ordinary tensor."""
        self._data = ops.empty(*shape, device=device or self.device, dtype=dtype or self.dtype)._data
        self.__class__ = Tensor  # type: ignore[assignment]


Uninitialized = (UninitializedParameter, UninitializedBuffer)


class _Lazy(Module):
    """What all lazy layers do: wait for the first input, take its size, become the ordinary layer."""

    becomes: type[Module]
    size_names: tuple[str, ...]  # the attributes that hold the size

    def _wait(self, names: tuple[str, ...], device: Any, dtype: Any) -> None:
        """Forgets the shapes of these parameters and buffers until there is an input."""
        for name in names:
            if name in self._parameters:
                setattr(self, name, UninitializedParameter(device=device, dtype=dtype))
            else:
                setattr(self, name, UninitializedBuffer(device=device, dtype=dtype))
        self.__dict__["_waiting"] = self.register_forward_pre_hook(_initialize)

    def _size_of(self, input: Tensor) -> int:
        """What the layer has to know of its input."""
        raise NotImplementedError

    def _shape_of(self, name: str, size: int) -> tuple[int, ...]:
        """The shape of a parameter or buffer."""
        return (size,)

    def has_uninitialized_params(self) -> bool:
        """Whether shapes are still unknown."""
        return any(isinstance(t, Uninitialized) for t in (*self._parameters.values(), *self._buffers.values()))

    def reset_parameters(self) -> None:
        """Draws new initial values, if there are shapes."""
        if not self.has_uninitialized_params() and all(getattr(self, name) for name in self.size_names):
            super().reset_parameters()  # type: ignore[misc]

    def initialize_parameters(self, input: Tensor) -> None:
        """Takes the shapes from an input, and draws initial values where none were loaded."""
        fresh = self.has_uninitialized_params()
        for name in self.size_names:
            setattr(self, name, self._size_of(input))
        self._materialize({name: self._shape_of(name, self._size_of(input)) for name in self._own_names()})
        if fresh:
            self.reset_parameters()

    def _own_names(self) -> tuple[str, ...]:
        return (*self._parameters, *self._buffers)

    @no_grad()
    def _materialize(self, shapes: dict[str, tuple[int, ...]]) -> None:
        for name, shape in shapes.items():
            t = getattr(self, name)
            if isinstance(t, Uninitialized):
                t.materialize(shape)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        waiting = [name for name, buffer in self._buffers.items() if isinstance(buffer, UninitializedBuffer)]
        super()._apply(fn, recurse)
        for name in waiting:
            moved = getattr(self, name)
            setattr(self, name, UninitializedBuffer(device=moved.device, dtype=moved.dtype))
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        given = {name: state_dict.get(prefix + name) for name in self._own_names()}
        self._materialize({name: tuple(t.shape) for name, t in given.items() if isinstance(t, Tensor)})
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _initialize(module: Any, args: tuple[Any, ...]) -> None:
    module.initialize_parameters(*args)
    module.__dict__.pop("_waiting").remove()
    module.__class__ = module.becomes


class LazyLinear(_Lazy, Linear):
    """A `Linear` whose `in_features` come from its first input."""

    becomes = Linear
    size_names = ("in_features",)

    def __init__(self, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(0, 0, bias)
        self.out_features = out_features
        self._wait(("weight", "bias") if bias else ("weight",), device, dtype)

    def _size_of(self, input: Tensor) -> int:
        return int(input.shape[-1])

    def _shape_of(self, name: str, size: int) -> tuple[int, ...]:
        return (self.out_features, size) if name == "weight" else (self.out_features,)


class _LazyConv(_Lazy):
    """What all lazy convolutions have."""

    size_names = ("in_channels",)

    def __init__(
        self,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(0, 0, kernel_size, stride, padding, dilation, groups, bias, padding_mode)  # type: ignore[call-arg]
        self.out_channels = out_channels
        self._wait(("weight", "bias") if bias else ("weight",), device, dtype)

    def _size_of(self, input: Tensor) -> int:
        return int(input.shape[-1 - len(self.kernel_size)])

    def _shape_of(self, name: str, size: int) -> tuple[int, ...]:
        if name == "bias":
            return (self.out_channels,)
        return (self.out_channels, size // self.groups, *self.kernel_size)


class LazyConv1d(_LazyConv, Conv1d):
    """A `Conv1d` whose `in_channels` come from its first input."""

    becomes = Conv1d


class LazyConv2d(_LazyConv, Conv2d):
    """A `Conv2d` whose `in_channels` come from its first input."""

    becomes = Conv2d


class LazyConv3d(_LazyConv, Conv3d):
    """A `Conv3d` whose `in_channels` come from its first input."""

    becomes = Conv3d


class _LazyConvTranspose(_LazyConv):
    """What all lazy transposed convolutions have."""

    def __init__(
        self,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super(_LazyConv, self).__init__(
            0, 0, kernel_size, stride, padding, output_padding, groups, bias, dilation, padding_mode
        )  # type: ignore[call-arg]
        self.out_channels = out_channels
        self._wait(("weight", "bias") if bias else ("weight",), device, dtype)

    def _shape_of(self, name: str, size: int) -> tuple[int, ...]:
        if name == "bias":
            return (self.out_channels,)
        return (size, self.out_channels // self.groups, *self.kernel_size)


class LazyConvTranspose1d(_LazyConvTranspose, ConvTranspose1d):
    """A `ConvTranspose1d` whose `in_channels` come from its first input."""

    becomes = ConvTranspose1d


class LazyConvTranspose2d(_LazyConvTranspose, ConvTranspose2d):
    """A `ConvTranspose2d` whose `in_channels` come from its first input."""

    becomes = ConvTranspose2d


class LazyConvTranspose3d(_LazyConvTranspose, ConvTranspose3d):
    """A `ConvTranspose3d` whose `in_channels` come from its first input."""

    becomes = ConvTranspose3d


class _LazyNorm(_Lazy):
    """What all lazy normalisations have."""

    size_names = ("num_features",)

    def _wait_for_features(self, affine: bool, bias: bool, tracked: bool, device: Any, dtype: Any) -> None:
        names = (*(["weight"] if affine else []), *(["bias"] if affine and bias else []))
        self._wait((*names, *(["running_mean", "running_var"] if tracked else [])), device, dtype)


class _LazyBatchNorm(_LazyNorm):
    """What all lazy batch normalisations have."""

    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(0, eps, momentum, affine, track_running_stats, bias=bias)  # type: ignore[call-arg]
        self._wait_for_features(affine, bias, track_running_stats, device, dtype)

    def _size_of(self, input: Tensor) -> int:
        return int(input.shape[1])


class LazyBatchNorm1d(_LazyBatchNorm, BatchNorm1d):
    """A `BatchNorm1d` whose `num_features` come from its first input."""

    becomes = BatchNorm1d


class LazyBatchNorm2d(_LazyBatchNorm, BatchNorm2d):
    """A `BatchNorm2d` whose `num_features` come from its first input."""

    becomes = BatchNorm2d


class LazyBatchNorm3d(_LazyBatchNorm, BatchNorm3d):
    """A `BatchNorm3d` whose `num_features` come from its first input."""

    becomes = BatchNorm3d


class _LazyInstanceNorm(_LazyNorm):
    """What all lazy instance normalisations have."""

    dims: int

    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(0, eps, momentum, affine, track_running_stats, bias=bias)  # type: ignore[call-arg]
        self._wait_for_features(affine, bias, track_running_stats, device, dtype)

    def _size_of(self, input: Tensor) -> int:
        return int(input.shape[-1 - self.dims])


class LazyInstanceNorm1d(_LazyInstanceNorm, InstanceNorm1d):
    """An `InstanceNorm1d` whose `num_features` come from its first input."""

    becomes = InstanceNorm1d


class LazyInstanceNorm2d(_LazyInstanceNorm, InstanceNorm2d):
    """An `InstanceNorm2d` whose `num_features` come from its first input."""

    becomes = InstanceNorm2d


class LazyInstanceNorm3d(_LazyInstanceNorm, InstanceNorm3d):
    """An `InstanceNorm3d` whose `num_features` come from its first input."""

    becomes = InstanceNorm3d
