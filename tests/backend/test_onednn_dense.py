"""oneDNN's products, activations, softmax, normalisation: beside float64 references and NumPy's kernels."""

import itertools
import math
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from distgrad.backend._numpy import NUMPY_KERNELS as NUMPY
from distgrad.backend._onednn import Core, OneDnnKernels, _core
from distgrad.backend._onednn._library import OFF, find, load

pytestmark = pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")


def _path() -> str | None:
    return find(os.environ.get("DISTGRAD_TEST_ONEDNN", ""))


@pytest.fixture(scope="module")
def kernels() -> OneDnnKernels:
    path = _path()
    library = None if path is None or path == OFF else load(path)
    if library is None:
        pytest.skip("no oneDNN: install onednn-cpu-gomp, or name a libdnnl in DISTGRAD_TEST_ONEDNN")
    return OneDnnKernels(NUMPY, Core(lambda: library))


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """With several, oneDNN leaves products to the BLAS."""
    monkeypatch.setattr(_core, "thread_limit", lambda: 1)


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, dtype=np.float32)


def plans(family: Any) -> list[Any]:
    """The plans that this thread has made."""
    return list(family._core._local.thread.plans.values())


def close(value: Any, reference: Any, tolerance: float = 2e-6) -> None:
    """Equal within a share of the reference's largest value."""
    assert value.dtype == np.float32
    assert value.shape == reference.shape
    assert np.abs(value - reference).max() <= tolerance * max(1.0, np.abs(reference).max())


# ---- products --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [160, 24])
@pytest.mark.parametrize("bias", [True, False])
def test_linear(kernels: OneDnnKernels, bias: bool, columns: int) -> None:
    x, w, b = normal(512, 96), normal(columns, 96), normal(columns) if bias else None
    result = kernels.products.linear(x, w, b)
    close(result, x.astype("f8") @ w.T.astype("f8") + (0 if b is None else b))
    assert plans(kernels.products)


@pytest.mark.parametrize(
    "make",
    [
        lambda: (normal(128, 96), normal(96, 160)),
        lambda: (normal(128, 96), normal(160, 96).T),
        lambda: (normal(96, 128).T, normal(96, 160)),
        lambda: (normal(96, 128).T, normal(96, 256)),
        lambda: (normal(160, 128).T, normal(256, 160).T),
        lambda: (normal(64, 160), normal(160, 1024)),
        lambda: (normal(64, 512), normal(128, 512).T),
        lambda: (normal(128, 192)[:, ::2], normal(96, 160)),
        lambda: (normal(3, 128, 96), normal(3, 96, 128)),
        lambda: (normal(2, 128, 3, 96).swapaxes(1, 2), normal(2, 128, 3, 96).transpose(0, 2, 3, 1)),
        lambda: (normal(4, 64, 96), normal(96, 64)),
        lambda: (np.broadcast_to(normal(128, 96), (3, 128, 96)), normal(3, 96, 128)),
        lambda: (normal(2048, 640), normal(640)),
    ],
    ids=[
        "rows", "columns", "transposed", "wide transposed", "both transposed", "4 KiB", "long", "gaps", "stack",
        "strided stack", "one for all", "expanded", "vector",
    ],
)  # fmt: skip
def test_matmul(kernels: OneDnnKernels, make: Callable[[], tuple[Any, Any]]) -> None:
    x, y = make()
    close(kernels.products.matmul(x, y), x.astype("f8") @ y.astype("f8"))


def test_matmul_into_memory_of_the_caller(kernels: OneDnnKernels) -> None:
    x, y = normal(128, 96), normal(96, 160)
    for memory in (np.full((128, 160), np.nan, np.float32), np.empty((128, 320), np.float32)[:, ::2]):
        assert kernels.products.matmul(x, y, memory) is memory
        close(memory, x.astype("f8") @ y.astype("f8"))


