"""What cannot be replayed runs eagerly, in every call, with a reason: each test plants one such thing."""

import copy
import math
import pdb
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad import nn, optim
from distgrad.autograd import Function
from tests.replay.twins import CALLS, Twins, batch, mlp, world

F = nn.functional
COUNT = 0
RANDOM = np.random.default_rng(0)
LOG: list[Any] = []
QUEUE: deque[Any] = deque(maxlen=3)


class Double(Function):
    """A user's function."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x * 2

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g * 2


class Counter(nn.Module):
    """A module that remembers how often it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0

    def forward(self, x: Any) -> Any:
        self.runs += 1
        return x * self.runs


def _count_globally(w: Any, x: Any, y: Any, out: Any) -> Any:
    global COUNT
    COUNT += 1
    return out * (1 + COUNT % 2)


def _branch(w: Any, x: Any, y: Any, out: Any) -> Any:
    return out * 2 if out.sum() > 0 else out


def _item(w: Any, x: Any, y: Any, out: Any) -> Any:
    return out * out.sum().item()


def _print(w: Any, x: Any, y: Any, out: Any) -> Any:
    print("loss")
    return out


def _append(w: Any, x: Any, y: Any, out: Any) -> Any:
    LOG.append(1)
    return out * len(LOG)


def _queue(w: Any, x: Any, y: Any, out: Any) -> Any:
    QUEUE.append(1.0)
    return out * sum(QUEUE)


def _time(w: Any, x: Any, y: Any, out: Any) -> Any:
    return out + (time.time() > 0)


def _pdb(w: Any, x: Any, y: Any, out: Any) -> Any:
    if COUNT < 0:
        pdb.set_trace()
    return out


def _random(w: Any, x: Any, y: Any, out: Any) -> Any:
    return out + 0 * random.random()


def _numpy_random(w: Any, x: Any, y: Any, out: Any) -> Any:
    return out + 0 * float(np.random.rand())


def _generator(w: Any, x: Any, y: Any, out: Any) -> Any:
    return out + 0 * RANDOM.random()


def _randn(w: Any, x: Any, y: Any, out: Any) -> Any:
    return out + dg.randn(3)


def _rand_like(w: Any, x: Any, y: Any, out: Any) -> Any:
    return out * dg.rand_like(out)


def _numpy(w: Any, x: Any, y: Any, out: Any) -> Any:
    return out * float(out.detach().numpy().sum())


def _data(w: Any, x: Any, y: Any, out: Any) -> Any:
    w.model[0].weight.data.mul_(0.9)
    return out


def _in_place(w: Any, x: Any, y: Any, out: Any) -> Any:
    with dg.no_grad():
        w.model[0].weight.clamp_(-0.2, 0.2)
    return out


def _set_item(w: Any, x: Any, y: Any, out: Any) -> Any:
    out = out * 1
    out[0] = 0
    return out


def _hook(w: Any, x: Any, y: Any, out: Any) -> Any:
    out.register_hook(lambda g: g * 2)
    return out


def _function(w: Any, x: Any, y: Any, out: Any) -> Any:
    return Double.apply(out)


def _grad(w: Any, x: Any, y: Any, out: Any) -> Any:
    (g,) = dg.autograd.grad(out.sum(), [w.model[0].weight], create_graph=True)
    return out + (g * g).sum()


def _nonzero(w: Any, x: Any, y: Any, out: Any) -> Any:
    return out + out.detach().nonzero().float().mean()


def _mask(w: Any, x: Any, y: Any, out: Any) -> Any:
    return out + out[out > 0].mean()


def _index(w: Any, x: Any, y: Any, out: Any) -> Any:
    return out * x[y[0]].sum().detach()


def _mask_of_classes(w: Any, x: Any, y: Any, out: Any) -> Any:
    return out + x[y == 1].sum().detach()


def _select(w: Any, x: Any, y: Any, out: Any) -> Any:
    return out + out.masked_select(out > 0).mean()


