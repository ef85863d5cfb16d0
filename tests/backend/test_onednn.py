"""Kernels by oneDNN against the NumPy kernels and sums in float64; without the library they are skipped."""

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from distgrad import _blas
from distgrad._environment import openmp_that_sleeps
from distgrad.backend._numpy import NUMPY_KERNELS
from distgrad.backend._onednn import Core, OneDnnKernels, load_or_warn
from distgrad.backend._onednn import _core as core_module
from distgrad.backend._onednn._library import Library, OneDnnError, Unsupported, check, find, load

PATH = find(os.environ.get("DISTGRAD_TEST_ONEDNN", ""))
needs_library = pytest.mark.skipif(PATH is None, reason="onednn-cpu-gomp is not installed")


@functools.lru_cache(1)
def library() -> Library:
    return Library(str(PATH))


def new_core() -> Core:
    """The library with no plan made."""
    return Core(library)


@pytest.fixture
def core() -> Core:
    return new_core()


@pytest.fixture
def kernels(core: Core) -> OneDnnKernels:
    return OneDnnKernels(NUMPY_KERNELS, core)


def images(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Random (N, C, ...) in channels-last memory."""
    n, c, *spatial = shape
    return np.moveaxis(rng.standard_normal((n, *spatial, c), dtype=np.float32), -1, 1)


def close(found: Any, expected: Any) -> None:
    """Equal up to the roundings of float32 sums."""
    assert found.shape == expected.shape and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * max(1.0, float(np.abs(expected).max())))


def made(core: Core) -> list[Any]:
    """The plans of this thread."""
    assert core._local.thread is not None
    return list(core._local.thread.plans.values())


# ---- convolutions ----------------------------------------------------------------------------------------------------

# x, w, stride, padding, dilation, groups
CONVOLUTIONS = {
    "3x3": ((2, 3, 12, 13), (8, 3, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "asymmetric": ((2, 8, 12, 13), (16, 8, 4, 2), (1, 1), ((1, 2), (0, 1)), (1, 1), 1),
    "strided": ((3, 16, 15, 15), (8, 16, 3, 3), (2, 3), ((1, 1), (0, 0)), (1, 1), 1),
    "dilated": ((2, 5, 14, 14), (7, 5, 3, 3), (1, 1), ((2, 2), (2, 2)), (2, 3), 1),
    "negative padding": ((2, 16, 12, 12), (32, 16, 3, 3), (2, 2), ((1, -1), (1, -1)), (1, 1), 1),
    "grouped": ((2, 12, 9, 9), (18, 4, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 3),
    "depthwise": ((2, 16, 9, 9), (16, 1, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 16),
    "depthwise, 2 each": ((2, 8, 9, 9), (16, 1, 3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 8),
    "pointwise": ((2, 32, 7, 7), (48, 32, 1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "pointwise, strided": ((2, 16, 8, 8), (32, 16, 1, 1), (2, 2), ((0, 0), (0, 0)), (1, 1), 1),
    "patches": ((2, 3, 16, 16), (24, 3, 4, 4), (4, 4), ((0, 0), (0, 0)), (1, 1), 1),
    "one channel": ((4, 1, 14, 14), (6, 1, 5, 5), (1, 1), ((2, 2), (2, 2)), (1, 1), 1),
    "1-d": ((3, 6, 40), (10, 6, 5), (2,), ((2, 2),), (1,), 1),
    "3-d": ((2, 4, 6, 7, 5), (6, 4, 3, 2, 3), (1, 2, 1), ((1, 1), (0, 1), (1, 1)), (1, 1, 1), 1),
}


def convolution64(x: Any, w: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    """By its definition, tap by tap, in float64."""
    x, w = np.pad(x.astype(float), ((0, 0), (0, 0), *((a, max(b, 0)) for a, b in padding))), w.astype(float)
    sizes = zip(x.shape[2:], w.shape[2:], stride, padding, dilation, strict=True)
    out = [(n + min(b, 0) - d * (k - 1) - 1) // s + 1 for n, k, s, (_, b), d in sizes]
    parts = []
    for of_x, of_w in zip(np.split(x, groups, 1), np.split(w, groups, 0), strict=True):
        total = np.zeros((len(x), len(of_w), *out))
        for tap in np.ndindex(w.shape[2:]):
            places = zip(tap, stride, dilation, out, strict=True)
            seen = (slice(t * d, t * d + s * (m - 1) + 1, s) for t, s, d, m in places)
            total += np.einsum("nc...,oc->no...", of_x[:, :, *seen], of_w[:, :, *tap])
        parts.append(total)
    return np.concatenate(parts, 1)


@needs_library
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution(kernels: OneDnnKernels, core: Core, name: str) -> None:
    shape, of_w, *rest = CONVOLUTIONS[name]
    rng = np.random.default_rng(1)
    x, w = images(rng, shape), rng.standard_normal(of_w, dtype=np.float32)
    bias = rng.standard_normal(of_w[0], dtype=np.float32)
    expected = convolution64(x, w, *rest)
    close(kernels.conv.forward(x, w, None, *rest), expected)
    columns = bias.reshape(-1, *(1,) * (x.ndim - 2))
    close(kernels.conv.forward(np.ascontiguousarray(x), w, bias, *rest), expected + columns)
    g = images(rng, expected.shape)
    numpy = NUMPY_KERNELS.conv
    gx, gw = kernels.conv.backward(g, x, w, *rest)
    close(gx, numpy.grad_input(g, w, x.shape[2:], *rest))
    close(gw, numpy.grad_weight(g, x, w.shape, *rest))
    close(kernels.conv.grad_input(g, w, x.shape[2:], *rest), gx)
    assert gw.flags.c_contiguous and None not in made(core) and len(made(core)) >= 4


@needs_library
def test_planted_bug_is_caught(kernels: OneDnnKernels, monkeypatch: pytest.MonkeyPatch) -> None:
    x, w, *rest = CONVOLUTIONS["3x3"]
    rng = np.random.default_rng(2)
    values, weights = images(rng, x), rng.standard_normal(w, dtype=np.float32)
    monkeypatch.setattr(core_module, "address_of", lambda array: array.ctypes.data + (4 if array.ndim == 4 else 0))
    with pytest.raises(AssertionError):
        close(kernels.conv.forward(values, weights, None, *rest), convolution64(values, weights, *rest))


@needs_library
def test_other_dtypes_small_ones_and_empty_ones_are_numpys(kernels: OneDnnKernels) -> None:
    fresh = new_core()
    conv = OneDnnKernels(NUMPY_KERNELS, fresh).conv
    rest: Any = ((1, 1), ((0, 0), (0, 0)), (1, 1), 1)
    for shape, dtype in (((2, 3, 40, 40), np.float64), ((1, 3, 4, 4), np.float32), ((0, 3, 40, 40), np.float32)):
        x, w = np.ones(shape, dtype), np.ones((4, 3, 3, 3), dtype)
        result = conv.forward(x, w, None, *rest)
        assert result.dtype == dtype and (result == 27).all()
    assert fresh._local.thread is None


# ---- pooling ---------------------------------------------------------------------------------------------------------

# x, kernel, stride, padding, dilation, added to the output's size (ceil_mode)
POOLINGS = {
    "2x2": ((4, 16, 8, 8), (2, 2), (2, 2), (0, 0), (1, 1), 0),
    "3x3, overlapping": ((2, 20, 9, 9), (3, 3), (2, 2), (1, 1), (1, 1), 0),
    "dilated": ((2, 5, 12, 12), (3, 2), (1, 2), (1, 0), (2, 3), 0),
    "over the edge": ((2, 3, 8, 8), (3, 3), (2, 2), (0, 0), (1, 1), 1),
    "1-d": ((2, 3, 30), (3,), (3,), (0,), (1,), 0),
    "3-d": ((2, 8, 6, 6, 6), (2, 2, 2), (2, 2, 2), (0, 0, 0), (1, 1, 1), 0),
}


def pooled(shape: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, extra: int) -> tuple[int, ...]:
    """The output's size."""
    sizes = zip(shape[2:], kernel, stride, padding, dilation, strict=True)
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 + extra for n, k, s, p, d in sizes)


