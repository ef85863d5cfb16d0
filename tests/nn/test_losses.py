"""Losses against their formulas in NumPy."""

from typing import Any

import numpy as np
import pytest

import distgrad
from distgrad import nn

RNG = np.random.default_rng(1)
X, Y = RNG.standard_normal((5, 4)), RNG.standard_normal((5, 4))
P, Q = 1 / (1 + np.exp(-X)), 1 / (1 + np.exp(-Y))
CLASSES = np.array([0, 3, 1, 2, 3])
LOG = X - np.log(np.exp(X).sum(1, keepdims=True))
SIGN = np.array([1.0, -1.0, 1.0, -1.0, 1.0])
D = X - Y


def t(array: Any) -> distgrad.Tensor:
    return distgrad.tensor(array)


def huber(d: np.ndarray[Any, Any], delta: float) -> np.ndarray[Any, Any]:
    return np.where(abs(d) < delta, d**2 / 2, delta * (abs(d) - delta / 2))


CASES: list[tuple[nn.Module, tuple[Any, ...], Any]] = [
    (nn.MSELoss(), (X, Y), (D**2).mean()),
    (nn.MSELoss(reduction="sum"), (X, Y), (D**2).sum()),
    (nn.MSELoss(reduction="none"), (X, Y), D**2),
    (nn.MSELoss(size_average=False), (X, Y), (D**2).sum()),
    (nn.MSELoss(reduce=False), (X, Y), D**2),
    (nn.L1Loss(), (X, Y), abs(D).mean()),
    (nn.SmoothL1Loss(beta=0.5), (X, Y), (huber(D, 0.5) / 0.5).mean()),
    (nn.HuberLoss(delta=0.7), (X, Y), huber(D, 0.7).mean()),
    (nn.CrossEntropyLoss(), (X, CLASSES), -LOG[range(5), CLASSES].mean()),
    (nn.CrossEntropyLoss(ignore_index=3), (X, CLASSES), -LOG[[0, 2, 3], [0, 1, 2]].mean()),
    (
        nn.CrossEntropyLoss(label_smoothing=0.2, reduction="none"),
        (X, CLASSES),
        -0.8 * LOG[range(5), CLASSES] - 0.2 * LOG.mean(1),
    ),
    (nn.NLLLoss(reduction="sum"), (LOG, CLASSES), -LOG[range(5), CLASSES].sum()),
    (nn.BCELoss(), (P, Q), -(Q * np.log(P) + (1 - Q) * np.log(1 - P)).mean()),
    (nn.BCEWithLogitsLoss(), (X, Q), -(Q * np.log(P) + (1 - Q) * np.log(1 - P)).mean()),
    (nn.KLDivLoss(reduction="batchmean"), (LOG, Q), (Q * (np.log(Q) - LOG)).sum() / 5),
    (nn.PoissonNLLLoss(), (X, Q), (np.exp(X) - Q * X).mean()),
    (nn.GaussianNLLLoss(), (X, Y, P), (0.5 * (np.log(P) + D**2 / P)).mean()),
    (nn.HingeEmbeddingLoss(), (X, np.sign(Y)), np.where(Y > 0, X, np.maximum(0, 1 - X)).mean()),
    (nn.SoftMarginLoss(), (X, np.sign(Y)), np.log1p(np.exp(-np.sign(Y) * X)).mean()),
    (nn.MarginRankingLoss(margin=0.1), (X[:, 0], Y[:, 0], SIGN), np.maximum(0, -SIGN * D[:, 0] + 0.1).mean()),
]


@pytest.mark.parametrize(("loss", "arguments", "expected"), CASES, ids=[repr(case[0]) for case in CASES])
def test_values(loss: nn.Module, arguments: tuple[Any, ...], expected: Any) -> None:
    np.testing.assert_allclose(loss(*[t(a) for a in arguments]).numpy(), expected, rtol=1e-9)


def test_class_weights_move_with_the_module_and_are_saved() -> None:
    loss = nn.CrossEntropyLoss(weight=distgrad.tensor([1.0, 2.0, 3.0, 4.0])).double()
    assert loss.weight is not None and loss.weight.dtype == distgrad.float64
    assert list(loss.state_dict()) == ["weight"]
    w = np.array([1.0, 2.0, 3.0, 4.0])[CLASSES]
    expected = -(w * LOG[range(5), CLASSES]).sum() / w.sum()
    np.testing.assert_allclose(loss(t(X), t(CLASSES)).numpy(), expected)
    assert list(nn.CrossEntropyLoss().state_dict()) == []


def test_pos_weight() -> None:
    loss = nn.BCEWithLogitsLoss(pos_weight=t(np.full(4, 3.0)))
    expected = -(3 * Q * np.log(P) + (1 - Q) * np.log(1 - P)).mean()
    np.testing.assert_allclose(loss(t(X), t(Q)).numpy(), expected)


def test_embedding_losses_by_cosine_and_triplet() -> None:
    cosine = (X * Y).sum(1) / (np.linalg.norm(X, axis=1) * np.linalg.norm(Y, axis=1))
    expected = np.where(SIGN > 0, 1 - cosine, np.maximum(0, cosine - 0.2)).mean()
    np.testing.assert_allclose(nn.CosineEmbeddingLoss(margin=0.2)(t(X), t(Y), t(SIGN)).numpy(), expected, rtol=1e-6)
    near = np.linalg.norm(X - Y + 1e-6, axis=1)
    far = np.linalg.norm(X - P + 1e-6, axis=1)
    expected = np.maximum(0, near - far + 1.5).mean()
    for loss in (nn.TripletMarginLoss(margin=1.5), nn.TripletMarginWithDistanceLoss(margin=1.5)):
        np.testing.assert_allclose(loss(t(X), t(Y), t(P)).numpy(), expected)
    with pytest.raises(ValueError, match="greater than 0"):
        nn.TripletMarginLoss(margin=0.0)


def test_distances() -> None:
    np.testing.assert_allclose(
        nn.CosineSimilarity()(t(X), t(Y)).numpy(),
        (X * Y).sum(1) / (np.linalg.norm(X, axis=1) * np.linalg.norm(Y, axis=1)),
    )
    np.testing.assert_allclose(nn.PairwiseDistance(1.0)(t(X), t(Y)).numpy(), abs(D + 1e-6).sum(1))
