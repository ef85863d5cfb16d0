"""In-place operations and views in the graph: gradients as torch has them, errors where one would be wrong."""

import pytest

import distgrad as dg


def leaf(*values: float) -> dg.Tensor:
    return dg.tensor(list(values), requires_grad=True)


# ---- a tensor and itself ---------------------------------------------------------------------------------------------


def test_an_operation_that_needs_its_input() -> None:
    x = leaf(0.0, 1.0)
    y = x * 1
    y.sin_()
    y.sum().backward()
    assert x.grad.tolist() == pytest.approx([1.0, 0.5403023])


def test_a_composed_operation_that_needs_its_input() -> None:
    x = leaf(2.0, 4.0)
    y = x * 1
    y.log2_()
    y.sum().backward()
    assert x.grad.tolist() == pytest.approx([0.7213475, 0.3606738])


def test_an_operation_of_numbers() -> None:
    x = leaf(1.0, 2.0)
    y = x * 1
    y.add_(3).mul_(2).pow_(2)  # 4 (x + 3)^2
    y.sum().backward()
    assert x.grad.tolist() == [32.0, 40.0]


def test_both_factors_get_gradients() -> None:
    x, w = leaf(1.0, 2.0, 3.0), leaf(2.0, 2.0)
    y = x * 1
    y[1:].mul_(w)
    y.sum().backward()
    assert x.grad.tolist() == [1.0, 2.0, 2.0]
    assert w.grad.tolist() == [2.0, 3.0]


def test_augmented_assignment() -> None:
    x = leaf(1.0, 2.0)
    b = dg.ones(2) * 1
    before = b
    b += x
    b *= x  # (1 + x) x
    b.sum().backward()
    assert b is before
    assert x.grad.tolist() == [3.0, 5.0]


def test_a_saved_tensor_that_is_modified_is_an_error() -> None:
    x = leaf(0.5, 1.0)
    a = x * 2
    b = a * a
    a.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        b.sum().backward()


def test_a_saved_leaf_modified_under_no_grad_is_an_error() -> None:
    x = leaf(1.0, 2.0)
    y = x * x
    with dg.no_grad():
        x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_a_saved_output_that_is_modified_is_an_error() -> None:
    x = leaf(0.5, 1.0)
    y = x.exp()
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_a_write_through_a_view_or_detach_is_noticed() -> None:
    for write in (lambda t: t[:1].add_(1), lambda t: t.detach().add_(1), lambda t: t.view(2, 1).mul_(2)):
        x = leaf(1.0, 2.0)
        a = x * 1
        y = a * a
        with dg.no_grad():
            write(a)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


def test_a_write_to_data_is_not_noticed() -> None:
    x = leaf(1.0, 2.0)
    y = x * x
    x.data.add_(1)
    y.sum().backward()
    assert x.grad.tolist() == [4.0, 6.0]
    assert x._version == 0


def test_versions_are_shared_by_views_and_detach() -> None:
    x = dg.zeros(4)
    view, cut = x[:2], x.detach()
    view.add_(1)
    cut.add_(1)
    assert x._version == view._version == cut._version == 2
    assert x.tolist() == [2.0, 2.0, 1.0, 1.0]


# ---- leaves ----------------------------------------------------------------------------------------------------------


def test_a_leaf_that_requires_grad_cannot_be_written_to() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        x.add_(1)
    with pytest.raises(RuntimeError, match="a view of a leaf Variable that requires grad"):
        x[:1].add_(1)
    with dg.no_grad():
        x.add_(1)
        x[:1].mul_(10)
    assert x.tolist() == [20.0, 3.0]
    assert x.is_leaf and x.requires_grad


def test_a_plain_tensor_joins_the_graph() -> None:
    x = leaf(1.0, 2.0)
    b = dg.zeros(3)
    b[:2].add_(x)
    (b * b).sum().backward()
    assert b.requires_grad
    assert x.grad.tolist() == [2.0, 4.0]


def test_all_views_of_a_plain_tensor_join_with_it() -> None:
    x = leaf(1.0, 2.0)
    b = dg.zeros(3)
    earlier = b[1:]
    b[:2].add_(x)
    assert earlier.requires_grad
    (earlier * dg.tensor([3.0, 4.0])).sum().backward()
    assert x.grad.tolist() == [0.0, 3.0]


# ---- views -----------------------------------------------------------------------------------------------------------


def test_a_view_writes_to_its_base() -> None:
    x = leaf(1.0, 2.0, 3.0)
    y = x * 2
    y[:2].mul_(5)
    y.sum().backward()
    assert y.tolist() == [10.0, 20.0, 6.0]
    assert x.grad.tolist() == [10.0, 10.0, 2.0]


def test_a_view_follows_its_base() -> None:
    x = leaf(1.0, 2.0, 3.0)
    y = x * 2
    v = y[:2]
    y.mul_(5)
    v.sum().backward()
    assert x.grad.tolist() == [10.0, 10.0, 0.0]


