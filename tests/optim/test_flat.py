"""Runs, views and plans: whatever users do to parameters, gradients and state, the next step does as torch would."""

import copy
import gc
import tracemalloc
import weakref
from typing import Any

import numpy as np
import pytest

import distgrad
from distgrad.optim import SGD, Adam, RMSprop
from tests.optim.reference import RULES

LR = 0.1


def parameter(*shape: int, seed: int = 0, dtype: str = "float64") -> distgrad.Parameter:
    return distgrad.Parameter(distgrad.tensor(np.random.default_rng(seed).standard_normal(shape).astype(dtype)))


class Twin:
    """An Adam on parameters, beside the same rule computed for each parameter by itself."""

    def __init__(self, count: int = 4, name: str = "Adam", cls: Any = Adam, **options: Any) -> None:
        self.params = [parameter(3, i + 1, seed=i) for i in range(count)]
        self.optimizer = cls(self.params, lr=LR, **options)
        self.rule, self.options = RULES[name], {"lr": LR, **options}
        self.values = [p.detach().numpy().copy() for p in self.params]
        self.states: list[dict[str, Any]] = [{} for _ in self.params]
        self.time = 0

    def step(self, *present: int) -> None:
        """One step in which only the parameters with these numbers have a gradient."""
        self.time += 1
        for i, p in enumerate(self.params):
            p.grad = None
            if i in present:
                grad = np.cos(self.time + np.arange(p.numel(), dtype="float64")).reshape(p.shape)
                p.grad = distgrad.tensor(grad)
                self.values[i] = self.rule(self.values[i], grad, self.states[i], self.options)
        self.optimizer.step()
        self.check()

    def check(self) -> None:
        for p, want in zip(self.params, self.values, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), want, rtol=1e-12)

    @property
    def segments(self) -> list[list[distgrad.Tensor]]:
        return [list(s.parameters) for plan in self.optimizer._plans for s in plan.segments]


def test_all_parameters_are_one_segment_and_the_plan_is_kept() -> None:
    twin = Twin()
    twin.step(0, 1, 2, 3)
    plan = twin.optimizer._plans[0]
    assert [len(s) for s in twin.segments] == [4]
    twin.step(0, 1, 2, 3)
    assert twin.optimizer._plans[0] is plan


def test_state_is_a_view_of_flat_memory() -> None:
    twin = Twin()
    twin.step(0, 1, 2, 3)
    flat = twin.optimizer._plans[0].segments[0].moments[0]
    for p in twin.params:
        view = twin.optimizer.state[p]["exp_avg"]
        assert view.shape == p.shape and np.shares_memory(view.numpy(), flat)


@pytest.mark.parametrize(("name", "cls", "options"), [
    ("Adam", Adam, {}), ("SGD", SGD, {"momentum": 0.9, "dampening": 0.5}), ("RMSprop", RMSprop, {"momentum": 0.5}),
])  # fmt: skip
def test_gradients_come_and_go(name: str, cls: Any, options: dict[str, Any]) -> None:
    twin = Twin(5, name, cls, **options)
    for present in [(0, 1, 2, 3, 4), (1, 2), (0, 1, 2, 3, 4), (), (4,), (0, 2, 4), (0, 1, 2, 3, 4), (0, 1, 2, 3, 4)]:
        twin.step(*present)


def test_step_counts_split_runs() -> None:
    twin = Twin(3)
    twin.step(0, 1, 2)
    twin.step(1)
    twin.step(0, 1, 2)
    assert sorted(len(s) for s in twin.segments) == [1, 1, 1]
    assert [float(twin.optimizer.state[p]["step"]) for p in twin.params] == [2, 3, 2]


def test_first_step_late() -> None:
    """A parameter that is frozen at first has no state until its first gradient."""
    twin = Twin(2, "SGD", SGD, momentum=0.9, dampening=0.3)
    twin.params[1].requires_grad_(False)
    twin.step(0)
    assert twin.params[1] not in twin.optimizer.state
    twin.params[1].requires_grad_(True)
    twin.step(0, 1)
    twin.step(0, 1)