@needs_library
@pytest.mark.parametrize("name", POOLINGS)
def test_max_pool_has_the_bits_of_numpy(kernels: OneDnnKernels, core: Core, name: str) -> None:
    shape, *window, extra = POOLINGS[name]
    rng = np.random.default_rng(3)
    x = np.round(images(rng, shape), 1)  # so that there are ties
    out = pooled(shape, *window, extra)
    best, winners = kernels.pool.max_forward(x, out, *window)
    expected, places = NUMPY_KERNELS.pool.max_forward(x, out, *window)
    assert np.array_equal(best, expected) and np.array_equal(winners, places) and winners.dtype == places.dtype
    g = images(rng, best.shape)
    gx = kernels.pool.max_backward(g, winners, shape, *window)
    close(gx, NUMPY_KERNELS.pool.max_backward(g, places, shape, *window))
    assert (None in made(core)) == (name == "dilated")  # for which oneDNN has nothing fast


@needs_library
@pytest.mark.parametrize("name", [name for name in POOLINGS if name != "dilated"])
def test_sum_pool(kernels: OneDnnKernels, core: Core, name: str) -> None:
    shape, kernel, stride, padding, dilation, extra = POOLINGS[name]
    rng = np.random.default_rng(4)
    x, out = images(rng, shape), pooled(shape, kernel, stride, padding, dilation, extra)
    total = kernels.pool.sum_forward(x, out, kernel, stride, padding)
    close(total, NUMPY_KERNELS.pool.sum_forward(x, out, kernel, stride, padding))
    g = images(rng, total.shape)
    close(
        kernels.pool.sum_backward(g, shape, kernel, stride, padding),
        NUMPY_KERNELS.pool.sum_backward(g, shape, kernel, stride, padding),
    )
    assert None not in made(core)


