"""Lazy layers."""

from typing import Any

import pytest

import distgrad
from distgrad import nn

CASES: list[tuple[Any, Any, tuple[int, ...]]] = [
    (lambda: nn.LazyLinear(4), nn.Linear, (2, 3)),
    (lambda: nn.LazyLinear(4, bias=False), nn.Linear, (5, 2, 3)),
    (lambda: nn.LazyConv1d(4, 2), nn.Conv1d, (2, 6, 5)),
    (lambda: nn.LazyConv2d(4, 2, groups=2), nn.Conv2d, (2, 6, 5, 5)),
    (lambda: nn.LazyConv3d(4, 2), nn.Conv3d, (2, 6, 3, 3, 3)),
    (lambda: nn.LazyConvTranspose1d(4, 2), nn.ConvTranspose1d, (2, 6, 5)),
    (lambda: nn.LazyConvTranspose2d(4, 2, groups=2), nn.ConvTranspose2d, (2, 6, 5, 5)),
    (lambda: nn.LazyConvTranspose3d(4, 2), nn.ConvTranspose3d, (2, 6, 3, 3, 3)),
    (lambda: nn.LazyBatchNorm1d(), nn.BatchNorm1d, (4, 3)),
    (lambda: nn.LazyBatchNorm2d(bias=False), nn.BatchNorm2d, (4, 3, 2, 2)),
    (lambda: nn.LazyBatchNorm3d(), nn.BatchNorm3d, (4, 3, 2, 2, 2)),
    (lambda: nn.LazyInstanceNorm1d(), nn.InstanceNorm1d, (4, 3, 5)),
    (lambda: nn.LazyInstanceNorm2d(affine=False), nn.InstanceNorm2d, (3, 5, 5)),
    (lambda: nn.LazyInstanceNorm3d(), nn.InstanceNorm3d, (4, 3, 2, 2, 2)),
]


@pytest.mark.parametrize(("make", "kind", "shape"), CASES)
def test_first_input_decides_the_shapes(make: Any, kind: Any, shape: tuple[int, ...]) -> None:
    layer = make().double()
    x = distgrad.randn(*shape, dtype=distgrad.float64, requires_grad=True)
    out = layer(x)
    assert type(layer) is kind and out.dtype == distgrad.float64
    assert all(type(p) is nn.Parameter and p.dtype == distgrad.float64 for p in layer.parameters())
    out.sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    assert layer(x).shape == out.shape


def test_values_are_drawn_when_the_shape_is_known() -> None:
    layer = nn.LazyLinear(40)
    layer(distgrad.ones(1, 100))
    assert float(layer.weight.detach().abs().max()) <= 0.1
    assert layer.in_features == 100 and "in_features=100" in repr(layer)


def test_a_state_dict_decides_the_shapes_too() -> None:
    source, layer = nn.Linear(3, 4), nn.LazyLinear(4)
    layer.load_state_dict(source.state_dict())
    x = distgrad.randn(2, 3)
    assert distgrad.equal(layer(x), source(x)) and layer.in_features == 3


def test_uninitialized_until_then() -> None:
    layer = nn.LazyBatchNorm1d()
    assert layer.has_uninitialized_params()
    assert isinstance(layer.weight, nn.UninitializedParameter)
    assert isinstance(layer.running_mean, nn.UninitializedBuffer)
    layer.reset_parameters()
