"""Convolutions: three bilinear operations, closed under differentiation.

With K the windows-times-weights map, `Convolution` gives y from x and w, `ConvolutionInput` x's gradient from g and w
(a transposed convolution), `ConvolutionWeight` w's gradient from g and x. The gradient of each is made of the other
two.
"""

import math
from collections.abc import Sequence
from operator import index
from typing import TYPE_CHECKING, Any

from .._typing import Array, IntOrInts, Shape
from ..autograd._node import Node
from ..autograd._op import Op, apply
from ..errors import DTypeError, ShapeError
from ._common import tensor_of
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor

Padding = tuple[tuple[int, int], ...]


def _sum_to_bias(xp: Any, g: Any) -> Any:
    return xp.sum(g, axis=(0, *range(2, len(g.shape))))


class Convolution(Op):
    """Inputs: x (N, C, ...), w (O, C / groups, *kernel), bias (O,) or None; ``params = (stride, padding, dilation,
    groups)``.
    """

    saves = ((1,), (0,), ())

    @staticmethod
    def forward(
        ctx: Node, x: Array, w: Array, bias: Array | None, stride: Shape, padding: Padding, dilation: Shape, groups: int
    ) -> Array:
        _need_one_dtype(x, w, bias)
        return ctx.kernels.conv.forward(x, w, bias, stride, padding, dilation, groups)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, w: Any) -> Any:
        gx = gw = None
        if ctx.needs[0]:
            gx = xp.call(ConvolutionInput, (g, w, None), (ctx.shapes[0][2:], *ctx.params))
        if ctx.needs[1]:
            gw = xp.call(ConvolutionWeight, (g, x), (ctx.shapes[1], *ctx.params))
        return gx, gw, _sum_to_bias(xp, g) if ctx.needs[2] else None

    @staticmethod
    def backward_fast(xp: Any, ctx: Node, g: Any, x: Any, w: Any) -> Any:
        conv, needs = ctx.kernels.conv, ctx.needs
        if needs[0] and needs[1]:
            gx, gw = conv.backward(g, x, w, *ctx.params)
        else:
            gx = conv.grad_input(g, w, ctx.shapes[0][2:], *ctx.params) if needs[0] else None
            gw = conv.grad_weight(g, x, ctx.shapes[1], *ctx.params) if needs[1] else None
        return gx, gw, conv.channel_sums(g) if needs[2] else None


class ConvolutionInput(Op):
    """Inputs: g (N, O, ...), w (O, C / groups, *kernel), bias (C,) or None; ``params = (size, stride, padding,
    dilation, groups)``.
    """

    name = "ConvolutionTranspose"
    saves = ((1,), (0,), ())

    @staticmethod
    def forward(
        ctx: Node,
        g: Array,
        w: Array,
        bias: Array | None,
        size: Shape,
        stride: Shape,
        padding: Padding,
        dilation: Shape,
        groups: int,
    ) -> Array:
        _need_one_dtype(g, w, bias)
        x = ctx.kernels.conv.grad_input(g, w, size, stride, padding, dilation, groups)
        if bias is not None:
            x += bias.reshape(-1, *(1,) * len(size))
        return x

    @staticmethod
    def backward(xp: Any, ctx: Node, h: Any, g: Any, w: Any) -> Any:
        rest = ctx.params[1:]
        gg = xp.call(Convolution, (h, w, None), rest) if ctx.needs[0] else None
        gw = xp.call(ConvolutionWeight, (g, h), (ctx.shapes[1], *rest)) if ctx.needs[1] else None
        return gg, gw, _sum_to_bias(xp, h) if ctx.needs[2] else None


class ConvolutionWeight(Op):
    """Inputs: g (N, O, ...), x (N, C, ...); ``params = (w's shape, stride, padding, dilation, groups)``."""

    saves = ((1,), (0,))

    @staticmethod
    def forward(
        ctx: Node, g: Array, x: Array, shape: Shape, stride: Shape, padding: Padding, dilation: Shape, groups: int
    ) -> Array:
        return ctx.kernels.conv.grad_weight(g, x, shape, stride, padding, dilation, groups)

    @staticmethod
    def backward(xp: Any, ctx: Node, v: Any, g: Any, x: Any) -> Any:
        rest = ctx.params[1:]
        gg = xp.call(Convolution, (x, v, None), rest) if ctx.needs[0] else None
        gx = xp.call(ConvolutionInput, (g, v, None), (ctx.shapes[1][2:], *rest)) if ctx.needs[1] else None
        return gg, gx


def _need_one_dtype(x: Array, w: Array, bias: Array | None) -> None:
    if x.dtype != w.dtype or (bias is not None and bias.dtype != w.dtype):
        raise DTypeError(
            f"convolution: expected one dtype, got input {x.dtype}, weight "
            f"{w.dtype}{'' if bias is None else f', bias {bias.dtype}'}; "
            "convert with .to(dtype)"
        )


