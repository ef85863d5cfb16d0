"""Convolutions and transposed convolutions."""

import math
from typing import Any

from .._parameter import Parameter
from .._tensor import Tensor
from ..errors import ShapeError
from . import functional as F
from . import init
from ._module import Module
from ._new import new_parameter, repeated

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Conv(Module):
    """What all convolutions have: sizes, weight, bias and their initial values."""

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        transposed: bool,
        output_padding: Any,
        groups: int,
        bias: bool,
        padding_mode: str,
        device: Any,
        dtype: Any,
    ) -> None:
        super().__init__()
        _check(in_channels, out_channels, stride, padding, groups, padding_mode)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = repeated(kernel_size, dims, "kernel_size")
        self.stride = repeated(stride, dims, "stride")
        self.padding: Any = padding if isinstance(padding, str) else repeated(padding, dims, "padding")
        self.dilation = repeated(dilation, dims, "dilation")
        self.transposed = transposed
        self.output_padding = repeated(output_padding, dims, "output_padding")
        self.groups = groups
        self.padding_mode = padding_mode
        self._edges = _edges(self.padding, self.kernel_size, self.dilation)
        channels = (in_channels, out_channels // groups) if transposed else (out_channels, in_channels // groups)
        self.weight = new_parameter(*channels, *self.kernel_size, device=device, dtype=dtype)
        self.register_parameter("bias", new_parameter(out_channels, device=device, dtype=dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws new initial values: uniform in +-1/sqrt(in_channels / groups * kernel elements)."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init._calculate_fan_in_and_fan_out(self.weight)
            if fan_in != 0:
                init.uniform_(self.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def _edged(self, input: Tensor) -> tuple[Tensor, Any]:
        """The input as the convolution shall see it, and the zeros that it shall add itself."""
        if self.padding_mode == "zeros":
            return input, self.padding
        return F.pad(input, self._edges, mode=self.padding_mode), 0

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if isinstance(self.padding, str) or any(self.padding):
            text += f", padding={self.padding}"
        if any(n != 1 for n in self.dilation):
            text += f", dilation={self.dilation}"
        if any(self.output_padding):
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text


def _check(in_channels: int, out_channels: int, stride: Any, padding: Any, groups: int, padding_mode: str) -> None:
    if groups <= 0:
        raise ValueError("groups must be a positive integer")
    if in_channels % groups or out_channels % groups:
        raise ValueError(
            f"in_channels and out_channels must be divisible by groups, got {in_channels} and "
            f"{out_channels} with {groups} groups"
        )
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise ValueError(f"Invalid padding string {padding!r}, should be one of 'same', 'valid'")
        if padding == "same" and any(s != 1 for s in (stride if isinstance(stride, (tuple, list)) else (stride,))):
            raise ValueError("padding='same' is not supported for strided convolutions")
    if padding_mode not in PADDING_MODES:
        raise ValueError(f"padding_mode must be one of {PADDING_MODES}, but got padding_mode={padding_mode!r}")


def _edges(padding: Any, kernel_size: tuple[int, ...], dilation: tuple[int, ...]) -> list[int]:
    """What `F.pad` is to add before and after each dimension, the last one first."""
    edges: list[int] = []
    for i in reversed(range(len(kernel_size))):
        if isinstance(padding, str):
            total = dilation[i] * (kernel_size[i] - 1) if padding == "same" else 0
            edges += [total // 2, total - total // 2]
        else:
            edges += [padding[i], padding[i]]
    return edges


class Conv1d(_Conv):
    """Convolution of signals; see `Conv2d`. Shapes: input (N, C, L) or (C, L)."""

    def __init__(
        self,
        in_channels: int,
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
        super().__init__(
            1, in_channels, out_channels, kernel_size, stride, padding, dilation, False, 0, groups, bias, padding_mode,
            device, dtype,
        )  # fmt: skip

    def forward(self, input: Tensor) -> Tensor:
        edged, padding = self._edged(input)
        return F.conv1d(edged, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class Conv2d(_Conv):
    """Convolution of images (cross-correlation, as everywhere in deep learning).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: one number, or (height, width); so are stride, padding and dilation.
        padding: pixels added at each edge; ``"same"`` keeps the size, ``"valid"`` is 0.
        groups: input and output channels are cut into this many groups that do not see each other.
        padding_mode: ``"zeros"``, ``"reflect"``, ``"replicate"`` or ``"circular"``.

    Shapes: input (N, C, H, W) or (C, H, W), weight (out_channels, in_channels / groups, *kernel_size).
    """

    def __init__(
        self,
        in_channels: int,
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
        super().__init__(
            2, in_channels, out_channels, kernel_size, stride, padding, dilation, False, 0, groups, bias, padding_mode,
            device, dtype,
        )  # fmt: skip

    def forward(self, input: Tensor) -> Tensor:
        edged, padding = self._edged(input)
        return F.conv2d(edged, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class Conv3d(_Conv):
    """Convolution of volumes; see `Conv2d`. Shapes: input (N, C, D, H, W) or (C, D, H, W)."""

    def __init__(
        self,
        in_channels: int,
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
        super().__init__(
            3, in_channels, out_channels, kernel_size, stride, padding, dilation, False, 0, groups, bias, padding_mode,
            device, dtype,
        )  # fmt: skip

    def forward(self, input: Tensor) -> Tensor:
        edged, padding = self._edged(input)
        return F.conv3d(edged, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class _ConvTranspose(_Conv):
    """What all transposed convolutions have."""

    def _output_padding(self, input: Tensor, output_size: Any) -> tuple[int, ...]:
        """What must be added to reach an output size; the layer's own setting where none is asked for."""
        if output_size is None:
            return self.output_padding
        dims = len(self.kernel_size)
        spatial = tuple(input.shape[-dims:])
        wanted = tuple(output_size)[-dims:]
        result = []
        for i in range(dims):
            kernel = self.dilation[i] * (self.kernel_size[i] - 1) + 1
            least = (spatial[i] - 1) * self.stride[i] - 2 * self.padding[i] + kernel
            if len(wanted) != dims or not least <= wanted[i] < least + self.stride[i]:
                raise ShapeError(
                    f"output_size: requested {list(output_size)} from an input of spatial shape {list(spatial)}; "
                    f"dimension {i} can be {least} to {least + self.stride[i] - 1}"
                )
            result.append(wanted[i] - least)
        return tuple(result)


def _need_zeros(padding_mode: str, name: str) -> str:
    if padding_mode != "zeros":
        raise ValueError(f'Only "zeros" padding mode is supported for {name}')
    return padding_mode


class ConvTranspose1d(_ConvTranspose):
    """The transpose of `Conv1d`; see `ConvTranspose2d`."""

    def __init__(
        self,
        in_channels: int,
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
        _need_zeros(padding_mode, "ConvTranspose1d")
        super().__init__(
            1, in_channels, out_channels, kernel_size, stride, padding, dilation, True, output_padding, groups, bias,
            padding_mode, device, dtype,
        )  # fmt: skip

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        extra = self._output_padding(input, output_size)
        return F.conv_transpose1d(
            input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation
        )


class ConvTranspose2d(_ConvTranspose):
    """The transpose of `Conv2d`, which undoes its change of shape: for upsampling.

    Args:
        output_padding: added to the size of the output, where several sizes would convolve to the input's.

    Shapes: input (N, C, H, W) or (C, H, W), weight (in_channels, out_channels / groups, *kernel_size).
    """

    def __init__(
        self,
        in_channels: int,
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
        _need_zeros(padding_mode, "ConvTranspose2d")
        super().__init__(
            2, in_channels, out_channels, kernel_size, stride, padding, dilation, True, output_padding, groups, bias,
            padding_mode, device, dtype,
        )  # fmt: skip

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        extra = self._output_padding(input, output_size)
        return F.conv_transpose2d(
            input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation
        )


class ConvTranspose3d(_ConvTranspose):
    """The transpose of `Conv3d`; see `ConvTranspose2d`."""

    def __init__(
        self,
        in_channels: int,
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
        _need_zeros(padding_mode, "ConvTranspose3d")
        super().__init__(
            3, in_channels, out_channels, kernel_size, stride, padding, dilation, True, output_padding, groups, bias,
            padding_mode, device, dtype,
        )  # fmt: skip

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        extra = self._output_padding(input, output_size)
        return F.conv_transpose3d(
            input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation
        )