@needs_library
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -3e38])
def test_max_pool_of_what_is_not_finite(kernels: OneDnnKernels, value: float) -> None:
    x = np.full((1, 16, 4, 4), value, dtype=np.float32)
    x[0, :8] = np.arange(16, dtype=np.float32).reshape(4, 4)
    x[0, 8:, 0, 0] = 1
    window: Any = ((2, 2), (2, 2), (2, 2), (0, 0), (1, 1))
    for found, expected in zip(
        kernels.pool.max_forward(x, *window), NUMPY_KERNELS.pool.max_forward(x, *window), strict=True
    ):
        assert np.array_equal(found, expected, equal_nan=True)


# ---- the same bits, threads, memory ----------------------------------------------------------------------------------


def conv_bits(kernels: OneDnnKernels, shift: int = 0) -> bytes:
    """The bytes of a convolution and its gradients of values that lie `shift` elements from an allocation's start."""
    rng = np.random.default_rng(5)
    shape, of_w, *rest = (8, 16, 16, 16), (32, 16, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1

    def moved(values: Any) -> Any:
        place = np.empty(values.size + shift, np.float32)[shift:].reshape(np.moveaxis(values, 1, -1).shape)
        place[...] = np.moveaxis(values, 1, -1)
        return np.moveaxis(place, -1, 1)

    x, w = moved(images(rng, shape)), rng.standard_normal(of_w, dtype=np.float32)
    y = kernels.conv.forward(x, w, None, *rest)
    gx, gw = kernels.conv.backward(moved(images(rng, y.shape)), x, w, *rest)
    pooled, _ = kernels.pool.max_forward(y, (8, 8), (2, 2), (2, 2), (0, 0), (1, 1))
    return b"".join(a.tobytes() for a in (y, gx, gw, pooled))


@needs_library
def test_bits_depend_on_values_only(kernels: OneDnnKernels) -> None:
    expected = conv_bits(kernels)
    junk = [np.full(n, np.nan, np.float32) for n in (4096, 65536, 1 << 20)]  # what freed memory may hold
    del junk
    for shift in (0, 1, 3, 16):
        assert conv_bits(kernels, shift) == expected
    assert conv_bits(OneDnnKernels(NUMPY_KERNELS, new_core())) == expected


def in_threads(count: int, work: Callable[[], Any]) -> list[Any]:
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(work())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


@needs_library
def test_ranks_as_threads(kernels: OneDnnKernels) -> None:
    expected = conv_bits(kernels)
    found = in_threads(3, lambda: {conv_bits(kernels) for _ in range(5)})
    assert found == [{expected}] * 3


@needs_library
def test_changing_shapes_do_not_grow_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_module, "PLANS", 4)
    fresh = new_core()
    pool = OneDnnKernels(NUMPY_KERNELS, fresh).pool
    for n in range(1, 9):
        total = pool.sum_forward(np.ones((n, 4, 4, 4), np.float32), (2, 2), (2, 2), (2, 2), (0, 0))
        assert (total == 4).all()
        assert len(made(fresh)) <= 4