def per_dimension(value: IntOrInts, rank: int, name: str, what: str) -> Shape:
    """One number for each spatial dimension; a single number counts for all.

    Raises:
        ShapeError: there are too few or too many.
        TypeError: one is no integer.
    """
    try:
        if not isinstance(value, Sequence):
            return (index(value),) * rank
        values = tuple([index(v) for v in value])
    except TypeError:
        raise TypeError(f"{name}: expected {what} to be one integer or {rank}, got {value!r}") from None
    if len(values) == 1:
        return values * rank
    if len(values) != rank:
        raise ShapeError(f"{name}: expected {what} to be one number or {rank}, got {list(values)}")
    return values


def _padding_pairs(padding: Any, kernel: Shape, stride: Shape, dilation: Shape, name: str) -> Padding:
    """The rows added before and after along each dimension."""
    if padding == "valid":
        return ((0, 0),) * len(kernel)
    if padding == "same":
        if any(s != 1 for s in stride):
            raise ValueError(
                f"{name}: padding='same' is not supported for strided convolutions, got stride {list(stride)}"
            )
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return tuple((t // 2, t - t // 2) for t in totals)
    if isinstance(padding, str):
        raise ValueError(f"{name}: expected padding to be numbers, 'same' or 'valid', got {padding!r}")
    pads = per_dimension(padding, len(kernel), name, "padding")
    if any(p < 0 for p in pads):
        raise ValueError(f"{name}: expected padding >= 0, got {list(pads)}")
    return tuple((p, p) for p in pads)


def _geometry(
    name: str, rank: int, x: Any, w: Any, stride: Any, dilation: Any, groups: int, transposed: bool
) -> tuple[Shape, Shape]:
    """Stride and dilation, after the checks that both kinds of convolution share."""
    if w._data.ndim != rank + 2:
        raise ShapeError(f"{name}: expected a weight of {rank + 2} dimensions, got shape {list(w._data.shape)}")
    if x._data.ndim not in (rank + 1, rank + 2):
        raise ShapeError(
            f"{name}: expected an input of {rank + 2} dimensions, or {rank + 1} without a batch, got shape "
            f"{list(x._data.shape)}"
        )
    steps, spread = per_dimension(stride, rank, name, "stride"), per_dimension(dilation, rank, name, "dilation")
    if groups < 1 or any(n < 1 for n in (*steps, *spread)):
        raise ValueError(
            f"{name}: expected groups, stride and dilation of 1 or more, got {groups}, {list(steps)}, {list(spread)}"
        )
    channels = x._data.shape[-rank - 1]
    expected = w._data.shape[0] if transposed else w._data.shape[1] * groups
    if channels != expected or w._data.shape[0] % groups:
        raise ShapeError(
            f"{name}: expected an input with {expected} channels and a number of output channels divisible by "
            f"groups={groups} for a weight "
            f"of shape {list(w._data.shape)}, got an input of shape {list(x._data.shape)}"
        )
    return steps, spread


def _conv(
    name: str, rank: int, input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> "Tensor":
    x, w = tensor_of(input, name), tensor_of(weight, name)
    steps, spread = _geometry(name, rank, x, w, stride, dilation, groups, False)
    kernel = w._data.shape[2:]
    pads = _padding_pairs(padding, kernel, steps, spread, name)
    for n, k, (a, b), d in zip(x._data.shape[-rank:], kernel, pads, spread, strict=True):
        if n + a + b < d * (k - 1) + 1:
            raise ShapeError(
                f"{name}: the kernel {list(kernel)} with dilation {list(spread)} does not fit the padded input: got "
                "an input of shape "
                f"{list(x._data.shape)} with padding {padding}; use a smaller kernel or more padding"
            )
    bias = _bias_of(name, bias, w._data.shape[0])
    single = x._data.ndim == rank + 1
    result = apply(Convolution, (x.unsqueeze(0) if single else x, w, bias), (steps, pads, spread, groups))
    return result.squeeze(0) if single else result  # type: ignore[no-any-return]


def _bias_of(name: str, bias: Any, outputs: int) -> Any:
    """The bias as a tensor of one number for each output channel, or None."""
    if bias is None:
        return None
    bias = tensor_of(bias, name)
    if bias._data.shape != (outputs,):
        raise ShapeError(
            f"{name}: expected a bias of shape [{outputs}], one for each output channel, got {list(bias._data.shape)}"
        )
    return bias


@op(method=False)
def conv1d(
    input: "Tensor",
    weight: "Tensor",
    bias: "Tensor | None" = None,
    stride: IntOrInts = 1,
    padding: Any = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
) -> "Tensor":
    """A convolution (cross-correlation, as in torch) along one dimension.

    Args:
        input: (N, C, L) or (C, L).
        weight: (O, C / groups, K).
        bias: (O,) or None.
        stride, dilation: a number, or one in a tuple.
        padding: zeros added on both sides, or ``"same"`` or ``"valid"``.
        groups: the channels are split into so many groups with weights of their own.

    Raises:
        ShapeError: the channels or sizes do not fit.
        DTypeError: the dtypes differ.
    """
    return _conv("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


@op(method=False)
def conv2d(
    input: "Tensor",
    weight: "Tensor",
    bias: "Tensor | None" = None,
    stride: IntOrInts = 1,
    padding: Any = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
) -> "Tensor":
    """A convolution (cross-correlation, as in torch) along two dimensions.

    Args:
        input: (N, C, H, W) or (C, H, W).
        weight: (O, C / groups, KH, KW).
        bias: (O,) or None.
        stride, dilation: a number, or one for each dimension.
        padding: zeros added on both sides (a number, or one for each dimension), or ``"same"`` or ``"valid"``.
        groups: the channels are split into so many groups with weights of their own.

    Raises:
        ShapeError: the channels or sizes do not fit.
        DTypeError: the dtypes differ.
    """
    return _conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


@op(method=False)
def conv3d(
    input: "Tensor",
    weight: "Tensor",
    bias: "Tensor | None" = None,
    stride: IntOrInts = 1,
    padding: Any = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
) -> "Tensor":
    """A convolution along three dimensions: input (N, C, D, H, W), weight (O, C / groups, KD, KH, KW); else as
    `conv2d`.
    """
    return _conv("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


def _conv_transpose(
    name: str,
    rank: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> "Tensor":
    x, w = tensor_of(input, name), tensor_of(weight, name)
    steps, spread = _geometry(name, rank, x, w, stride, dilation, groups, True)
    kernel = w._data.shape[2:]
    pads = per_dimension(padding, rank, name, "padding")
    extra = per_dimension(output_padding, rank, name, "output_padding")
    if any(e >= max(s, d) for e, s, d in zip(extra, steps, spread, strict=True)):
        raise ValueError(
            f"{name}: expected output_padding smaller than stride or dilation, got {list(extra)}, {list(steps)}, "
            f"{list(spread)}"
        )
    sizes = zip(x._data.shape[-rank:], kernel, steps, pads, spread, extra, strict=True)
    size = tuple((n - 1) * s - 2 * p + d * (k - 1) + e + 1 for n, k, s, p, d, e in sizes)
    if math.prod(size) <= 0:
        raise ShapeError(f"{name}: the output would have the size {list(size)}; use less padding or a larger kernel")
    bias = _bias_of(name, bias, w._data.shape[1] * groups)
    single = x._data.ndim == rank + 1
    # Beyond the stride, output_padding shortens the transposed convolution's padding behind.
    pairs = tuple((p, p if e < s else p - e) for p, e, s in zip(pads, extra, steps, strict=True))
    params = (size, steps, pairs, spread, groups)
    result = apply(ConvolutionInput, (x.unsqueeze(0) if single else x, w, bias), params)
    return result.squeeze(0) if single else result  # type: ignore[no-any-return]


@op(method=False)
def conv_transpose1d(
    input: "Tensor",
    weight: "Tensor",
    bias: "Tensor | None" = None,
    stride: IntOrInts = 1,
    padding: IntOrInts = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
) -> "Tensor":
    """The transposed convolution along one dimension: input (N, C, L), weight (C, O / groups, K); else as
    `conv_transpose2d`.
    """
    return _conv_transpose(
        "conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


@op(method=False)
def conv_transpose2d(
    input: "Tensor",
    weight: "Tensor",
    bias: "Tensor | None" = None,
    stride: IntOrInts = 1,
    padding: IntOrInts = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
) -> "Tensor":
    """The transposed convolution along two dimensions: the gradient of `conv2d` with respect to its input.

    Args:
        input: (N, C, H, W) or (C, H, W).
        weight: (C, O / groups, KH, KW).
        bias: (O,) or None.
        stride, padding, dilation: those of the convolution that this transposes.
        output_padding: added to the output's size on one side, where the stride leaves it open.
        groups: the channels are split into so many groups with weights of their own.

    Raises:
        ShapeError: the channels or sizes do not fit.
    """
    return _conv_transpose(
        "conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


@op(method=False)
def conv_transpose3d(
    input: "Tensor",
    weight: "Tensor",
    bias: "Tensor | None" = None,
    stride: IntOrInts = 1,
    padding: IntOrInts = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
) -> "Tensor":
    """The transposed convolution along three dimensions; else as `conv_transpose2d`."""
    return _conv_transpose(
        "conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding, groups, dilation
    )
