"""Steps that are void because a rank has died, on ranks that are threads: what survives is as if nothing had been.

tests/launch/test_elastic.py does the same with processes that do die.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest

import distgrad
from distgrad import nn, optim
from distgrad.comm import Communicator, Options, ReduceOp, get_default
from distgrad.comm._groups import groups
from distgrad.comm._threads import run_threads
from distgrad.comm._tree import Tree
from distgrad.comm._types import Work
from distgrad.data import _steps
from distgrad.nn import functional as F
from distgrad.nn.parallel import DistributedDataParallel
from distgrad.parallel import _logical
from distgrad.utils.data import DataLoader, TensorDataset

STEPS = 6
rng = np.random.default_rng(0)
X, Y = rng.standard_normal((44, 6)).astype(np.float32), rng.integers(0, 3, 44)


class Died(Exception):
    """A rank has, and its thread ends."""


class Mortal(Communicator):
    """A group that loses ranks: in the attempt of this number, those that the plan names die after all exchanges.

    Args:
        group: the ranks.
        plan: attempt, from 0: who dies in it; nobody means that only rank 0 was told of a failure.
    """

    name: ClassVar[str] = "mortal"

    def __init__(self, group: Communicator, plan: dict[int, Sequence[int]]) -> None:
        super().__init__(group.rank, group.size)
        self.group, self.plan, self.attempts, self.void = group, plan, -1, 0

    def attempt(self, function: Callable[[], None]) -> bool:
        self.attempts += 1
        function()
        if self.attempts not in self.plan:
            return True
        victims = self.plan[self.attempts]
        if not victims:
            return self.rank != 0
        smaller = self.group.split(None if self.rank in victims else 0, self.rank)
        if smaller is None:
            raise Died
        self.group, self.rank, self.size = smaller, smaller.rank, smaller.size
        return False

    def commit(self, went_well: bool) -> bool:
        answer = np.array([went_well], np.uint8)
        self.group.all_reduce(answer, ReduceOp.MIN)
        self.void += not answer[0]
        return bool(answer[0])

    def report(self, where: str, again: float = 0.0) -> None:
        pass

    def _all_reduce(self, buffer: Any, op: ReduceOp) -> None:
        self.group.all_reduce(buffer, op)

    def _tree_sum(self, buffer: Any, tree: Tree) -> None:
        self.group.tree_sum(buffer, tree)

    def _broadcast(self, buffer: Any, root: int) -> None:
        self.group.broadcast(buffer, root)

    def _all_gather(self, output: Any, input: Any) -> None:
        self.group.all_gather(output, input)

    def _isend(self, buffer: Any, dest: int, tag: int) -> Work:
        return self.group.isend(buffer, dest, tag)

    def _irecv(self, buffer: Any, source: int, tag: int) -> Work:
        return self.group.irecv(buffer, source, tag)

    def _split(self, color: int | None, key: int, options: Options) -> Communicator | None:
        return self.group.split(color, key)

    def _close(self) -> None:
        pass


def train(plan: dict[int, Sequence[int]], accumulate: bool = False) -> str | None:
    """A hash of all that training makes; None on a rank that died."""
    group = groups()
    mortal = Mortal(get_default(), plan)
    group.world = mortal
    body = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    generator = np.random.default_rng(1)
    with distgrad.no_grad():
        for p in body.parameters():
            p.copy_(distgrad.tensor(generator.standard_normal(p.shape).astype(np.float32) * 0.3))
    data = TensorDataset(distgrad.from_numpy(X), distgrad.from_numpy(Y))
    loader = DataLoader(data, batch_size=20, shuffle=True, logical_shards=8)
    model = DistributedDataParallel(body, logical_shards=8)
    optimizer = optim.AdamW(model.parameters(), lr=0.01)
    scheduler = optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    done = 0
    try:
        while done < STEPS:
            for step in loader.steps():
                for x, y in step:
                    F.cross_entropy(model(x), y).backward()
                done += 1
                if not accumulate or done % 2 == 0:
                    optimizer.step()
                    optimizer.zero_grad()
                    scheduler.step()
                if done == STEPS:
                    break
    except Died:
        return None
    assert mortal.void == len(plan)
    return distgrad.fingerprint(model, optimizer) + str(scheduler.last_epoch)


def results(ranks: int, plan: dict[int, Sequence[int]], accumulate: bool = False) -> set[str]:
    found = set(run_threads(ranks, lambda: train(plan, accumulate), timeout=5.0)) - {None}
    return {text for text in found if text is not None}


@pytest.fixture(autouse=True)
def _mortal(monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> Any:
        world = groups().world
        return world if isinstance(world, Mortal) else None

    monkeypatch.setattr(_steps, "elastic_group", found)
    distgrad.manual_seed(3)


@pytest.fixture(scope="module")
def expected() -> dict[bool, str]:
    """Of an undisturbed run on one rank, without and with accumulated gradients."""
    distgrad.manual_seed(3)
    return {accumulate: results(1, {}, accumulate).pop() for accumulate in (False, True)}


@pytest.mark.parametrize("accumulate", [False, True], ids=["", "accumulate"])
@pytest.mark.parametrize(
    ("ranks", "plan"),
    [
        (4, {}),
        (2, {2: [1]}),
        (2, {0: [0]}),
        (4, {1: [0], 2: [0], 4: [1]}),  # in the step that is done again, another one
        (4, {3: [1, 2]}),
        (5, {5: [0, 1, 2, 3]}),
        (3, {2: [], 3: []}),  # one rank alone has noticed a failure
    ],
    ids=str,
)
def test_the_bits_of_an_undisturbed_run(
    ranks: int, plan: dict[int, Sequence[int]], accumulate: bool, expected: dict[bool, str]
) -> None:
    assert results(ranks, plan, accumulate) == {expected[accumulate]}


# ---- each part against a planted bug -----------------------------------------------------------------------------


def test_without_agreement_ranks_part(monkeypatch: pytest.MonkeyPatch, expected: dict[bool, str]) -> None:
    monkeypatch.setattr(Mortal, "commit", lambda self, went_well: went_well)
    with pytest.raises(Exception, match="rank"):
        assert results(3, {2: []}) == {expected[False]}


def test_void_steps_must_put_back_buffers(monkeypatch: pytest.MonkeyPatch, expected: dict[bool, str]) -> None:
    monkeypatch.setattr(_logical._Buffers, "void_step", lambda self: None)
    assert expected[False] not in results(2, {2: [1]})


def test_void_steps_must_put_back_gradients(monkeypatch: pytest.MonkeyPatch, expected: dict[bool, str]) -> None:
    monkeypatch.setattr(_logical.LogicalReducer, "void_step", lambda self: self._buffers.void_step())
    assert expected[True] not in results(2, {1: [1]}, accumulate=True)


def test_survivors_must_sum_along_the_same_tree(monkeypatch: pytest.MonkeyPatch, expected: dict[bool, str]) -> None:
    real = _logical.tree_of
    monkeypatch.setattr(_logical, "tree_of", lambda blocks: ((0, 1), 2) if len(blocks) == 3 else real(blocks))
    assert expected[False] not in results(4, {2: [1]})


def test_survivors_must_own_the_shards_of_the_dead(monkeypatch: pytest.MonkeyPatch, expected: dict[bool, str]) -> None:
    real = _steps.owned
    monkeypatch.setattr(
        _steps, "owned", lambda shards, ranks: [range(2), range(4, 6), range(6, 8)] if ranks == 3 else real(8, ranks)
    )
    with pytest.raises((AssertionError, IndexError)):
        assert results(4, {2: [1]}) == {expected[False]}
