"""Sparse gradients of embeddings: what they are, and the optimizers that take them."""

from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad import Tensor, nn, optim
from distgrad.autograd._sparse import SparseTensor

INDICES = [[1, 4, 1], [0, 4, 4]]


def table(sparse: bool, **options: Any) -> nn.Embedding:
    values = np.random.default_rng(0).standard_normal((6, 3))
    return nn.Embedding(6, 3, sparse=sparse, _weight=dg.tensor(values), **options)


def loss(layer: Any, indices: Any = INDICES) -> Tensor:
    y = layer(dg.tensor(indices))
    return (y * y).sum() + (y[0] * 3).sum()


def dense_of(grad: Any) -> Any:
    return (grad.to_dense() if grad.is_sparse else grad).numpy()


def test_a_sparse_gradient() -> None:
    layer, dense = table(True), table(False)
    for one in (layer, dense):
        loss(one).backward()
    grad = layer.weight.grad
    assert grad.is_sparse and not dense.weight.grad.is_sparse and isinstance(grad, SparseTensor)
    assert grad.indices().tolist() == [[1, 4, 1, 0, 4, 4]] and grad.values().shape == (6, 3)
    assert tuple(grad.shape) == (6, 3) and not grad.is_coalesced()
    np.testing.assert_allclose(dense_of(grad), dense_of(dense.weight.grad))
    once = grad.coalesce()
    assert once.is_coalesced() and once.indices().tolist() == [[0, 1, 4]]
    np.testing.assert_allclose(dense_of(once), dense_of(grad))
    assert repr(once) == "SparseTensor(shape=[6, 3], rows=3, dtype=float64)"


def test_gradients_add_up() -> None:
    layer, dense = table(True), table(False)
    for one in (layer, dense):
        loss(one).backward()
        (loss(one, [[2, 1]]) + loss(one, [[5, 1]])).backward()
    assert layer.weight.grad.is_sparse
    np.testing.assert_allclose(dense_of(layer.weight.grad), dense_of(dense.weight.grad))
    for one in (layer, dense):
        (one.weight * one.weight).sum().backward()  # a dense one joins: the sum is dense
        loss(one).backward()
    assert not layer.weight.grad.is_sparse
    np.testing.assert_allclose(dense_of(layer.weight.grad), dense_of(dense.weight.grad))
    for one in (layer, dense):
        one.zero_grad()
        (loss(one) + one.weight.sum()).backward()
    np.testing.assert_allclose(dense_of(layer.weight.grad), dense_of(dense.weight.grad))


def test_padding_bags_hooks_and_other_ways() -> None:
    layer, dense = table(True, padding_idx=4), table(False, padding_idx=4)
    for one in (layer, dense):
        loss(one).backward()
    assert 4 not in layer.weight.grad.indices().tolist()[0]
    np.testing.assert_allclose(dense_of(layer.weight.grad), dense_of(dense.weight.grad))
    for mode in ("sum", "mean"):
        bags = [
            nn.EmbeddingBag(6, 3, mode=mode, sparse=s, _weight=table(s).weight.detach().clone()) for s in (True, False)
        ]
        for bag in bags:
            loss(bag).backward()
        assert bags[0].weight.grad.is_sparse
        np.testing.assert_allclose(dense_of(bags[0].weight.grad), dense_of(bags[1].weight.grad))
    layer = table(True)
    seen: list[Any] = []
    layer.weight.register_hook(lambda g: seen.append(g.is_sparse))
    (g,) = dg.autograd.grad(loss(layer), [layer.weight])
    assert seen == [True] and not g.is_sparse and layer.weight.grad is None
    loss(layer).backward(create_graph=True)
    assert not layer.weight.grad.is_sparse
    y = nn.functional.embedding(dg.tensor(INDICES), layer.weight * 2.0, sparse=True)  # the table is no leaf
    layer.zero_grad()
    y.sum().backward()
    assert not layer.weight.grad.is_sparse and layer.weight.grad.numpy()[4].tolist() == [6.0] * 3
    with pytest.raises(ValueError, match="scale_grad_by_freq=True is not supported with sparse=True"):
        loss(table(True, scale_grad_by_freq=True))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (optim.SGD, {"lr": 0.1}),
        (optim.SGD, {"lr": 0.1, "maximize": True}),
        (optim.Adagrad, {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.2}),
    ],
)
def test_optimizers_as_on_dense_gradients(kind: Any, options: dict[str, Any]) -> None:
    layers = [nn.Sequential(table(s), nn.Linear(3, 2, dtype=dg.float64)) for s in (True, False)]
    layers[1].load_state_dict(layers[0].state_dict())
    optimizers = [kind(layer.parameters(), **options) for layer in layers]
    for indices in (INDICES, [[2, 2]], [[5, 1]], INDICES):
        for layer, optimizer in zip(layers, optimizers, strict=True):
            optimizer.zero_grad()
            loss(layer, indices).backward()
            optimizer.step()
    for p, q in zip(layers[0].parameters(), layers[1].parameters(), strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-12)
    state = [optimizer.state_dict()["state"] for optimizer in optimizers]
    assert [sorted(entry) for entry in state[0].values()] == [sorted(entry) for entry in state[1].values()]


