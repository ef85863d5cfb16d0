"""backward() and grad(): what is accumulated where, what is kept, and what is an error."""

import threading

import pytest

import distgrad as dg
from distgrad.autograd import grad


def leaf(*values: float) -> dg.Tensor:
    return dg.tensor(list(values), requires_grad=True)


def listed(*tensors: dg.Tensor | None) -> list[list[float] | None]:
    return [None if t is None else t.detach().tolist() for t in tensors]


# ---- accumulation ----------------------------------------------------------------------------------------------------


def test_gradients_accumulate_over_calls() -> None:
    x = leaf(1.0, 2.0)
    (x * x).sum().backward()
    (x * x).sum().backward()
    assert x.grad.tolist() == [4.0, 8.0]


def test_a_tensor_used_twice_gets_the_sum() -> None:
    x = leaf(1.0, 2.0)
    (x * 2 + x * 3 + x).sum().backward()
    assert x.grad.tolist() == [6.0, 6.0]


def test_only_leaves_have_grad() -> None:
    x = leaf(1.0)
    y = x * 2
    y.sum().backward()
    assert y.retains_grad is False
    assert x.grad.tolist() == [2.0]


def test_retain_grad() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    y.retain_grad()
    (y * y).sum().backward()
    assert y.retains_grad
    assert listed(y.grad, x.grad) == [[4.0, 8.0], [8.0, 16.0]]


def test_a_gradient_is_the_leafs_own() -> None:
    x, y, g = leaf(1.0, 2.0), leaf(3.0, 4.0), dg.ones(2)
    (x + y).backward(g)
    x.grad.mul_(5)
    assert listed(x.grad, y.grad, g) == [[5.0, 5.0], [1.0, 1.0], [1.0, 1.0]]


def test_a_gradient_with_a_graph_is_the_leafs_own() -> None:
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (x + y).sum().backward(create_graph=True)
    with dg.no_grad():
        x.grad.mul_(5)
    assert listed(x.grad, y.grad) == [[5.0, 5.0], [1.0, 1.0]]


def test_a_leaf_is_an_output() -> None:
    x = leaf(1.0, 2.0)
    x.backward(dg.tensor([3.0, 4.0]))
    assert x.grad.tolist() == [3.0, 4.0]


def test_several_outputs() -> None:
    x = leaf(1.0, 2.0)
    dg.autograd.backward([x * 2, (x * x).sum()], [dg.tensor([1.0, 10.0]), None])
    assert x.grad.tolist() == [4.0, 24.0]


def test_broadcasting_is_undone() -> None:
    x, y = dg.ones(2, 1, requires_grad=True), dg.ones(3, requires_grad=True)
    (x * y).sum().backward()
    assert listed(x.grad, y.grad) == [[[3.0], [3.0]], [2.0, 2.0, 2.0]]


def test_backward_into_some_inputs() -> None:
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (x * w).sum().backward(inputs=[x])
    assert listed(x.grad, w.grad) == [[3.0, 4.0], None]


def test_backward_into_an_intermediate() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    y.retain_grad()
    (y * y).sum().backward(inputs=[y])
    assert x.grad is None


# ---- what is kept ----------------------------------------------------------------------------------------------------


def test_a_second_backward_needs_retain_graph() -> None:
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_retain_graph() -> None:
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [4.0, 8.0]


def test_a_graph_that_saved_nothing_can_run_again() -> None:
    x = leaf(1.0, 2.0)
    y = (x + x).sum()
    y.backward()
    y.backward()
    assert x.grad.tolist() == [4.0, 4.0]


# ---- higher derivatives ----------------------------------------------------------------------------------------------


def test_second_derivative() -> None:
    x = leaf(1.0, 2.0)
    (g,) = grad((x**3).sum(), x, create_graph=True)
    (g * g).sum().backward()  # d/dx (3 x^2)^2 = 36 x^3
    assert x.grad.tolist() == [36.0, 288.0]


def test_third_derivative() -> None:
    x = leaf(2.0)
    y = (x**4).sum()
    for _ in range(3):
        (y,) = grad(y.sum(), x, create_graph=True)
    assert y.tolist() == [48.0]


def test_backward_with_create_graph() -> None:
    x = leaf(1.0, 2.0)
    (x**3).sum().backward(create_graph=True)
    first = x.grad
    x.grad = None
    first.sum().backward()
    assert x.grad.tolist() == [6.0, 12.0]


# ---- grad() ----------------------------------------------------------------------------------------------------------


def test_grad_touches_no_grad_attribute() -> None:
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    assert listed(*grad((x * w).sum(), [x, w])) == [[3.0, 4.0], [1.0, 2.0]]
    assert x.grad is None and w.grad is None


