"""NumPy, SciPy and other libraries with tensors, both ways, and where memory is shared."""

import array
from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg
import scipy.special

import distgrad as dg


def vector() -> dg.Tensor:
    return dg.tensor([0.5, 1.5, 2.5])


# ---- to NumPy --------------------------------------------------------------------------------------------------------


def test_asarray_shares_memory() -> None:
    t = vector()
    a = np.asarray(t)
    a[0] = 9
    assert t[0].item() == 9 and a.dtype == np.float32
    assert np.asarray(t, dtype=np.float64).dtype == np.float64
    b = np.array(t)
    b[0] = 1
    assert t[0].item() == 9
    with pytest.raises(ValueError, match="copy"):
        np.array(t, dtype=np.float64, copy=False)


def test_numpy_shares_memory() -> None:
    t = vector()
    t.numpy()[1] = 7
    assert t[1].item() == 7
    t.mul_(2)
    assert t.numpy()[1] == 14


def test_gradients_do_not_reach_numpy() -> None:
    t = vector().requires_grad_()
    for convert in (lambda: t.numpy(), lambda: np.asarray(t), lambda: np.sin(t)):
        with pytest.raises(RuntimeError, match="requires grad"):
            convert()
    assert t.numpy(force=True).tolist() == [0.5, 1.5, 2.5]
    assert t.detach().numpy().tolist() == [0.5, 1.5, 2.5]


def test_numpy_scalars() -> None:
    assert np.float32(dg.tensor(2.5)) == 2.5
    assert np.arange(5)[dg.tensor(2)] == 2
    assert np.arange(5)[dg.tensor([0, 3])].tolist() == [0, 3]
    assert np.arange(3)[dg.tensor([True, False, True])].tolist() == [0, 2]


# ---- NumPy's functions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda t: np.sin(t), np.sin([0.5, 1.5, 2.5])),
        (lambda t: np.add(t, 1), [1.5, 2.5, 3.5]),
        (lambda t: np.add(np.ones(3, np.float32), t), [1.5, 2.5, 3.5]),
        (lambda t: np.maximum(t, 1.0), [1.0, 1.5, 2.5]),
        (lambda t: np.clip(t, 1.0, 2.0), [1.0, 1.5, 2.0]),
        (lambda t: scipy.special.erf(t), scipy.special.erf([0.5, 1.5, 2.5])),
        (lambda t: scipy.special.expit(t), scipy.special.expit([0.5, 1.5, 2.5])),
    ],
)
def test_universal_functions_return_tensors(call: Callable[[dg.Tensor], dg.Tensor], expected: list[float]) -> None:
    result = call(vector())
    assert isinstance(result, dg.Tensor) and result.dtype == dg.float32
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda a, t: a * t, [0.5, 3.0, 7.5]),
        (lambda a, t: t * a, [0.5, 3.0, 7.5]),
        (lambda a, t: a + t, [1.5, 3.5, 5.5]),
        (lambda a, t: a - t, [0.5, 0.5, 0.5]),
        (lambda a, t: a / t, [2.0, 2 / 1.5, 1.2]),
        (lambda a, t: t / a, [0.5, 0.75, 2.5 / 3]),
        (lambda a, t: a**t, [1.0, 2**1.5, 3**2.5]),
        (lambda a, t: a @ t, 11.0),
        (lambda a, t: a > t, [True, True, True]),
        (lambda a, t: t == a, [False, False, False]),
    ],
)
def test_operators_with_arrays_return_tensors(call: Callable[..., dg.Tensor], expected: object) -> None:
    result = call(np.array([1.0, 2.0, 3.0], dtype=np.float32), vector())
    assert isinstance(result, dg.Tensor)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-6)


def test_operators_with_arrays_are_differentiable() -> None:
    t = vector().requires_grad_()
    (np.array([1.0, 2.0, 3.0], dtype=np.float32) * t).sum().backward()
    assert t.grad.tolist() == [1.0, 2.0, 3.0]


def test_operators_with_numpy_scalars_keep_the_dtype() -> None:
    t = vector()
    for scalar in (np.float64(2), np.float32(2), np.int64(2)):
        for result in (t * scalar, scalar * t, scalar + t, t - scalar, scalar - t, t / scalar, scalar / t):
            assert isinstance(result, dg.Tensor) and result.dtype == dg.float32
    assert (np.float64(2) - t).tolist() == [1.5, 0.5, -0.5]


def test_numpy_functions_and_joins() -> None:
    t = vector()
    assert int(np.argmax(t)) == 2 and np.cumsum(t).tolist() == [0.5, 2.0, 4.5]
    assert np.concatenate([t, t]).shape == (6,) and np.stack([t, t]).shape == (2, 3)
    assert float(np.linalg.norm(t)) == pytest.approx(2.9580398)
    assert np.allclose(t, t)
    np.testing.assert_array_equal(t, t)


def test_scipy_linear_algebra() -> None:
    m = dg.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=dg.float64)
    np.testing.assert_allclose(scipy.linalg.inv(m) @ m.numpy(), np.eye(2), atol=1e-12)
    np.testing.assert_allclose(m.numpy() @ scipy.linalg.solve(m, dg.ones(2).double()), [1.0, 1.0])


