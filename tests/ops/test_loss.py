"""Losses: extreme values, ignored targets, warnings and errors."""

import numpy as np
import pytest

import distgrad
import distgrad.nn.functional as F
from distgrad.errors import DTypeError, ShapeError


def test_cross_entropy_of_extreme_logits() -> None:
    """Rows that need a shift before exp and rows that do not give what the definition gives."""
    x = distgrad.tensor([[1e4, 0.0, -1e4], [1.0, 2.0, 3.0]], dtype=distgrad.float64, requires_grad=True)
    losses = F.cross_entropy(x, distgrad.tensor([1, 2]), reduction="none")
    losses.sum().backward()
    np.testing.assert_allclose(losses.detach().numpy(), [1e4, np.log(np.exp([-2, -1, 0]).sum())])
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy()[0], [1, -1, 0], atol=1e-12)
    assert F.cross_entropy(distgrad.tensor([[float("inf"), 0.0]]), distgrad.tensor([1])).isnan()


def test_ignored_samples_count_neither_in_loss_nor_in_gradient() -> None:
    x = distgrad.randn(3, 4, requires_grad=True)
    with distgrad.no_grad():
        x[1] = float("nan")
    loss = F.cross_entropy(x, distgrad.tensor([0, -100, 3]))
    assert not loss.isnan()
    assert F.cross_entropy(x, distgrad.tensor([-100, -100, -100])).isnan()  # a mean of nothing, as in torch


def test_cross_entropy_errors() -> None:
    x = distgrad.zeros(2, 3)
    with pytest.raises(IndexError, match="Target 3 is out of bounds: expected a class between 0 and 2"):
        F.cross_entropy(x, distgrad.tensor([0, 3]))
    with pytest.raises(IndexError, match="Target -1"):
        F.nll_loss(x, distgrad.tensor([0, -1]))
    with pytest.raises(DTypeError, match=r"integer dtype .* got float32; convert it with \.long"):
        F.cross_entropy(x, distgrad.tensor([0.0, 1.0]))
    with pytest.raises(ShapeError, match=r"target of shape \[2\] .* got \[3\]"):
        F.cross_entropy(x, distgrad.tensor([0, 1, 2]))
    with pytest.raises(ShapeError, match="a weight for each of the 3 classes"):
        F.cross_entropy(x, distgrad.tensor([0, 1]), distgrad.ones(2))
    with pytest.raises(ValueError, match="'mean', 'sum' or 'none'"):
        F.cross_entropy(x, distgrad.tensor([0, 1]), reduction="average")
    with pytest.raises(ValueError, match="label_smoothing"):
        F.cross_entropy(x, distgrad.tensor([0, 1]), label_smoothing=1.5)


def test_a_target_of_another_shape_warns_or_fails() -> None:
    with pytest.warns(UserWarning, match=r"target size \(\[2, 1\]\) that is different to the input size \(\[2\]\)"):
        F.mse_loss(distgrad.zeros(2), distgrad.zeros(2, 1))
    with pytest.raises(ShapeError, match="cannot be broadcast"):
        F.mse_loss(distgrad.zeros(2), distgrad.zeros(3))
    with pytest.raises(ShapeError, match="target of the input's shape"):
        F.binary_cross_entropy_with_logits(distgrad.zeros(2), distgrad.zeros(2, 1))
    with pytest.raises(ValueError, match="between 0 and 1"):
        F.binary_cross_entropy(distgrad.tensor([1.5]), distgrad.tensor([1.0]))


def test_binary_cross_entropy_is_bounded() -> None:
    """Its logarithms stop at -100, so a certain and wrong prediction costs 100."""
    x = distgrad.tensor([0.0], requires_grad=True)
    loss = F.binary_cross_entropy(x, distgrad.tensor([1.0]))
    loss.backward()
    assert loss.item() == 100.0 and x.grad is not None and x.grad.isfinite().all()


def test_the_gradient_of_ctc_is_that_of_logits() -> None:
    """As torch's, it is meant to go through a log-softmax, so each step's sums to 0."""
    x = distgrad.randn(5, 2, 4, dtype=distgrad.float64).log_softmax(2).detach().requires_grad_()
    F.ctc_loss(x, distgrad.tensor([[1, 2], [3, 3]]), [5, 4], [2, 2]).backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.sum(2).numpy(), 0, atol=1e-12)
    assert not x.grad[4, 1].any()  # beyond the second sample's length


def test_deprecated_flags() -> None:
    x, y = distgrad.tensor([1.0, 2.0]), distgrad.zeros(2)
    assert F.mse_loss(x, y, size_average=False).item() == 5.0
    assert F.mse_loss(x, y, reduce=False).tolist() == [1.0, 4.0]
