"""Recurrent layers by oneDNN against the NumPy kernels in float64; without the library they are skipped."""

import functools
import os
import threading
from typing import Any

import numpy as np
import pytest

from distgrad.backend._numpy import NUMPY_KERNELS
from distgrad.backend._onednn import Core, _rnn
from distgrad.backend._onednn._library import Library, find

PATH = find(os.environ.get("DISTGRAD_TEST_ONEDNN", ""))
pytestmark = pytest.mark.skipif(PATH is None, reason="onednn-cpu-gomp is not installed")
KINDS = {"lstm": 4, "gru": 3, "simple": 1}


@functools.lru_cache(1)
def library() -> Library:
    return Library(str(PATH))


@pytest.fixture
def core() -> Core:
    return Core(library)


@pytest.fixture
def family(core: Core, monkeypatch: pytest.MonkeyPatch) -> _rnn.OneDnnRnn:
    """Kernels that take few steps, too."""
    monkeypatch.setattr(_rnn, "STEPS", 0)
    return _rnn.OneDnnRnn(core, NUMPY_KERNELS.rnn)


def layer(kind: str, sizes: tuple[int, ...], inputs: int, width: int, biases: bool = True) -> list[Any]:
    """Input, states, weights and biases in float32."""
    rng = np.random.default_rng(3)
    gates, batch = KINDS[kind], sizes[0]
    states = [(batch, width)] * (2 if kind == "lstm" else 1)
    shapes = [(sum(sizes), inputs), *states, (gates * width, inputs), (gates * width, width)]
    arrays = [rng.uniform(-1, 1, s).astype(np.float32) for s in shapes]
    given = [rng.uniform(-1, 1, gates * width).astype(np.float32) for _ in range(2)] if biases else [None, None]
    return [*arrays, *given]


def results(kernels: Any, kind: str, arrays: list[Any], sizes: tuple[int, ...], *rest: bool) -> list[Any]:
    """Outputs, last states and all gradients, from gradients that are functions of the shapes."""
    x, h, *more = arrays
    wx, wh = arrays[-4:-2]
    out = getattr(kernels, f"{kind}_forward")(*arrays, sizes, *rest)
    rng = np.random.default_rng(4)
    g, gh, gc = (rng.standard_normal(s).astype(x.dtype) for s in (out[0].shape, h.shape, h.shape))
    if kind == "lstm":
        return [*out[:3], *kernels.lstm_backward(g, gh, gc, out[3], more[0], x, wx, wh, sizes, *rest)]
    if kind == "gru":
        return [*out[:2], *kernels.gru_backward(g, gh, out[2], h, x, wx, wh, sizes, *rest)]
    return [*out[:2], *kernels.simple_backward(g, gh, out[2], x, wx, wh, sizes, *rest)]


def in_float64(kind: str, arrays: list[Any], sizes: tuple[int, ...], *rest: bool) -> list[Any]:
    exact = [None if a is None else a.astype(np.float64) for a in arrays]
    return results(NUMPY_KERNELS.rnn, kind, exact, sizes, *rest)


def far(found: list[Any], expected: list[Any]) -> float:
    """The largest difference of two lists of arrays, each relative to the largest number of its pair."""
    assert [f.shape for f in found] == [e.shape for e in expected]
    return max(float(np.abs(f - e).max() / np.abs(e).max()) for f, e in zip(found, expected, strict=True))


def options(kind: str, reverse: bool, by_relu: bool = False) -> tuple[bool, ...]:
    return (reverse, by_relu) if kind == "simple" else (reverse,)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("sizes", "inputs", "width"), [((3,) * 4, 5, 7), ((8,) * 3, 16, 32), ((1,) * 3, 1, 1)])
def test_outputs_and_gradients(family: Any, kind: str, reverse: bool, sizes: Any, inputs: int, width: int) -> None:
    arrays = layer(kind, sizes, inputs, width)
    found = results(family, kind, arrays, sizes, *options(kind, reverse))
    assert all(a.dtype == np.float32 for a in found)
    assert far(found, in_float64(kind, arrays, sizes, *options(kind, reverse))) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_without_biases(family: Any, kind: str) -> None:
    arrays = layer(kind, (4,) * 3, 6, 8, biases=False)
    rest = options(kind, False, True)
    assert far(results(family, kind, arrays, (4,) * 3, *rest), in_float64(kind, arrays, (4,) * 3, *rest)) < 1e-5