def test_planted_bug_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that never notices a change gives wrong parameters, and `Twin` says so."""
    monkeypatch.setattr("distgrad.optim._flat._Plan.fits", lambda plan, params, moments: bool(plan.params))
    twin = Twin()
    twin.step(0, 1, 2, 3)
    with pytest.raises(AssertionError):
        twin.step(1, 2)


# ---- gradients outside the arena ----
def test_gradient_with_a_graph_is_used_and_kept() -> None:
    p = parameter(3)
    optimizer = SGD([p], lr=LR)
    for _ in range(3):
        optimizer.zero_grad()
        want = p.detach().numpy() - LR * 3 * p.detach().numpy() ** 2
        (p * p * p).sum().backward(create_graph=True)
        grad = p.grad
        plan = optimizer._plans[0] if optimizer._plans else None
        optimizer.step()
        np.testing.assert_allclose(p.detach().numpy(), want)
        assert p.grad is grad and grad is not None and grad.requires_grad
    assert optimizer._plans[0] is plan


def test_step_is_seen_by_the_version_check() -> None:
    p = parameter(2)
    optimizer = SGD([p], lr=LR)
    loss = (p * p).sum()
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(distgrad.errors.AutogradError, match="modified by an inplace operation"):
        loss.backward()


# ---- what users do to parameters ----
def test_data_of_the_same_shape() -> None:
    twin = Twin(2)
    twin.step(0, 1)
    twin.params[0].data = distgrad.ones(3, 1, dtype=distgrad.float64)
    twin.values[0] = np.ones((3, 1))
    twin.step(0, 1)
    assert [len(s) for s in twin.segments] == [2]


def test_data_of_another_dtype_takes_its_state_along() -> None:
    """As `module.double()` does after the optimizer was built."""
    p = parameter(3, dtype="float32")
    optimizer = Adam([p], lr=LR)
    p.grad = distgrad.ones(3)
    optimizer.step()
    p.data = p.data.double()
    p.grad = distgrad.ones(3, dtype=distgrad.float64)
    optimizer.step()
    assert p.dtype == distgrad.float64 and optimizer.state[p]["exp_avg"].dtype == distgrad.float64
    assert float(optimizer.state[p]["step"]) == 2
    np.testing.assert_allclose(optimizer.state[p]["exp_avg"].numpy(), 0.19, rtol=1e-6)


def test_a_parameter_exchanged_in_its_group() -> None:
    """A larger parameter takes the place of one, with state that the user made longer."""
    p = parameter(2)
    optimizer = Adam([{"params": [p]}], lr=LR)
    p.grad = distgrad.ones(2, dtype=distgrad.float64)
    optimizer.step()
    state = optimizer.state.pop(p)
    larger = distgrad.Parameter(distgrad.tensor(np.arange(3.0)))
    for name in ("exp_avg", "exp_avg_sq"):
        state[name] = distgrad.tensor(np.append(state[name].numpy(), 0.0))
    optimizer.param_groups[0]["params"][0] = larger
    optimizer.state[larger] = state
    larger.grad = distgrad.ones(3, dtype=distgrad.float64)
    optimizer.step()
    assert float(optimizer.state[larger]["step"]) == 2
    np.testing.assert_allclose(optimizer.state[larger]["exp_avg"].numpy(), [0.19, 0.19, 0.1])


def test_add_param_group_between_steps() -> None:
    twin = Twin(2)
    twin.step(0, 1)
    q = parameter(4, seed=9)
    before = q.detach().numpy().copy()
    twin.optimizer.add_param_group({"params": [q], "lr": 1.0})
    q.grad = distgrad.ones(4, dtype=distgrad.float64)
    twin.step(0, 1)
    np.testing.assert_allclose(q.detach().numpy(), before - 1.0, rtol=1e-6)


def test_deepcopy_of_parameters_is_apart() -> None:
    """An average model is a copy that the optimizer does not touch."""
    twin = Twin(2)
    twin.step(0, 1)
    average = copy.deepcopy(twin.params)
    before = [p.detach().numpy().copy() for p in average]
    twin.step(0, 1)
    for p, want in zip(average, before, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), want)


def test_two_optimizers_on_one_arena() -> None:
    params = [parameter(2, seed=i) for i in range(4)]
    everything = SGD(params, lr=0.0)
    for p in params:
        p.grad = distgrad.ones(2, dtype=distgrad.float64)
    everything.step()
    before = [p.detach().numpy().copy() for p in params]
    first, second = SGD(params[:2], lr=1.0), Adam(params[2:], lr=2.0)
    first.step()
    second.step()
    for p, want, lr in zip(params, before, (1, 1, 2, 2), strict=True):
        np.testing.assert_allclose(p.detach().numpy(), want - lr, rtol=1e-6)


def test_parameters_of_two_dtypes_in_one_group() -> None:
    p, q = parameter(2), parameter(2, dtype="float32")
    optimizer = SGD([p, q], lr=1.0)
    p.grad, q.grad = distgrad.ones(2, dtype=distgrad.float64), distgrad.ones(2)
    want = [t.detach().numpy() - 1 for t in (p, q)]
    optimizer.step()
    for t, w in zip((p, q), want, strict=True):
        np.testing.assert_array_equal(t.detach().numpy(), w)


# ---- what users do to the state ----
@pytest.mark.parametrize("how", ["clear", "replace", "entry", "delete"])
def test_forgetting_the_state_starts_anew(how: str) -> None:
    twin = Twin(2)
    twin.step(0, 1)
    optimizer = twin.optimizer
    if how == "clear":
        optimizer.state.clear()
    elif how == "replace":
        optimizer.state = type(optimizer.state)(dict)
    elif how == "entry":
        for p in twin.params:
            optimizer.state[p] = {}
    else:
        for p in twin.params:
            del optimizer.state[p]
    twin.states = [{}, {}]
    twin.step(0, 1)
    assert float(optimizer.state[twin.params[0]]["step"]) == 1


def test_writing_into_the_state() -> None:
    twin = Twin(2)
    twin.step(0, 1)
    p = twin.params[0]
    twin.optimizer.state[p]["exp_avg"].zero_()
    twin.states[0]["m"] = twin.states[0]["m"] * 0
    twin.step(0, 1)
    twin.optimizer.state[p]["exp_avg_sq"] = distgrad.ones(3, 1, dtype=distgrad.float64)
    twin.states[0]["v"] = np.ones((3, 1))
    twin.step(0, 1)
    twin.optimizer.state[p]["step"].fill_(10.0)
    twin.states[0]["t"] = 10
    twin.step(0, 1)
    assert sorted(len(s) for s in twin.segments) == [1, 1]


def test_the_users_own_entries_stay() -> None:
    twin = Twin(1)
    twin.step(0)
    twin.optimizer.state[twin.params[0]]["mine"] = "x"
    twin.step(0)
    assert twin.optimizer.state_dict()["state"][0]["mine"] == "x"


def test_amsgrad_switched_on_between_steps() -> None:
    p = parameter(2)
    optimizer = Adam([p], lr=LR)
    for _ in range(2):
        p.grad = distgrad.ones(2, dtype=distgrad.float64)
        optimizer.step()
        optimizer.param_groups[0]["amsgrad"] = True
    assert "max_exp_avg_sq" in optimizer.state[p]


# ---- memory ----
def test_a_step_allocates_no_parameter_sized_memory() -> None:
    p = distgrad.Parameter(distgrad.tensor(np.ones(1 << 20, "float32")))
    optimizer = Adam([p], weight_decay=0.1, maximize=True)
    p.grad = distgrad.ones(1 << 20)
    optimizer.step()
    tracemalloc.start()
    try:
        optimizer.step()
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_old_arenas_are_let_go() -> None:
    p = parameter(1000)
    optimizer = Adam([p])
    p.grad = distgrad.ones(1000, dtype=distgrad.float64)
    optimizer.step()
    old = weakref.ref(next(iter(optimizer._flats)))
    p.data = distgrad.ones(1000)
    p.grad = distgrad.ones(1000)
    optimizer.step()
    gc.collect()
    assert old() is None and len(optimizer._flats) == 1