def _counter(w: Any, x: Any, y: Any, out: Any) -> Any:
    return w.counter(out)


def _attribute(w: Any, x: Any, y: Any, out: Any) -> Any:
    w.runs = 1 + (w.runs if "runs" in vars(w) else 0)
    return out * w.runs


def _iterator(w: Any, x: Any, y: Any, out: Any) -> Any:
    return out * next(w.numbers)


def _checkpoint(w: Any, x: Any, y: Any, out: Any) -> Any:
    return dg.utils.checkpoint.checkpoint(lambda t: t.tanh(), out, use_reentrant=False)


def _seed(w: Any, x: Any, y: Any, out: Any) -> Any:
    dg.manual_seed(1)
    return F.dropout(out, 0.5)


def _getattr(w: Any, x: Any, y: Any, out: Any) -> Any:
    return out * getattr(w, "factor")  # noqa: B009


def _rate(w: Any, x: Any, y: Any, out: Any) -> Any:
    return out * w.optimizer.param_groups[0]["lr"]


def _gradient(w: Any, x: Any, y: Any, out: Any) -> Any:
    g = w.model[0].weight.grad
    return out if g is None else out + g.sum()


def _train(w: Any, x: Any, y: Any, out: Any) -> Any:
    w.model.train(not w.model.training)
    return out


def _tensor_of_tensor(w: Any, x: Any, y: Any, out: Any) -> Any:
    return out + dg.tensor([x.sum(), x.mean(), x.std()])


def _copy(w: Any, x: Any, y: Any, out: Any) -> Any:
    return out * copy.deepcopy(w.factor)


def _stored(w: Any, x: Any, y: Any, out: Any) -> Any:
    w.last = out
    return out


