"""The Tensor class: what it says of itself, its values for Python, copies, moves, pickling."""

import copy
import pickle

import numpy as np
import pytest

import distgrad as dg
from distgrad.errors import DistgradError


def matrix() -> dg.Tensor:
    return dg.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


# ---- what it is ------------------------------------------------------------------------------------------------------


def test_properties() -> None:
    t = matrix()
    assert t.shape == (2, 3) and t.size() == (2, 3) and t.size(-1) == 3
    assert (t.ndim, t.dim(), t.ndimension(), t.numel(), t.nelement()) == (2, 2, 2, 6, 6)
    assert (t.dtype, t.itemsize, t.element_size(), t.nbytes) == (dg.float32, 4, 4, 24)
    assert (t.stride(), t.stride(0), t.is_contiguous(), t.t().is_contiguous()) == ((3, 1), 3, True, False)
    assert (t.device, t.is_cuda, t.get_device(), t.is_pinned()) == (dg.device("cpu"), False, -1, False)
    assert (t.is_floating_point(), t.is_complex(), t.is_signed()) == (True, False, True)
    assert (t.is_leaf, t.requires_grad, t.output_nr, t._version) == (True, False, 0, 0)
    assert t.grad is None and t.grad_fn is None
    assert (t.is_sparse, t.is_meta, t.is_quantized, t.is_nested) == (False,) * 4
    assert t[1:].storage_offset() == 3
    assert t.data_ptr() == t[0].data_ptr() and t.data_ptr() != t[1].data_ptr()
    assert t.is_same_size(t.clone()) and not t.is_same_size(t.t())


def test_size() -> None:
    shape = matrix().shape
    assert repr(shape) == "distgrad.Size([2, 3])"
    assert (list(shape), shape.numel(), shape[0], shape[-1]) == ([2, 3], 6, 2, 3)
    for derived in (shape[1:], () + shape, shape + (1,), shape * 2, 2 * shape):  # noqa: RUF005
        assert isinstance(derived, dg.Size)
    a, b = shape
    assert (a, b) == (2, 3) and shape == (2, 3) and hash(shape) == hash((2, 3))
    assert dg.zeros(shape).shape == shape
    assert copy.deepcopy(shape) == pickle.loads(pickle.dumps(shape)) == shape


def test_constructor() -> None:
    assert dg.Tensor([1, 2]).dtype == dg.float32
    assert dg.Tensor(2, 3).shape == (2, 3)
    assert dg.Tensor().shape == (0,)
    given = np.ones(2, dtype=np.float32)
    t = dg.Tensor(given)
    t[0] = 5
    assert given[0] == 1


def test_type_names() -> None:
    t = matrix()
    assert t.type() == "distgrad.FloatTensor"
    assert isinstance(t, dg.FloatTensor) and not isinstance(t, dg.LongTensor) and not isinstance(1.0, dg.FloatTensor)
    assert dg.LongTensor([1.5, 2.5]).tolist() == [1, 2]
    assert dg.FloatTensor(2, 3).shape == (2, 3)
    assert isinstance(dg.ByteTensor(), dg.ByteTensor) and dg.BoolTensor([0, 2]).tolist() == [False, True]
    assert dg.HalfTensor(1).dtype == dg.float16 and dg.BFloat16Tensor(1).dtype == dg.bfloat16
    for other in (dg.LongTensor, "distgrad.LongTensor", dg.int64, "int64", np.int64):
        assert t.type(other).dtype == dg.int64


def test_queries() -> None:
    assert dg.is_tensor(matrix()) and not dg.is_tensor(np.ones(2))
    assert dg.is_floating_point(matrix()) and not dg.is_complex(matrix())
    assert dg.numel(matrix()) == 6
    assert dg.is_nonzero(dg.tensor(2)) and not dg.is_nonzero(dg.tensor([0.0]))
    with pytest.raises(RuntimeError, match="one element"):
        dg.is_nonzero(matrix())