def test_a_view_of_a_transposed_view() -> None:
    x = dg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    y = x * 1
    y.t()[1].mul_(dg.tensor([2.0, 3.0]))
    (y * y).sum().backward()
    assert y.tolist() == [[1.0, 4.0], [3.0, 12.0]]
    assert x.grad.tolist() == [[2.0, 16.0], [6.0, 72.0]]


def test_views_beside_each_other() -> None:
    x = leaf(1.0, 2.0, 3.0, 4.0)
    y = x * 1
    a, b = y[:2], y[2:]
    a.mul_(2)
    b.mul_(3)
    a.mul_(5)
    y.sum().backward()
    assert x.grad.tolist() == [10.0, 10.0, 3.0, 3.0]


def test_views_that_overlap() -> None:
    x = leaf(1.0, 2.0, 3.0, 4.0)
    y = x * 1
    a, b = y[:3], y[1:]
    a.mul_(2)
    b.mul_(3)
    (a * a).sum().backward()
    assert x.grad.tolist() == [8.0, 144.0, 216.0, 0.0]


def test_strided_and_reshaped_views() -> None:
    x = leaf(1.0, 2.0, 3.0, 4.0)
    y = x * 1
    y[::2].mul_(4)
    y.view(2, 2).t()[0].mul_(3)
    y.unsqueeze(0).squeeze(0)[3:].mul_(7)
    y.sum().backward()
    assert x.grad.tolist() == [12.0, 1.0, 12.0, 7.0]


def test_a_diagonal() -> None:
    x = dg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    y = x * 1
    y.diagonal().mul_(3)
    y.sum().backward()
    assert x.grad.tolist() == [[3.0, 1.0], [1.0, 3.0]]


def test_one_element() -> None:
    x = leaf(1.0, 2.0)
    y = x * 1
    y[0].mul_(7)
    y.sum().backward()
    assert x.grad.tolist() == [7.0, 1.0]


def test_a_view_that_was_saved_before_it_was_modified_is_an_error() -> None:
    x = leaf(1.0, 2.0, 3.0)
    y = x * 1
    v = y[:2]
    s = (v * v).sum()
    v.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        s.backward()


def test_a_view_made_under_no_grad() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    with dg.no_grad():
        v = y[:1]
    with pytest.raises(RuntimeError, match="created in no_grad mode"):
        v.mul_(3)


def test_a_plain_view_can_require_grad_itself() -> None:
    b = dg.zeros(3)
    v = b[:2]
    v.requires_grad_()
    (v * 2).sum().backward()
    assert v.grad.tolist() == [2.0, 2.0]
    assert not b.requires_grad


def test_expanded_memory_cannot_be_written_to() -> None:
    with pytest.raises(RuntimeError):
        dg.ones(1).expand(3).add_(1)


# ---- assignment ------------------------------------------------------------------------------------------------------


def test_an_assigned_element() -> None:
    x = leaf(1.0, 2.0, 3.0)
    y = x * 2
    y[1] = x[0] * 10
    (y * y).sum().backward()
    assert x.grad.tolist() == [208.0, 0.0, 24.0]


def test_an_assigned_constant() -> None:
    x = leaf(1.0, 2.0, 3.0)
    y = x * 2
    y[y > 3] = 0
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 0.0, 0.0]


def test_zero_fill_and_copy() -> None:
    x, z = leaf(1.0, 2.0, 3.0), leaf(5.0, 6.0, 7.0)
    y = x * 2
    v = y[1:]
    v.zero_()
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 0.0, 0.0]
    y = x * 2
    y.copy_(z)
    y.sum().backward()
    assert z.grad.tolist() == [1.0, 1.0, 1.0]
    assert x.grad.tolist() == [2.0, 0.0, 0.0]
    y = x * 2
    y.fill_(3)
    assert y.tolist() == [3.0, 3.0, 3.0]


def test_a_broadcast_sum_in_place() -> None:
    x = leaf(1.0, 2.0)
    y = dg.zeros(3, 2)
    y += x
    (y * 2).sum().backward()
    assert x.grad.tolist() == [6.0, 6.0]


# ---- hooks and retained gradients ------------------------------------------------------------------------------------


def test_a_retained_gradient_is_that_of_the_new_values() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    y.retain_grad()
    y.mul_(3)
    y.sum().backward()
    assert y.grad.tolist() == [1.0, 1.0]
    assert x.grad.tolist() == [6.0, 6.0]


def test_a_hook_stays_with_the_values_that_it_was_registered_on() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    seen: list[list[float]] = []
    y.register_hook(lambda g: seen.append(g.tolist()))
    y.mul_(3)
    y.sum().backward()
    assert seen == [[3.0, 3.0]]


# ---- shapes and dtypes -----------------------------------------------------------------------------------------------


def test_a_result_must_fit() -> None:
    with pytest.raises(RuntimeError):
        dg.ones(1).add_(dg.ones(3))
    with pytest.raises(RuntimeError, match="can't be cast"):
        dg.tensor([1, 2]).add_(1.5)
    x = dg.tensor([1.0, 2.0])
    x.add_(dg.tensor([1.0, 2.0], dtype=dg.float64))
    assert x.dtype == dg.float32
    assert x.tolist() == [2.0, 4.0]
