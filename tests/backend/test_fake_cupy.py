"""The stand-in for CuPy keeps CuPy's rules."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from tests.backend.cupy_api import describe, read
from tests.backend.fake_cupy import cupy, special, state

pytestmark = pytest.mark.filterwarnings("error")


def on_device(*values: float, dtype: str = "float32") -> Any:
    return cupy.array(np.array(values, dtype=dtype))


def test_host_and_device_do_not_mix() -> None:
    x, host = on_device(1, 2), np.ones(2, np.float32)
    for mixed in (
        lambda: x + host,
        lambda: host + x,
        lambda: np.add(x, 1),
        lambda: np.sum(x),
        lambda: np.concatenate([x, x]),
        lambda: np.asarray(x),
        lambda: cupy.add(x, host),
        lambda: cupy.concatenate([x, host]),
        lambda: x.__iadd__(host),
        lambda: cupy.where(x > 0, host, x),
    ):
        with pytest.raises(TypeError):
            mixed()
    assert (np.float32(2) * x + 1).get().tolist() == [3, 5]
    assert (x.get() + host).tolist() == [2, 3]


def test_results_without_dimensions_are_arrays() -> None:
    x = on_device(1, 2, 3)
    for scalar in (x.sum(), x[1], cupy.max(x), x @ x, x.argmax()):
        assert isinstance(scalar, cupy.ndarray) and scalar.shape == ()
    first = x[0]
    first += 5
    assert x.get().tolist() == [6, 2, 3], "an element is a view"
    with pytest.raises(TypeError):
        range(x.argmax())  # no __index__


def test_indices_wrap_around() -> None:
    x = on_device(10, 20, 30)
    assert x[on_device(1, 4, -1, dtype="int64")].get().tolist() == [20, 20, 30]
    assert cupy.take(x, on_device(3, dtype="int64")).get().tolist() == [10]
    assert x[None, [3]].get().tolist() == [[10]]
    with pytest.raises(IndexError):
        x[3]
    with pytest.raises(NotImplementedError):
        x.reshape(1, 3)[on_device(1, dtype="bool"), on_device(1, 0, 1, dtype="bool")]


def test_what_cupy_lacks_is_missing() -> None:
    x = on_device(1, 2)
    for absent in ("vecdot", "errstate", "ndindex", "testing", "no_such_name"):
        with pytest.raises(AttributeError):
            getattr(cupy, absent)
    for wrong in (
        lambda: cupy.sum(x, where=x > 0),
        lambda: x.max(initial=0),
        lambda: cupy.multiply(x, 2, where=x > 0),
        lambda: x.item(0),
    ):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(NotImplementedError):
        cupy.maximum.reduce(x)
    with pytest.raises(NotImplementedError):
        cupy.multiply.at(x, on_device(0, dtype="int64"), 2)
    with pytest.raises(TypeError, match="int8"):
        cupy.add.at(on_device(1, dtype="int8"), on_device(0, dtype="int64"), 2)
    assert special.erf(on_device(0)).get().tolist() == [0]


def test_writes() -> None:
    x = on_device(1, 2, 3)
    with pytest.raises(ValueError, match="non-scalar"):
        x[:2] = np.ones(2, np.float32)
    x[:2] = on_device(7)
    x[on_device(2, dtype="int64")] = 9
    assert x.get().tolist() == [7, 7, 9]
    x.set(np.zeros(3, np.float32))
    assert x.get().tolist() == [0, 0, 0]
    with pytest.raises(TypeError):
        x.set(np.zeros(3))
    with pytest.raises(RuntimeError, match="non-contiguous"):
        cupy.zeros((2, 2))[:, 0].set(np.zeros(2))


def test_waiting_is_counted() -> None:
    x, before = on_device(1, 2), state.syncs
    (x * 2 + x[0]).sum()
    assert state.syncs == before
    for wait in (x.get, x.tolist, x.sum().item, lambda: bool(x[0]), lambda: float(x[1]), lambda: x.nonzero()):
        before = state.syncs
        wait()
        assert state.syncs > before


def test_copies() -> None:
    x = on_device(1, 2)
    for other in (copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x)), cupy.array(x)):
        other += 1
        assert isinstance(other, cupy.ndarray) and x.get().tolist() == [1, 2]


def test_names_and_arguments_are_those_of_cupy() -> None:
    """Where CuPy is installed (no GPU is needed)."""
    real = pytest.importorskip("cupy", reason="CuPy is not installed")
    if not real.__version__.startswith("14.2"):
        pytest.skip(f"the list is of CuPy 14.2, this is {real.__version__}")
    known = read()
    for name, entry in describe(real, pytest.importorskip("cupyx.scipy.special")):
        if name.startswith("special.") and (entry is None or entry.kind != "ufunc"):
            continue
        assert name in known, f"cupy.{name} is not in the list"
        assert entry is None or known[name] == entry, f"cupy.{name} is {entry}, the list says {known[name]}"
