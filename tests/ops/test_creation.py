"""New tensors: shapes, dtypes, values, and the arguments that torch has."""

import numpy as np
import pytest

import distgrad as dg

DTYPES = [dg.float16, dg.bfloat16, dg.float32, dg.float64, dg.int64, dg.uint8, dg.bool, dg.complex64]


# ---- tensor() --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "dtype", "shape"),
    [
        (1, dg.int64, ()),
        (1.5, dg.float32, ()),
        (True, dg.bool, ()),
        (1j, dg.complex64, ()),
        ([1, 2], dg.int64, (2,)),
        ([1, 2.5], dg.float32, (2,)),
        ([True, 2], dg.int64, (2,)),
        ([], dg.float32, (0,)),
        ([[]], dg.float32, (1, 0)),
        (((1, 2), (3, 4)), dg.int64, (2, 2)),
        (range(3), dg.int64, (3,)),
        (np.float64(2.5), dg.float64, ()),
        ([np.float64(2.5)], dg.float64, (1,)),
        (np.int8([1]), dg.int8, (1,)),
        ([np.array([1, 2]), np.array([3, 4])], dg.int64, (2, 2)),
    ],
)
def test_inferred_dtype(data: object, dtype: dg.dtype, shape: tuple[int, ...]) -> None:
    t = dg.tensor(data)
    assert t.dtype == dtype and t.shape == shape


def test_tensors_in_lists() -> None:
    a, b = dg.tensor(1.0), dg.tensor(2.0)
    assert dg.tensor([a, b]).tolist() == [1.0, 2.0]
    assert dg.tensor([[a], [b]]).shape == (2, 1)
    assert dg.tensor([dg.tensor(1.0, requires_grad=True)]).requires_grad is False


def test_tensor_copies() -> None:
    source = np.zeros(2)
    t = dg.tensor(source)
    t[0] = 1
    assert source[0] == 0
    u = dg.tensor(t)
    u[1] = 5
    assert t[1].item() == 0


def test_python_floats_keep_their_precision_in_float64() -> None:
    assert dg.tensor(0.1, dtype=dg.float64).item() == 0.1
    assert dg.tensor([0.1], dtype=dg.float64).tolist() == [0.1]


def test_what_is_no_data() -> None:
    with pytest.raises(RuntimeError, match="ragged"):
        dg.tensor([[1, 2], [3]])
    for data in ("a", None, [None], {1: 2}, ["a"]):
        with pytest.raises(TypeError, match="expected numbers"):
            dg.tensor(data)
    with pytest.raises(TypeError, match="expected a dtype"):
        dg.tensor([1], dtype="quad")


# ---- filled ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_filled(dtype: dg.dtype) -> None:
    for make, value in ((dg.zeros, 0), (dg.ones, 1), (dg.empty, None)):
        t = make(2, 3, dtype=dtype)
        assert t.shape == (2, 3) and t.dtype == dtype and t.is_contiguous()
        if value is not None:
            assert (t.numpy() == value).all()
        like = {dg.zeros: dg.zeros_like, dg.ones: dg.ones_like, dg.empty: dg.empty_like}[make](t)
        assert like.shape == (2, 3) and like.dtype == dtype
        assert value is None or dg.equal(like, t)


def test_shapes_as_torch_takes_them() -> None:
    for size in ((2, 3), ([2, 3],), ((2, 3),), (dg.Size([2, 3]),)):
        assert dg.zeros(*size).shape == (2, 3)
    assert dg.zeros(()).shape == () and dg.zeros(0).shape == (0,) and dg.ones(np.int64(2)).shape == (2,)


def test_full() -> None:
    assert dg.full((2,), 1).dtype == dg.int64
    assert dg.full((2,), 1.5).dtype == dg.float32
    assert dg.full((2,), True).dtype == dg.bool
    assert dg.full((2,), 1, dtype=dg.float64).tolist() == [1.0, 1.0]
    assert dg.full([2], dg.tensor(3.5)).tolist() == [3.5, 3.5]
    assert dg.full_like(dg.zeros(2, dtype=dg.int32), 7).dtype == dg.int32


def test_like_takes_another_dtype() -> None:
    t = dg.ones(2, 3, requires_grad=True)
    u = dg.zeros_like(t, dtype=dg.int64)
    assert u.dtype == dg.int64 and not u.requires_grad
    assert dg.ones_like(t, requires_grad=True).requires_grad


def test_like_keeps_the_memory_layout() -> None:
    t = dg.zeros(2, 3).t()
    assert dg.ones_like(t).stride() == t.stride()
    assert dg.ones_like(dg.ones(1).expand(3)).stride() == (1,)


def test_new_methods() -> None:
    t = dg.zeros(1, dtype=dg.float64)
    for u in (
        t.new_zeros(2, 3),
        t.new_ones((2, 3)),
        t.new_empty(2, 3),
        t.new_full((2, 3), 7),
        t.new_tensor([[1] * 3] * 2),
    ):
        assert u.shape == (2, 3) and u.dtype == dg.float64
    assert t.new_zeros(2, dtype=dg.int64).dtype == dg.int64
    assert t.new_empty_strided((2, 3), (1, 2)).stride() == (1, 2)


def test_empty_strided() -> None:
    t = dg.empty_strided((2, 3), (1, 2))
    t.fill_(4)
    assert t.stride() == (1, 2) and t.sum().item() == 24
    with pytest.raises(RuntimeError, match="as many strides"):
        dg.empty_strided((2, 3), (1,))


