"""Schedules against their closed forms, resumed half way, and what they warn of and refuse."""

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import distgrad
from distgrad.optim import SGD, Adam
from distgrad.optim import lr_scheduler as schedules
from distgrad.optim.lr_scheduler import LRScheduler

BASE = 0.05
EPOCHS = 20


def optimizer_of(cls: Any = SGD, lr: Any = BASE) -> Any:
    options = {"momentum": 0.9} if cls is SGD else {}
    return cls([distgrad.Parameter(distgrad.ones(2))], lr=lr, **options)


def cosine(epoch: float, period: float, low: float, high: float = BASE) -> float:
    return low + (high - low) * (1 + math.cos(math.pi * epoch / period)) / 2


def cyclic(epoch: int) -> float:
    place = epoch % 10
    return 0.01 + 0.09 * (place / 5 if place <= 5 else (10 - place) / 5)


def restarts(epoch: int) -> float:
    start, length = 0, 3
    while epoch >= start + length:
        start, length = start + length, 2 * length
    return cosine(epoch - start, length, 0.001)


def one_cycle(epoch: int) -> float:
    peak = 0.3 * 25 - 1
    if epoch <= peak:
        return cosine(epoch, peak, 0.1, 0.1 / 25)
    return cosine(epoch - peak, 24 - peak, 0.1 / 25 / 1e4, 0.1)


def polynomial(epoch: int) -> float:
    return BASE * (1 - min(epoch, 15) / 15) ** 2


def sequential(epoch: int) -> float:
    return BASE * (0.1 + 0.9 * epoch / 4) if epoch < 4 else cosine(epoch - 4, 16, 0)