def test_sparse_adam() -> None:
    """As Adam on each row alone, at the steps in which it has a gradient; the count of steps is that of all."""
    layer = table(True)
    p = layer.weight.detach().numpy().copy()
    m, v = np.zeros_like(p), np.zeros_like(p)
    optimizer = optim.SparseAdam(layer.parameters(), lr=0.1, betas=(0.8, 0.9))
    for t, indices in enumerate((INDICES, [[2, 2]], [[5, 1]], INDICES), 1):
        optimizer.zero_grad()
        loss(layer, indices).backward()
        g = dense_of(layer.weight.grad)
        for row in set(np.ravel(indices)):
            m[row] = 0.8 * m[row] + 0.2 * g[row]
            v[row] = 0.9 * v[row] + 0.1 * g[row] ** 2
            p[row] -= 0.1 * (1 - 0.9**t) ** 0.5 / (1 - 0.8**t) * m[row] / (v[row] ** 0.5 + 1e-8)
        optimizer.step()
        np.testing.assert_allclose(layer.weight.detach().numpy(), p, rtol=1e-12)
    other = optim.SparseAdam(layer.parameters())
    other.load_state_dict(optimizer.state_dict())
    assert float(other.state[layer.weight]["step"]) == 4


def test_zero_grad_of_a_sparse_gradient() -> None:
    layer = table(True)
    optimizer = optim.SGD(layer.parameters(), lr=0.1)
    loss(layer).backward()
    optimizer.zero_grad(set_to_none=False)
    assert layer.weight.grad is None


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (optim.Adam, {}, "Adam does not support sparse gradients, please consider SparseAdam"),
        (optim.SGD, {"momentum": 0.9}, "momentum and weight_decay are not compatible with sparse gradients"),
        (optim.Adagrad, {"weight_decay": 0.1}, "weight_decay option is not compatible with sparse gradients"),
        (optim.Adafactor, {}, "expected a dense tensor, got a sparse gradient of shape \\[6, 3\\]; call to_dense"),
    ],
)
def test_what_optimizers_refuse(kind: Any, options: dict[str, Any], message: str) -> None:
    layer = table(True)
    loss(layer).backward()
    with pytest.raises(RuntimeError, match=message):
        kind(layer.parameters(), **options).step()


def test_sparse_adam_refuses_dense_gradients() -> None:
    layer = table(False)
    loss(layer).backward()
    with pytest.raises(RuntimeError, match="SparseAdam does not support dense gradients, please consider Adam"):
        optim.SparseAdam(layer.parameters()).step()


def test_rows_that_are_not_used_cost_nothing() -> None:
    layer = nn.Embedding(100_000, 4, sparse=True)
    layer(dg.tensor([3, 7])).sum().backward()
    optim.SGD(layer.parameters(), lr=0.1).step()
    assert layer.weight.grad.values().shape == (2, 4)
    assert layer.weight._extra is None  # no memory for a dense gradient was made
