"""Whatever changes between two calls is noticed: each test plants one change that a stale replay would miss."""

import gc
import sys
from collections.abc import Callable
from types import MethodType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad import nn, optim
from tests.replay.twins import CALLS, Twins, batch, mlp, plain_step, world

F = nn.functional
FACTOR = 1.0


def changed(twins: Twins, change: Callable[[Any], Any], calls: int = 5) -> None:
    """Lets it replay, changes something in both copies, and compares further steps."""
    assert twins.calls() > 0, twins.compiled.explain()
    twins.both(change)
    twins.calls(calls, start=20)


def _freeze(w: Any) -> None:
    w.model[0].weight.requires_grad_(False)


def _new_layer(w: Any) -> None:
    dg.manual_seed(3)
    w.model[4] = nn.Linear(8, 3)


def _new_values(w: Any) -> None:
    w.model.load_state_dict({name: t * 0.5 for name, t in w.model.state_dict().items()})


def _new_data(w: Any) -> None:
    w.model[0].weight.data = dg.ones(8, 4) * 0.1


def _in_place(w: Any) -> None:
    with dg.no_grad():
        w.model[0].weight.mul_(0.5)


def _instance_forward(w: Any) -> None:
    w.model[2].forward = MethodType(lambda self, x: x * 0.5, w.model[2])


def _hook_on_gradient(w: Any) -> None:
    w.model[0].weight.register_hook(lambda g: g * 0.5)


def _hook_after_accumulation(w: Any) -> None:
    def halve(p: Any) -> None:
        p.grad.mul_(0.5)

    w.model[0].weight.register_post_accumulate_grad_hook(halve)


def _hook_on_module(w: Any) -> None:
    w.model[0].register_forward_hook(lambda module, args, output: output * 0.5)


def _momentum(w: Any) -> None:
    w.optimizer.param_groups[0]["momentum"] = 0.9


def _group(w: Any) -> None:
    w.extra = nn.Parameter(dg.ones(3))
    w.extra.grad = dg.ones(3)
    w.optimizer.add_param_group({"params": [w.extra], "lr": 0.5})


def _arena(w: Any) -> None:
    w.other = optim.SGD([w.model[0].weight], lr=0.1)
    w.model[0].weight.grad = dg.ones(8, 4)
    w.other.step()


CHANGES: dict[str, Callable[[Any], Any]] = {
    "eval": lambda w: w.model.eval(),
    "eval of a part": lambda w: w.model[3].eval(),
    "dropout": lambda w: setattr(w.model[3], "p", 0.1),
    "momentum of the statistics": lambda w: setattr(w.model[1], "momentum", 0.5),
    "frozen": _freeze,
    "layer": _new_layer,
    "loaded": _new_values,
    "data": _new_data,
    "written": _in_place,
    "forward of an instance": _instance_forward,
    "gradient hook": _hook_on_gradient,
    "post-accumulate hook": _hook_after_accumulation,
    "module hook": _hook_on_module,
    "rate": lambda w: w.optimizer.param_groups[0].update(lr=0.01),
    "momentum": _momentum,
    "group": _group,
    "another optimizer": _arena,
    "dtype": lambda w: w.model.double().float(),
    "gradients set": lambda w: [setattr(p, "grad", dg.ones_like(p)) for p in w.model.parameters()],
}


@pytest.mark.filterwarnings("ignore:distgrad.compile")
@pytest.mark.parametrize("name", CHANGES)
def test_change_of_model_or_optimizer(name: str) -> None:
    changed(Twins(lambda: world(lambda: mlp(0.5, True))), CHANGES[name])


