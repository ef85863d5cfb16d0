"""Gradients through collectives on ranks that are threads."""

from collections.abc import Callable
from typing import Any

import pytest

from distgrad import comm
from distgrad.comm import run_threads
from distgrad.distributed.nn import functional as torchs_page
from distgrad.parallel import ZeroRedundancyOptimizer, functional
from tests.parallel.collective_scenarios import SCENARIOS, gradients_of_all_collectives


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda f: f.__name__)
def test_on_threads(scenario: Callable[[], None], ranks: int) -> None:
    assert run_threads(ranks, scenario, timeout=60.0) == [None] * ranks


def test_names() -> None:
    assert torchs_page.all_reduce is functional.all_reduce
    assert comm.nn.functional.all_gather is functional.all_gather
    assert comm.optim.ZeroRedundancyOptimizer is ZeroRedundancyOptimizer


def test_the_check_sees_a_gradient_that_stays_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def local(ctx: Any, g: Any) -> Any:
        return g, None, None

    monkeypatch.setattr(functional._AllReduce, "backward", staticmethod(local))
    with pytest.raises(AssertionError, match="all_reduce"):
        run_threads(2, gradients_of_all_collectives, timeout=60.0)
