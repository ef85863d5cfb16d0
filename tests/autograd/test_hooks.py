"""Hooks on tensors, on nodes, and after accumulation; the end-of-backward callback."""

import pytest

import distgrad as dg
from distgrad.autograd import grad


def leaf(*values: float) -> dg.Tensor:
    return dg.tensor(list(values), requires_grad=True)


def test_a_hook_replaces_the_gradient() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    y.register_hook(lambda g: g * 10)
    x.register_hook(lambda g: g + 1)
    y.sum().backward()
    assert x.grad.tolist() == [21.0, 21.0]


def test_hooks_run_in_order_and_once_for_each_pass() -> None:
    x = leaf(1.0)
    order: list[int] = []
    x.register_hook(lambda g: order.append(1))
    x.register_hook(lambda g: order.append(2))
    (x * 2 + x * 3).backward()
    assert order == [1, 2]


def test_a_removed_hook_does_not_run() -> None:
    x = leaf(1.0)
    handle = x.register_hook(lambda g: g * 100)
    handle.remove()
    handle.remove()
    (x * 2).backward()
    assert x.grad.tolist() == [2.0]


def test_hooks_run_in_grad() -> None:
    x = leaf(1.0)
    y = x * 2
    y.register_hook(lambda g: g * 10)
    assert grad(y * 3, x)[0].tolist() == [60.0]
    assert grad(y * 3, y)[0].tolist() == [30.0]


def test_a_hook_under_create_graph_is_recorded() -> None:
    x = leaf(3.0)
    x.register_hook(lambda g: g * g)
    (g,) = grad(x * x, x, create_graph=True)  # (2 x)^2
    g.backward()  # its own gradient, 8 x = 24, passes the hook, too
    assert x.grad.tolist() == [576.0]


def test_a_hook_must_keep_the_shape() -> None:
    x = leaf(1.0, 2.0)
    x.register_hook(lambda g: dg.ones(3))
    with pytest.raises(RuntimeError, match=r"shape|size"):
        (x * 1).sum().backward()


def test_a_hook_must_return_a_tensor() -> None:
    x = leaf(1.0)
    x.register_hook(lambda g: 1.0)
    with pytest.raises((RuntimeError, TypeError)):
        (x * 1).backward()


def test_hooks_need_a_gradient() -> None:
    with pytest.raises(RuntimeError, match="doesn't require grad"):
        dg.ones(1).register_hook(lambda g: None)


def test_post_accumulate() -> None:
    x = leaf(1.0, 2.0)
    seen: list[list[float]] = []

    def step(p: dg.Tensor) -> None:
        seen.append(p.grad.tolist())
        p.grad = None

    x.register_post_accumulate_grad_hook(step)
    (x * 2 + x).sum().backward()
    (x * 5).sum().backward(inputs=[x])
    grad((x * 7).sum(), x)
    assert seen == [[3.0, 3.0], [5.0, 5.0]]
    assert x.grad is None


def test_post_accumulate_is_for_leaves() -> None:
    with pytest.raises(RuntimeError, match="leaf"):
        (leaf(1.0) * 1).register_post_accumulate_grad_hook(lambda p: None)


def test_node_hooks() -> None:
    x = leaf(1.0, 2.0)
    y = x * 3
    seen: list[tuple[list[float], list[float]]] = []

    def after(inputs, outputs):
        seen.append((inputs[0].tolist(), outputs[0].tolist()))
        return (inputs[0] * 10, *inputs[1:])

    y.grad_fn.register_hook(after)
    y.grad_fn.register_prehook(lambda outputs: (outputs[0] * 2,))
    y.sum().backward()
    assert seen == [([6.0, 6.0], [2.0, 2.0])]
    assert x.grad.tolist() == [60.0, 60.0]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_node_hook_that_returns_the_wrong_number_of_gradients(count: int) -> None:
    y = leaf(1.0) * leaf(2.0)
    y.grad_fn.register_hook(lambda inputs, outputs: (dg.ones(1),) * count)
    with pytest.raises(RuntimeError, match=f"MulBackward0 .* expected 2, got {count}"):
        y.backward()


def test_next_functions_lead_to_the_leaves() -> None:
    x = leaf(1.0)
    y = (x * 2) + 1
    assert y.grad_fn.name() == "AddBackward0"
    node, number = y.grad_fn.next_functions[0]
    assert (node.name(), number) == ("MulBackward0", 0)
    end, _ = node.next_functions[0]
    assert end.variable is x
    assert y.grad_fn.metadata == {}
