"""Convolution and pooling: layouts, blocks, ties and errors."""

from typing import Any

import numpy as np
import pytest

import distgrad
import distgrad.nn.functional as F
from distgrad.backend._numpy import _conv
from distgrad.errors import DTypeError, ShapeError

Layout = Any


def _naive(x: Any, w: Any, stride: int, padding: int) -> Any:
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    kh, kw = w.shape[2:]
    h, v = (x.shape[2] - kh) // stride + 1, (x.shape[3] - kw) // stride + 1
    result = np.zeros((x.shape[0], w.shape[0], h, v))
    for i, j in np.ndindex(kh, kw):
        seen = x[:, :, i : i + (h - 1) * stride + 1 : stride, j : j + (v - 1) * stride + 1 : stride]
        result += np.einsum("nchw,oc->nohw", seen, w[:, :, i, j])
    return result


def _channels_last(x: Any) -> Any:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("layout", [np.ascontiguousarray, _channels_last])
@pytest.mark.parametrize("channels", [1, 3, 6])
@pytest.mark.parametrize(
    ("stride", "padding", "kernel"), [(1, 1, 3), (1, 0, 3), (2, 1, 3), (1, 0, 1), (2, 0, 1), (3, 2, 5)]
)
def test_blocks_do_not_show(
    layout: Layout, channels: int, stride: int, padding: int, kernel: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small blocks split images by lines and batches unevenly; the results stay those of the definition."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((5, channels, 11, 9)), rng.standard_normal((6, channels, kernel, kernel))
    expected = _naive(x, w, stride, padding)
    g = rng.standard_normal(expected.shape)
    settings = ((stride, stride), ((padding, padding),) * 2, (1, 1), 1)
    whole = _conv.backward(layout(g), layout(x), w, *settings)
    for block in (1 << 17, 700, 100):
        monkeypatch.setattr(_conv, "BLOCK", block)
        np.testing.assert_allclose(_conv.forward(layout(x), w, None, *settings), expected, atol=1e-10)
        for part, reference in zip(_conv.backward(layout(g), layout(x), w, *settings), whole, strict=True):
            np.testing.assert_allclose(part, reference, atol=1e-10)


def test_the_blocks_are_uneven_in_the_test_above(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise it would not test much."""
    plan = _conv._plan((11, 9), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    monkeypatch.setattr(_conv, "BLOCK", 700)
    sizes = {(b.last - b.first, b.bottom - b.top) for b in _conv._blocks(5, plan, 36)}
    assert len(sizes) > 1 and {b.first for b in _conv._blocks(5, plan, 36)} == set(range(5))


def test_a_chain_of_layers_stays_channels_last() -> None:
    """conv -> batch norm -> relu -> pool hands channels-last memory on, with shapes as (N, C, H, W)."""
    x = distgrad.randn(2, 3, 8, 8)
    y = F.conv2d(x, distgrad.randn(5, 3, 3, 3), distgrad.randn(5), padding=1)
    for step in (lambda t: F.batch_norm(t, None, None, training=True), F.relu, lambda t: F.max_pool2d(t, 2)):
        y = step(y)
        assert y.detach().numpy().transpose(0, 2, 3, 1).flags.c_contiguous
    assert y.shape == (2, 5, 4, 4)


def test_the_first_of_equal_maxima_takes_the_gradient() -> None:
    x = distgrad.tensor([[[[1.0, 1.0], [1.0, 1.0]]]], requires_grad=True)
    value, index = F.max_pool2d(x, 2, return_indices=True)
    value.sum().backward()
    assert index.item() == 0
    assert x.grad is not None and x.grad.tolist() == [[[[1.0, 0.0], [0.0, 0.0]]]]


def test_max_pooling_passes_nan_on() -> None:
    x = distgrad.tensor([[[[1.0, float("nan")], [2.0, 3.0]]]])
    assert np.isnan(F.max_pool2d(x, 2).item())


def test_half_precision_is_computed_in_single() -> None:
    """4096 products of ones sum to 4096, where float16 sums would stop growing at 2048."""
    x, w = distgrad.ones(1, 4096, 1, 1).half(), distgrad.ones(1, 4096, 1, 1).half()
    y = F.conv2d(x, w)
    assert y.item() == 4096 and y.dtype == distgrad.float16


def test_errors_say_what_is_wrong() -> None:
    x, w = distgrad.zeros(1, 3, 8, 8), distgrad.zeros(4, 3, 3, 3)
    with pytest.raises(ShapeError, match=r"expected an input with 5 channels .* got an input of shape \[1, 3, 8, 8\]"):
        F.conv2d(x, distgrad.zeros(4, 5, 3, 3))
    with pytest.raises(ShapeError, match=r"bias of shape \[4\].* got \[3\]"):
        F.conv2d(x, w, distgrad.zeros(3))
    with pytest.raises(DTypeError, match="got input float32, weight float64"):
        F.conv2d(x, w.double())
    with pytest.raises(ShapeError, match="does not fit the padded input"):
        F.conv2d(distgrad.zeros(1, 3, 2, 2), w)
    with pytest.raises(ValueError, match="padding='same' is not supported for strided"):
        F.conv2d(x, w, stride=2, padding="same")
    with pytest.raises(ShapeError, match="expected stride to be one number or 2"):
        F.conv2d(x, w, stride=(1, 1, 1))
    with pytest.raises(ValueError, match="at most half the kernel"):
        F.max_pool2d(x, 2, padding=2)
    with pytest.raises(ShapeError, match="4 dimensions, or 3 without a batch"):
        F.max_pool2d(distgrad.zeros(8, 8), 2)
