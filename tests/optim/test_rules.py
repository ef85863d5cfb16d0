"""Every optimizer against its rule in `reference`, on several parameters that it updates as one run."""

from typing import Any

import numpy as np
import pytest

import distgrad
from distgrad import optim
from distgrad.backend._array_optim import ArrayOptim
from distgrad.backend._numpy import _blocks
from tests.optim.reference import CASES, RULES

SHAPES = [(3, 4), (5,), (), (2, 3, 2), (0, 2)]
STEPS = 9


def parameters(dtype: Any = "float64", seed: int = 0) -> list[distgrad.Parameter]:
    rng = np.random.default_rng(seed)
    return [distgrad.Parameter(distgrad.tensor(rng.standard_normal(shape).astype(dtype))) for shape in SHAPES]


def gradient_of(p: Any, step: int) -> Any:
    """A made-up gradient that changes its sign at times; 0 somewhere."""
    g = np.asarray(p * np.cos(step * 2.0 + np.arange(p.size).reshape(p.shape)), p.dtype)
    if g.ndim == 1:
        g[0] = 0
    return g


def check_rule(name: str, options: dict[str, Any], dtype: str = "float64", tolerance: float = 1e-12) -> None:
    params = parameters(dtype)
    want = [p.detach().numpy().astype(dtype).copy() for p in params]
    states: list[dict[str, Any]] = [{} for _ in params]
    optimizer = getattr(optim, name)(params, lr=0.01, **options)
    for step in range(STEPS):
        for i, p in enumerate(params):
            p.grad = distgrad.tensor(gradient_of(p.detach().numpy(), step))
            want[i] = RULES[name](want[i], gradient_of(want[i], step), states[i], {"lr": 0.01, **options})
        optimizer.step()
        for p, w in zip(params, want, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), w, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_rule(name: str, options: dict[str, Any]) -> None:
    # Products and averaging weights are kept in float32, as in torch.
    check_rule(name, options, tolerance=1e-7 if name in ("NAdam", "ASGD") else 1e-12)


@pytest.mark.parametrize("name", RULES)
def test_rule_float32(name: str) -> None:
    check_rule(name, {}, "float32", 2e-6)


def test_check_finds_wrong_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    right = ArrayOptim._descend
    wrong = lambda self, p, direction, s, lr: right(self, p, direction, s, lr * 1.00001)  # noqa: E731
    monkeypatch.setattr(ArrayOptim, "_descend", wrong)
    with pytest.raises(AssertionError):
        check_rule("Adam", {})


def test_check_finds_forgotten_bias_correction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distgrad.optim._flat.Segment.advance", lambda segment: 1.0)
    with pytest.raises(AssertionError):
        check_rule("Adam", {})


@pytest.mark.parametrize(("name", "options"), CASES)
def test_blocks_make_no_difference(name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Three elements a block, with a last block that is not full, gives the bits of a single one."""
    results = []
    for block in (1 << 16, 3):
        monkeypatch.setattr(_blocks, "BLOCK", block)
        monkeypatch.setattr(_blocks, "_scratch", _blocks._Scratch())
        params = parameters()
        optimizer = getattr(optim, name)(params, lr=0.01, **options)
        for step in range(3):
            for p in params:
                p.grad = distgrad.tensor(gradient_of(p.detach().numpy(), step))
            optimizer.step()
        results.append([p.detach().numpy().tobytes() for p in params])
    assert results[0] == results[1]


@pytest.mark.parametrize("name", ["SGD", "AdamW", "Adagrad", "Rprop"])
def test_complex_is_two_real_numbers(name: str) -> None:
    rng = np.random.default_rng(1)
    start, grad = rng.standard_normal((2, 4, 2))
    pair = distgrad.Parameter(distgrad.tensor(start))
    one = distgrad.Parameter(distgrad.tensor(start.view("complex128")[:, 0].copy()))
    first, second = getattr(optim, name)([pair], lr=0.1), getattr(optim, name)([one], lr=0.1)
    for _ in range(3):
        pair.grad = distgrad.tensor(grad)
        one.grad = distgrad.tensor(grad.view("complex128")[:, 0].copy())
        first.step()
        second.step()
    np.testing.assert_array_equal(one.detach().numpy().view("float64").reshape(4, 2), pair.detach().numpy())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop"])
def test_half_precision_moves_the_right_way(name: str, dtype: str) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    p = distgrad.Parameter(distgrad.tensor([1.0, -2.0]).to(dtype=dtype))
    optimizer = getattr(optim, name)([p], lr=0.03)
    for _ in range(5):
        p.grad = p.detach().clone()
        optimizer.step()
    values = p.detach().float().numpy()
    assert 0 < values[0] < 1 and -2 < values[1] < 0


def test_threads_do_not_share_scratch() -> None:
    import threading

    def train(seed: int, out: dict[int, bytes]) -> None:
        p = distgrad.Parameter(distgrad.tensor(np.random.default_rng(seed).standard_normal(200_000)))
        optimizer = optim.Adam([p], lr=0.1)
        for _ in range(3):
            p.grad = p.detach().clone()
            optimizer.step()
        out[seed] = p.detach().numpy().tobytes()

    together: dict[int, bytes] = {}
    alone: dict[int, bytes] = {}
    threads = [threading.Thread(target=train, args=(seed, together)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(4):
        train(seed, alone)
    assert together == alone


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_overflow_makes_no_noise(name: str) -> None:
    p = distgrad.Parameter(distgrad.tensor([1e38, 1.0]))
    p.grad = distgrad.tensor([3e38, float("inf")])
    getattr(optim, name)([p], lr=1e10).step()
    assert not np.isfinite(p.detach().numpy()[1])
