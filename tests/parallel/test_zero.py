"""ZeroRedundancyOptimizer on ranks that are threads, on one rank, and what it refuses."""

from collections.abc import Callable
from typing import Any

import pytest

from distgrad import optim
from distgrad.comm import run_threads
from distgrad.parallel import ZeroRedundancyOptimizer
from distgrad.parallel._scatter import ScatteredBucket
from distgrad.parallel._shares import Shares
from tests.parallel import zero_scenarios
from tests.parallel.models import Net, loss, whole_batch
from tests.parallel.zero_scenarios import SCENARIOS, bits


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda f: f.__name__)
def test_on_threads(scenario: Callable[[], None], ranks: int) -> None:
    assert run_threads(ranks, scenario, timeout=60.0) == [None] * ranks


def test_one_rank() -> None:
    results = []
    for make in (optim.Adam, lambda params: ZeroRedundancyOptimizer(params, optim.Adam)):
        net = Net()
        optimizer: Any = make(net.parameters())
        for step in range(3):
            optimizer.zero_grad()
            x, y = whole_batch(step)
            loss(net(x), y).backward()
            optimizer.step()
        results.append(bits(net))
    assert results[0] == results[1]
    optimizer.consolidate_state_dict()
    assert len(optimizer.state_dict()["state"]) == 4


@pytest.mark.parametrize(
    ("kind", "options", "error", "message"),
    [
        (optim.LBFGS, {}, ValueError, "LBFGS cannot be shared out"),
        (ZeroRedundancyOptimizer, {}, ValueError, "expected optimizer_class to be a plain optimizer"),
        ("Adam", {}, TypeError, "expected optimizer_class to be a class of optimizers, got 'Adam'"),
        (optim.Adam, {"lr": -1.0}, ValueError, "Invalid learning rate"),
        (optim.Adam, {"overlap_with_ddp": True}, ValueError, "overlap_with_ddp=True is not supported"),
    ],
)
def test_what_it_refuses(kind: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ZeroRedundancyOptimizer(Net().parameters(), kind, **options)


def test_scenarios_see_parameters_that_were_not_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shares, "publish", lambda self: None)
    failed = set()
    for scenario in SCENARIOS:
        try:
            run_threads(2, scenario, timeout=20.0)
        except AssertionError:
            failed.add(scenario.__name__)
    assert len(failed) >= 12, failed


def test_scenarios_see_gradients_that_were_not_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScatteredBucket, "reduce", lambda self: None)
    for scenario in (zero_scenarios.gradients_are_shared_out, zero_scenarios.clipping_gradients_that_are_shared_out):
        with pytest.raises(AssertionError):
            run_threads(2, scenario, timeout=20.0)
