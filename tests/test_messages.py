"""Wrong arguments: the error says what was expected and what was given, in words that its reader can know."""

import inspect
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pytest

import distgrad
import distgrad.nn.functional as F
from distgrad import nn, ops, optim
from distgrad.errors import DTypeError, ShapeError
from distgrad.utils.data import DataLoader

X = distgrad.zeros(2, 3)


@pytest.mark.parametrize("wrong", ["text", None, [1.0, 2.0], {"a": 1}, object()], ids=lambda v: type(v).__name__)
@pytest.mark.parametrize(
    "call",
    [
        *(nn.Linear(3, 4), F.relu, ops.abs, ops.neg, ops.square, ops.sign, ops.flatten, ops.t, nn.Conv2d(1, 1, 1)),
        *(nn.Embedding(2, 2), nn.Softmax(0), lambda x: ops.matmul(X, x), lambda x: F.cross_entropy(X, x)),
    ],
)
def test_what_is_no_tensor_is_named(call: Callable[[Any], Any], wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"expected a Tensor, got {type(wrong).__name__}"):
        call(wrong)


def _needs(function: Callable[..., Any]) -> int:
    """How many arguments a call must have."""
    parameters = inspect.signature(function).parameters.values()
    return sum(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def _functions() -> dict[str, Callable[..., Any]]:
    pages = (distgrad, F, distgrad.linalg, distgrad.special)
    found = {f"{page.__name__}.{name}": getattr(page, name) for page in pages for name in dir(page) if name[0] != "_"}
    return {name: f for name, f in found.items() if isinstance(f, FunctionType) and _needs(f)}


def speaks_of_our_insides(function: Callable[..., Any], wrong: Any) -> bool:
    """Whether a call with nothing but wrong arguments fails on an attribute that its reader never heard of."""
    try:
        function(*[wrong] * _needs(function))
    except AttributeError:
        return True
    except Exception:
        return False
    return False


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("wrong", ["text", None, [1.0, 2.0], {"a": 1}, np.ones(3)], ids=lambda v: type(v).__name__)
def test_no_function_speaks_of_our_insides(wrong: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # for save("text", "text")
    assert speaks_of_our_insides(lambda input: input._data, wrong)  # the check finds what it looks for
    assert [name for name, function in _functions().items() if speaks_of_our_insides(function, wrong)] == []


@pytest.mark.parametrize("wrong", [None, "text", [1.0], 3])
def test_what_is_no_dtype_is_refused(wrong: Any) -> None:
    with pytest.raises(DTypeError, match="expected a dtype, got"):
        distgrad.set_default_dtype(wrong)


def test_a_module_takes_an_array() -> None:
    layer = nn.Linear(3, 4)
    x = np.ones((2, 3), np.float32)
    assert np.array_equal(layer(x).detach().numpy(), layer(distgrad.from_numpy(x)).detach().numpy())


@pytest.mark.parametrize("size", [2.5, "a", None, np.float64(2)])
@pytest.mark.parametrize("make", [distgrad.zeros, distgrad.empty, distgrad.randn, lambda n: X.new_ones(n)])
def test_sizes_are_integers(make: Callable[[Any], Any], size: Any) -> None:
    with pytest.raises(TypeError, match=rf"expected integers, got .* of class {type(size).__name__}"):
        make(size)


@pytest.mark.parametrize("make", [distgrad.zeros, distgrad.rand, lambda n: distgrad.randint(5, (2, n))])
def test_sizes_are_not_negative(make: Callable[[int], Any]) -> None:
    with pytest.raises(ShapeError, match=r"expected sizes of at least 0, got .*-1"):
        make(-1)


def test_sizes_may_be_numbers_of_numpy_and_0d_tensors() -> None:
    assert distgrad.zeros(np.int64(2), distgrad.tensor(3)).shape == (2, 3)


@pytest.mark.parametrize(
    "call",
    [
        lambda a, b: ops.where(a > 0, b, a),
        ops.logical_and,
        ops.isclose,
        ops.allclose,
        ops.floor_divide,
        ops.eq,
        ops.add,
    ],
)
def test_shapes_that_cannot_be_broadcast(call: Callable[[Any, Any], Any]) -> None:
    with pytest.raises(ShapeError, match=r"\[2, 3\].* and \[.*\] cannot be broadcast together: from the last"):
        call(X, distgrad.zeros(4))


@pytest.mark.parametrize(("shape", "left", "what"), [((3,), True, "2 rows"), ((4, 3), False, "2 columns")])
def test_solve_names_the_sizes(shape: tuple[int, ...], left: bool, what: str) -> None:
    with pytest.raises(ShapeError, match=f"expected B to have {what}"):
        distgrad.linalg.solve(distgrad.eye(2), distgrad.zeros(shape), left=left)


LABELS = distgrad.tensor([0, 1])
PLANES = distgrad.zeros(2, 4, 3)


@pytest.mark.parametrize("dtype", [distgrad.bool, distgrad.int64], ids=str)
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("dropout", F.dropout),
        ("softmax", lambda x: F.softmax(x, 1)),
        ("glu", F.glu),
        ("layer_norm", lambda x: F.layer_norm(x, (3,))),
        ("batch_norm", nn.BatchNorm1d(4)),
        ("instance_norm", F.instance_norm),
        ("scaled_dot_product_attention", lambda x: F.scaled_dot_product_attention(x, x, x)),
        ("cross_entropy", lambda x: F.cross_entropy(x[:, :, 0], LABELS)),
        ("nll_loss", lambda x: F.nll_loss(x[:, :, 0], LABELS)),
        ("binary_cross_entropy", lambda x: F.binary_cross_entropy(x, x)),
        ("binary_cross_entropy_with_logits", lambda x: F.binary_cross_entropy_with_logits(x, x)),
    ],
)
def test_what_has_a_meaning_in_floating_point_alone(name: str, call: Callable[[Any], Any], dtype: Any) -> None:
    with pytest.raises(DTypeError, match=rf"^{name}: expected a floating-point dtype, got {dtype}; convert with"):
        call(PLANES.transpose(1, 2).to(dtype) if name == "glu" else PLANES.to(dtype))