Make = Callable[[Any], LRScheduler]
FORMS: dict[str, tuple[Make, Callable[[int], float]]] = {
    "LambdaLR": (lambda o: schedules.LambdaLR(o, lambda e: 0.9**e), lambda e: BASE * 0.9**e),
    "MultiplicativeLR": (lambda o: schedules.MultiplicativeLR(o, lambda e: 0.95), lambda e: BASE * 0.95**e),
    "StepLR": (lambda o: schedules.StepLR(o, 3, 0.5), lambda e: BASE * 0.5 ** (e // 3)),
    "MultiStepLR": (
        lambda o: schedules.MultiStepLR(o, [3, 7, 7, 12], 0.5),
        lambda e: BASE * 0.5 ** sum(e >= m for m in (3, 7, 7, 12)),
    ),
    "ConstantLR": (lambda o: schedules.ConstantLR(o, 0.5, 4), lambda e: BASE * (0.5 if e < 4 else 1)),
    "LinearLR": (lambda o: schedules.LinearLR(o, 0.1, 0.8, 12), lambda e: BASE * (0.1 + 0.7 * min(e, 12) / 12)),
    "ExponentialLR": (lambda o: schedules.ExponentialLR(o, 0.9), lambda e: BASE * 0.9**e),
    "PolynomialLR": (lambda o: schedules.PolynomialLR(o, 15, 2.0), polynomial),
    "CosineAnnealingLR": (lambda o: schedules.CosineAnnealingLR(o, 7, 0.01), lambda e: cosine(e, 7, 0.01)),
    "CosineAnnealingWarmRestarts": (lambda o: schedules.CosineAnnealingWarmRestarts(o, 3, 2, 0.001), restarts),
    "CyclicLR": (lambda o: schedules.CyclicLR(o, 0.01, 0.1, 5), cyclic),
    "CyclicLR triangular2": (
        lambda o: schedules.CyclicLR(o, 0.01, 0.1, 5, mode="triangular2"),
        lambda e: 0.01 + (cyclic(e) - 0.01) / 2 ** (e // 10),
    ),
    "CyclicLR exp_range": (
        lambda o: schedules.CyclicLR(o, 0.01, 0.1, 5, mode="exp_range", gamma=0.9),
        lambda e: 0.01 + (cyclic(e) - 0.01) * 0.9**e,
    ),
    "CyclicLR scale_fn": (
        lambda o: schedules.CyclicLR(o, 0.01, 0.1, 5, scale_fn=lambda x: 0.7**x, scale_mode="iterations"),
        lambda e: 0.01 + (cyclic(e) - 0.01) * 0.7**e,
    ),
    "OneCycleLR": (lambda o: schedules.OneCycleLR(o, 0.1, 25), one_cycle),
    "SequentialLR": (
        lambda o: schedules.SequentialLR(
            o, [schedules.LinearLR(o, 0.1, total_iters=4), schedules.CosineAnnealingLR(o, 16)], [4]
        ),
        sequential,
    ),
    "ChainedScheduler": (
        lambda o: schedules.ChainedScheduler([schedules.ConstantLR(o, 0.1, 3), schedules.ExponentialLR(o, 0.9)]),
        lambda e: BASE * (0.1 if e < 3 else 1) * 0.9**e,
    ),
}


def run(optimizer: Any, scheduler: LRScheduler, epochs: int) -> list[float]:
    """The rate at each epoch, from the present one on."""
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        assert scheduler.get_last_lr() == [float(optimizer.param_groups[0]["lr"])]
        optimizer.step()
        scheduler.step()
    return [float(r) for r in rates]


@pytest.mark.parametrize("name", FORMS)
def test_closed_form(name: str) -> None:
    make, form = FORMS[name]
    optimizer = optimizer_of()
    rates = run(optimizer, make(optimizer), EPOCHS)
    np.testing.assert_allclose(rates, [form(e) for e in range(EPOCHS)], rtol=1e-9)


def test_check_finds_a_schedule_that_is_one_epoch_late(monkeypatch: pytest.MonkeyPatch) -> None:
    right = schedules.StepLR.get_lr
    late = lambda s: right(s) if s.last_epoch != 3 else s._current()  # noqa: E731
    monkeypatch.setattr(schedules.StepLR, "get_lr", late)
    with pytest.raises(AssertionError):
        test_closed_form("StepLR")


@pytest.mark.parametrize("cls", [SGD, Adam])
@pytest.mark.parametrize("name", FORMS)
def test_resumed_half_way(name: str, cls: Any) -> None:
    make, _ = FORMS[name]
    optimizer = optimizer_of(cls)
    scheduler = make(optimizer)
    run(optimizer, scheduler, 9)
    other = optimizer_of(cls)
    resumed = make(other)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    resumed.load_state_dict(copy.deepcopy(scheduler.state_dict()))
    assert run(other, resumed, 10) == run(optimizer, scheduler, 10)
    group, twin = optimizer.param_groups[0], other.param_groups[0]
    assert (group.get("momentum"), group.get("betas")) == (twin.get("momentum"), twin.get("betas"))


@pytest.mark.parametrize("name", [n for n in FORMS if n not in ("SequentialLR", "ChainedScheduler")])
def test_state_dict_can_be_saved(name: str, tmp_path: Any) -> None:
    """Through a file, which holds plain values only."""
    make, form = FORMS[name]
    optimizer = optimizer_of()
    scheduler = make(optimizer)
    run(optimizer, scheduler, 5)
    distgrad.save((optimizer.state_dict(), scheduler.state_dict()), tmp_path / "schedule")
    other = optimizer_of()
    resumed = make(other)
    for target, state in zip((other, resumed), distgrad.load(tmp_path / "schedule"), strict=True):
        target.load_state_dict(state)
    np.testing.assert_allclose(run(other, resumed, 10), [form(e) for e in range(5, 15)], rtol=1e-9)


@pytest.mark.parametrize("name", ["StepLR", "MultiStepLR", "ConstantLR", "LinearLR", "ExponentialLR", "PolynomialLR"])
def test_going_to_an_epoch(name: str) -> None:
    make, form = FORMS[name]
    optimizer = optimizer_of()
    scheduler = make(optimizer)
    optimizer.step()
    with pytest.warns(UserWarning, match="epoch parameter"):
        scheduler.step(8)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(form(8))


def test_a_rate_that_is_a_tensor_stays_that_tensor() -> None:
    lr = distgrad.tensor(BASE, dtype=distgrad.float64)
    optimizer = optimizer_of(lr=lr)
    run(optimizer, schedules.ExponentialLR(optimizer, 0.5), 3)
    assert optimizer.param_groups[0]["lr"] is lr
    assert float(lr) == pytest.approx(BASE / 8)


def test_momentum_moves_against_the_rate() -> None:
    optimizer = optimizer_of()
    scheduler = schedules.OneCycleLR(optimizer, 0.1, 25, base_momentum=0.8, max_momentum=0.9)
    assert optimizer.param_groups[0]["momentum"] == 0.9
    pairs = []
    for _ in range(24):
        optimizer.step()
        scheduler.step()
        pairs.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]))
    assert min(m for _, m in pairs) == pytest.approx(0.8, abs=1e-2)
    assert max(pairs)[1] == min(m for _, m in pairs)