# ---- values for Python -----------------------------------------------------------------------------------------------


def test_numbers() -> None:
    t = dg.tensor(2.7)
    assert (float(t), int(t), bool(t), complex(t)) == (pytest.approx(2.7), 2, True, pytest.approx(2.7))
    assert t.item() == pytest.approx(2.7) and isinstance(t.item(), float)
    assert isinstance(dg.tensor(2).item(), int) and isinstance(dg.tensor(True).item(), bool)
    assert dg.tensor([[3]]).item() == 3
    assert [10, 20, 30][dg.tensor(1)] == 20 and list(range(dg.tensor(3))) == [0, 1, 2]
    assert matrix().tolist() == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    assert dg.tensor(3).tolist() == 3


def test_what_is_no_number() -> None:
    with pytest.raises(RuntimeError, match="cannot be converted to Scalar"):
        matrix().item()
    with pytest.raises(RuntimeError, match="ambiguous"):
        bool(matrix())
    with pytest.raises(RuntimeError, match="ambiguous"):
        bool(dg.tensor([]))
    with pytest.raises(TypeError, match="index"):
        [1, 2][dg.tensor(1.0)]
    with pytest.raises(TypeError, match="0-d"):
        len(dg.tensor(1))
    with pytest.raises(TypeError, match="0-d"):
        list(dg.tensor(1))


def test_iteration_and_membership() -> None:
    t = matrix()
    assert [row.tolist() for row in t] == t.tolist()
    first, second = t
    assert first.tolist() == [1.0, 2.0, 3.0] and len(t) == 2
    assert 5.0 in t and 7 not in t and dg.tensor(2.0) in t
    assert max(first).item() == 3.0 and sum(second).item() == 15.0
    assert [v.item() for v in sorted(dg.tensor([3, 1, 2]))] == [1, 2, 3]


def test_a_tensor_is_hashed_by_identity() -> None:
    a, b = dg.ones(1), dg.ones(1)
    assert len({a, b, a}) == 2
    assert {a: 1}[a] == 1


# ---- conversions -----------------------------------------------------------------------------------------------------


def test_to() -> None:
    t = matrix()
    assert t.to(dg.float32) is t and t.to("cpu") is t and t.cpu() is t and t.to(t) is t
    assert t.to(dg.float64).dtype == t.double().dtype == t.to(matrix().double()).dtype == dg.float64
    assert t.to("cpu", dg.int64).dtype == t.to(device="cpu", dtype=dg.int64).dtype == t.long().dtype == dg.int64
    copied = t.to(dg.float32, copy=True)
    assert copied is not t and copied.data_ptr() != t.data_ptr() and dg.equal(copied, t)
    assert t.type_as(dg.tensor([1])).dtype == dg.int64


@pytest.mark.parametrize(
    ("method", "dtype"),
    [
        ("half", dg.float16), ("bfloat16", dg.bfloat16), ("float", dg.float32), ("double", dg.float64),
        ("char", dg.int8), ("byte", dg.uint8), ("short", dg.int16), ("int", dg.int32), ("long", dg.int64),
        ("bool", dg.bool),
        ("cfloat", dg.complex64), ("cdouble", dg.complex128),
    ],
)  # fmt: skip
def test_casts(method: str, dtype: dg.dtype) -> None:
    t = getattr(matrix(), method)()
    assert t.dtype == dtype
    assert t[0, 2].item() == (True if dtype == dg.bool else 3)


def test_casts_truncate() -> None:
    assert dg.tensor([-1.7, 2.9]).int().tolist() == [-1, 2]
    assert dg.tensor([0.0, -0.5]).bool().tolist() == [False, True]


def test_gradients_flow_through_casts() -> None:
    x = dg.ones(2, requires_grad=True)
    (x.double() * 3).sum().backward()
    assert x.grad.dtype == dg.float32 and x.grad.tolist() == [3.0, 3.0]