@pytest.mark.parametrize("loss", [F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss])
def test_bools_have_no_difference(loss: Callable[[Any, Any], Any]) -> None:
    with pytest.raises(DTypeError, match=r"_loss: expected a floating-point dtype, got distgrad.bool"):
        loss(X > 0, X > 0)


@pytest.mark.parametrize(
    "norm",
    [
        lambda x, w: F.layer_norm(x, (4,), w),
        lambda x, w: F.rms_norm(x, (4,), w),
        lambda x, w: F.batch_norm(x, w, w, w, w),
        lambda x, w: F.group_norm(x, 2, w, w),
        lambda x, w: F.instance_norm(x.unsqueeze(-1).expand(2, 4, 3), None, None, w),
    ],
)
def test_a_norm_takes_arrays(norm: Callable[[Any, Any], Any]) -> None:
    x, weight = distgrad.arange(8.0).reshape(2, 4), np.arange(1, 5, dtype=np.float32)
    assert np.array_equal(norm(x, weight).numpy(), norm(x, distgrad.tensor(weight)).numpy())


def test_the_states_of_an_lstm_are_two() -> None:
    with pytest.raises(TypeError, match=r"expected hx to be a tuple \(h, c\)"):
        nn.LSTM(3, 4)(distgrad.zeros(5, 2, 3), distgrad.zeros(1, 2, 4))


def test_an_optimizer_of_a_module() -> None:
    with pytest.raises(TypeError, match=r"got Linear; pass model.parameters\(\)"):
        optim.SGD(nn.Linear(2, 2), lr=0.1)


def test_the_sample_that_is_no_number_is_named() -> None:
    with pytest.raises(TypeError, match=r"expected numbers.*got str in list"):
        list(DataLoader([1, "a"], batch_size=2, collate_fn=distgrad.tensor))


@pytest.mark.parametrize("register", ["register_full_backward_hook", "register_full_backward_pre_hook"])
def test_a_backward_hook_that_returns_something_else(register: str) -> None:
    layer = nn.Linear(2, 2)
    getattr(layer, register)(lambda *args: 3)
    with pytest.raises(TypeError, match=r"backward hook of Linear: expected None, or a Tensor.*got int"):
        layer(distgrad.ones(1, 2, requires_grad=True)).sum().backward()


@pytest.mark.parametrize("divide", [ops.floor_divide, ops.remainder, ops.fmod])
def test_integers_divided_by_zero(divide: Callable[[Any, Any], Any]) -> None:
    numbers = distgrad.tensor([4, 5])
    for zero in (0, distgrad.tensor([1, 0])):
        with pytest.raises(RuntimeError, match=rf"ZeroDivisionError: {divide.__name__}: an integer"):
            divide(numbers, zero)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        divide(4, distgrad.tensor([0]))
    assert divide(numbers, 0.0).isfinite().logical_not().all()
    assert divide(numbers, 3).tolist() == ([1, 1] if divide is ops.floor_divide else [1, 2])


def test_values_and_indices_are_printed_in_lines() -> None:
    text = repr(distgrad.tensor([1.0, 2.0]).max(0))
    assert text == "ValuesIndices(\nvalues=tensor(2.),\nindices=tensor(1))"


def test_housekeeping_of_gpus_needs_none() -> None:
    if not distgrad.cuda.is_available():
        distgrad.cuda.empty_cache()
        assert distgrad.cuda.memory_allocated() == 0
