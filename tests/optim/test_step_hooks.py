"""Hooks around the steps of all optimizers: their order among those of one optimizer, and their removal."""

from collections.abc import Callable

import distgrad
from distgrad import nn, optim
from distgrad.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook


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
