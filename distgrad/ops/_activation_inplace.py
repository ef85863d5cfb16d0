"""The activations that torch also has as functions that write into their input."""

from typing import TYPE_CHECKING

from ..autograd._inplace import replace_values
from ._activation import hardtanh, leaky_relu, relu, rrelu, threshold
from ._smooth_activation import celu, elu, selu

if TYPE_CHECKING:
    from .._tensor import Tensor


def relu_(input: "Tensor") -> "Tensor":
    """In-place form of `relu`."""
    result: Tensor = replace_values(input, relu(input), "relu_")
    return result


def leaky_relu_(input: "Tensor", negative_slope: float = 0.01) -> "Tensor":
    """In-place form of `leaky_relu`."""
    result: Tensor = replace_values(input, leaky_relu(input, negative_slope), "leaky_relu_")
    return result


def rrelu_(input: "Tensor", lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False) -> "Tensor":
    """In-place form of `rrelu`."""
    result: Tensor = replace_values(input, rrelu(input, lower, upper, training), "rrelu_")
    return result


_threshold = threshold


def threshold_(input: "Tensor", threshold: float, value: float) -> "Tensor":
    """In-place form of `threshold`."""
    result: Tensor = replace_values(input, _threshold(input, threshold, value), "threshold_")
    return result


def hardtanh_(input: "Tensor", min_val: float = -1.0, max_val: float = 1.0) -> "Tensor":
    """In-place form of `hardtanh`."""
    result: Tensor = replace_values(input, hardtanh(input, min_val, max_val), "hardtanh_")
    return result


def elu_(input: "Tensor", alpha: float = 1.0) -> "Tensor":
    """In-place form of `elu`."""
    result: Tensor = replace_values(input, elu(input, alpha), "elu_")
    return result


def selu_(input: "Tensor") -> "Tensor":
    """In-place form of `selu`."""
    result: Tensor = replace_values(input, selu(input), "selu_")
    return result


def celu_(input: "Tensor", alpha: float = 1.0) -> "Tensor":
    """In-place form of `celu`."""
    result: Tensor = replace_values(input, celu(input, alpha), "celu_")
    return result
