"""Replicas that are not equal are found, named and healed."""

from typing import Any

import numpy as np
import pytest

import distgrad
from distgrad import nn, optim
from distgrad.comm import get_default
from distgrad.comm._threads import run_threads
from distgrad.errors import ReplicaError
from distgrad.nn.parallel import DistributedDataParallel
from distgrad.parallel import Sentinel
from distgrad.parallel._sentinel import _hash


def trained(steps: int, flip: dict[int, int] | None = None, **options: Any) -> tuple[Any, Any, Sentinel]:
    """Some steps; `flip` maps a rank to the step before which one bit of one of its weights changes."""
    model = DistributedDataParallel(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)))
    with distgrad.no_grad():
        for p in model.parameters():
            p.fill_(0.25)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    sentinel = Sentinel(model, optimizer, **options)
    for step in range(steps):
        if (flip or {}).get(get_default().rank) == step:
            model.module[2].weight.detach().numpy().view(np.uint32)[0, 1] ^= 1
        optimizer.zero_grad()
        model(distgrad.ones(2, 3)).sum().backward()
        optimizer.step()
    return model, optimizer, sentinel


def test_equal_replicas_pass() -> None:
    assert run_threads(3, lambda: trained(4, every=2)[2].check()) == [[], [], []]


@pytest.mark.parametrize("rank", [0, 2])
def test_a_flipped_bit_is_named_on_all_ranks(rank: int) -> None:
    def body() -> str:
        with pytest.raises(ReplicaError) as caught:
            trained(9, {rank: 3}, every=2)
        return str(caught.value)

    for text in run_threads(3, body):
        assert f"after 4 steps rank {rank} has other parameters than the rest: 2.weight;" in text


def test_heals_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> tuple[str, list[int]]:
        model, optimizer, sentinel = trained(6, {1: 3}, every=4, heal=True)
        return distgrad.fingerprint(model, optimizer), sentinel.check()

    results = run_threads(3, body)
    undisturbed = run_threads(3, lambda: distgrad.fingerprint(*trained(6, every=4)[:2]))
    assert {text for text, _ in results} == set(undisturbed)
    assert "rank 1 has other parameters than the rest: 2.weight; healed from rank 0" in capsys.readouterr().err


def test_without_a_majority_nobody_is_believed() -> None:
    def body() -> str:
        with pytest.raises(ReplicaError) as caught:
            trained(2, {1: 0}, every=1, heal=True)
        return str(caught.value)

    assert "no majority of 2 ranks" in run_threads(2, body)[0]


def test_every_bit_counts() -> None:
    x = distgrad.zeros(11)
    before = _hash([x])
    for i in range(11 * 32):
        x.numpy().view(np.uint32)[i // 32] ^= np.uint32(1 << (i % 32))
        assert _hash([x]) != before
        x.numpy().view(np.uint32)[i // 32] ^= np.uint32(1 << (i % 32))
    a, b = distgrad.ones(3), distgrad.zeros(3)
    assert _hash([a, b]) != _hash([b, a])


def test_wrong_interval() -> None:
    layer = nn.Linear(1, 1)
    with pytest.raises(ValueError, match="every=0"):
        Sentinel(layer, optim.SGD(layer.parameters(), lr=0.1), every=0)
