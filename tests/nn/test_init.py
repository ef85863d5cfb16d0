"""Initial values: their ranges and moments, and the matrices that are exact."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import distgrad
from distgrad import Tensor, nn
from distgrad.nn import init


def filled(fill: Callable[..., Tensor], *shape: int, **options: Any) -> np.ndarray[Any, Any]:
    tensor = distgrad.empty(*shape)
    assert fill(tensor, generator=distgrad.Generator().manual_seed(0), **options) is tensor
    return tensor.numpy()


FAN_IN, FAN_OUT = 60 * 9, 80 * 9  # of a weight (80, 60, 3, 3)


@pytest.mark.parametrize(
    ("fill", "options", "bound"),
    [
        (init.uniform_, {"a": -2.0, "b": 2.0}, 2.0),
        (init.xavier_uniform_, {"gain": 2.0}, 2.0 * math.sqrt(6 / (FAN_IN + FAN_OUT))),
        (init.kaiming_uniform_, {"a": math.sqrt(5)}, 1 / math.sqrt(FAN_IN)),
        (init.kaiming_uniform_, {"mode": "fan_out", "nonlinearity": "relu"}, math.sqrt(6 / FAN_OUT)),
    ],
)
def test_uniform_values_fill_their_range(fill: Any, options: dict[str, Any], bound: float) -> None:
    values = filled(fill, 80, 60, 3, 3, **options)
    assert values.min() >= -bound and values.max() <= bound
    assert values.max() > 0.999 * bound and values.min() < -0.999 * bound
    assert values.std() == pytest.approx(bound / math.sqrt(3), rel=0.02)


@pytest.mark.parametrize(
    ("fill", "options", "mean", "std"),
    [
        (init.normal_, {"mean": 1.0, "std": 3.0}, 1.0, 3.0),
        (init.xavier_normal_, {"gain": 2.0}, 0.0, 2.0 * math.sqrt(2 / (FAN_IN + FAN_OUT))),
        (init.kaiming_normal_, {"nonlinearity": "relu"}, 0.0, math.sqrt(2 / FAN_IN)),
        (init.kaiming_normal_, {"nonlinearity": "tanh", "mode": "fan_out"}, 0.0, 5 / 3 / math.sqrt(FAN_OUT)),
    ],
)
def test_normal_values_have_their_moments(fill: Any, options: dict[str, Any], mean: float, std: float) -> None:
    values = filled(fill, 80, 60, 3, 3, **options)
    assert values.mean() == pytest.approx(mean, abs=0.02 * std)
    assert values.std() == pytest.approx(std, rel=0.02)


def test_truncated_normal_stays_inside() -> None:
    values = filled(init.trunc_normal_, 200, 200, mean=1.0, std=2.0, a=-1.0, b=2.0)
    assert values.min() >= -1.0 and values.max() <= 2.0
    # The mean of N(1, 4) cut off to [-1, 2], from the densities and probabilities at its bounds -1 and 0.5.
    density = [math.exp(-z * z / 2) / math.sqrt(2 * math.pi) for z in (-1.0, 0.5)]
    probability = 0.5 * (math.erf(0.5 / math.sqrt(2)) + math.erf(1 / math.sqrt(2)))
    assert values.mean() == pytest.approx(1 + 2 * (density[0] - density[1]) / probability, abs=0.02)


@pytest.mark.parametrize(("a", "b"), [(-0.1, 0.2), (3.0, 4.0), (4.0, 100.0), (-7.0, -5.0), (1.0, 1.0)])
def test_truncated_normal_of_a_rare_interval(a: float, b: float) -> None:
    values = filled(init.trunc_normal_, 100, 200, a=a, b=b)
    assert values.min() >= a and values.max() <= b
    x = np.linspace(a, min(b, a + 10), 100_001)
    density = np.exp((min(abs(a), abs(b)) ** 2 - x * x) / 2)
    expected = (x * density).sum() / density.sum()
    assert values.mean() == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (4, 3, 2)])
def test_orthogonal_rows_or_columns(shape: tuple[int, ...]) -> None:
    values = filled(init.orthogonal_, *shape, gain=2.0).reshape(shape[0], -1) / 2.0
    small = values @ values.T if values.shape[0] <= values.shape[1] else values.T @ values
    np.testing.assert_allclose(small, np.eye(len(small)), atol=1e-6)


def test_exact_matrices() -> None:
    assert init.eye_(distgrad.empty(2, 3)).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert init.constant_(distgrad.empty(2), 7.0).tolist() == [7, 7]
    assert init.ones_(distgrad.empty(2)).tolist() == [1, 1]
    assert init.zeros_(distgrad.empty(2)).tolist() == [0, 0]


def test_dirac_convolution_passes_channels_on() -> None:
    weight = init.dirac_(distgrad.empty(4, 2, 3, 3), groups=2)
    x = distgrad.randn(1, 4, 5, 5)
    y = nn.functional.conv2d(x, weight, padding=1, groups=2)
    np.testing.assert_allclose(y.numpy(), x.numpy(), atol=1e-6)
    with pytest.raises(ValueError, match="3, 4 or 5 dimensions"):
        init.dirac_(distgrad.empty(2, 2))
    with pytest.raises(ValueError, match="divisible"):
        init.dirac_(distgrad.empty(3, 2, 3), groups=2)


def test_sparse_columns() -> None:
    values = filled(init.sparse_, 20, 6, sparsity=0.33, std=1.0)
    assert ((values == 0).sum(axis=0) == 7).all()


def test_gains() -> None:
    assert init.calculate_gain("relu") == math.sqrt(2)
    assert init.calculate_gain("leaky_relu", 0.2) == math.sqrt(2 / 1.04)
    assert init.calculate_gain("tanh") == 5 / 3
    assert init.calculate_gain("conv2d") == 1.0
    assert init.calculate_gain("selu") == 0.75
    with pytest.raises(ValueError, match=r"Unsupported nonlinearity 'what'"):
        init.calculate_gain("what")


def test_errors_say_what_is_needed() -> None:
    with pytest.raises(ValueError, match="at least 2 dimensions, got 1"):
        init.xavier_uniform_(distgrad.empty(3))
    with pytest.raises(ValueError, match="fan_in"):
        init.kaiming_normal_(distgrad.empty(3, 3), mode="fan")
    with pytest.raises(ValueError, match="2 dimensions"):
        init.eye_(distgrad.empty(3))


def test_filling_a_parameter_is_not_recorded() -> None:
    p = nn.Parameter(distgrad.empty(3, 3))
    assert init.normal_(p) is p and p.is_leaf and p.requires_grad


@pytest.mark.parametrize(
    ("make", "fan_in"),
    [
        (lambda: nn.Linear(50, 40), 50),
        (lambda: nn.Conv2d(8, 20, 3), 72),
        (lambda: nn.Conv1d(8, 40, 5, groups=4), 10),
        (lambda: nn.ConvTranspose2d(8, 20, 3), 180),
    ],
)
def test_default_initialisation_is_torchs(make: Any, fan_in: int) -> None:
    distgrad.manual_seed(0)
    layer = make()
    bound = 1 / math.sqrt(fan_in)
    for p in layer.parameters():
        values = p.detach().numpy()
        assert abs(values).max() <= bound
        assert abs(values).max() > 0.9 * bound
    assert layer.weight.detach().numpy().std() == pytest.approx(bound / math.sqrt(3), rel=0.06)


def test_default_initialisation_of_the_others() -> None:
    distgrad.manual_seed(0)
    table = nn.Embedding(200, 50, padding_idx=3).weight.detach().numpy()
    assert table.std() == pytest.approx(1.0, rel=0.03) and (table[3] == 0).all()
    norm = nn.BatchNorm2d(3)
    assert norm.weight.tolist() == [1, 1, 1] and norm.bias.tolist() == [0, 0, 0]
    assert norm.running_mean.tolist() == [0, 0, 0] and norm.running_var.tolist() == [1, 1, 1]
    lstm = nn.LSTM(3, 16)
    assert all(float(p.detach().abs().max()) <= 0.25 for p in lstm.parameters())
    attention = nn.MultiheadAttention(16, 2)
    assert float(attention.in_proj_weight.detach().abs().max()) <= math.sqrt(6 / (16 + 48))
    assert attention.in_proj_bias.tolist() == [0.0] * 48
