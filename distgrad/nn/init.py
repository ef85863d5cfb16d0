"""Initial values for parameters: each function fills a tensor in place and returns it.

They run without recording, and draw from the default generator, or from the one given.
"""

import math
from typing import Any

import numpy as np

from .. import ops
from .._tensor import Tensor
from ..autograd import no_grad

_GAINS = {"sigmoid": 1.0, "tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 3.0 / 4}
_LINEAR = ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which the standard deviation of weights should grow to make up for a nonlinearity.

    Args:
        nonlinearity: its name in `nn.functional`.
        param: the negative slope of ``"leaky_relu"``; default 0.01.

    Raises:
        ValueError: no gain is known for it.
    """
    if nonlinearity in _LINEAR:
        return 1.0
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise ValueError(f"negative_slope {param} not a valid number")
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity not in _GAINS:
        known = ", ".join([*_LINEAR, "leaky_relu", *_GAINS])
        raise ValueError(f"Unsupported nonlinearity {nonlinearity!r}; gains are known for {known}")
    return _GAINS[nonlinearity]


@no_grad()
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Any = None) -> Tensor:
    """Values from the uniform distribution on [a, b)."""
    return tensor.uniform_(a, b, generator=generator)


@no_grad()
def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Any = None) -> Tensor:
    """Values from the normal distribution."""
    return tensor.normal_(mean, std, generator=generator)


@no_grad()
def trunc_normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, generator: Any = None
) -> Tensor:
    """Values from the normal distribution, cut off to [a, b]: drawn again until they lie inside."""
    if not a <= b:
        raise ValueError(f"trunc_normal_: expected a <= b, got a={a} and b={b}")
    z = _truncated_normal(tensor.numel(), (a - mean) / std, (b - mean) / std, generator)
    values = ops.from_numpy(z.reshape(tensor.shape)).mul_(std).add_(mean)
    return tensor.copy_(values).clamp_(min=a, max=b)


def _truncated_normal(n: int, low: float, high: float, generator: Any) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Standard normal numbers in [low, high], by rejection of normal numbers or, if that is rare, of uniform ones."""
    share = 0.5 * (math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2)))
    peak = min(max(low, 0.0), high)  # where the density is highest
    reach = 40 / max(abs(peak), 1.0)  # beyond it the density is below exp(-40) of the highest
    ends = max(low, peak - reach), min(high, peak + reach)
    result = np.empty(n)
    missing = n
    while missing:
        if share > 0.25:
            drawn = ops.empty(missing, dtype="float64").normal_(generator=generator).numpy()
            inside = drawn[(drawn >= low) & (drawn <= high)]
        else:
            drawn, level = ops.empty(2, missing, dtype="float64").uniform_(generator=generator).numpy()
            drawn = ends[0] + drawn * (ends[1] - ends[0])
            inside = drawn[level <= np.exp((peak * peak - drawn * drawn) / 2)]
        result[n - missing : n - missing + inside.size] = inside
        missing -= inside.size
    return result


@no_grad()
def constant_(tensor: Tensor, val: float) -> Tensor:
    """One value everywhere."""
    return tensor.fill_(val)


def ones_(tensor: Tensor) -> Tensor:
    """Ones."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Zeros."""
    return constant_(tensor, 0.0)


@no_grad()
def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix; a rectangular one keeps as many inputs as it can."""
    if tensor.ndim != 2:
        raise ValueError(f"eye_: expected a tensor with 2 dimensions, got {tensor.ndim}")
    return tensor.copy_(ops.eye(*tensor.shape, dtype=tensor.dtype, device=tensor.device))


@no_grad()
def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """The weight of a convolution that passes its channels on, as many as there are.

    Args:
        tensor: (out, in / groups, *kernel), with 3, 4 or 5 dimensions.
    """
    if tensor.ndim not in (3, 4, 5):
        raise ValueError(f"dirac_: expected a tensor with 3, 4 or 5 dimensions, got {tensor.ndim}")
    if tensor.shape[0] % groups:
        raise ValueError(f"dirac_: dim 0 ({tensor.shape[0]}) must be divisible by groups ({groups})")
    per_group = tensor.shape[0] // groups
    middle = tuple(n // 2 for n in tensor.shape[2:])
    tensor.zero_()
    for group in range(groups):
        for i in range(min(per_group, tensor.shape[1])):
            tensor[(group * per_group + i, i, *middle)] = 1
    return tensor


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    """How many inputs feed one output of a weight (out, in, *kernel), and how many outputs one input feeds."""
    if tensor.ndim < 2:
        raise ValueError(f"fan in and fan out: expected a tensor with at least 2 dimensions, got {tensor.ndim}")
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def _calculate_correct_fan(tensor: Tensor, mode: str) -> int:
    if mode.lower() not in ("fan_in", "fan_out"):
        raise ValueError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']")
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    return fan_in if mode.lower() == "fan_in" else fan_out


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Uniform values that keep the variance forward and backward in tanh-like layers (Glorot and Bengio, 2010)."""
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    bound = gain * math.sqrt(6.0 / (fan_in + fan_out))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """As `xavier_uniform_`, from a normal distribution."""
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / (fan_in + fan_out)), generator)


def kaiming_uniform_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Any = None
) -> Tensor:
    """Uniform values that keep the variance through rectifiers (He et al., 2015).

    Args:
        a: the negative slope of the rectifier after the layer.
        mode: ``"fan_in"`` keeps the variance forward, ``"fan_out"`` backward.
        nonlinearity: the name that `calculate_gain` is asked for.
    """
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Any = None
) -> Tensor:
    """As `kaiming_uniform_`, from a normal distribution."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if 0 in tensor.shape:
        return 0.0
    return calculate_gain(nonlinearity, a) / math.sqrt(_calculate_correct_fan(tensor, mode))


@no_grad()
def orthogonal_(tensor: Tensor, gain: float = 1, generator: Any = None) -> Tensor:
    """A (semi-)orthogonal matrix, uniformly distributed among them (Saxe et al., 2013).

    Args:
        tensor: at least 2 dimensions; all but the first count as one.
    """
    if tensor.ndim < 2:
        raise ValueError(f"orthogonal_: expected a tensor with at least 2 dimensions, got {tensor.ndim}")
    if tensor.numel() == 0:
        return tensor
    rows, columns = tensor.shape[0], tensor.numel() // tensor.shape[0]
    normal = ops.empty(max(rows, columns), min(rows, columns), dtype="float64").normal_(generator=generator)
    q, r = np.linalg.qr(normal.numpy())
    q *= gain * np.sign(np.diagonal(r))  # the signs make the distribution uniform (Mezzadri, 2007)
    return tensor.copy_(ops.from_numpy(q if rows >= columns else q.T).reshape(tensor.shape))


@no_grad()
def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Any = None) -> Tensor:
    """Normal values with a share of zeros in every column (Martens, 2010).

    Args:
        tensor: (rows, columns).
        sparsity: the share of each column's elements that become 0.
    """
    if tensor.ndim != 2:
        raise ValueError(f"sparse_: expected a tensor with 2 dimensions, got {tensor.ndim}")
    rows, columns = tensor.shape
    zeros = math.ceil(sparsity * rows)
    tensor.normal_(0, std, generator=generator)
    for column in range(columns):
        tensor[ops.randperm(rows, generator=generator)[:zeros], column] = 0
    return tensor