@pytest.mark.parametrize(
    ("guard", "name"), [("Surroundings.holds", "eval"), ("Surroundings.holds", "dropout"), ("Signature.fits", "shape")]
)
def test_a_guard_that_sees_nothing_is_found_out(guard: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    twins = Twins(lambda: world(lambda: mlp(0.5, True)))
    twins.calls()
    for program in twins.compiled._programs:
        owner = program.surroundings if guard == "Surroundings.holds" else program.signature
        monkeypatch.setattr(owner, guard.partition(".")[2], lambda *args: True)
    if name == "shape":
        with pytest.raises(ValueError, match=r"shape|broadcast"):
            twins.calls(1, n=5)
    else:
        twins.both(CHANGES[name])
        with pytest.raises(AssertionError):
            twins.calls(1)


@pytest.mark.filterwarnings("ignore:distgrad.compile")
@pytest.mark.parametrize("name", ["eval", "frozen", "rate", "gradients set"])
def test_and_back(name: str) -> None:
    twins = Twins(lambda: world(lambda: mlp(0.5, True)))
    changed(twins, CHANGES[name])
    twins.both(lambda w: w.model.train().requires_grad_())
    assert twins.calls(4) > 0


def accumulating_step(w: Any) -> Any:
    """Clears gradients only where the last argument says so."""
    model, optimizer = w.model, w.optimizer

    def step(x: Any, y: Any, last: bool) -> Any:
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        if last:
            optimizer.step()
            optimizer.zero_grad()
        return loss

    return step


@pytest.mark.parametrize("set_to_none", [True, False])
def test_accumulation(set_to_none: bool) -> None:
    twins = Twins(world, accumulating_step)
    for i in range(18):
        twins.call(*batch(i), i % 3 == 2)
    assert twins.compiled.replays > 6, twins.compiled.explain()


def factor_in(place: str) -> Callable[[Any], Any]:
    """A step that multiplies the loss by a number that lies at `place`."""

    def make_step(w: Any) -> Any:
        model, optimizer = w.model, w.optimizer
        factor, box, spaces = 1.0, [1.0], SimpleNamespace(factor=1.0)
        tensor, inner = dg.tensor(1.0), {"a": {"factor": 1.0}}

        class Settings:
            factor = 1.0

        own = Settings()

        def scaled(loss: Any, by: float = 1.0) -> Any:
            return loss * by

        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            if place == "closure":
                loss = loss * factor
            elif place == "global":
                loss = loss * FACTOR
            elif place == "list":
                loss = loss * box[0]
            elif place == "namespace":
                loss = loss * spaces.factor
            elif place == "class":
                loss = loss * Settings.factor
            elif place == "instance":
                loss = loss * own.factor
            elif place == "tensor in place" or place == "tensor":
                loss = loss * tensor
            elif place == "nested":
                loss = loss * inner["a"]["factor"]
            elif place == "default":
                loss = scaled(loss)
            loss.backward()
            optimizer.step()
            return loss

        def change(value: float) -> None:
            nonlocal factor, tensor
            if place == "closure":
                factor = value
            elif place == "tensor":
                tensor = dg.tensor(value)
            elif place == "tensor in place":
                tensor.fill_(value)
            elif place == "list":
                box[0] = value
            elif place == "namespace":
                spaces.factor = value
            elif place == "nested":
                inner["a"]["factor"] = value
            elif place == "class":
                Settings.factor = value
            elif place == "instance":
                own.factor = value
            elif place == "default":
                scaled.__defaults__ = (value,)

        w.change = change
        return step

    return make_step


PLACES = (
    "closure", "global", "list", "namespace", "class", "instance", "tensor", "tensor in place", "nested", "default"
)  # fmt: skip


@pytest.mark.filterwarnings("ignore:distgrad.compile")
@pytest.mark.parametrize("place", PLACES)
def test_change_of_what_the_step_can_see(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    twins = Twins(world, factor_in(place))
    assert twins.calls() > 0, twins.compiled.explain()
    expected = twins.compiled.replays + (5 if place == "tensor in place" else 3)
    if place == "global":
        monkeypatch.setitem(globals(), "FACTOR", 0.25)
    twins.both(lambda w: w.change(0.25))
    twins.calls(5)
    assert twins.compiled.replays == expected


class Scaled(nn.Module):
    """A model whose forward reads an attribute, a buffer and a list."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.factor, self.factors, self.flag = 1.0, [1.0], False
        self.register_buffer("offset", dg.zeros(3))

    def forward(self, x: Any) -> Any:
        x = self.layer(x) * self.factor * self.factors[0] + self.offset
        return x.tanh() if self.flag else x


@pytest.mark.parametrize("name", ["factor", "factors", "flag", "offset", "offset in place", "class"])
def test_change_of_a_modules_attributes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    twins = Twins(lambda: world(Scaled))
    assert twins.calls() > 0, twins.compiled.explain()

    def change(w: Any) -> None:
        if name == "factors":
            w.model.factors[0] = 0.5
        elif name == "offset in place":
            w.model.offset.fill_(2.0)
        elif name != "class":
            setattr(w.model, name, {"factor": 0.5, "flag": True, "offset": dg.ones(3)}[name])

    twins.both(change)
    if name == "class":
        monkeypatch.setattr(Scaled, "forward", lambda self, x: self.layer(x) * 3)
    assert twins.calls(5, start=20) > 0


def test_arguments() -> None:
    """Dtype, strides, numbers, containers and keywords."""

    def make_step(w: Any) -> Any:
        model = w.model

        def step(batch: Any, factor: Any = 1.0, *, add: int = 0) -> Any:
            return F.cross_entropy(model(batch["x"].float()) * factor + add, batch["y"])

        return dg.no_grad()(step)

    twins = Twins(world, make_step)
    x, y = batch(0)
    wide = dg.tensor(np.random.default_rng(5).standard_normal((6, 8)).astype("f"))
    calls = [(kind, 1.0) for kind in (x.double(), wide[:, ::2], wide[:, :4])]
    for kind, factor in calls + [(x, factor) for factor in (1.0, 2.0, 1, True, -0.0, 0.0)]:
        for _ in range(4):
            twins.call({"x": kind, "y": y}, factor)
    assert twins.compiled.replays > 16


@pytest.mark.filterwarnings("ignore:distgrad.compile")
def test_modes() -> None:
    twins = Twins(world)
    twins.calls()
    replayed = twins.compiled.replays
    with dg.no_grad(), pytest.raises(RuntimeError):
        twins.compiled(*batch(0))
    assert twins.calls(4) == 3  # the gradients were cleared once
    with dg.autograd.set_detect_anomaly(True):
        assert twins.calls(2) == 0
    assert twins.calls(2) == 2
    assert twins.compiled.replays == replayed + 5


def test_a_debugger_sees_the_step() -> None:
    twins = Twins(world)
    twins.calls()
    assert sys.gettrace() is None, "these tests need a Python that is not traced"
    seen = []

    def trace(frame: Any, event: str, arg: Any) -> None:
        seen.append(frame.f_code.co_name)

    sys.settrace(trace)
    try:
        twins.compiled(*batch(0))
    finally:
        sys.settrace(None)
    assert "step" in seen


def test_seed() -> None:
    twins = Twins(lambda: world(lambda: mlp(0.5)))
    twins.calls()
    dg.manual_seed(5)
    assert twins.calls(3) == 3


def test_a_second_thread_runs_eagerly() -> None:
    step = dg.compile(lambda depth: step(depth - 1) if depth else dg.ones(2))
    for _ in range(6):
        assert step(2).tolist() == [1, 1]


def test_too_many_kinds_of_calls_are_given_up() -> None:
    w = world()
    step = dg.compile(dg.no_grad()(lambda x, i: w.model(x) * i))
    x = batch(0)[0]
    with pytest.warns(RuntimeWarning, match="change in almost every call"):
        for i in range(40):
            for _ in range(3):
                step(x, i)
    assert step(x, 3).tolist() == (w.model(x) * 3).tolist()


def test_step_counts_its_calls() -> None:
    twins = Twins(world, plain_step)
    assert twins.calls(CALLS) == twins.compiled.replays == CALLS - 3
    assert twins.compiled.eager_calls == 3
    assert "5 calls replayed, 3 run eagerly" in twins.compiled.explain()


def test_garbage_of_others_ends_no_recording() -> None:
    collections = []
    before = gc.get_threshold()
    gc.callbacks.append(lambda phase, info: collections.append(phase))  # runs as a finalizer would
    gc.set_threshold(5, 2, 2)
    try:
        twins = Twins(world)
        assert twins.calls() > 0, twins.compiled.explain()
    finally:
        gc.set_threshold(*before)
        gc.callbacks.pop()
    assert len(collections) > 10