def test_cyclic_moves_beta1_of_adam() -> None:
    optimizer = optimizer_of(Adam)
    scheduler = schedules.CyclicLR(optimizer, 0.01, 0.1, 2, base_momentum=0.8, max_momentum=0.9)
    betas = []
    for _ in range(4):
        betas.append(optimizer.param_groups[0]["betas"])
        optimizer.step()
        scheduler.step()
    np.testing.assert_allclose(betas, [(0.9, 0.999), (0.85, 0.999), (0.8, 0.999), (0.85, 0.999)])


def test_restarts_at_fractions_of_an_epoch() -> None:
    optimizer = optimizer_of()
    scheduler = schedules.CosineAnnealingWarmRestarts(optimizer, 4, 2)
    scheduler.step(5.5)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(cosine(1.5, 8, 0))
    with pytest.raises(ValueError, match="non-negative epoch"):
        scheduler.step(-1)


# ---- ReduceLROnPlateau ----
def test_plateau() -> None:
    optimizer = optimizer_of(lr=1.0)
    scheduler = schedules.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, cooldown=1, min_lr=0.2)
    rates = []
    for metric in (1.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6):
        scheduler.step(distgrad.tensor(metric))
        rates.append(optimizer.param_groups[0]["lr"])
    # Two bad epochs are one too many; then one epoch does not count.
    assert rates == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2, 0.2, 0.2, 0.2, 0.2]
    assert scheduler.get_last_lr() == [0.2]


def test_plateau_of_a_maximum_by_difference() -> None:
    optimizer = optimizer_of(lr=1.0)
    scheduler = schedules.ReduceLROnPlateau(optimizer, "max", 0.1, 0, 0.1, "abs")
    for metric, rate in ((1.0, 1.0), (1.2, 1.0), (1.25, 0.1), (1.4, 0.1)):
        scheduler.step(metric)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(rate)


def test_plateau_errors() -> None:
    optimizer = optimizer_of()
    with pytest.raises(ValueError, match=r"Factor should be < 1\.0"):
        schedules.ReduceLROnPlateau(optimizer, factor=1.0)
    with pytest.raises(ValueError, match="mode middle is unknown"):
        schedules.ReduceLROnPlateau(optimizer, mode="middle")
    scheduler = schedules.ReduceLROnPlateau(optimizer, patience=0, min_lr=[0.0])
    optimizer.add_param_group({"params": [distgrad.Parameter(distgrad.ones(1))]})
    scheduler.step(1.0)
    with pytest.raises(RuntimeError, match="expected a min_lr for each of the 2 param groups, got 1"):
        scheduler.step(2.0)


# ---- groups, own schedules, warnings, errors ----
def test_one_function_for_each_group() -> None:
    params = [{"params": [distgrad.Parameter(distgrad.ones(1))], "lr": lr} for lr in (1.0, 2.0)]
    optimizer = SGD(params)
    scheduler = schedules.LambdaLR(optimizer, [lambda e: 1 / (e + 1), lambda e: 0.5])
    optimizer.step()
    scheduler.step()
    assert scheduler.get_last_lr() == [0.5, 1.0]
    with pytest.raises(ValueError, match="Expected 2 lr_lambdas, but got 1"):
        schedules.LambdaLR(optimizer, [lambda e: 1.0])
    with pytest.raises(TypeError, match="should be a function, but got int"):
        schedules.LambdaLR(optimizer, 3)  # type: ignore[arg-type]


class Halving:
    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, epoch: int) -> float:
        return self.factor**epoch


def test_callable_objects_are_saved_by_their_attributes() -> None:
    optimizer = optimizer_of()
    saved = schedules.LambdaLR(optimizer, Halving(0.5)).state_dict()
    assert saved["lr_lambdas"] == [{"factor": 0.5}]
    other = schedules.LambdaLR(optimizer_of(), Halving(0.1))
    other.load_state_dict(saved)
    assert other.lr_lambdas[0].factor == 0.5  # type: ignore[attr-defined]


class Inverse(LRScheduler):
    def get_lr(self) -> list[float]:
        return [base / (1 + self.last_epoch) for base in self.base_lrs]


