"""Replays inside DistributedDataParallel: ranks, with the same bits and the same collectives as eager steps."""

import threading
from typing import Any

import pytest

from distgrad import comm, nn, optim
from distgrad.comm import run_threads
from distgrad.parallel import DistributedDataParallel, SyncBatchNorm, ZeroRedundancyOptimizer
from tests.replay.twins import CALLS, Twins, batch, mlp, plain_step, state, values, world

_ONE_AT_A_TIME = threading.Lock()  # threads share the random stream


def distributed(**options: Any) -> Any:
    """A wrapped model with running statistics."""
    with _ONE_AT_A_TIME:
        w = world(lambda: mlp(norm=True), lambda p: optim.Adam(p, lr=0.01))
    w.model = DistributedDataParallel(w.model, **options)
    return w


def clipped_step(w: Any) -> Any:
    """A step with clipping."""
    model, optimizer = w.model, w.optimizer

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        return loss

    return step


def calls(twins: Twins, start: int, count: int = 6) -> int:
    """Steps on batches of this rank."""
    rank = comm.get_default().rank
    before = twins.compiled.replays
    for i in range(start, start + count):
        args = batch(10 * i + rank)
        expected, found = twins.step(*args), twins.compiled(*args)
        assert values(found) == values(expected)
        assert state(twins.other) == state(twins.eager)
    return twins.compiled.replays - before


def equal_steps() -> None:
    twins = Twins(distributed, clipped_step)
    assert calls(twins, 0, CALLS) == CALLS - 3, twins.compiled.explain()
    digest = [t._data.tobytes() for t in twins.other.model.state_dict().values()]
    everyone = comm.get_default().all_gather_object(digest)
    assert everyone == [digest] * len(everyone)
    # One rank alone runs eagerly, the others replay: the collectives are the same.
    if comm.get_default().rank == 0:
        twins.compiled._programs.clear()
        twins.compiled._trials = 0
    calls(twins, 20)


def no_sync_and_back() -> None:
    twins = Twins(distributed)
    calls(twins, 0, CALLS)
    for step in range(3):
        with twins.eager.model.no_sync(), twins.other.model.no_sync():
            calls(twins, 30 + step, 2)
        calls(twins, 40 + step, 3)
    twins.both(lambda w: w.model.eval())
    calls(twins, 50, 4)
    assert twins.compiled.replays > CALLS


def frozen_later() -> None:
    twins = Twins(distributed)
    calls(twins, 0, CALLS)
    twins.both(lambda w: w.model.module[0].weight.requires_grad_(False))
    calls(twins, 60, 6)
    twins.both(lambda w: w.model.module[0].weight.requires_grad_())
    calls(twins, 70, 6)


def weighted() -> None:
    twins = Twins(distributed)
    calls(twins, 0, CALLS)
    for i in range(3):
        weight = 1.0 + comm.get_default().rank
        with twins.eager.model.weighted(weight), twins.other.model.weighted(weight):
            calls(twins, 80 + i, 1)
    assert calls(twins, 90, 2) == 2


def sharded_state() -> None:
    def make() -> Any:
        w = distributed()
        w.optimizer = ZeroRedundancyOptimizer(w.model.parameters(), optim.Adam, shard_gradients=True, lr=0.01)
        return w

    twins = Twins(make)
    assert calls(twins, 0, CALLS) > 0, twins.compiled.explain()


def statistics_over_all_ranks() -> None:
    def make() -> Any:
        with _ONE_AT_A_TIME:
            w = world(lambda: mlp(norm=True))
        w.model = DistributedDataParallel(SyncBatchNorm.convert_sync_batchnorm(w.model))
        w.optimizer = optim.SGD(w.model.parameters(), lr=0.1)
        return w

    twins = Twins(make)
    assert calls(twins, 0, CALLS) == 0
    assert "_sync_batchnorm" in twins.compiled.explain()


SCENARIOS = [equal_steps, no_sync_and_back, frozen_later, weighted, sharded_state, statistics_over_all_ranks]


@pytest.mark.filterwarnings("ignore:distgrad.compile")
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda f: f.__name__)
def test_on_threads(scenario: Any) -> None:
    assert run_threads(2, scenario, timeout=60.0) == [None] * 2


@pytest.mark.filterwarnings("ignore:distgrad.compile")
def test_overlap_runs_eagerly() -> None:
    def scenario() -> None:
        twins = Twins(lambda: distributed(overlap=True), plain_step)
        assert calls(twins, 0) == 0
        assert "overlaps" in twins.compiled.explain()

    run_threads(2, scenario, timeout=60.0)


def test_one_rank() -> None:
    twins = Twins(distributed)
    assert twins.calls() == CALLS - 3
