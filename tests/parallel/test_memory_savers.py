"""Activation checkpoints and sparse gradients under DistributedDataParallel, on ranks that are threads."""

from collections.abc import Callable

import pytest

from distgrad.comm import run_threads
from tests.parallel import memory_scenarios
from tests.parallel.memory_scenarios import SCENARIOS


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda f: f.__name__)
def test_on_threads(scenario: Callable[[], None], ranks: int) -> None:
    assert run_threads(ranks, scenario, timeout=60.0) == [None] * ranks


def test_scenarios_see_sparse_gradients_that_stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distgrad.parallel._reducer.average_rows", lambda group, parameters: None)
    for scenario in (
        memory_scenarios.sparse_gradients_are_the_dense_ones,
        memory_scenarios.a_table_that_some_ranks_use,
    ):
        with pytest.raises((AssertionError, AttributeError)):
            run_threads(2, scenario, timeout=20.0)
