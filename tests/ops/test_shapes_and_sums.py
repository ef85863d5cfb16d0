"""What the registry test cannot see of shapes, reductions, products and sorting: views, precision, limits, errors."""

import numpy as np
import pytest

import distgrad
from distgrad.errors import DTypeError, LinAlgError, ShapeError


def test_views_share_memory_and_copies_do_not():
    x = distgrad.zeros(2, 3, 4)
    views = [
        x.view(6, 4), x.reshape(24), x.permute(2, 0, 1), x.transpose(0, 1), x[:, 1:], x.unsqueeze(1), x.narrow(1, 1,
        2), x.select(0, 1),
        x.expand(5, 2, 3, 4), x.flatten(), x.diagonal(), x.unfold(2, 2, 1), x.split(1)[1], x.chunk(2, 2)[0],
        x.unbind(1)[2], x.mT, x.movedim(0, 2),
        x.as_strided((2, 2), (3, 1)), x.permute(2, 1, 0).permute(2, 1, 0).view(-1),
    ]  # fmt: skip
    assert all(np.shares_memory(v.numpy(), x.numpy()) for v in views)
    copies = [
        x.repeat(1, 1, 1),
        x.flip(0),
        x.roll(1, 0),
        x.clone(),
        x.permute(2, 0, 1).reshape(-1),
        x.tril(),
        distgrad.cat([x, x]),
    ]
    assert not any(np.shares_memory(v.numpy(), x.numpy()) for v in copies)


def test_reshape_knows_when_it_can_be_a_view():
    x = distgrad.zeros(4, 6)
    for t, shape, shared in [
        (x[:, :4], (4, 2, 2), True),
        (x[:, :4], (16,), False),
        (x[::2], (2, 3, 2), True),
        (x.t(), (24,), False),
        (x.t(), (6, 2, 2), True),
        (x.unsqueeze(1).transpose(0, 1), (24,), True),
        (x[:1, :3], (3, 1), True),
        (x[:, :1].expand(4, 3), (12,), False),
    ]:
        y = t.reshape(*shape)
        assert np.shares_memory(y.numpy(), x.numpy()) == shared, (t.shape, t.stride(), shape)
        np.testing.assert_array_equal(y.numpy(), t.numpy().reshape(shape))


def test_view_refuses_what_cannot_be_seen():
    with pytest.raises(ShapeError, match=r"use \.reshape"):
        distgrad.zeros(2, 3).t().view(6)
    with pytest.raises(ShapeError, match="invalid for input of size 6"):
        distgrad.zeros(2, 3).view(4, 2)
    with pytest.raises(ShapeError, match="only one dimension can be inferred"):
        distgrad.zeros(2, 3).reshape(-1, -1)


def test_view_takes_a_dtype():
    x = distgrad.tensor([1.0, -2.0])
    assert x.view(distgrad.int32).tolist() == [1065353216, -1073741824]
    assert tuple(x.view(distgrad.uint8).shape) == (8,)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sums_of_16_bits_accumulate_in_32(dtype):
    x = distgrad.ones(5000, dtype=dtype)
    assert x.sum().item() == pytest.approx(5000, rel=0.01)
    assert x.mean().item() == 1
    assert x.cumsum(0)[-1].item() == pytest.approx(5000, rel=0.01)
    assert x.norm().item() == pytest.approx(5000**0.5, rel=0.01)
    assert (x @ x).item() == pytest.approx(5000, rel=0.01)
    assert x.sum().dtype == x.dtype


def test_integers_have_torchs_result_dtypes():
    x = distgrad.tensor([1, 2], dtype="uint8")
    assert x.sum().dtype == distgrad.int64 and x.prod().dtype == distgrad.int64 and x.cumsum(0).dtype == distgrad.int64
    assert x.all().dtype == distgrad.uint8 and (x > 1).any().dtype == distgrad.bool
    assert x.max().dtype == distgrad.uint8 and x.logsumexp(0).dtype == distgrad.float32
    for function in (distgrad.mean, distgrad.std, distgrad.norm, lambda t: t.softmax(0)):
        with pytest.raises(DTypeError, match="floating-point"):
            function(x)