def test_products_of_nothing_and_of_misfits(kernels: OneDnnKernels) -> None:
    assert kernels.products.matmul(normal(0, 5), normal(5, 3)).shape == (0, 3)
    assert (kernels.products.matmul(np.empty((400, 0), "f4"), np.empty((0, 4000), "f4")) == 0).all()
    for call in (
        lambda: kernels.products.matmul(normal(128, 96), normal(97, 160)),
        lambda: kernels.products.linear(normal(128, 96), normal(160, 97), None),
        lambda: kernels.products.linear(normal(128, 96), normal(160, 96), normal(161)),
    ):
        with pytest.raises(ValueError):
            call()


def test_products_carry_nan_and_inf(kernels: OneDnnKernels) -> None:
    x, w = normal(128, 96), normal(160, 96)
    x[3, 5], x[4, 6] = np.nan, np.inf
    result = kernels.products.linear(x, w, normal(160))
    assert np.isnan(result[3]).all() and np.isinf(result[4]).all()
    assert np.isfinite(np.delete(result, [3, 4], axis=0)).all()


# ---- activations -----------------------------------------------------------------------------------------------------


def _cdf(x: Any) -> Any:
    return 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def _gelu_slope(x: Any, by_tanh: bool) -> Any:
    if not by_tanh:
        return _cdf(x) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    c, cube = math.sqrt(2 / math.pi), 0.044715
    t = np.tanh(c * (x + cube * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * cube * x * x)


LAYOUTS = {
    "contiguous": lambda x: x,
    "channels last": lambda x: np.ascontiguousarray(np.moveaxis(x, 1, -1)).transpose(0, 3, 1, 2),
    "gaps": lambda x: np.repeat(x, 2, axis=3)[..., ::2],
    "backwards": lambda x: x[:, ::-1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("by_tanh", [False, True])
def test_gelu(kernels: OneDnnKernels, by_tanh: bool, layout: str) -> None:
    x, g = LAYOUTS[layout](3 * normal(2, 8, 9, 10)), normal(2, 8, 9, 10, seed=1)
    wide = x.astype("f8")
    argument = math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)
    exact = wide * (0.5 * (1 + np.tanh(argument)) if by_tanh else _cdf(wide))
    y = kernels.activation.gelu(x, by_tanh)
    close(y, exact)
    close(kernels.activation.gelu_backward(g, x, y, by_tanh), g * _gelu_slope(wide, by_tanh))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_silu(kernels: OneDnnKernels, layout: str) -> None:
    x, g = LAYOUTS[layout](3 * normal(2, 8, 9, 10)), normal(2, 8, 9, 10, seed=1)
    wide = x.astype("f8")
    s = 1 / (1 + np.exp(-wide))
    close(kernels.activation.silu(x), wide * s)
    close(kernels.activation.silu_backward(g, x), g * s * (1 + wide * (1 - s)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_relu_backward(kernels: OneDnnKernels, layout: str) -> None:
    y, g = LAYOUTS[layout](np.maximum(normal(4, 16, 16, 20), 0)), normal(4, 16, 16, 20, seed=1)
    assert (kernels.activation.relu_backward(g, y) == np.where(y > 0, g, 0)).all()


def test_activations_of_nan_and_inf_are_numpys(kernels: OneDnnKernels) -> None:
    x = normal(512)
    x[:6] = np.nan, np.inf, -np.inf, 0, 1e30, -1e30
    for by_tanh in (False, True):
        ours, theirs = (k.activation.gelu(x, by_tanh) for k in (kernels, NUMPY))
        assert (np.isnan(ours) == np.isnan(theirs)).all() and np.allclose(ours, theirs, equal_nan=True, atol=2e-6)
    assert np.allclose(kernels.activation.silu(x), NUMPY.activation.silu(x), equal_nan=True, atol=2e-6)


# ---- softmax ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(64, 100), (3, 8, 65), (2000,), (2048, 1)])
def test_softmax(kernels: OneDnnKernels, shape: tuple[int, ...]) -> None:
    x, g = 5 * normal(*shape), normal(*shape, seed=1)
    wide = x.astype("f8")
    e = np.exp(wide - wide.max(-1, keepdims=True))
    y = e / e.sum(-1, keepdims=True)
    close(kernels.softmax.softmax(x, -1), y)
    close(kernels.softmax.log_softmax(x, x.ndim - 1), np.log(y))
    close(kernels.softmax.softmax_backward(g, y.astype("f4"), -1), y * (g - (g * y).sum(-1, keepdims=True)))
    log = np.log(y).astype("f4")
    close(kernels.softmax.log_softmax_backward(g, log, -1), g - y * g.sum(-1, keepdims=True), 1e-5)


def test_softmax_of_nan_and_inf_is_numpys(kernels: OneDnnKernels) -> None:
    for wrong in ([np.nan], [np.inf], [-np.inf], [-np.inf] * 40, [np.inf, -np.inf]):
        x = normal(32, 40)
        x[7, : len(wrong)] = wrong
        for name in ("softmax", "log_softmax"):
            ours, theirs = (getattr(k.softmax, name)(x, 1) for k in (kernels, NUMPY))
            assert np.allclose(ours, theirs, equal_nan=True, atol=1e-5)
    assert kernels.softmax.softmax(np.empty((0, 4), "f4"), 1).shape == (0, 4)


# ---- normalisation ---------------------------------------------------------------------------------------------------

AFFINE = [(True, True), (True, False), (False, True), (False, False)]


def _normalised(x: Any, axes: Any, eps: float) -> tuple[Any, Any, Any]:
    wide = x.astype("f8")
    mean, var = wide.mean(axes, keepdims=True), wide.var(axes, keepdims=True)
    return (wide - mean) / np.sqrt(var + eps), mean, 1 / np.sqrt(var + eps)


def _slope(h: Any, xhat: Any, invstd: Any, axes: Any) -> Any:
    return invstd * (h - h.mean(axes, keepdims=True) - xhat * (h * xhat).mean(axes, keepdims=True))


@pytest.mark.parametrize(("scale", "shift"), AFFINE)
@pytest.mark.parametrize("offset", [0, 100])
def test_layer_norm(kernels: OneDnnKernels, scale: bool, shift: bool, offset: float) -> None:
    x, g = normal(40, 33) + np.float32(offset), normal(40, 33, seed=1)
    w, b = normal(33) if scale else None, normal(33, seed=1) if shift else None
    xhat, mean, invstd = _normalised(x, 1, 1e-5)
    out, *statistics = kernels.norm.layer_forward(x, w, b, 1e-5)
    tolerance = 2e-6 if not offset else 2e-5
    close(out, xhat * (1 if w is None else w) + (0 if b is None else b), tolerance)
    close(statistics[0], mean)
    close(statistics[1], invstd)
    gx, gw, gb = kernels.norm.layer_backward(g, x, *statistics, w, (True, True, True))
    close(gx, _slope(g * (1 if w is None else w), xhat, invstd, 1), tolerance)
    close(gw, (g * xhat).sum(0), tolerance)
    close(gb, g.sum(0, dtype="f8"))
    assert kernels.norm.layer_backward(g, x, *statistics, w, (False, True, False))[::2] == (None, None)


@pytest.mark.parametrize(("scale", "shift"), AFFINE)
@pytest.mark.parametrize("shape", [(8, 16, 5, 6), (32, 8, 32, 32), (6, 10, 40), (64, 33), (2, 3, 4, 5, 11)])
@pytest.mark.parametrize("last", [True, False])
def test_batch_norm(kernels: OneDnnKernels, shape: tuple[int, ...], scale: bool, shift: bool, last: bool) -> None:
    c, axes = shape[1], (0, *range(2, len(shape)))
    x, g = normal(*shape), normal(*shape, seed=1)
    if last:
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    w, b = normal(c) if scale else None, normal(c, seed=1) if shift else None
    each = (1, c) + (1,) * (len(shape) - 2)
    xhat, mean, invstd = _normalised(x, axes, 1e-5)
    out, m, v, s = kernels.norm.batch_forward(x, w, b, 1e-5)
    factor = 1 if w is None else w.reshape(each)
    close(out, xhat * factor + (0 if b is None else b.reshape(each)))
    close(m, mean.reshape(c))
    close(v, x.astype("f8").var(axes))
    close(s, invstd.reshape(c))
    assert out.strides == NUMPY.norm.batch_forward(x, w, b, 1e-5)[0].strides
    gx, gw, gb = kernels.norm.batch_backward(g, x, m, s, w, (True, True, True))
    close(gx, _slope(g * factor, xhat, invstd, axes))
    close(gw, (g * xhat).sum(axes), 4e-6)
    close(gb, g.sum(axes, dtype="f8"))


def test_norms_of_nan_and_inf(kernels: OneDnnKernels) -> None:
    x = normal(40, 33)
    x[3, 4], x[5, 6] = np.nan, np.inf
    out = kernels.norm.layer_forward(x, None, None, 1e-5)[0]
    assert np.isnan(out[[3, 5]]).all() and np.isfinite(np.delete(out, [3, 5], axis=0)).all()
    out = kernels.norm.batch_forward(x, None, None, 1e-5)[0]
    assert np.isnan(out[:, [4, 6]]).all() and np.isfinite(np.delete(out, [4, 6], axis=1)).all()


# ---- optimizers ------------------------------------------------------------------------------------------------------

Options = tuple[float, bool, bool]  # weight decay, decoupled, maximize


def _adam_state(size: int) -> list[Any]:
    p, g, m, v = (normal(size, seed=i) for i in range(4))
    return [p, g, m / 10, v * v / 10]


def _adam(kernels: Any, arrays: list[Any], options: Options, step: int = 3, eps: float = 1e-8) -> list[Any]:
    kernels.optim.adam(*arrays, None, 1e-2, 0.9, 0.999, eps, *options, step)
    return arrays


@pytest.mark.parametrize("options", [(0.0, False, False), (0.1, True, False), (0.1, False, False), (0.1, True, True)])
@pytest.mark.parametrize("size", [1, 100, 140_001])
def test_adam(kernels: OneDnnKernels, size: int, options: Options) -> None:
    start = _adam_state(size)
    ours = _adam(kernels, [a.copy() for a in start], options)
    exact = _adam(NUMPY, [a.astype("f8") for a in start], options)
    for found, expected in zip(ours, exact, strict=True):
        close(found, expected, 5e-7)
    assert (ours[1] == start[1]).all()


def test_adam_over_many_steps(kernels: OneDnnKernels) -> None:
    ours = _adam_state(300)
    exact = [a.astype("f8") for a in ours]
    for step in range(1, 60):
        ours[1][...] = exact[1][...] = normal(300, seed=step)
        _adam(kernels, ours, (0.01, True, False), step)
        _adam(NUMPY, exact, (0.01, True, False), step)
    close(ours[0], exact[0], 5e-6)


def test_an_element_does_not_see_with_how_many_others_it_is_updated(kernels: OneDnnKernels) -> None:
    """Ranks update slices of the arena, and must get the bits of the whole."""
    whole = _adam(kernels, _adam_state(140_001), (0.1, True, False))
    parts = _adam_state(140_001)
    for stop, start in itertools.pairwise([140_001, 100_000, 1064, 1000, 7, 1, 0]):
        _adam(kernels, [a[start:stop] for a in parts], (0.1, True, False))
    for ours, again in zip(whole, parts, strict=True):
        assert ours.tobytes() == again.tobytes()


def test_adam_with_nan_inf_and_zero(kernels: OneDnnKernels) -> None:
    for eps in (0.0, 1e-8):
        start = _adam_state(100)
        start[1][:4] = np.nan, np.inf, -np.inf, 0
        start[2][4] = start[3][4] = start[1][4] = 0
        with np.errstate(all="ignore"):
            ours, theirs = (_adam(k, [a.copy() for a in start], (0.0, True, False), eps=eps) for k in (kernels, NUMPY))
        for found, expected in zip(ours, theirs, strict=True):
            assert (np.isnan(found) == np.isnan(expected)).all()
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


# ---- all -------------------------------------------------------------------------------------------------------------


def _everything(kernels: Any, copy: Callable[[Any], Any]) -> list[Any]:
    """What each kernel gives, for arrays that `copy` has put somewhere."""
    x, g, w, b = (copy(a) for a in (normal(128, 96), normal(128, 96, seed=1), normal(96), normal(96, seed=1)))
    images, y = np.moveaxis(copy(normal(4, 5, 6, 16)), -1, 1), kernels.softmax.softmax(x, 1)
    norm, out = kernels.norm, [y, kernels.softmax.log_softmax(x, 1), kernels.softmax.softmax_backward(g, y, 1)]
    rows, batch = norm.layer_forward(x, w, b, 1e-5), norm.batch_forward(images, w[:16], b[:16], 1e-5)
    out += [*rows, *norm.layer_backward(g, x, *rows[1:], w, (True, True, True)), *batch]
    out += norm.batch_backward(images, images, batch[1], batch[3], w[:16], (True, True, True))
    out += [kernels.activation.gelu(x, False), kernels.activation.gelu_backward(g, x, x, False)]
    weight = copy(normal(160, 96))
    return [*out, kernels.products.linear(x, weight, None), kernels.products.matmul(x, weight.T)]


def _shifted(x: Any) -> Any:
    """The same at another place, not aligned to a vector."""
    memory = np.full(x.size + 3, np.nan, np.float32)
    moved = memory[3:].reshape(x.shape)
    moved[...] = x
    return moved


def test_the_same_bits_wherever_arrays_lie_and_on_any_thread(kernels: OneDnnKernels) -> None:
    first = _everything(kernels, np.array)
    results: dict[int, list[Any]] = {}

    def work(number: int) -> None:
        for _ in range(5):
            results[number] = _everything(kernels, _shifted if number % 2 else np.array)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert len(results) == 4
    for found in (*results.values(), _everything(kernels, _shifted)):
        for ours, again in zip(first, found, strict=True):
            assert ours.tobytes() == again.tobytes()


def test_other_dtypes_are_numpys(kernels: OneDnnKernels) -> None:
    x, w = normal(128, 96).astype("f8"), normal(160, 96).astype("f8")
    assert (kernels.products.linear(x, w, None) == NUMPY.products.linear(x, w, None)).all()
    assert (kernels.activation.gelu(x, False) == NUMPY.activation.gelu(x, False)).all()
    assert (kernels.softmax.softmax(x, 1) == NUMPY.softmax.softmax(x, 1)).all()
    ours, theirs = (k.norm.layer_forward(x, None, None, 1e-5)[0] for k in (kernels, NUMPY))
    assert (ours == theirs).all()


def test_without_a_library_all_is_numpys() -> None:
    without = OneDnnKernels(NUMPY, Core(lambda: None))
    for ours, theirs in zip(_everything(without, np.array), _everything(NUMPY, np.array), strict=True):
        assert ours.tobytes() == theirs.tobytes()


def test_a_planted_bug_is_seen(kernels: OneDnnKernels, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of GELU fails where the kernel takes another algorithm's number."""
    monkeypatch.setattr("distgrad.backend._onednn._activation._GELU_ERF", 0x2B)
    with pytest.raises(AssertionError):
        test_gelu(kernels, False, "contiguous")
