"""Hooks around the steps of all optimizers: their order among those of one optimizer, and their removal."""

from collections.abc import Callable

import pytest

import distgrad
from distgrad import nn, optim
from distgrad.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

REGISTER = (register_optimizer_step_pre_hook, register_optimizer_step_post_hook)


def test_hooks_of_all_optimizers_are_outermost() -> None:
    optimizers = [optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1), optim.Adam(nn.Linear(2, 2).parameters())]
    seen: list[tuple[str, object]] = []

    def note(name: str) -> Callable[..., None]:
        return lambda optimizer, args, kwargs: seen.append((name, optimizer))

    handles = [register_optimizer_step_pre_hook(note("all pre")), register_optimizer_step_post_hook(note("all post"))]
    optimizers[0].register_step_pre_hook(note("pre"))
    optimizers[0].register_step_post_hook(note("post"))
    for optimizer in optimizers:
        optimizer.step()
    names = ("all pre", "pre", "post", "all post")
    assert seen == [(name, optimizers[0]) for name in names] + [(name, optimizers[1]) for name in (names[0], names[3])]
    for handle in handles:
        handle.remove()
    seen.clear()
    optimizers[1].step()
    assert seen == []


def test_a_hook_of_all_optimizers_may_change_the_arguments() -> None:
    optimizer = optim.SGD([distgrad.zeros(1, requires_grad=True)], lr=0.1)
    handle = register_optimizer_step_pre_hook(lambda optimizer, args, kwargs: ((lambda: 7,), kwargs))
    try:
        assert optimizer.step() == 7
    finally:
        handle.remove()


class Twice(optim.SGD):
    """Its step makes those of two others, and then that of the class above."""

    def step(self, closure: Callable[[], object] | None = None) -> object:
        part = optim.Adam(nn.Linear(2, 2).parameters())
        part.step()
        part.step()
        return super().step(closure)


def test_steps_within_a_step_are_none_of_their_own() -> None:
    optimizer, seen = Twice(nn.Linear(2, 2).parameters(), lr=0.1), []
    handles = [register(lambda o, a, k: seen.append(o)) for register in REGISTER]
    try:
        optimizer.step()
        assert seen == [optimizer, optimizer]
        with pytest.raises(ZeroDivisionError):  # a step that fails has ended, too
            optimizer.step(lambda: 1 // 0)
        optimizer.step()
        assert len(seen) == 5
    finally:
        for handle in handles:
            handle.remove()
