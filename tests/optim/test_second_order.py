"""L-BFGS, its line search, and the two optimizers that see matrices."""

from typing import Any

import numpy as np
import pytest

import distgrad
from distgrad.optim import LBFGS, Adafactor, Muon
from distgrad.optim._line_search import Point, cubic_minimum, strong_wolfe
from distgrad.optim._matrix import orthogonalized


def rosenbrock(x: Any) -> Any:
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def closure_of(optimizer: Any, loss_of: Any) -> Any:
    def closure() -> Any:
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        return loss

    return closure


def test_lbfgs_finds_the_minimum_of_rosenbrocks_function() -> None:
    x = distgrad.Parameter(distgrad.tensor([-1.2, 1.0, 0.5], dtype=distgrad.float64))
    optimizer = LBFGS([x], max_iter=100, line_search_fn="strong_wolfe")
    calls = []
    closure = closure_of(optimizer, lambda: (calls.append(1), rosenbrock(x))[1])
    optimizer.step(closure)
    np.testing.assert_allclose(x.detach().numpy(), 1, atol=1e-5)
    assert len(calls) < 100
    assert optimizer.state[x]["func_evals"] == len(calls)


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_lbfgs_solves_a_quadratic_in_few_steps(search: str | None) -> None:
    """Two parameters, one of them without gradient in this loss."""
    rng = np.random.default_rng(0)
    factor = rng.standard_normal((6, 4))
    target = rng.standard_normal(6)
    w = distgrad.Parameter(distgrad.tensor(rng.standard_normal(4)))
    idle = distgrad.Parameter(distgrad.ones(2, dtype=distgrad.float64))
    a, b = distgrad.tensor(factor), distgrad.tensor(target)
    optimizer = LBFGS([w, idle], lr=1 if search else 0.1, max_iter=200, line_search_fn=search)
    closure = closure_of(optimizer, lambda: ((a @ w - b) ** 2).sum())
    for _ in range(3):
        optimizer.step(closure)
    np.testing.assert_allclose(w.detach().numpy(), np.linalg.lstsq(factor, target, rcond=None)[0], atol=1e-4)
    np.testing.assert_array_equal(idle.detach().numpy(), 1)


def test_lbfgs_forgets_beyond_its_history() -> None:
    x = distgrad.Parameter(distgrad.tensor([-1.2, 1.0], dtype=distgrad.float64))
    optimizer = LBFGS([x], history_size=2, max_iter=10, line_search_fn="strong_wolfe")
    optimizer.step(closure_of(optimizer, lambda: rosenbrock(x)))
    assert len(optimizer.state[x]["old_dirs"]) == 2


def test_lbfgs_errors() -> None:
    p, q = (distgrad.Parameter(distgrad.ones(2)) for _ in range(2))
    with pytest.raises(ValueError, match="doesn't support per-parameter options"):
        LBFGS([{"params": [p]}, {"params": [q]}])
    with pytest.raises(TypeError, match="expected a closure"):
        LBFGS([p]).step()
    with pytest.raises(RuntimeError, match="only 'strong_wolfe' is supported"):
        LBFGS([p], line_search_fn="armijo")


# ---- line search ----
def polynomial(coefficients: Any, x: float) -> Point:
    p = np.polynomial.Polynomial(coefficients)
    return Point(x, float(p(x)), np.array([float(p.deriv()(x))]), float(p.deriv()(x)))


def test_cubic_minimum() -> None:
    """x^3 - 3x has its minimum at 1; a line has none, and gives the middle."""
    a, b = polynomial([0, -3, 0, 1], 0.0), polynomial([0, -3, 0, 1], 1.5)
    assert cubic_minimum(a, b, 0.0, 1.5) == pytest.approx(1)
    assert cubic_minimum(b, a, 0.0, 1.5) == pytest.approx(1)
    assert cubic_minimum(a, b, 1.2, 1.5) == 1.2
    assert cubic_minimum(polynomial([0, 1], 0.0), polynomial([0, 1], 1.0), 0.0, 1.0) == 0.5


@pytest.mark.parametrize("length", [1e-3, 0.3, 1.0, 50.0])
@pytest.mark.parametrize("coefficients", [[0, -1, 0.5], [0, -2, 1, 0.3, 0.1], [3, -1, 0, 0, 0.25]])
def test_strong_wolfe_conditions_hold(coefficients: Any, length: float) -> None:
    start = polynomial(coefficients, 0.0)
    found, calls = strong_wolfe(lambda x: polynomial(coefficients, x), length, np.ones(1), start, start.slope, 1e-9, 25)
    assert found.loss <= start.loss + 1e-4 * found.at * start.slope
    assert abs(found.slope) <= 0.9 * abs(start.slope)
    assert 1 <= calls <= 26


def test_line_search_ends_within_its_budget() -> None:
    """Along a line that falls for ever there is nothing to find."""
    start = polynomial([0, -1], 0.0)
    found, calls = strong_wolfe(lambda x: polynomial([0, -1], x), 1.0, np.ones(1), start, -1.0, 1e-9, 4)
    assert calls == 5 and found.loss < start.loss


# ---- matrices ----
def test_orthogonalized_keeps_singular_vectors() -> None:
    for shape in ((4, 6), (6, 4)):
        matrix = np.random.default_rng(0).standard_normal(shape)
        u, _, v = np.linalg.svd(matrix, full_matrices=False)
        result = orthogonalized(matrix, (3.4445, -4.775, 2.0315), 8, 1e-7)
        middle = u.T @ result @ v.T
        np.testing.assert_allclose(middle - np.diag(np.diag(middle)), 0, atol=1e-10)
        assert np.diag(middle).min() > 0.6 and np.diag(middle).max() < 1.3


def test_muon_step() -> None:
    rng = np.random.default_rng(0)
    start, grad = rng.standard_normal((2, 6, 3))
    p = distgrad.Parameter(distgrad.tensor(start))
    p.grad = distgrad.tensor(grad)
    Muon([p], lr=0.1, weight_decay=0.2, momentum=0.5).step()
    direction = orthogonalized(grad * 0.75, (3.4445, -4.775, 2.0315), 5, 1e-7)
    np.testing.assert_allclose(p.detach().numpy(), start * (1 - 0.02) - 0.1 * np.sqrt(2) * direction)


def test_adafactor_step_of_a_vector_and_of_a_matrix() -> None:
    """The first step of a vector is along the signs; of a matrix of rank one in squares, too."""
    signs = np.array([[1.0, -1.0, 1.0], [-1.0, -1.0, 1.0]])
    magnitudes = np.outer([1.0, 2.0], [3.0, 1.0, 0.5])
    start = np.full((2, 3), 2.0)
    for shape in ((6,), (2, 3)):
        p = distgrad.Parameter(distgrad.tensor(start.reshape(shape).copy()))
        p.grad = distgrad.tensor((signs * magnitudes).reshape(shape))
        Adafactor([p], lr=0.01).step()
        np.testing.assert_allclose(p.detach().numpy(), (start - 0.02 * signs).reshape(shape))


def test_adafactor_refuses_complex() -> None:
    p = distgrad.Parameter(distgrad.tensor([1j]))
    p.grad = distgrad.tensor([1j])
    with pytest.raises(RuntimeError, match="does not support complex"):
        Adafactor([p]).step()