def test_users_own_schedule() -> None:
    optimizer = optimizer_of()
    np.testing.assert_allclose(run(optimizer, Inverse(optimizer), 4), [BASE / (1 + e) for e in range(4)])
    with pytest.raises(NotImplementedError, match="LRScheduler does not define get_lr"):
        LRScheduler(optimizer)


def test_going_on_needs_the_first_rates() -> None:
    optimizer = optimizer_of()
    with pytest.raises(KeyError, match="'initial_lr' is not specified"):
        schedules.StepLR(optimizer, 3, last_epoch=4)
    optimizer.param_groups[0]["initial_lr"] = 1.0
    scheduler = schedules.CosineAnnealingLR(optimizer, 10, last_epoch=4)
    assert scheduler.last_epoch == 5 and scheduler.base_lrs == [1.0]


def test_wrong_order_is_warned_of() -> None:
    optimizer = optimizer_of()
    scheduler = schedules.StepLR(optimizer, 3)
    with pytest.warns(UserWarning, match=r"`lr_scheduler\.step\(\)` before `optimizer\.step\(\)`"):
        scheduler.step()
    optimizer = optimizer_of()
    scheduler = schedules.StepLR(optimizer, 3)
    optimizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler.step()


def test_asking_get_lr_is_warned_of() -> None:
    scheduler = schedules.StepLR(optimizer_of(), 3)
    with pytest.warns(UserWarning, match="please use `get_last_lr"):
        scheduler.get_lr()


def test_errors() -> None:
    optimizer = optimizer_of()
    plain = distgrad.optim.Adagrad([distgrad.Parameter(distgrad.ones(1))])
    with pytest.raises(TypeError, match="int is not an Optimizer"):
        schedules.StepLR(3, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="between 0 and 1, got 2"):
        schedules.ConstantLR(optimizer, 2)
    with pytest.raises(ValueError, match=r"in \(0, 1\], got 0"):
        schedules.LinearLR(optimizer, 0)
    with pytest.raises(ValueError, match="positive integer T_0"):
        schedules.CosineAnnealingWarmRestarts(optimizer, 0)
    with pytest.raises(ValueError, match="support momentum or beta1"):
        schedules.CyclicLR(plain, 0.1, 0.2)
    with pytest.raises(ValueError, match="mode is invalid"):
        schedules.CyclicLR(optimizer, 0.1, 0.2, mode="round")
    with pytest.raises(ValueError, match="define either total_steps OR"):
        schedules.OneCycleLR(optimizer, 0.1)
    with pytest.raises(ValueError, match="positive integer total_steps"):
        schedules.OneCycleLR(optimizer, 0.1, 0)
    with pytest.raises(ValueError, match=r"max_lr must have the same length as .*: expected 1, got 2"):
        schedules.OneCycleLR(optimizer, [0.1, 0.2], 10)
    with pytest.raises(ValueError, match="one of 'cos' or 'linear'"):
        schedules.OneCycleLR(optimizer, 0.1, 10, anneal_strategy="no")


def test_one_cycle_ends() -> None:
    optimizer = optimizer_of()
    scheduler = schedules.OneCycleLR(optimizer, 0.1, 3)
    for _ in range(3):
        optimizer.step()
        scheduler.step()
    with pytest.raises(ValueError, match=r"Tried to step 4 times\. The specified number of total steps is 3"):
        scheduler.step()


def test_composition_errors() -> None:
    optimizer, other = optimizer_of(), optimizer_of()
    one = schedules.StepLR(optimizer, 3)
    with pytest.raises(ValueError, match="expects at least one scheduler"):
        schedules.ChainedScheduler([])
    with pytest.raises(ValueError, match="belong to the same optimizer"):
        schedules.ChainedScheduler([one, schedules.StepLR(other, 3)])
    with pytest.raises(ValueError, match="does not support `ReduceLROnPlateau`"):
        schedules.SequentialLR(optimizer, [one, schedules.ReduceLROnPlateau(optimizer)], [3])
    with pytest.raises(ValueError, match="got 1 schedulers and 1 milestones"):
        schedules.SequentialLR(optimizer, [one], [3])
    with pytest.raises(TypeError, match="got int at index 1"):
        schedules.ChainedScheduler([one, 3])  # type: ignore[list-item]
