"""Clipping of gradients; parameters as vectors."""

import math

import numpy as np
import pytest

import distgrad
from distgrad import nn
from distgrad.errors import ShapeError


def parameters() -> list[nn.Parameter]:
    made = [nn.Parameter(distgrad.zeros(2, 2)), nn.Parameter(distgrad.zeros(3)), nn.Parameter(distgrad.zeros(1))]
    made[0].grad = distgrad.tensor([[3.0, 0.0], [0.0, -4.0]])
    made[1].grad = distgrad.tensor([0.0, 12.0, 0.0])
    return made


@pytest.mark.parametrize(
    ("p", "norm"), [(2.0, 13.0), (1.0, 19.0), (math.inf, 12.0), (3.0, (27 + 64 + 1728) ** (1 / 3))]
)
def test_norm_over_all_parameters(p: float, norm: float) -> None:
    params = parameters()
    total = nn.utils.clip_grad_norm_(params, max_norm=1.0, norm_type=p)
    assert float(total) == pytest.approx(norm) and total.dtype == distgrad.float32
    after = nn.utils.get_total_norm([q.grad for q in params if q.grad is not None], p)
    assert float(after) == pytest.approx(1.0, rel=1e-5)
    assert params[2].grad is None


def test_small_gradients_stay_as_they_are() -> None:
    params = parameters()
    nn.utils.clip_grad_norm_(params, max_norm=14.0)
    assert params[0].grad is not None and params[0].grad.tolist() == [[3.0, 0.0], [0.0, -4.0]]


def test_one_tensor_and_generators_and_nothing() -> None:
    params = parameters()
    assert float(nn.utils.clip_grad_norm_(params[1], 6.0)) == 12.0
    assert params[1].grad is not None and params[1].grad.tolist() == pytest.approx([0.0, 6.0, 0.0])
    assert float(nn.utils.clip_grad_norm_((p for p in params), 100.0)) > 0
    assert float(nn.utils.clip_grad_norm_([params[2]], 1.0)) == 0.0


def test_nonfinite_norm() -> None:
    params = parameters()
    params[1].grad = distgrad.tensor([0.0, math.nan, 0.0])
    with pytest.raises(RuntimeError, match="non-finite"):
        nn.utils.clip_grad_norm_(params, 1.0, error_if_nonfinite=True)
    assert math.isnan(float(nn.utils.clip_grad_norm_(params, 1.0)))


def test_norm_of_large_values_does_not_overflow() -> None:
    p = nn.Parameter(distgrad.zeros(100_000))
    p.grad = distgrad.full((100_000,), 1e19)
    assert float(nn.utils.get_total_norm([p.grad])) == pytest.approx(1e19 * math.sqrt(1e5), rel=1e-5)


def test_norm_is_exact_over_many_elements() -> None:
    g = distgrad.randn(1_000_003)
    expected = np.linalg.norm(g.numpy().astype(np.float64))
    assert float(nn.utils.get_total_norm(g)) == pytest.approx(expected, rel=1e-7)


def test_clip_by_value() -> None:
    params = parameters()
    nn.utils.clip_grad_value_(params, 3.5)
    assert params[0].grad is not None and params[0].grad.tolist() == [[3.0, 0.0], [0.0, -3.5]]


def test_vector_and_back() -> None:
    net = nn.Linear(2, 3)
    vector = nn.utils.parameters_to_vector(net.parameters())
    assert vector.shape == (9,) and vector.requires_grad
    nn.utils.vector_to_parameters(distgrad.arange(9.0), net.parameters())
    assert net.weight.tolist() == [[0, 1], [2, 3], [4, 5]] and net.bias is not None and net.bias.tolist() == [6, 7, 8]
    assert net.weight.requires_grad
    with pytest.raises(ShapeError, match=r"vector of 9 elements, got shape \[8\]"):
        nn.utils.vector_to_parameters(distgrad.zeros(8), net.parameters())