def test_grad_of_intermediates() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    assert listed(*grad((y * y).sum(), [y, x])) == [[4.0, 8.0], [8.0, 16.0]]


def test_grad_of_one_of_several_outputs_of_a_node() -> None:
    x = dg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    a, b = x.unbind(0)
    assert listed(*grad((a * b).sum(), [a, b])) == [[3.0, 4.0], [1.0, 2.0]]


def test_grad_of_several_outputs() -> None:
    x = leaf(1.0, 2.0)
    assert listed(*grad([x * 2, x * 3], [x], [dg.ones(2), dg.tensor([2.0, 3.0])])) == [[8.0, 11.0]]


def test_an_unused_input() -> None:
    x, z = leaf(1.0), leaf(1.0)
    with pytest.raises(RuntimeError, match="not have been used"):
        grad(x.sum(), [x, z])
    assert listed(*grad(x.sum(), [x, z], allow_unused=True)) == [[1.0], None]
    assert listed(*grad(x.sum(), [x, z], materialize_grads=True)) == [[1.0], [0.0]]


def test_grad_stops_where_it_was_asked_to() -> None:
    x = leaf(1.0)
    y = x * 2
    y.register_hook(lambda g: g * 1)
    z = y * 3
    calls: list[int] = []
    x.register_hook(lambda g: calls.append(1))
    grad(z, y)
    assert calls == []


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_only_a_scalar_has_an_implicit_gradient() -> None:
    with pytest.raises(RuntimeError, match="implicitly created only for scalar outputs"):
        (leaf(1.0, 2.0) * 2).backward()


def test_nothing_requires_grad() -> None:
    with pytest.raises(RuntimeError, match="does not require grad"):
        dg.ones(2).sum().backward()
    with pytest.raises(RuntimeError, match="does not require grad"):
        grad(leaf(1.0).sum(), dg.ones(1))


def test_a_gradient_of_another_shape() -> None:
    with pytest.raises(RuntimeError, match=r"shape"):
        (leaf(1.0, 2.0) * 2).backward(dg.ones(3))


def test_integers_cannot_require_grad() -> None:
    with pytest.raises(RuntimeError, match="floating"):
        dg.tensor([1]).requires_grad_()
    with pytest.raises(RuntimeError, match="floating"):
        dg.tensor([1], requires_grad=True)


def test_only_leaves_change_requires_grad() -> None:
    with pytest.raises(RuntimeError, match="leaf"):
        (leaf(1.0) * 1).requires_grad_(False)


def test_an_assigned_gradient_must_fit() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError):
        x.grad = dg.ones(3)
    with pytest.raises(RuntimeError):
        x.grad = dg.ones(2, dtype=dg.float64)
    with pytest.raises(TypeError):
        x.grad = 1.0
    x.grad = dg.tensor([1.0, 2.0])
    (x * 1).sum().backward()
    assert x.grad.tolist() == [2.0, 3.0]


# ---- detach, modes, threads, size ------------------------------------------------------------------------------------


def test_detach_cuts_the_graph() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    (y.detach() * x).sum().backward()
    assert x.grad.tolist() == [2.0, 4.0]
    y.detach_()
    assert y.is_leaf and not y.requires_grad


def test_a_chain_of_100000_operations() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = y + 1
    y.backward()
    assert x.grad.tolist() == [1.0]
    del y  # freeing it must not recurse either


def test_a_wide_graph() -> None:
    x = leaf(1.0)
    total = sum((x * float(i) for i in range(1, 500)), dg.zeros(1))
    total.backward()
    assert x.grad.tolist() == [124750.0]


def test_threads_have_their_own_passes() -> None:
    results: list[list[float]] = []
    lock = threading.Lock()

    def work(seed: int) -> None:
        x = leaf(float(seed), 2.0)
        for _ in range(50):
            x.grad = None
            (x * x * x).sum().backward()
        with lock:
            results.append(x.grad.tolist())

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [[3.0, 12.0], [12.0, 12.0], [27.0, 12.0], [48.0, 12.0]]


def test_a_backward_inside_a_backward() -> None:
    x = leaf(2.0)
    inner: list[float] = []

    def hook(g: dg.Tensor) -> None:
        with dg.enable_grad():
            y = leaf(3.0)
            (y * y).sum().backward()
            inner.append(y.grad.item())

    (x * x).register_hook(hook)
    z = x * x
    z.register_hook(hook)
    z.sum().backward()
    assert inner == [6.0]
    assert x.grad.tolist() == [4.0]