def test_of_a_size_that_is_taken(core: Core) -> None:
    """Primitives ran, one each way."""
    family = _rnn.OneDnnRnn(core, NUMPY_KERNELS.rnn)
    sizes = (16,) * 8
    for kind in KINDS:
        arrays = layer(kind, sizes, 64, 64)
        rest = options(kind, False)
        scaled = [a * np.float32(0.1) for a in arrays]
        assert far(results(family, kind, scaled, sizes, *rest), in_float64(kind, scaled, sizes, *rest)) < 1e-5
    assert core._local.thread is not None and len(core._local.thread.plans) == 6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ["float64", "lengths", "few"])
def test_what_numpy_computes(core: Core, kind: str, case: str) -> None:
    """The same bits as the NumPy family, and no plan made."""
    family = _rnn.OneDnnRnn(core, NUMPY_KERNELS.rnn)
    sizes = (4,) * 8 + (3,) if case == "lengths" else (4,) * 3 if case == "few" else (4,) * 8
    arrays = layer(kind, sizes, 16, 16)
    if case == "float64":
        arrays = [a.astype(np.float64) for a in arrays]
    found = results(family, kind, arrays, sizes, *options(kind, False))
    expected = results(NUMPY_KERNELS.rnn, kind, arrays, sizes, *options(kind, False))
    assert all(np.array_equal(f, e) for f, e in zip(found, expected, strict=True))
    assert core._local.thread is None


@pytest.mark.parametrize("kind", KINDS)
def test_arguments_that_do_not_fit(family: Any, kind: str) -> None:
    """They are left to NumPy: oneDNN would read past their ends."""
    sizes, rest = (3,) * 4, options(kind, False)
    x, h, *more = layer(kind, sizes, 5, 7)
    cell = {"lstm": _rnn.LSTM, "gru": _rnn.GRU, "simple": _rnn.TANH}[kind]
    states, (wx, wh) = (h, *more[:-4]), more[-4:-2]
    assert family._plan(cell, x, states, wx, wh, sizes, False) is not None
    for wrong in ((x[:, :4], states), (x[:9], states), (x, (*states[:-1], h[:2])), (x, (*states[:-1], h[:, :6]))):
        assert family._plan(cell, *wrong, wx, wh, sizes, False) is None
    empty = [x[:0], h[:0], *(a[:0] if kind == "lstm" and i == 0 else a for i, a in enumerate(more))]
    assert getattr(family, f"{kind}_forward")(*empty, (0,) * 4, *rest)[0].shape == (0, 7)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_that_are_absent(family: Any, kind: str) -> None:
    """Only the last state was used, or only the outputs; a second pass from what forward kept gives the same."""
    sizes, rest = (3,) * 4, options(kind, False)
    arrays = layer(kind, sizes, 5, 7)
    x, h, *more = arrays
    wx, wh = arrays[-4:-2]
    out = getattr(family, f"{kind}_forward")(*arrays, sizes, *rest)

    def backward(g: Any, gh: Any) -> list[Any]:
        if kind == "lstm":
            return list(family.lstm_backward(g, gh, None, out[3], more[0], x, wx, wh, sizes, *rest))
        if kind == "gru":
            return list(family.gru_backward(g, gh, out[2], h, x, wx, wh, sizes, *rest))
        return list(family.simple_backward(g, gh, out[2], x, wx, wh, sizes, *rest))

    g, gh = np.ones_like(out[0]), np.ones_like(h)
    both, parts = backward(g, gh), (backward(g, None), backward(None, gh))
    assert far([a + b for a, b in zip(*parts, strict=True)], both) < 1e-5
    assert all(np.array_equal(a, b) for a, b in zip(backward(g, gh), both, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bits_on_every_thread_and_wherever_arrays_lie(family: Any, kind: str) -> None:
    sizes, rest = (8,) * 5, options(kind, False)
    arrays = layer(kind, sizes, 16, 24)
    first = results(family, kind, arrays, sizes, *rest)
    found: list[list[Any]] = []

    def compute(shift: int) -> None:
        moved = []
        for a in arrays:
            memory = np.empty(a.size + shift, dtype=np.float32)
            memory[shift:] = a.ravel()
            moved.append(memory[shift:].reshape(a.shape))
        found.append([r for _ in range(3) for r in results(family, kind, moved, sizes, *rest)])

    threads = [threading.Thread(target=compute, args=(shift,)) for shift in (0, 1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 3
    assert all(np.array_equal(a, b) for each in found for a, b in zip(each, first * 3, strict=True))


def test_a_planted_bug_is_found(family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gates of a GRU in the order of torch."""
    monkeypatch.setattr(_rnn, "_SWAPPED", [0, 1, 2])
    sizes, arrays = (3,) * 4, layer("gru", (3,) * 4, 5, 7)
    assert far(results(family, "gru", arrays, sizes, False), in_float64("gru", arrays, sizes, False)) > 1e-3
