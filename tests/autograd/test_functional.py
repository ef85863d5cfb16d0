"""Jacobians, Hessians and products with them, against closed forms."""

import numpy as np
import pytest

import distgrad as dg
from distgrad.autograd import functional as F


def x() -> dg.Tensor:
    return dg.tensor([1.0, 2.0, 3.0], dtype=dg.float64)


M = np.array([[1.0, 2.0, 3.0], [0.0, 1.0, -1.0]])


def linear(v: dg.Tensor) -> dg.Tensor:
    return dg.tensor(M).matmul(v)


def close(value: dg.Tensor, expected: object) -> None:
    np.testing.assert_allclose(value.detach().numpy(), expected, rtol=1e-12)


def test_jacobian() -> None:
    close(F.jacobian(linear, x()), M)
    close(F.jacobian(lambda v: v.exp(), x()), np.diag(np.exp([1, 2, 3])))
    assert F.jacobian(lambda v: v.reshape(3, 1) * v, x()).shape == (3, 3, 3)


def test_jacobian_of_several() -> None:
    a, b = x(), dg.tensor([2.0, 2.0, 2.0], dtype=dg.float64)
    result = F.jacobian(lambda p, q: (p * q, q.sum()), (a, b))
    close(result[0][0], np.diag([2, 2, 2]))
    close(result[0][1], np.diag([1, 2, 3]))
    close(result[1][0], [0, 0, 0])
    close(result[1][1], [1, 1, 1])


def test_products() -> None:
    value, product = F.vjp(linear, x(), dg.tensor([1.0, 2.0], dtype=dg.float64))
    close(value, M @ [1, 2, 3])
    close(product, [1.0, 2.0] @ M)
    value, product = F.jvp(linear, x(), dg.tensor([1.0, 0.0, 2.0], dtype=dg.float64))
    close(product, M @ [1.0, 0.0, 2.0])
    assert not value.requires_grad and not product.requires_grad


def test_jvp_of_a_curved_function() -> None:
    v = dg.tensor([1.0, 10.0, 100.0], dtype=dg.float64)
    close(F.jvp(lambda t: t**3, x(), v)[1], [3.0, 120.0, 2700.0])


def test_hessian() -> None:
    close(F.hessian(lambda v: (v**3).sum(), x()), np.diag([6, 12, 18]))
    result = F.hessian(lambda a, b: (a * b).sum(), (x(), x()))
    close(result[0][0], np.zeros((3, 3)))
    close(result[0][1], np.eye(3))


def test_hessian_products() -> None:
    v = dg.tensor([1.0, 10.0, 100.0], dtype=dg.float64)
    for product in (F.hvp, F.vhp):
        value, result = product(lambda t: (t**3).sum(), x(), v)
        close(value, 36)
        close(result, [6.0, 120.0, 1800.0])


def test_results_can_be_differentiated() -> None:
    t = x().requires_grad_()
    F.jacobian(lambda v: v**3, t, create_graph=True).sum().backward()  # sum of 3 v^2
    close(t.grad, [6, 12, 18])
    t.grad = None
    F.jvp(lambda v: v**3, t, dg.ones(3, dtype=dg.float64), create_graph=True)[1].sum().backward()
    close(t.grad, [6, 12, 18])


def test_strict() -> None:
    constant = lambda v: dg.ones(2, dtype=dg.float64)  # noqa: E731
    close(F.jacobian(constant, x()), np.zeros((2, 3)))
    with pytest.raises(RuntimeError, match="depend"):
        F.jacobian(constant, x(), strict=True)


def test_a_hessian_is_of_one_number() -> None:
    with pytest.raises(RuntimeError, match="element"):
        F.hessian(lambda v: v, x())
