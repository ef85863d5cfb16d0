"""Normalisation, dropout and embedding: state, layouts, statistics and errors."""

from typing import Any

import numpy as np
import pytest

import distgrad
import distgrad.nn.functional as F
from distgrad.backend._numpy import _channels
from distgrad.errors import DTypeError, ShapeError


@pytest.mark.parametrize(("rows", "columns"), [(96, 3), (97, 3), (1, 5), (7, 2000), (4096, 16)])
def test_column_sums_and_row_additions(rows: int, columns: int) -> None:
    """Rows are folded where they can be; the results are NumPy's."""
    x = np.random.default_rng(0).standard_normal((rows, columns))
    np.testing.assert_allclose(_channels.column_sums(x), x.sum(0), atol=1e-10)
    y = x.copy()
    _channels.add_to_rows(y, x[0])
    np.testing.assert_allclose(y, x + x[0])
    assert rows % _channels.fold_of(rows, columns) == 0


def test_running_statistics() -> None:
    """They move towards the batch's mean and unbiased variance; evaluation uses them and leaves them alone."""
    x = np.random.default_rng(0).standard_normal((6, 2, 3))
    mean, var = distgrad.zeros(2, dtype=distgrad.float64), distgrad.ones(2, dtype=distgrad.float64)
    F.batch_norm(distgrad.tensor(x), mean, var, training=True, momentum=0.3)
    np.testing.assert_allclose(mean.numpy(), 0.3 * x.mean((0, 2)))
    np.testing.assert_allclose(var.numpy(), 0.7 + 0.3 * x.var((0, 2), ddof=1))
    before = mean.clone(), var.clone()
    F.batch_norm(distgrad.tensor(x), mean, var)
    assert mean.equal(before[0]) and var.equal(before[1])


@pytest.mark.parametrize("shape", [(5, 3, 7, 2), (4, 16, 32, 32), (300, 40)])
def test_batch_norm_does_not_depend_on_the_layout(shape: tuple[int, ...]) -> None:
    """Channels-first and channels-last memory give the same values and gradients."""
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal(shape), rng.standard_normal(shape)
    results = []
    for order in ("first", "last"):
        data = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1) if order == "last" else x
        t = distgrad.from_numpy(data).requires_grad_()
        w = distgrad.tensor(
            rng.standard_normal(0).tolist() + [1.5] * shape[1], dtype=distgrad.float64, requires_grad=True
        )
        y = F.batch_norm(t, None, None, w, None, training=True)
        y.backward(distgrad.from_numpy(g))
        assert t.grad is not None and w.grad is not None
        results.append([y.detach().numpy(), t.grad.numpy(), w.grad.numpy()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)


def test_normalised_values_do_not_lose_precision_far_from_zero() -> None:
    """The mean is subtracted before anything is squared."""
    x = (np.random.default_rng(0).standard_normal((64, 4)) + 3000).astype(np.float32)
    y = F.batch_norm(distgrad.from_numpy(x), None, None, training=True).numpy()
    expected = (x - x.astype(np.float64).mean(0)) / np.sqrt(x.astype(np.float64).var(0) + 1e-5)
    np.testing.assert_allclose(y, expected, atol=2e-3)


def test_norm_errors() -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        F.batch_norm(distgrad.zeros(1, 3), None, None, training=True)
    with pytest.raises(ShapeError, match=r"running_mean of shape \[3\]"):
        F.batch_norm(distgrad.zeros(2, 3), distgrad.zeros(4), distgrad.ones(4))
    with pytest.raises(DTypeError, match="floating-point"):
        F.batch_norm(distgrad.zeros(2, 3).long(), None, None, training=True)
    with pytest.raises(ShapeError, match=r"shape \(..., 4\), got \[2, 3\]"):
        F.layer_norm(distgrad.zeros(2, 3), (4,))
    with pytest.raises(ShapeError, match="divisible by num_groups=2"):
        F.group_norm(distgrad.zeros(2, 3), 2)


def test_dropout_keeps_the_mean_and_the_seed() -> None:
    x = distgrad.ones(200, 200)
    distgrad.manual_seed(3)
    first = F.dropout(x, 0.3)
    distgrad.manual_seed(3)
    assert F.dropout(x, 0.3).equal(first)
    assert abs(first.mean().item() - 1) < 0.02
    assert abs((first == 0).float().mean().item() - 0.3) < 0.01


def test_dropout_in_place_and_its_error() -> None:
    x = distgrad.ones(10)
    assert F.dropout(x, 1.0, inplace=True) is x and not x.any()
    with pytest.raises(ValueError, match=r"between 0 and 1, but got 1\.5"):
        F.dropout(x, 1.5)


def _embedding_gradient(**options: Any) -> Any:
    weight = distgrad.ones(4, 2, requires_grad=True)
    F.embedding(distgrad.tensor([1, 1, 2, 3]), weight, **options).sum().backward()
    assert weight.grad is not None
    return weight.grad[:, 0].tolist()


def test_embedding_gradients() -> None:
    assert _embedding_gradient() == [0.0, 2.0, 1.0, 1.0]
    assert _embedding_gradient(padding_idx=-1) == [0.0, 2.0, 1.0, 0.0]
    assert _embedding_gradient(scale_grad_by_freq=True) == [0.0, 1.0, 1.0, 1.0]


def test_frequent_and_rare_rows_are_summed_alike() -> None:
    """The kernel takes another way for indices that occur often."""
    rng = np.random.default_rng(0)
    indices = np.concatenate((np.full(50, 3), rng.integers(0, 10, 40), [7]))
    rows = rng.standard_normal((indices.size, 5))
    expected = np.zeros((12, 5))
    np.add.at(expected, indices, rows)
    result = distgrad.backend.CPU.kernels.loss.sum_rows(rows, indices, 12)
    np.testing.assert_allclose(result, expected, atol=1e-12)


def test_embedding_shortens_the_rows_that_are_used() -> None:
    weight = distgrad.tensor([[3.0, 4.0], [3.0, 4.0], [0.3, 0.4]])
    result = F.embedding(distgrad.tensor([0, 2]), weight, max_norm=1.0)
    np.testing.assert_allclose(result.numpy(), [[0.6, 0.8], [0.3, 0.4]], rtol=1e-5)
    np.testing.assert_allclose(weight.numpy()[1], [3, 4])


def test_embedding_errors() -> None:
    weight = distgrad.zeros(4, 2)
    with pytest.raises(IndexError, match=r"expected indices in \[0, 3\], got 0 to 4"):
        F.embedding(distgrad.tensor([0, 4]), weight)
    with pytest.raises(DTypeError, match="integer dtype"):
        F.embedding(distgrad.tensor([0.0]), weight)
    with pytest.raises(IndexError, match="padding_idx"):
        F.embedding(distgrad.tensor([0]), weight, padding_idx=4)