def test_without_a_gpu_cuda_is_a_clear_error() -> None:
    if dg.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeError, match="not available"):
        matrix().to("cuda")
    with pytest.raises(RuntimeError, match="not available"):
        dg.zeros(2, device="cuda")
    with pytest.raises(RuntimeError, match="expected a device"):
        matrix().to(device="tpu")


# ---- data, copies, pickling ------------------------------------------------------------------------------------------


def test_data() -> None:
    x = dg.ones(2, requires_grad=True)
    x.data = dg.tensor([5.0, 6.0])
    assert x.tolist() == [5.0, 6.0] and x.requires_grad and x.is_leaf
    x.data[0] = 9
    assert x[0].item() == 9 and not x.data.requires_grad
    with pytest.raises(TypeError, match="Tensor"):
        x.data = 3


def test_deepcopy() -> None:
    x = dg.ones(2, requires_grad=True)
    (x * 2).sum().backward()
    x.note = "kept"
    y = copy.deepcopy(x)
    assert y.requires_grad and y.is_leaf and y.note == "kept"
    assert y.grad.tolist() == [2.0, 2.0] and y.grad is not x.grad
    y.data[0] = 7
    y.grad[0] = 7
    assert x.tolist() == [1.0, 1.0] and x.grad.tolist() == [2.0, 2.0]


def test_deepcopy_keeps_ties() -> None:
    shared = dg.Parameter(dg.ones(2))
    copied = copy.deepcopy({"encoder": shared, "decoder": shared, "list": [shared]})
    assert copied["encoder"] is copied["decoder"] is copied["list"][0]
    assert copied["encoder"] is not shared
    assert isinstance(copied["encoder"], dg.Parameter)


def test_only_leaves_are_deep_copied() -> None:
    with pytest.raises(RuntimeError, match="graph leaves"):
        copy.deepcopy(dg.ones(1, requires_grad=True) * 2)


def test_copy_shares_memory() -> None:
    t = matrix()
    u = copy.copy(t)
    u[0, 0] = 9
    assert t[0, 0].item() == 9


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(protocol: int) -> None:
    for t in (matrix(), dg.tensor(3), dg.zeros(0, 2), matrix().t(), dg.tensor([1.5], dtype=dg.bfloat16)):
        u = pickle.loads(pickle.dumps(t, protocol))
        assert u.dtype == t.dtype and u.shape == t.shape and u.tolist() == t.tolist()
    p = pickle.loads(pickle.dumps(dg.Parameter(dg.ones(2), requires_grad=False), protocol))
    assert isinstance(p, dg.Parameter) and not p.requires_grad
    x = pickle.loads(pickle.dumps(dg.ones(2, requires_grad=True), protocol))
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_dtypes_and_devices_pickle_to_themselves() -> None:
    assert pickle.loads(pickle.dumps(dg.float32)) is dg.float32
    assert copy.deepcopy(dg.bfloat16) is dg.bfloat16
    assert pickle.loads(pickle.dumps(dg.device("cuda", 1))) == dg.device("cuda:1")


def test_attributes_can_be_set() -> None:
    t = matrix()
    t.tag = [1]
    assert t.tag == [1]


def test_elementwise_python_functions() -> None:
    t = dg.tensor([1.0, 2.0])
    assert t.apply_(lambda v: v * 10) is t and t.tolist() == [10.0, 20.0]
    t.map_(dg.tensor([1.0]), lambda a, b: a - b)
    assert t.tolist() == [9.0, 19.0]


def test_parameter() -> None:
    data = dg.ones(2)
    p = dg.Parameter(data)
    assert p.requires_grad and p.is_leaf and isinstance(p, dg.Tensor)
    with dg.no_grad():
        p.add_(1)
    assert data.tolist() == [2.0, 2.0]
    assert not isinstance(p * 1, dg.Parameter)
    with pytest.raises(DistgradError, match="expected a Tensor"):
        dg.Parameter([1.0])
    with pytest.raises(RuntimeError, match="floating"):
        dg.Parameter(dg.tensor([1]))