def test_named_results_have_torchs_fields():
    x = distgrad.tensor([[1.0, 3.0, 2.0]])
    for result in (x.max(1), x.min(dim=1), x.sort(), x.topk(2), x.kthvalue(1), x.median(1), x.mode(), x.cummax(1)):
        assert result._fields == ("values", "indices")
    assert x.aminmax()._fields == ("min", "max")
    values, indices = x.sort(descending=True)
    assert values.tolist() == [[3, 2, 1]] and indices.tolist() == [[1, 2, 0]]


def test_nan_is_the_largest():
    nan = float("nan")
    x = distgrad.tensor([1.0, nan, 0.0])
    assert np.isnan(x.max().item()) and x.argmax().item() == 1 and x.max(0).indices.item() == 1
    assert x.sort().indices.tolist() == [2, 0, 1]
    assert x.sort(descending=True).indices.tolist() == [1, 0, 2]
    assert x.topk(1).indices.tolist() == [1]
    assert np.isnan(x.median().item()) and x.nanmedian().item() == 0


def test_equal_elements_keep_their_order():
    x = distgrad.tensor([1, 0, 1, 0, 1])
    assert x.argsort().tolist() == [1, 3, 0, 2, 4]
    assert x.argsort(descending=True).tolist() == [0, 2, 4, 1, 3]


def test_the_gradient_of_a_tie():
    x = distgrad.tensor([1.0, 2.0, 2.0], requires_grad=True)
    x.max().backward()
    assert x.grad.tolist() == [0, 0.5, 0.5]
    x.grad = None
    x.max(0).values.backward()
    assert x.grad.tolist() == [0, 1, 0]


def test_softmax_is_safe():
    inf = float("inf")
    assert distgrad.tensor([1000.0, 1000.0]).softmax(0).tolist() == [0.5, 0.5]
    assert distgrad.tensor([-inf, 0.0]).softmax(0).tolist() == [0, 1]
    assert np.isnan(distgrad.tensor([-inf, -inf]).softmax(0).numpy()).all()
    assert np.isnan(distgrad.tensor([-inf, -inf]).log_softmax(0).numpy()).all()
    far = distgrad.tensor([[-500.0, -500.0], [-90.0, 85.0]]).softmax(1)
    np.testing.assert_allclose(far.numpy(), [[0.5, 0.5], [0, 1]])
    x = distgrad.tensor([[0.0, -inf, 1.0]], requires_grad=True)
    (x.softmax(1)[0, 2]).backward()
    assert np.isfinite(x.grad.numpy()).all()


@pytest.mark.parametrize("shape", [(3000, 5), (70, 1000), (2, 40000), (5, 7, 300)])
def test_softmax_in_blocks_is_softmax(shape):
    x = np.random.default_rng(0).standard_normal(shape).astype("float32")
    for dim in range(len(shape)):
        power = np.exp(x.astype("float64"))
        expected = power / power.sum(axis=dim, keepdims=True)
        np.testing.assert_allclose(distgrad.tensor(x).softmax(dim).numpy(), expected, rtol=1e-5)
        np.testing.assert_allclose(distgrad.tensor(x).log_softmax(dim).numpy(), np.log(expected), atol=1e-5)


def test_einsum_explains_what_does_not_fit():
    x = distgrad.zeros(2, 3)
    for equation, operands, message in [
        ("ij,jk->ik", (x, x), "does not fit"),
        ("ij", (distgrad.zeros(2, 3, 4),), "2 labels for an operand of 3"),
        ("ij,jk->ik", (x,), "as many operands as terms"),
        ("ij->ik", (x,), "appears in no operand"),
        ("ij->ii", (x,), "twice"),
    ]:
        with pytest.raises(ShapeError, match=message):
            distgrad.einsum(equation, *operands)