THINGS: dict[str, tuple[Callable[..., Any], str]] = {
    "global counter": (_count_globally, "it changes"),
    "branch": (_branch, "Tensor.__bool__"),
    "item": (_item, "Tensor.item"),
    "print": (_print, "print()"),
    "append": (_append, "it changes LOG"),
    "deque": (_queue, "QUEUE is a deque"),
    "time": (_time, "module time"),
    "pdb": (_pdb, "module pdb"),
    "random": (_random, "module random"),
    "numpy.random": (_numpy_random, "module numpy"),
    "generator": (_generator, "RANDOM is a Generator"),
    "randn": (_randn, "draws random numbers"),
    "rand_like": (_rand_like, "draws random numbers"),
    "numpy": (_numpy, "Tensor.numpy"),
    "data": (_data, "Tensor.data"),
    "in place": (_in_place, "in place"),
    "item set": (_set_item, "in place"),
    "hook": (_hook, "Tensor.register_hook"),
    "function": (_function, "autograd.Function"),
    "grad": (_grad, "autograd.grad"),
    "nonzero": (_nonzero, ""),
    "mask": (_mask, "selects by a mask"),
    "mask of classes": (_mask_of_classes, "selects by a mask"),
    "masked_select": (_select, ""),
    "index": (_index, "a number that is a tensor"),
    "counter": (_counter, "it changes"),
    "attribute": (_attribute, ""),
    "iterator": (_iterator, ""),
    "checkpoint": (_checkpoint, "checkpoint"),
    "seed": (_seed, ""),
    "getattr": (_getattr, "getattr()"),
    "rate": (_rate, "param_groups"),
    "gradient": (_gradient, "Tensor.grad"),
    "mode": (_train, "it changes"),
    "tensor of tensors": (_tensor_of_tensor, ""),
    "copy": (_copy, ""),
    "stored": (_stored, "it changes"),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", THINGS)
def test_runs_eagerly_with_a_reason(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    thing, reason = THINGS[name]

    def make() -> Any:
        w = world(mlp)
        w.counter, w.factor, w.numbers = Counter(), 2.0, iter(range(1, 100))
        return w

    def make_step(w: Any) -> Any:
        def step(x: Any, y: Any) -> Any:
            w.optimizer.zero_grad()
            loss = F.cross_entropy(thing(w, x, y, w.model(x)), y)
            loss.backward()
            w.optimizer.step()
            return loss

        return step

    eager, compiled = make(), make()
    reset()
    expected = [values_of(make_step(eager), i) for i in range(CALLS)]
    reset()
    step = dg.compile(make_step(compiled))
    assert [values_of(step, i) for i in range(CALLS)] == expected
    assert step.replays == 0
    assert reason in step.explain()


def reset() -> None:
    """The state that the steps share."""
    global COUNT, RANDOM
    COUNT, RANDOM = 0, np.random.default_rng(0)
    LOG.clear()
    QUEUE.clear()
    dg.manual_seed(3)


def values_of(step: Any, i: int) -> float:
    return float(step(*batch(i)).item())


def test_says_so_once_and_names_the_function() -> None:
    step = dg.compile(lambda x: x.sum().item())
    with pytest.warns(RuntimeWarning, match="<lambda> runs eagerly, because it calls Tensor.item") as record:
        for _ in range(10):
            assert step(dg.ones(3)) == 3.0
    assert len(record) == 1
    assert "given up" in step.explain()


def test_fullgraph_raises() -> None:
    step = dg.compile(fullgraph=True)(lambda x: x.sum().item())
    with pytest.raises(RuntimeError, match=r"Tensor.item.*fullgraph"):
        for _ in range(10):
            step(dg.ones(3))


def test_disable_returns_the_function() -> None:
    assert dg.compile(math.sqrt, disable=True) is math.sqrt


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_forward_alone_is_not_replayed_where_its_graph_is_needed() -> None:
    twins = Twins(world, lambda w: lambda x, y: w.model(x))
    assert twins.calls() == 0
    assert "graph is still to be used" in twins.compiled.explain()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_argument_that_the_step_changes() -> None:
    def make_step(w: Any) -> Any:
        def step(x: Any, log: Any) -> Any:
            log["seen"] = x
            return x * 2

        return step

    step = dg.compile(make_step(None))
    for i in range(6):
        log: dict[str, Any] = {"seen": dg.zeros(1)}
        x = dg.ones(3) * i
        step(x, log)
        assert log["seen"] is x
    assert "changes an argument" in step.explain()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_graph_that_is_kept() -> None:
    def make_step(w: Any) -> Any:
        def step(x: Any, y: Any) -> Any:
            w.optimizer.zero_grad()
            loss = F.cross_entropy(w.model(x), y)
            loss.backward(retain_graph=True)
            loss.backward()
            w.optimizer.step()
            return loss

        return step

    twins = Twins(world, make_step)
    assert twins.calls(5) == 0
    assert "keeps its graph" in twins.compiled.explain()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_closure_for_the_optimizer() -> None:
    def make_step(w: Any) -> Any:
        def step(x: Any, y: Any) -> Any:
            def closure() -> Any:
                w.optimizer.zero_grad()
                loss = F.cross_entropy(w.model(x), y)
                loss.backward()
                return loss

            return w.optimizer.step(closure)

        return step

    twins = Twins(lambda: world(mlp, lambda p: optim.LBFGS(p, max_iter=2)), make_step)
    assert twins.calls(5) == 0
    assert "closure" in twins.compiled.explain()


def test_an_error_in_a_replay_is_that_of_the_step() -> None:
    def make_step(w: Any) -> Any:
        table = nn.Parameter(dg.ones(5, 3))
        return lambda x, y: F.embedding(y, table.detach()).sum()

    twins = Twins(world, make_step)
    twins.calls()
    for wrong in (7, -1):
        with pytest.raises(IndexError, match="out of range"):
            twins.compiled(batch(0)[0], dg.tensor([0, 1, 2, 1, 0, wrong]))
        assert twins.calls(4) == 2
