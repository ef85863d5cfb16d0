"""DistributedDataParallel on ranks that are threads, and on one rank."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad import Parameter, Tensor
from distgrad.comm import run_threads
from distgrad.errors import AutogradError, DeviceError
from distgrad.futures import Future
from distgrad.nn import Module
from distgrad.parallel import DistributedDataParallel, default_hooks
from distgrad.parallel._reducer import Reducer
from distgrad.parallel._settings import Settings
from tests.parallel import scenarios, scenarios_join, scenarios_reduction
from tests.parallel.models import Net, close, grads, loss, values, whole_batch

SCENARIOS = scenarios.SCENARIOS
PLAIN = [s for s in SCENARIOS if s.__module__ == scenarios.__name__]
JOINS = [s for s in SCENARIOS if s.__module__ == scenarios_join.__name__]
REDUCTIONS = [s for s in SCENARIOS if s.__module__ == scenarios_reduction.__name__]


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda f: f.__name__)
def test_on_threads(scenario: Callable[[], None], ranks: int) -> None:
    assert run_threads(ranks, scenario, timeout=20.0) == [None] * ranks


@pytest.mark.parametrize("scenario", PLAIN + JOINS, ids=lambda f: f.__name__)
def test_during_backward(scenario: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything else with overlap, where the order is learnt too."""
    if scenario.__name__ == "many_small_buckets":
        pytest.skip("counts the calls of a reduction without overlap")
    real = Reducer.regroup
    monkeypatch.setattr(Reducer, "regroup", lambda self, overlap, nbytes: real(self, True, nbytes))
    monkeypatch.setattr(Settings, "learns_order", True)
    assert run_threads(2, scenario, timeout=20.0) == [None] * 2


@pytest.mark.parametrize("scenario", PLAIN, ids=lambda f: f.__name__)
def test_by_a_hook(scenario: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything else where a hook communicates, which sees gradients only and not which of them are set."""
    if scenario.__name__ == "a_group_of_some_ranks":
        pytest.skip("the hook here is one of the default group")
    real = Reducer.__init__

    def with_hook(self: Reducer, *args: Any) -> None:
        args[2].hook = default_hooks.allreduce_hook
        real(self, *args)

    monkeypatch.setattr(Reducer, "__init__", with_hook)
    assert run_threads(2, scenario, timeout=20.0) == [None] * 2


def test_one_rank_costs_nothing() -> None:
    net, reference = Net(), Net()
    model = DistributedDataParallel(net)
    x, y = whole_batch()
    output = model(x)
    loss(output, y).backward()
    assert output.grad_fn.name() == "TanhBackward0"
    assert all(p._extra is None for p in net.parameters())
    loss(reference(x), y).backward()
    assert close(grads(net), grads(reference), 0.0)
    with model.no_sync():
        model(x)


def test_nothing_to_train() -> None:
    net = Net()
    net.requires_grad_(False)
    with pytest.raises(AutogradError, match="any parameters that require a gradient"):
        DistributedDataParallel(net)


def test_device_ids_of_a_model_on_the_cpu() -> None:
    with pytest.raises(DeviceError, match=r"device_ids to name the model's device cpu, got \[0\]"):
        DistributedDataParallel(Net(), device_ids=[0])


def test_hooks_go_with_the_wrapper() -> None:
    def on_rank() -> tuple[int, int]:
        net = Net()
        model = DistributedDataParallel(net)
        with_wrapper = len(net.first.weight._get_extra().post_accumulate)
        del model
        return with_wrapper, len(net.first.weight._get_extra().post_accumulate)

    assert run_threads(2, on_rank) == [(1, 0)] * 2


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (lambda _, bucket: None, "to return a Future of a tensor, or a tensor, got NoneType"),
        (lambda _, bucket: bucket.buffer()[:1], r"the bucket's \d+ elements, got one of 1;"),
        (lambda _, bucket: done(True), r"the bucket's \d+ elements, got bool;"),
    ],
    ids=["nothing", "another size", "no tensor"],
)
def test_hooks_that_return_what_is_no_gradient(hook: Any, message: str) -> None:
    """Without an error each rank would go on with gradients of its own, or with one number everywhere."""

    def on_rank() -> None:
        model = DistributedDataParallel(Net())
        model.register_comm_hook(None, hook)
        x, y = whole_batch()
        with pytest.raises(AutogradError, match=message):
            loss(model(x), y).backward()

    run_threads(2, on_rank)


class Branches(Module):
    """Two layers, of which a call may leave out the second."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.first, self.second = (Parameter(values(seed + i, 64, 64)) for i in range(2))

    def forward(self, x: Tensor, whole: bool) -> Tensor:
        x = x @ self.first
        return x @ self.second if whole else x


def gradients_of_two(overlap: bool) -> list[Any]:
    """Of two models in one backward pass, step by step, when only rank 0 uses all of the younger one."""
    models = [DistributedDataParallel(Branches(10 * i), overlap=overlap, bucket_cap_mb=0.001) for i in range(2)]
    rank = models[0].process_group.rank
    steps = []
    for step in range(3):
        x = values(100 + rank + 2 * step, 4, 64)
        (models[0](x, True).sum() + models[1](x, rank == 0).sum()).backward()
        steps.append([p.grad.numpy().copy() for model in models for p in model.parameters()])
        for model in models:
            model.zero_grad()
    return steps


def test_two_models_in_one_pass() -> None:
    """With overlap the spans of one model met those of the other, which have the same size."""
    want, got = (run_threads(2, lambda overlap=overlap: gradients_of_two(overlap)) for overlap in (False, True))
    assert np.array_equal(got, want)


def test_two_models_that_do_not_wait_for_each_other_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distgrad.parallel._reducer.Reducer._others_wait", lambda self: False)
    with pytest.raises(AssertionError):
        test_two_models_in_one_pass()


def done(value: object) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future


def test_scenarios_see_a_planted_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the reduction most scenarios must fail; those that pass are about something else."""
    monkeypatch.setattr("distgrad.parallel._reducer.Reducer.reduce", lambda self: None)
    failed = set()
    for scenario in PLAIN:
        try:
            run_threads(2, scenario, timeout=20.0)
        except AssertionError:
            failed.add(scenario.__name__)
    assert len(failed) >= 20, failed


def test_joins_see_a_planted_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without weights, what is about the mean over samples must fail."""
    monkeypatch.setattr(DistributedDataParallel, "_factor", lambda self, inputs: 1.0)
    failed = set()
    for scenario in JOINS:
        try:
            run_threads(2, scenario, timeout=20.0)
        except AssertionError:
            failed.add(scenario.__name__)
    assert len(failed) >= 7, failed


def test_a_parameter_alone() -> None:
    class One(Module):
        def __init__(self) -> None:
            super().__init__()
            self.p = Parameter(dg.tensor(2.0))

        def forward(self) -> Parameter:
            return self.p

    def on_rank() -> float:
        model = DistributedDataParallel(One())
        (model() * (model.process_group.rank + 1.0)).backward()
        return model.module.p.grad.item()  # type: ignore[no-any-return]

    assert run_threads(3, on_rank) == [2.0] * 3