def test_requires_grad() -> None:
    for t in (
        dg.zeros(2, requires_grad=True),
        dg.full((2,), 1.0, requires_grad=True),
        dg.tensor([1.0, 2.0], requires_grad=True),
    ):
        assert t.is_leaf and t.requires_grad
    with pytest.raises(RuntimeError, match="floating"):
        dg.ones(2, dtype=dg.int64, requires_grad=True)


def test_out() -> None:
    target = dg.empty(2, 3)
    assert dg.zeros(2, 3, out=target) is target and target.sum().item() == 0
    empty = dg.empty(0, dtype=dg.int64)
    dg.arange(3, out=empty)
    assert empty.tolist() == [0, 1, 2]
    with pytest.raises(RuntimeError, match="out: expected shape"):
        dg.ones(4, out=target)


def test_the_default_dtype() -> None:
    dg.set_default_dtype(dg.float64)
    try:
        for t in (dg.zeros(1), dg.tensor(1.0), dg.rand(1), dg.arange(1.0), dg.linspace(0, 1, 2), dg.full((1,), 1.0)):
            assert t.dtype == dg.float64
        assert dg.tensor(1j).dtype == dg.complex128
    finally:
        dg.set_default_dtype(dg.float32)
    with pytest.raises(TypeError, match="floating-point"):
        dg.set_default_dtype(dg.int64)


# ---- sequences -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "dtype", "expected"),
    [
        ((5,), dg.int64, [0, 1, 2, 3, 4]),
        ((2, 5), dg.int64, [2, 3, 4]),
        ((5, 0, -2), dg.int64, [5, 3, 1]),
        ((2.0,), dg.float32, [0.0, 1.0]),
        ((0, 1, 0.25), dg.float32, [0.0, 0.25, 0.5, 0.75]),
        ((0,), dg.int64, []),
        ((1, 1.1, 0.5), dg.float32, [1.0]),
    ],
)
def test_arange(args: tuple[float, ...], dtype: dg.dtype, expected: list[float]) -> None:
    t = dg.arange(*args)
    assert t.dtype == dtype and t.tolist() == expected


def test_arange_options() -> None:
    assert dg.arange(3, dtype=dg.float64).dtype == dg.float64
    assert dg.arange(dg.tensor(3)).tolist() == [0, 1, 2]
    for args in ((1, 0), (0, 1, 0), (0, 1, -1)):
        with pytest.raises(ValueError, match="step"):
            dg.arange(*args)
    assert dg.range(1, 3).tolist() == [1.0, 2.0, 3.0]


def test_linspace() -> None:
    assert dg.linspace(0, 1, 5).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert dg.linspace(3, 3, 1).tolist() == [3.0] and dg.linspace(1, 2, 1).tolist() == [1.0]
    assert dg.linspace(0, 1, 0).shape == (0,)
    assert dg.linspace(0, 10, 4, dtype=dg.int64).tolist() == [0, 3, 6, 10]
    assert dg.linspace(dg.tensor(0.0), dg.tensor(1.0), 2).tolist() == [0.0, 1.0]
    np.testing.assert_allclose(dg.linspace(-2, 7, 50, dtype=dg.float64).numpy(), np.linspace(-2, 7, 50), rtol=1e-14)
    with pytest.raises(ValueError, match="steps >= 0"):
        dg.linspace(0, 1, -1)


def test_logspace() -> None:
    np.testing.assert_allclose(dg.logspace(-2, 2, 5).numpy(), [0.01, 0.1, 1, 10, 100], rtol=1e-6)
    np.testing.assert_allclose(dg.logspace(0, 3, 4, base=2.0).numpy(), [1, 2, 4, 8])


def test_eye() -> None:
    assert dg.eye(2).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert dg.eye(2, 3, dtype=dg.int64).tolist() == [[1, 0, 0], [0, 1, 0]]
    with pytest.raises(ValueError, match="sizes >= 0"):
        dg.eye(-1)


@pytest.mark.parametrize("offset", [-1, 0, 1])
def test_triangle_indices(offset: int) -> None:
    lower = np.stack(np.tril_indices(3, offset, 4))
    upper = np.stack(np.triu_indices(3, offset, 4))
    assert dg.tril_indices(3, 4, offset).tolist() == lower.tolist()
    assert dg.triu_indices(3, 4, offset).tolist() == upper.tolist()


def test_meshgrid() -> None:
    x, y = dg.arange(2), dg.arange(3)
    for indexing in ("ij", "xy"):
        expected = np.meshgrid(x.numpy(), y.numpy(), indexing=indexing)
        for grid, wanted in zip(dg.meshgrid(x, y, indexing=indexing), expected, strict=True):
            assert grid.tolist() == wanted.tolist()
    assert dg.meshgrid([x, y])[0].shape == (2, 3)
    with pytest.raises(ValueError, match="indexing"):
        dg.meshgrid(x, indexing="yx")
    with pytest.raises(RuntimeError, match="0-d and 1-d"):
        dg.meshgrid(dg.ones(2, 2))


def test_meshgrid_is_differentiable() -> None:
    x = dg.ones(2, requires_grad=True)
    a, _ = dg.meshgrid(x, dg.ones(3), indexing="ij")
    a.sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


def test_products_and_combinations() -> None:
    a, b = dg.tensor([1, 2]), dg.tensor([3, 4])
    assert dg.cartesian_prod(a, b).tolist() == [[1, 3], [1, 4], [2, 3], [2, 4]]
    assert dg.combinations(dg.tensor([1, 2, 3])).tolist() == [[1, 2], [1, 3], [2, 3]]
    assert dg.combinations(a, 2, with_replacement=True).tolist() == [[1, 1], [1, 2], [2, 2]]
    assert dg.combinations(a, 3).shape == (0, 3)