def test_products_explain_what_does_not_fit():
    x = distgrad.zeros(2, 3)
    for product in (
        lambda: x @ x,
        lambda: distgrad.mm(x, x),
        lambda: distgrad.mv(x, distgrad.zeros(2)),
        lambda: distgrad.dot(x[0], x[:, 0]),
    ):
        with pytest.raises(ShapeError, match="cannot be multiplied"):
            product()
    with pytest.raises(DTypeError, match="one dtype"):
        x @ distgrad.zeros(3, 2, dtype="float64")
    with pytest.raises(ShapeError, match="leading dimensions"):
        distgrad.zeros(2, 2, 3) @ distgrad.zeros(3, 3, 2)


def test_joining_and_splitting_explain_what_does_not_fit():
    x = distgrad.zeros(2, 3)
    with pytest.raises(ShapeError, match="tensor number 1"):
        distgrad.cat([x, distgrad.zeros(2, 2)])
    with pytest.raises(ShapeError, match="at entry 1"):
        distgrad.stack([x, x[0]])
    with pytest.raises(TypeError, match="list or tuple"):
        distgrad.cat(x)
    with pytest.raises(ShapeError, match="sum to 3"):
        x.split([1, 1], 1)
    with pytest.raises(IndexError, match="dimension out of range"):
        x.sum(2)
    with pytest.raises(ShapeError, match="0 <= k <= 3"):
        x.topk(4)
    with pytest.raises(ShapeError, match="at most 2"):
        distgrad.nn.functional.pad(x, (3, 0), "reflect")


def test_cat_promotes_dtypes():
    result = distgrad.cat([distgrad.tensor([1]), distgrad.tensor([0.5])])
    assert result.dtype == distgrad.float32 and result.tolist() == [1, 0.5]


def test_singular_matrices_are_an_error():
    with pytest.raises(LinAlgError, match="ingular"):
        distgrad.linalg.inv(distgrad.zeros(2, 2))
    with pytest.raises(ShapeError, match="square"):
        distgrad.linalg.inv(distgrad.zeros(2, 3))


def test_products_of_what_blas_cannot_read():
    """Expanded, strided and reversed operands are copied, not multiplied element by element."""
    rng = np.random.default_rng(0)
    x = distgrad.tensor(rng.standard_normal((6, 8)))
    for a in (x[::2, ::2], x[:1].expand(3, 8)[:, :4], x[:, :1].expand(6, 4), x.t()[:4, ::3]):
        np.testing.assert_allclose(
            (a @ x[:4] if a.shape[1] == 4 else a @ x[: a.shape[1]]).numpy(), a.numpy() @ x.numpy()[: a.shape[1]]
        )


def test_a_sum_passes_an_expanded_gradient_on():
    x = distgrad.ones(3, 4, requires_grad=True)
    w = distgrad.ones(4, 2, requires_grad=True)
    (x @ w).sum().backward()
    assert (x.grad.numpy() == 2).all() and (w.grad.numpy() == 3).all()


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("largest", [True, False])
def test_the_few_largest_of_many(dtype, largest):
    """topk finds few of many one after the other; also where that cannot work: nan, infinity, the limits of
    integers."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((3, 200)) * 50).astype(dtype)
    rows = [x, np.zeros_like(x)]
    if dtype == "float32":
        special = x.copy()
        special[0, 5], special[1, 7], special[2] = np.nan, np.inf, -np.inf
        rows.append(special)
    for values in rows:
        order = np.sort(values, axis=1)
        expected = order[:, ::-1][:, :4] if largest else order[:, :4]
        for layout in (values, np.asfortranarray(values)):
            found = distgrad.from_numpy(layout).topk(4, 1, largest)
            np.testing.assert_array_equal(found.values.numpy(), expected)
            np.testing.assert_array_equal(np.take_along_axis(values, found.indices.numpy(), 1), expected)
            assert all(len(set(row)) == 4 for row in found.indices.tolist())
