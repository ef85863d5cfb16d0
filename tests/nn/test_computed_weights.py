"""Weight and spectral normalisation, and the adaptive softmax."""

from typing import Any

import numpy as np
import pytest

import distgrad
from distgrad import nn


@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_norm_keeps_the_function_and_its_gradient(dim: int | None) -> None:
    layer = nn.Linear(3, 4)
    before = layer.weight.detach().numpy().copy()
    x = distgrad.randn(5, 3)
    expected = layer(x).detach().numpy()
    nn.utils.weight_norm(layer, dim=dim)
    assert sorted(layer.state_dict()) == ["bias", "weight_g", "weight_v"]
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    layer(x).sum().backward()
    assert layer.weight_g.grad is not None and layer.weight_v.grad is not None
    with distgrad.no_grad():
        layer.weight_g.mul_(2.0)
    layer(x)
    np.testing.assert_allclose(layer.weight.detach().numpy(), 2 * before, rtol=1e-5)
    nn.utils.remove_weight_norm(layer)
    assert sorted(layer.state_dict()) == ["bias", "weight"]
    np.testing.assert_allclose(layer.weight.detach().numpy(), 2 * before, rtol=1e-5)


def test_weight_norm_once_only() -> None:
    layer = nn.utils.weight_norm(nn.Linear(2, 2))
    with pytest.raises(RuntimeError, match="two weight_norm hooks"):
        nn.utils.weight_norm(layer)
    with pytest.raises(ValueError, match="not found in Linear"):
        nn.utils.remove_spectral_norm(layer)


def test_spectral_norm_finds_the_largest_singular_value() -> None:
    distgrad.manual_seed(0)  # power iteration is slow where the two largest happen to be close
    layer = nn.utils.spectral_norm(nn.Conv2d(2, 5, 3), n_power_iterations=50)
    assert sorted(layer.state_dict()) == ["bias", "weight_orig", "weight_u", "weight_v"]
    x = distgrad.randn(1, 2, 4, 4)
    layer(x).sum().backward()
    assert layer.weight_orig.grad is not None
    top = np.linalg.svd(layer.weight_orig.detach().numpy().reshape(5, -1), compute_uv=False)[0]
    np.testing.assert_allclose(layer.weight.detach().numpy(), layer.weight_orig.detach().numpy() / top, rtol=1e-3)
    u = layer.weight_u.numpy().copy()
    layer.eval()
    layer(x)
    np.testing.assert_array_equal(layer.weight_u.numpy(), u)
    nn.utils.remove_spectral_norm(layer)
    assert sorted(layer.state_dict()) == ["bias", "weight"]


def test_two_calls_before_one_backward() -> None:
    layer = nn.utils.spectral_norm(nn.Linear(3, 3))
    x = distgrad.randn(2, 3)
    (layer(x) + layer(x)).sum().backward()
    assert layer.weight_orig.grad is not None


# ---- adaptive softmax ------------------------------------------------------------------------------------------------


def adaptive() -> nn.AdaptiveLogSoftmaxWithLoss:
    distgrad.manual_seed(0)
    return nn.AdaptiveLogSoftmaxWithLoss(8, 20, [4, 10], div_value=2.0)


def test_probabilities_of_all_classes_sum_to_one() -> None:
    layer = adaptive()
    log_prob = layer.log_prob(distgrad.randn(6, 8))
    assert log_prob.shape == (6, 20)
    np.testing.assert_allclose(log_prob.exp().sum(1).detach().numpy(), 1.0, rtol=1e-5)


def test_output_is_the_log_probability_of_the_target() -> None:
    layer = adaptive()
    x, target = distgrad.randn(6, 8), distgrad.tensor([0, 3, 4, 9, 10, 19])
    output, loss = layer(x, target)
    log_prob = layer.log_prob(x).detach().numpy()
    np.testing.assert_allclose(output.detach().numpy(), log_prob[np.arange(6), target.numpy()], rtol=1e-5)
    assert float(loss) == pytest.approx(-output.detach().numpy().mean())
    loss.backward()
    assert all(p.grad is not None for p in layer.parameters())
    assert layer.predict(x).tolist() == log_prob.argmax(1).tolist()
    single: Any = layer(x[2], target[2])
    assert single.output.ndim == 0 and float(single.output) == pytest.approx(float(output[2]), rel=1e-5)


def test_adaptive_softmax_refuses() -> None:
    with pytest.raises(ValueError, match=r"got \[5, 3\] for 9 classes"):
        nn.AdaptiveLogSoftmaxWithLoss(4, 9, [5, 3])
    with pytest.raises(IndexError, match=r"\[0, 19\]"):
        adaptive()(distgrad.randn(1, 8), distgrad.tensor([20]))
