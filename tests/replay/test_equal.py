"""Replays end in the same bits as eager steps, whatever is in the step."""

from typing import Any

import pytest

import distgrad as dg
from distgrad import nn, optim
from distgrad.errors import AutogradError
from tests.replay.twins import CALLS, Twins, batch, mlp, plain_step, world

OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3, nesterov=True),
    "adam": lambda p: optim.Adam(p, lr=0.01),
    "adamw": lambda p: optim.AdamW(p, lr=0.01, amsgrad=True),
    "rmsprop": lambda p: optim.RMSprop(p, lr=0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name: str) -> None:
    twins = Twins(lambda: world(mlp, OPTIMIZERS[name]))
    assert twins.calls() == CALLS - 3


def test_dropout_draws_the_numbers_of_an_eager_step() -> None:
    twins = Twins(lambda: world(lambda: mlp(dropout=0.5)))
    assert twins.calls() == CALLS - 3


def test_running_statistics() -> None:
    twins = Twins(lambda: world(lambda: mlp(dropout=0.2, norm=True)))
    assert twins.calls() == CALLS - 3


@pytest.mark.parametrize("clip", ["norm", "value", "list"])
def test_clipping(clip: str) -> None:
    def make_step(w: Any) -> Any:
        model, optimizer = w.model, w.optimizer

        def step(x: Any, y: Any) -> Any:
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            norm = None
            if clip == "norm":
                norm = nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            elif clip == "list":
                norm = nn.utils.clip_grad_norm_([model[0].weight], 0.1)
            else:
                nn.utils.clip_grad_value_(model.parameters(), 0.01)
            optimizer.step()
            optimizer.zero_grad()
            return loss, norm

        return step

    assert Twins(world, make_step).calls() == CALLS - 3


def test_schedule_inside_of_the_step() -> None:
    def make() -> Any:
        w = world(mlp, lambda p: optim.SGD(p, lr=0.1, momentum=0.9))
        w.schedule = optim.lr_scheduler.CosineAnnealingLR(w.optimizer, T_max=5)
        return w

    def make_step(w: Any) -> Any:
        inner, schedule = plain_step(w), w.schedule

        def step(x: Any, y: Any) -> Any:
            loss = inner(x, y)
            schedule.step()
            return loss

        return step

    twins = Twins(make, make_step)
    assert twins.calls() == CALLS - 3
    assert twins.other.optimizer.param_groups[0]["lr"] == twins.eager.optimizer.param_groups[0]["lr"] != 0.1


def test_schedule_and_learning_rate_outside_of_the_step() -> None:
    def make() -> Any:
        w = world()
        w.schedule = optim.lr_scheduler.StepLR(w.optimizer, 1, 0.5)
        return w

    twins = Twins(make)
    for i in range(CALLS):
        twins.call(*batch(i))
        twins.both(lambda w: w.schedule.step())
    twins.both(lambda w: w.optimizer.param_groups[0].update(lr=3.0, weight_decay=0.1))
    assert twins.calls(2) == 2


def test_two_backward_passes_into_the_same_parameters() -> None:
    def make_step(w: Any) -> Any:
        model, optimizer = w.model, w.optimizer

        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            for part, target in ((x[:3], y[:3]), (x[3:], y[3:])):
                (nn.functional.cross_entropy(model(part), target) / 2).backward()
            optimizer.step()

        return step

    assert Twins(world, make_step).calls() == CALLS - 3


class Net(nn.Module):
    """Reuse of a layer, a skip connection, several outputs of one operation, constants."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared, self.last = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.scale = nn.Parameter(dg.ones(1))

    def forward(self, x: Any) -> Any:
        h = self.first(x).tanh()
        h = h + self.shared(self.shared(h).relu()) * self.scale
        a, b = h.split(4, dim=1)
        positions = dg.arange(8, dtype=dg.float32) / 8
        return self.last(dg.cat([b, a.exp()], dim=1) + positions)


def test_a_graph_with_branches() -> None:
    assert Twins(lambda: world(Net)).calls() == CALLS - 3


def test_a_user_optimizer_is_called_as_it_is() -> None:
    class Signs(optim.Optimizer):
        def __init__(self, params: Any) -> None:
            super().__init__(params, {"lr": 0.01})
            self.count = 0

        @dg.no_grad()
        def step(self, closure: Any = None) -> None:
            self.count += 1
            for group in self.param_groups:
                for p in group["params"]:
                    p -= group["lr"] / self.count * p.grad.sign()

    assert Twins(lambda: world(mlp, Signs)).calls() == CALLS - 3


def test_results_are_new_tensors_with_a_used_graph() -> None:
    twins = Twins(world)
    twins.calls()
    first, second = twins.compiled(*batch(0)), twins.compiled(*batch(1))
    assert first.item() != second.item()
    assert second.requires_grad and second.grad_fn.name() == "CrossEntropyLossBackward0"
    with pytest.raises(AutogradError, match="second time"):
        second.backward()


def test_evaluation_without_gradients() -> None:
    def make_step(w: Any) -> Any:
        model = w.model

        @dg.no_grad()
        def evaluate(x: Any, y: Any) -> Any:
            logits = model(x)
            right = (logits.argmax(dim=1) == y).float().mean()
            kept = logits.masked_fill(logits < 0, 0.0)
            return {"loss": nn.functional.cross_entropy(logits, y), "n": x.shape[0], "right": right}, [logits, kept]

        return evaluate

    assert Twins(world, make_step).calls() == CALLS - 3


def test_each_shape_is_a_recording_of_its_own() -> None:
    twins = Twins(lambda: world(lambda: mlp(dropout=0.5)))
    assert twins.calls(6, n=6) == 3
    assert twins.calls(6, n=5) == 4
    assert twins.calls(4, n=6) == 4
    assert twins.calls(4, n=5) == 4
    assert len(twins.compiled._programs) == 2
