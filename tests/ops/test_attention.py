"""Attention and recurrent layers: blocks, dropout, memory and errors."""

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest

import distgrad
import distgrad.nn.functional as F
from distgrad.backend._numpy import _attention
from distgrad.errors import ShapeError
from distgrad.ops._split import Split, Unbind


def _run(q: Any, k: Any, v: Any, g: Any, **options: Any) -> list[Any]:
    tensors = [distgrad.tensor(t, requires_grad=True) for t in (q, k, v)]
    y = F.scaled_dot_product_attention(*tensors, **options)
    y.backward(distgrad.tensor(g))
    return [y.detach().numpy(), *(t.grad.numpy() for t in tensors if t.grad is not None)]


@pytest.mark.parametrize("causal", [False, True])
def test_blocks_do_not_show(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row at a time or everything at once: the same values and gradients."""
    rng = np.random.default_rng(0)
    q, k, v, g = (rng.standard_normal((2, 3, n, 4)) for n in (13, 17, 17, 13))
    whole = _run(q, k, v, g, is_causal=causal)
    monkeypatch.setattr(_attention.NumpySteps, "block", 40)
    monkeypatch.setattr(_attention, "_CAUSAL_ROWS", 3)
    for a, b in zip(_run(q, k, v, g, is_causal=causal), whole, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_memory_grows_linearly() -> None:
    """4096 by 4096 scores would be 64 MiB; the blocks need far less."""
    q = distgrad.randn(1, 1, 4096, 8, requires_grad=True)
    F.scaled_dot_product_attention(q[:, :, :64], q, q).sum().backward()
    tracemalloc.start()
    F.scaled_dot_product_attention(q, q, q, is_causal=True).sum().backward()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_the_result_of_split_heads_joins_without_a_copy() -> None:
    """Heads that were split off the last dimension come back in that layout."""
    q = distgrad.randn(2, 5, 3 * 4).view(2, 5, 3, 4).transpose(1, 2)
    assert F.scaled_dot_product_attention(q, q, q).transpose(1, 2).is_contiguous()


def test_large_scores() -> None:
    q = distgrad.full((1, 1, 2, 4), 100.0)
    k = distgrad.tensor([[[[100.0] * 4, [-100.0] * 4]]])
    v = distgrad.tensor([[[[1.0], [2.0]]]])
    assert F.scaled_dot_product_attention(q, k, v).flatten().tolist() == [1.0, 1.0]


def test_scores_that_are_all_far_below_zero() -> None:
    """Their exponentials vanish in float32, unless they are shifted."""
    q = distgrad.full((1, 1, 3, 4), 10.0)
    k = distgrad.tensor([[[[-10.0] * 4, [-10.01] * 4]]])
    v = distgrad.tensor([[[[1.0], [2.0]]]])
    exact = 1 + 1 / (1 + math.exp(0.2))
    np.testing.assert_allclose(F.scaled_dot_product_attention(q, k, v).flatten().numpy(), exact, rtol=1e-5)


def _apart(parts: Any) -> list[Any]:
    """Copies, each in memory of its own."""
    return [part.contiguous().clone() for part in parts]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)], ids=str)
@pytest.mark.parametrize("how", ["split", "unbind"])
def test_gradients_of_parts_of_one_product_lie_side_by_side(
    how: str, order: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So what puts them together again need not copy; copies have the same values."""
    copies: list[str] = []
    for kind in (Split, Unbind):
        formula = kind.backward
        noted = staticmethod(lambda *a, f=formula: (copies.append(how), f(*a))[1])
        monkeypatch.setattr(kind, "backward", noted)
    start, g = distgrad.randn(2, 7, 3 * 6), distgrad.randn(2, 2, 7, 3)
    found = []
    for separately in (False, True):
        x = start.clone().requires_grad_()
        both = x * 1
        parts = both.split(6, 2) if how == "split" else both.view(2, 7, 3, 6).unbind(2)
        heads = [t.view(2, 7, 2, 3).transpose(1, 2) for t in (_apart(parts) if separately else parts)]
        F.scaled_dot_product_attention(*(heads[i] for i in order), is_causal=True).backward(g)
        assert bool(copies) == (separately or order != (0, 1, 2))
        found.append(x.grad.numpy())  # type: ignore[union-attr]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5, atol=1e-6)


def test_dropout_keeps_the_mean() -> None:
    distgrad.manual_seed(0)
    q, v = distgrad.zeros(1, 1, 200, 4), distgrad.ones(1, 1, 50, 2)
    y = F.scaled_dot_product_attention(q, distgrad.zeros(1, 1, 50, 4), v, dropout_p=0.4)
    assert abs(y.mean().item() - 1) < 0.02 and y.std().item() > 0.05


def test_an_added_mask_gets_its_gradient() -> None:
    mask = distgrad.zeros(2, 3, requires_grad=True)
    q, k, v = (distgrad.randn(2, 4, n, 5) for n in (2, 3, 3))
    F.scaled_dot_product_attention(q, k, v, mask).sum().backward()
    assert mask.grad is not None and mask.grad.shape == (2, 3)
    np.testing.assert_allclose(mask.grad.sum(1).numpy(), 0, atol=1e-5)  # a row's common shift changes nothing


def test_errors() -> None:
    q = distgrad.zeros(1, 2, 3, 4)
    with pytest.raises(ValueError, match="attn_mask=None with is_causal=True"):
        F.scaled_dot_product_attention(q, q, q, distgrad.zeros(3, 3), is_causal=True)
    with pytest.raises(ShapeError, match=r"key \(..., S, E\)"):
        F.scaled_dot_product_attention(q, distgrad.zeros(1, 2, 3, 5), q)
    with pytest.raises(ShapeError, match="use enable_gqa=True"):
        F.scaled_dot_product_attention(distgrad.zeros(1, 4, 3, 4), q, q)
    with pytest.raises(ShapeError, match="multiple of the key's 2"):
        F.scaled_dot_product_attention(distgrad.zeros(1, 3, 3, 4), q, q, enable_gqa=True)


def test_recurrent_dropout_lies_between_the_layers() -> None:
    """With probability 1 the second layer sees zeros, so only its biases and state speak."""
    weights = [distgrad.randn(4, n) for n in (2, 1)] + [distgrad.randn(4), distgrad.randn(4)]
    second = [distgrad.randn(4, 1), distgrad.randn(4, 1), distgrad.zeros(4), distgrad.zeros(4)]
    state = distgrad.zeros(2, 1, 1)
    out, _, _ = distgrad.lstm(distgrad.randn(3, 1, 2), (state, state), [*weights, *second], True, 2, 1.0, True, False)
    assert not out.any()
    out, _, _ = distgrad.lstm(distgrad.randn(3, 1, 2), (state, state), [*weights, *second], True, 2, 1.0, False, False)
    assert out.any()


def test_recurrent_errors() -> None:
    weights = [distgrad.zeros(4, 2), distgrad.zeros(4, 1)]
    state = distgrad.zeros(1, 1, 1)
    with pytest.raises(ShapeError, match="input of 2 features"):
        distgrad.lstm(distgrad.zeros(3, 1, 5), (state, state), weights, False, 1, 0.0, True, False)
    with pytest.raises(ShapeError, match="for a batch of 4"):
        distgrad.lstm(distgrad.zeros(3, 4, 2), (state, state), weights, False, 1, 0.0, True, False)
    assert math.isfinite(
        distgrad.lstm(distgrad.zeros(3, 1, 2), (state, state), weights, False, 1, 0.0, True, False)[0].sum().item()
    )
