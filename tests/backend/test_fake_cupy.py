"""The stand-in for CuPy keeps CuPy's rules."""

import copy
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from distgrad.comm.device._nccl import load
from tests.backend import fake_cuda, fake_nccl
from tests.backend.cupy_api import describe, read
from tests.backend.fake_cupy import cupy, installed, special, state

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


# ---- streams, events and NCCL ----------------------------------------------------------------------------------------


def stream() -> Any:
    return cupy.cuda.Stream(non_blocking=True)


@pytest.fixture
def late() -> Iterator[None]:
    with installed(late=True):
        yield


def test_work_waits_until_somebody_needs_it(late: None) -> None:
    x, host = on_device(1, 2), cupy.cuda.alloc_pinned_memory(8)
    out = np.frombuffer(host, np.float32)
    with stream() as first:
        x[...] = on_device(3, 4)
        x.get(stream=first, out=out, blocking=False)
        assert out.tolist() == [0, 0] and not first.done
    assert x.get().tolist() == [1, 2], "another stream, which has not waited"
    first.synchronize()
    assert out.tolist() == [3, 4] and x.get().tolist() == [3, 4]


def test_events_order_streams(late: None) -> None:
    x = on_device(1, 2)
    first, second = stream(), stream()
    event = cupy.cuda.Event(block=True, disable_timing=True)
    with first:
        x += 1
        event.record(first)
        x *= 10
    assert not event.done
    second.wait_event(event)
    event.record(first)  # what waits already, waits for the record before
    with second:
        assert x.get().tolist() == [2, 3]
    event.synchronize()
    assert event.done and x.get().tolist() == [20, 30]
    second.wait_event(cupy.cuda.Event())  # never recorded: no wait
    second.synchronize()
    with pytest.raises(NotImplementedError):
        cupy.cuda.Stream()


def test_streams_belong_to_a_device_and_a_thread(late: None) -> None:
    mine = stream()
    with cupy.cuda.Device(1), pytest.raises(RuntimeError, match="the stream is of device 0"), mine:
        pass
    seen = []
    with mine:
        thread = threading.Thread(target=lambda: seen.append(cupy.cuda.get_current_stream()))
        thread.start()
        thread.join()
        assert cupy.cuda.get_current_stream() is mine
    assert seen == [cupy.cuda.Stream.null]


def test_copies_from_host_memory(late: None) -> None:
    """Of pageable memory CUDA takes a copy before it returns; pinned memory it reads later."""
    pinned = np.frombuffer(cupy.cuda.alloc_pinned_memory(4), np.float32)
    pageable = np.zeros(1, np.float32)
    for source, wanted in ((pageable, 0), (pinned, 7)):
        x = on_device(1)
        x.set(source)
        source[...] = 7
        assert x.get().tolist() == [wanted]


def test_freed_memory_is_used_again(late: None) -> None:
    first = stream()
    with first:
        x = on_device(1, 2)
        copy = cupy.empty(2, "float32")
        raw = x._raw
    with stream() as second:
        copy[...] = x
    del x
    with second:
        assert copy.get().tolist() == [1, 2], "nothing else ran there yet"
    first.synchronize()
    assert raw.tolist() == [77, 77]


def test_pinning() -> None:
    with installed():
        host, runtime = np.zeros(100), cupy.cuda.runtime
        runtime.hostRegister(host.ctypes.data, host.nbytes, 0)
        with pytest.raises(runtime.CUDARuntimeError, match="AlreadyRegistered"):
            runtime.hostRegister(host.ctypes.data, host.nbytes, 0)
        runtime.hostUnregister(host.ctypes.data)
        with pytest.raises(runtime.CUDARuntimeError, match="NotRegistered"):
            runtime.hostUnregister(host.ctypes.data)


def test_nccl_takes_only_memory_of_the_device(late: None) -> None:
    comm = fake_nccl.NcclCommunicator(1, fake_nccl.get_unique_id(), 0)
    host, there = np.ones(3, np.float32), on_device(1, 2, 3)
    with pytest.raises(fake_cuda.CUDARuntimeError, match="no array on the device"):
        comm.allReduce(host.ctypes.data, host.ctypes.data, 3, fake_nccl.module.NCCL_FLOAT32, 0, 0)
    comm.allReduce(there.data.ptr, there.data.ptr, 3, fake_nccl.module.NCCL_FLOAT32, 0, 0)
    assert there.get().tolist() == [1, 2, 3]
    comm.destroy()
    with pytest.raises(fake_nccl.NcclError, match="destroyed"):
        comm.allReduce(there.data.ptr, there.data.ptr, 3, fake_nccl.module.NCCL_FLOAT32, 0, 0)


def test_names_of_streams_and_nccl_are_those_of_cupy() -> None:
    """Where CuPy is installed (no GPU is needed)."""
    real = pytest.importorskip("cupy", reason="CuPy is not installed")
    ours, pairs = [], []
    for name in ("Stream", "Event", "runtime"):
        pairs.append((getattr(cupy.cuda, name), getattr(real.cuda, name)))
    nccl = load()
    if nccl.available:
        pairs += [(fake_nccl.module, nccl), (fake_nccl.NcclCommunicator, nccl.NcclCommunicator)]
        numbers = [name for name in dir(fake_nccl.module) if name.startswith("NCCL_")]
        assert {name: getattr(nccl, name) for name in numbers} == {
            name: getattr(fake_nccl.module, name) for name in numbers
        }
    for fake, its in pairs:
        ours += [
            (its, name) for name in dir(fake) if not name.startswith("_") and name not in ("queue", "CUDARuntimeError")
        ]
    assert len(ours) >= 15
    instance = ("ptr", "device_id", "error", "comm")
    assert [name for its, name in ours if name not in instance and not hasattr(its, name)] == []
    assert hasattr(real.cuda.runtime, "CUDARuntimeError")
    for name in ("get_current_stream", "alloc_pinned_memory"):
        assert hasattr(real.cuda, name)
