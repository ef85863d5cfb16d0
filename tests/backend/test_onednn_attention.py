"""Attention by oneDNN beside NumPy's in float64; without the library it is skipped."""

import functools
import os
from typing import Any

import numpy as np
import pytest

from distgrad.backend._numpy import NUMPY_KERNELS
from distgrad.backend._onednn import Core, OneDnnKernels, _attention, _core
from distgrad.backend._onednn._library import Library, find

PATH = find(os.environ.get("DISTGRAD_TEST_ONEDNN", ""))
pytestmark = pytest.mark.skipif(PATH is None, reason="onednn-cpu-gomp is not installed")
NUMPY = NUMPY_KERNELS.attention


@functools.lru_cache(1)
def library() -> Library:
    return Library(str(PATH))


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> OneDnnKernels:
    """On one thread, for with several oneDNN leaves products to the BLAS; small blocks are taken, too."""
    monkeypatch.setattr(_core, "thread_limit", lambda: 1)
    monkeypatch.setattr(_attention, "SMALL", 0)
    monkeypatch.setattr(_attention, "SMALL_ROWS", 0)
    return OneDnnKernels(NUMPY_KERNELS, Core(library))


def packed(b: int, h: int, length: int, width: int, shift: int = 0) -> list[Any]:
    """q, k and v (B, H, L, E) as parts of the rows of one array, which begins `shift` elements after an aligned place,
    and the gradient of the result.
    """
    rng = np.random.default_rng(0)
    memory = np.empty(b * length * 3 * h * width + shift, np.float32)[shift:]
    memory[...] = rng.standard_normal(memory.size)
    parts = memory.reshape(b, length, 3, h, width).transpose(2, 0, 3, 1, 4)
    return [*parts, rng.standard_normal((b, length, h, width), dtype=np.float32).transpose(0, 2, 1, 3)]


def separate(b: int, h: int, length: int, keys: int, width: int, value: int) -> list[Any]:
    rng = np.random.default_rng(1)
    shapes = (length, width), (keys, width), (keys, value), (length, value)
    return [rng.standard_normal((b, h, *shape), dtype=np.float32) for shape in shapes]


def both_ways(attention: Any, arrays: list[Any], mask: Any, keep: Any, causal: bool, again: bool = False) -> list[Any]:
    """The result and all gradients; with the weights computed `again`, if so."""
    q, k, v, g = arrays
    rest = mask, keep, causal, 0.3, 0.25 if keep is not None else 0.0
    out, saved = attention.forward(q, k, v, *rest)
    added = mask is not None and mask.dtype != np.bool_
    gradients = attention.backward(g, q, k, v, None if again else saved, *rest, added)
    return [out, *gradients[: 4 if added else 3]]


CASES = {
    "packed": (lambda: packed(2, 3, 150, 16), False, None),
    "packed causal": (lambda: packed(2, 3, 150, 16), True, None),
    "cross": (lambda: separate(2, 2, 20, 33, 12, 24), False, None),
    "causal with more keys": (lambda: separate(2, 2, 70, 90, 8, 16), True, None),
    "causal with fewer keys": (lambda: separate(2, 2, 90, 70, 8, 16), True, None),
    "added mask": (lambda: separate(2, 2, 20, 33, 12, 24), False, "added"),
    "boolean mask": (lambda: separate(2, 2, 20, 33, 12, 24), False, "boolean"),
    "dropout": (lambda: separate(2, 2, 20, 33, 12, 24), False, "dropout"),
    "long rows": (lambda: separate(1, 2, 20, 300, 8, 8), False, None),
}


def case(name: str) -> tuple[list[Any], Any, Any, bool]:
    make, causal, kind = CASES[name]
    arrays = make()
    shape = *arrays[0].shape[:3], arrays[1].shape[2]
    drawn = np.random.default_rng(2).standard_normal(shape, dtype=np.float32)
    mask = drawn if kind == "added" else drawn > 0 if kind == "boolean" else None
    if kind == "boolean":
        mask[0, 0, 3] = False  # a row that sees nothing
    return arrays, mask, drawn > -1 if kind == "dropout" else None, causal


def check(kernels: OneDnnKernels, name: str) -> None:
    arrays, mask, keep, causal = case(name)
    wide = [a.astype("f8") for a in arrays]
    with np.errstate(all="ignore"):
        found = both_ways(kernels.attention, arrays, mask, keep, causal)
        exact = both_ways(NUMPY, wide, mask.astype("f8") if name == "added mask" else mask, keep, causal)
    for value, reference in zip(found, exact, strict=True):
        assert value.dtype == np.float32 and value.shape == reference.shape
        assert np.abs(value - reference).max() <= 3e-6 * max(1.0, np.abs(reference).max())


@pytest.mark.parametrize("name", CASES)
def test_attention(kernels: OneDnnKernels, name: str) -> None:
    check(kernels, name)
    thread = kernels.products._core._local.thread
    made = {} if thread is None else thread.plans
    used = any(plan is not None for key, plan in made.items() if key[0] is _attention._Product)
    assert used == (name != "long rows")


def test_weights_of_long_rows_are_computed_again(kernels: OneDnnKernels, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CASES:
        kept, again = [], []
        with np.errstate(all="ignore"):
            for found, limit in ((kept, 1 << 20), (again, 0)):
                monkeypatch.setattr("distgrad.backend._numpy._attention._KEPT", limit)
                for attention in (kernels.attention, NUMPY):
                    found += both_ways(attention, *case(name))
        for one, other in zip(kept, again, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_what_was_saved_may_be_gone(kernels: OneDnnKernels) -> None:
    """As after a pass that made a graph."""
    for attention in (kernels.attention, NUMPY):
        kept, again = (both_ways(attention, *case("packed causal"), again=again) for again in (False, True))
        assert [a.tobytes() for a in kept] == [a.tobytes() for a in again]


def test_the_same_bits_wherever_arrays_lie(kernels: OneDnnKernels) -> None:
    first, *others = [
        both_ways(kernels.attention, packed(2, 3, 150, 16, shift), None, None, True) for shift in (0, 3, 5, 0)
    ]
    for found in others:
        assert [a.tobytes() for a in found] == [a.tobytes() for a in first]


def test_nan_and_infinite_scores_are_numpys(kernels: OneDnnKernels) -> None:
    for value in (np.nan, np.inf):
        arrays = separate(1, 2, 20, 33, 12, 24)
        arrays[0][0, 1, 3, 5] = value
        with np.errstate(all="ignore"):
            ours, theirs = (both_ways(k, arrays, None, None, False) for k in (kernels.attention, NUMPY))
        for found, expected in zip(ours, theirs, strict=True):
            assert (np.isnan(found) == np.isnan(expected)).all()
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_planted_bug_is_seen(kernels: OneDnnKernels, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradients of keys are those of all blocks of rows, not of the last one alone."""
    monkeypatch.setattr(_attention.OneDnnSteps, "add_product", _attention.OneDnnSteps.product)
    check(kernels, "packed")
    with pytest.raises(AssertionError):
        check(kernels, "packed causal")