@needs_library
def test_thread_limit_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = new_core()
    counts = []

    def look() -> None:
        fresh.plan(lambda local: counts.append(local.library.get_threads()))

    def limited() -> None:
        look()
        monkeypatch.setattr(_blas, "_limit", 3)
        look()

    in_threads(1, limited)
    assert counts[1] == 3
    assert in_threads(1, look) == [None] and counts[2] == 3  # a thread that begins later


# ---- finding and loading ---------------------------------------------------------------------------------------------


def test_setting() -> None:
    assert find("0") is None
    assert find("/somewhere/libdnnl.so.3") == "/somewhere/libdnnl.so.3"


def test_file_that_cannot_be_loaded_is_named_once() -> None:
    core = Core(lambda: load_or_warn("/nowhere/libdnnl.so.3"))
    conv = OneDnnKernels(NUMPY_KERNELS, core).conv
    x, w = np.ones((1, 3, 30, 30), np.float32), np.ones((4, 3, 3, 3), np.float32)
    reason = r"NumPy computes: /nowhere/libdnnl\.so\.3: cannot open.*DISTGRAD_ONEDNN=0"
    with pytest.warns(RuntimeWarning, match=reason) as seen:
        for _ in range(2):
            assert (conv.forward(x, w, None, (1, 1), ((0, 0), (0, 0)), (1, 1), 1) == 27).all()
    assert len(seen) == 1


def test_another_library_is_refused() -> None:
    with pytest.raises(OneDnnError, match=r"^libm\.so\.6: .*undefined symbol: dnnl_version; install"):
        load("libm.so.6")


def test_status_is_named() -> None:
    check("execute", 0)
    with pytest.raises(OneDnnError, match="dnnl_execute: out of memory"):
        check("execute", 1)
    with pytest.raises(Unsupported):
        check("describe", 3)


def run(program: str, setting: str) -> str:
    environment = {**os.environ, "DISTGRAD_ONEDNN": setting, "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", program]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120).stdout


@needs_library
def test_selection_in_a_process_of_its_own() -> None:
    program = (
        "import os, signal\n"
        "import distgrad as dg\n"
        "def mapped(): return any('libdnnl' in line for line in open('/proc/self/maps'))\n"
        "x = dg.ones(2, 3, 20, 20); begun = mapped()\n"
        "y = dg.nn.functional.conv2d(x, dg.ones(4, 3, 3, 3))\n"
        "print(begun, mapped(), y.sum().item(), flush=True)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    signal.alarm(60)  # it would wait for threads that only its parent has\n"
        "    os._exit(0 if (dg.nn.functional.conv2d(x, dg.ones(4, 3, 3, 3)) == 27).all() else 1)\n"
        "assert os.waitpid(child, 0)[1] == 0"
    )
    assert run(program, str(PATH)).split() == ["False", "True", str(2 * 4 * 18 * 18 * 27.0)]
    assert run(program, "0").split() == ["False", "False", str(2 * 4 * 18 * 18 * 27.0)]


@needs_library
@pytest.mark.parametrize("threads", [1, 2])
def test_products_are_those_of_the_blas_where_there_are_threads(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    """Two pools of threads on the same cores took four times as long as one."""
    monkeypatch.setattr(core_module, "thread_limit", lambda: threads)
    assert (new_core().plan(core_module.Products) is not None) == (threads == 1)


@pytest.mark.parametrize("chosen", [None, "active"])
def test_openmp_is_loaded_with_threads_that_sleep(monkeypatch: pytest.MonkeyPatch, chosen: str | None) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if chosen:
        monkeypatch.setenv("OMP_WAIT_POLICY", chosen)
    with openmp_that_sleeps():
        assert os.environ.get("GOMP_SPINCOUNT") == (None if chosen else "0")
    assert "GOMP_SPINCOUNT" not in os.environ