# ---- from NumPy and others -------------------------------------------------------------------------------------------


def test_from_numpy_shares_memory() -> None:
    a = np.zeros(3)
    t = dg.from_numpy(a)
    a[0] = 1
    t[1] = 2
    assert t.tolist() == [1.0, 2.0, 0.0] and a.tolist() == [1.0, 2.0, 0.0]
    assert t.dtype == dg.float64
    view = dg.from_numpy(a[::-1])
    view[0] = 5
    assert a[2] == 5


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "int8", "int16", "uint8", "uint16", "bool", "complex64", "bfloat16"]
)
def test_from_numpy_keeps_the_dtype(dtype: str) -> None:
    a = np.ones(2, dtype=dg.tensor([1], dtype=dtype).numpy().dtype)
    assert dg.from_numpy(a).numpy().dtype == a.dtype


def test_what_from_numpy_refuses() -> None:
    with pytest.raises(TypeError, match=r"expected a numpy.ndarray"):
        dg.from_numpy([1, 2])
    with pytest.raises(TypeError, match="supported dtype"):
        dg.from_numpy(np.array(["a"]))
    with pytest.raises(TypeError, match="byte order"):
        dg.from_numpy(np.ones(2, dtype=np.dtype("float32").newbyteorder()))


def test_a_read_only_array_stays_read_only() -> None:
    a = np.ones(2)
    a.flags.writeable = False
    t = dg.from_numpy(a)
    assert t.sum().item() == 2
    with pytest.raises(RuntimeError, match="read-only"):
        t.add_(1)
    t = t.clone()
    t.add_(1)
    assert a.tolist() == [1.0, 1.0]


def test_subclasses_of_arrays_become_plain() -> None:
    t = dg.from_numpy(np.ones((2, 2)).view(np.matrix))
    assert type(t.numpy()) is np.ndarray
    assert (t * t).tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_as_tensor() -> None:
    a = np.zeros(2, dtype=np.float32)
    t = dg.as_tensor(a)
    t[0] = 1
    assert a[0] == 1
    assert dg.as_tensor(t) is t
    assert dg.as_tensor(t, dtype=dg.float64).dtype == dg.float64
    assert dg.as_tensor([1, 2]).dtype == dg.int64
    assert dg.as_tensor(np.float64(2.5)).dtype == dg.float64
    x = dg.ones(1, requires_grad=True)
    dg.as_tensor(x, dtype=dg.float64).backward()
    assert x.grad.tolist() == [1.0]


def test_asarray() -> None:
    a = np.zeros(2)
    assert dg.asarray(a).data_ptr() == dg.from_numpy(a).data_ptr()
    assert dg.asarray(a, copy=True).data_ptr() != dg.from_numpy(a).data_ptr()
    assert dg.asarray([1, 2.5]).dtype == dg.float32
    assert dg.asarray(bytearray(b"ab")).tolist() == [97, 98]
    assert dg.asarray(a, requires_grad=True).requires_grad
    assert not dg.asarray(dg.ones(2, requires_grad=True)).requires_grad
    assert dg.asarray(_Exports(a)).dtype == dg.float64
    with pytest.raises(ValueError, match="copy=False"):
        dg.asarray([1, 2], copy=False)
    with pytest.raises(ValueError, match="copy=False"):
        dg.asarray(a, dtype=dg.float32, copy=False)


def test_frombuffer() -> None:
    memory = bytearray(b"abcdefgh")
    t = dg.frombuffer(memory, dtype=dg.uint8)
    t[0] = 65
    assert memory[:1] == b"A"
    assert dg.frombuffer(memory, dtype=dg.int16, count=2, offset=2).shape == (2,)
    assert dg.frombuffer(array.array("d", [1.5, 2.5]), dtype=dg.float64).tolist() == [1.5, 2.5]
    with pytest.raises(ValueError, match="buffer"):
        dg.frombuffer(memory, dtype=dg.int64, count=2)


class _Exports:
    """An array of another library, which speaks DLPack alone."""

    def __init__(self, data: np.ndarray) -> None:
        self._data = data

    def __dlpack__(self, **options: object) -> object:
        return self._data.__dlpack__(**options)

    def __dlpack_device__(self) -> object:
        return self._data.__dlpack_device__()


def test_dlpack() -> None:
    t = vector()
    a = np.from_dlpack(t)
    a[0] = 9
    assert t[0].item() == 9
    memory = np.arange(3.0)
    u = dg.from_dlpack(_Exports(memory))
    u[0] = 5
    assert memory[0] == 5
    assert t.__dlpack_device__()[0] == 1
    with pytest.raises(BufferError, match="requires gradient"):
        np.from_dlpack(vector().requires_grad_())


def test_no_cuda_interface_on_the_cpu() -> None:
    with pytest.raises(AttributeError, match="on the CPU"):
        _ = vector().__cuda_array_interface__
    assert not hasattr(vector(), "__cuda_array_interface__")
