"""Shapes that do not fit are errors in the words of the operation: nothing is broadcast by mistake."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import distgrad
import distgrad.nn.functional as F
from distgrad.errors import ShapeError

X, ROW, INDEX = distgrad.zeros(3, 4), distgrad.zeros(4), distgrad.tensor([0, 2])
MASK = distgrad.zeros(2, 5, dtype=distgrad.bool)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: X.index_add(0, INDEX, ROW), "index_add: expected a source of shape [2, 4]"),
        (lambda: X.index_copy(1, INDEX, X), "index_copy: expected a source of shape [3, 2]"),
        (lambda: X.index_copy(0, distgrad.tensor([[0, 2]]), X), "index_copy: expected a 1-d index, got 2"),
        (lambda: X.index_fill(0, INDEX, ROW), "index_fill: expected a number or a 0-d tensor"),
        (lambda: X.put(INDEX, ROW), "put: expected as many elements in source as in index, got 4 and 2"),
        (lambda: X.scatter(0, INDEX.reshape(1, 2), distgrad.zeros(1, 2, 1)), "scatter: expected an index of as many"),
        (lambda: X.masked_fill(MASK, 1.0), "masked_fill: the shapes [3, 4] and [2, 5] cannot be broadcast"),
        (lambda: X.masked_select(MASK), "masked_select: the shapes [3, 4] and [2, 5] cannot be broadcast"),
        (lambda: X.diagonal_scatter(ROW), "diagonal_scatter: expected src of the diagonal's shape [3], got [4]"),
        (lambda: distgrad.cov(X, fweights=INDEX), "cov: expected fweights of shape [4], got [2]"),
        (lambda: distgrad.corrcoef(X.unsqueeze(0)), "cov: expected 2 dimensions at most"),
        (lambda: distgrad.block_diag(X, X.unsqueeze(0)), "block_diag: expected tensors of 2 dimensions at most"),
        (lambda: distgrad.addmm(X.unsqueeze(0), X, X.t()), "broadcast to the product's shape [3, 3], got [1, 3, 4]"),
        (lambda: distgrad.bincount(INDEX, ROW), "bincount: expected weights of the input's shape [2], got [4]"),
        (lambda: F.bilinear(X, X, X), "bilinear: expected a weight of 3 dimensions, got shape [3, 4]"),
        (lambda: F.triplet_margin_loss(X, ROW, X), "triplet_margin_loss: expected tensors of one number of dim"),
        (lambda: F.cosine_embedding_loss(X, ROW, distgrad.ones(3)), "got [3] with [3, 4] and [4]"),
    ],
)
def test_shapes_that_do_not_fit(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(ShapeError, match=re.escape(words)):
        call()


@pytest.mark.parametrize("wrong", ["text", [1.0], {"a": 1}], ids=lambda v: type(v).__name__)
@pytest.mark.parametrize(
    "call",
    [
        lambda wrong: F.conv2d(X.reshape(1, 1, 3, 4), distgrad.ones(1, 1, 1, 1), wrong),
        lambda wrong: F.cross_entropy(X, distgrad.zeros(3).long(), wrong),
        lambda wrong: F.binary_cross_entropy_with_logits(X, X, pos_weight=wrong),
        lambda wrong: distgrad.addmm(wrong, X, X.t()),
        lambda wrong: distgrad.masked_fill(wrong, MASK, 0.0),
        lambda wrong: distgrad.masked_scatter(X, X > 0, wrong),
        lambda wrong: distgrad.index_select(wrong, 0, INDEX),
        lambda wrong: distgrad.put(X, INDEX, wrong),
        lambda wrong: distgrad.bincount(INDEX, wrong),
        lambda wrong: distgrad.tensordot(X, wrong),
        lambda wrong: distgrad.broadcast_tensors(X, wrong),
    ],
)
def test_what_is_no_tensor_is_named_in_every_place(call: Callable[[Any], Any], wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"expected a Tensor, got {type(wrong).__name__}"):
        call(wrong)


@pytest.mark.parametrize("dim", ["a", 1.0, [0.5]])
@pytest.mark.parametrize("function", [distgrad.sum, distgrad.amax])
def test_dimensions_are_integers(function: Callable[..., Any], dim: Any) -> None:
    words = f"{function.__name__}: expected dimensions as integers, got {dim!r}"
    with pytest.raises(TypeError, match=re.escape(words)):
        function(X, dim)


def test_a_dimension_is_an_integer() -> None:
    with pytest.raises(TypeError, match="argmax: expected a dimension as an integer, got 'a'"):
        distgrad.argmax(X, "a")


@pytest.mark.parametrize("size", [2.5, "a", (1, None)])
def test_sizes_of_windows_are_integers(size: Any) -> None:
    with pytest.raises(TypeError, match="max_pool2d: expected kernel_size to be one integer or 2, got"):
        F.max_pool2d(distgrad.zeros(1, 1, 4, 4), size)


def test_variances_of_integers_are_not_rounded() -> None:
    loss = F.gaussian_nll_loss(distgrad.tensor([1, 2]), distgrad.tensor([2, 2]), 0.5)
    assert loss.item() == pytest.approx((distgrad.log(distgrad.tensor(0.5)).item() + 1.0) / 2)


def test_the_spread_of_one_number() -> None:
    one = distgrad.tensor(3.0)
    assert one.var(correction=0).item() == 0.0 and one.std(correction=0).item() == 0.0
    assert one.var().isnan().item()


def test_arrays_count_as_tensors_beside_tensors() -> None:
    image, one = distgrad.ones(1, 2, 3, 3), distgrad.ones(2, 2, 1, 1)
    assert F.conv2d(image, one, np.array([1.0, 2.0], np.float32))[0, :, 0, 0].tolist() == [3.0, 4.0]
    loss = F.cross_entropy(distgrad.zeros(1, 2), distgrad.tensor([1]), np.array([0.0, 1.0], np.float32))
    assert loss.item() == pytest.approx(np.log(2))
