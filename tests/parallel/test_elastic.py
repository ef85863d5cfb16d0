"""Steps that are void because a rank has died, on ranks that are threads: what survives is as if nothing had been.

tests/launch/test_elastic.py does the same with processes that do die.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias

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
from distgrad.errors import CommError
from distgrad.nn import functional as F
from distgrad.nn.parallel import DistributedDataParallel
from distgrad.parallel import ZeroRedundancyOptimizer, _buddies, _logical, _zero
from distgrad.utils.data import DataLoader, TensorDataset

Plan: TypeAlias = dict[int, Sequence[int]]

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
        before: they die before the exchanges, and there are none.
        nodes: the node of each rank.
    """

    name: ClassVar[str] = "mortal"

    def __init__(self, group: Communicator, plan: Plan, before: bool = False, nodes: Sequence[int] = ()) -> None:
        super().__init__(group.rank, group.size)
        self.group, self.plan, self.before, self.attempts, self.void = group, plan, before, -1, 0
        self.born_as = tuple(range(group.size))
        self.node_of = nodes or [0] * group.size

    @property
    def nodes(self) -> list[int]:
        return [self.node_of[born] for born in self.born_as]

    def attempt(self, function: Callable[[], None]) -> bool:
        self.attempts += 1
        if not (self.before and self.attempts in self.plan):
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
        self.born_as = tuple(born for rank, born in enumerate(self.born_as) if rank not in victims)
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


class Net(nn.Module):
    """With batch normalisation, one that only some shards use."""

    forwards: ClassVar[list[int]] = []  # of all ranks: the samples of each

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Linear(16, 3)
        self.rare = nn.BatchNorm1d(16)

    def forward(self, x: Any) -> Any:
        self.forwards.append(len(x))
        y = self.norm(self.first(x))
        return self.last(F.relu(self.rare(y) if float(x[:, 1].max()) > 0.8 else y))


def train(
    plan: Plan,
    accumulate: bool = False,
    zero: type[optim.Optimizer] | None = None,
    before: bool = False,
    nodes: Sequence[int] = (),
    copies: int = 3,
) -> str | None:
    """A hash of all that training makes; None on a rank that died. `zero`: the optimizer whose state is shared out."""
    group = groups()
    mortal = Mortal(get_default(), plan, before, nodes)
    group.world = mortal
    body = Net()
    generator = np.random.default_rng(1)
    with distgrad.no_grad():
        for p in body.parameters():
            p.copy_(distgrad.tensor(generator.standard_normal(p.shape).astype(np.float32) * 0.3))
    data = TensorDataset(distgrad.from_numpy(X), distgrad.from_numpy(Y))
    loader = DataLoader(data, batch_size=20, shuffle=True, logical_shards=8)
    model = DistributedDataParallel(body, logical_shards=8)
    optimizer: Any = optim.AdamW(model.parameters(), lr=0.01)
    if zero is not None:
        optimizer = ZeroRedundancyOptimizer(model.parameters(), zero, copies=copies, lr=0.01)
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
        if zero is not None:
            optimizer.consolidate_state_dict()
    except Died:
        return None
    assert mortal.void == len(plan)
    return distgrad.fingerprint(model, optimizer) + str(scheduler.last_epoch)


def results(ranks: int, plan: Plan, accumulate: bool = False, timeout: float = 5.0, **options: Any) -> set[str]:
    found = set(run_threads(ranks, lambda: train(plan, accumulate, **options), timeout=timeout)) - {None}
    return {text for text in found if text is not None}


@pytest.fixture(autouse=True)
def _mortal(monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> Any:
        world = groups().world
        return world if isinstance(world, Mortal) else None

    monkeypatch.setattr(_steps, "elastic_group", found)
    for module in (_buddies, _logical, _zero):
        monkeypatch.setattr(module, "as_elastic", lambda group: group if isinstance(group, Mortal) else None)
    distgrad.manual_seed(3)


@pytest.fixture(scope="module")
def expected() -> dict[bool, str]:
    """Of an undisturbed run on one rank, without and with accumulated gradients."""
    distgrad.manual_seed(3)
    return {accumulate: results(1, {}, accumulate).pop() for accumulate in (False, True)}


@pytest.fixture(scope="module")
def spread() -> str:
    """Of an undisturbed run on one rank with ZeroRedundancyOptimizer, whose state dict is another one."""
    distgrad.manual_seed(3)
    return results(1, {}, zero=optim.AdamW).pop()


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
def test_the_bits_of_an_undisturbed_run(ranks: int, plan: Plan, accumulate: bool, expected: dict[bool, str]) -> None:
    assert results(ranks, plan, accumulate) == {expected[accumulate]}


@pytest.mark.parametrize(
    ("plan", "again"),
    [
        ({}, 0),
        ({3: [1]}, 2),  # what rank 1 had done
        ({3: [0, 1, 2]}, 6),
        ({3: [1], 4: [0]}, 5),  # and while that is done again, another one, who had done one of them
        ({3: []}, 0),  # a failure that only one rank was told of
    ],
    ids=str,
)
def test_survivors_run_the_shards_of_the_dead_alone(plan: Plan, again: int) -> None:
    Net.forwards.clear()
    results(4, plan)
    assert len(Net.forwards) == 4 * 8 + 2 * 4 + again  # two of six steps have four samples


# ---- state that is spread over the ranks -------------------------------------------------------------------------

# Attempts are, in this order: the sum of a step, and its publishing. Where ranks have died in a sum, their parts are
# shared out anew before the step is done again; where they died while publishing, what is missing is published, then
# parts are shared out anew.


@pytest.mark.parametrize("before", [False, True], ids=["", "before"])
@pytest.mark.parametrize(
    ("ranks", "plan"),
    [
        (2, {0: [0]}),  # in the first step: there is no state yet
        (2, {1: [1]}),  # with the first state
        (4, {4: [0]}),
        (4, {5: [0]}),
        (4, {4: [0], 5: [0]}),  # another one while its parts are shared out anew
        (4, {5: [0], 6: [0], 7: []}),  # another one while what is missing is published
        (4, {5: [0, 1]}),  # two at once
        (4, {4: [0, 2]}),
        (6, {5: [1, 4], 6: [0, 5]}),  # two more while what is missing is published
        (3, {4: [0], 7: [1]}),  # one after the other, until one is left
        (3, {12: [1]}),  # while the state is collected in the end
    ],
    ids=str,
)
def test_state_that_is_spread_over_the_ranks(ranks: int, plan: Plan, before: bool, spread: str) -> None:
    assert results(ranks, plan, zero=optim.AdamW, before=before) == {spread}


def test_whole_parameters_that_are_spread_over_the_ranks() -> None:
    undisturbed = results(1, {}, zero=optim.Adafactor)
    for before in (False, True):
        assert results(3, {3: [1], 8: [0]}, zero=optim.Adafactor, before=before) == undisturbed


def test_a_whole_node_dies(spread: str) -> None:
    for nodes, attempt, victims in (([0, 1, 0, 1], 4, [1, 3]), ([0, 0, 0, 1], 5, [0, 1, 2])):
        options: Any = {"zero": optim.AdamW, "before": True, "nodes": nodes}
        assert results(4, {attempt: victims}, **options) == {spread}


def test_as_many_copies_as_ranks(spread: str) -> None:
    assert results(4, {5: [0, 1, 3]}, zero=optim.AdamW, before=True, copies=9) == {spread}


@pytest.mark.parametrize(("copies", "dead"), [(2, [0, 2]), (3, [0, 1, 2])])
def test_all_copies_are_lost(copies: int, dead: list[int]) -> None:
    names = ", ".join(map(str, dead))
    with pytest.raises(CommError, match=f"ranks {names} have died together, and with them all {copies} copies"):
        results(4, {4: dead}, zero=optim.AdamW, copies=copies)


# ---- each part against a planted bug -----------------------------------------------------------------------------


def test_without_agreement_ranks_part(monkeypatch: pytest.MonkeyPatch, expected: dict[bool, str]) -> None:
    monkeypatch.setattr(Mortal, "commit", lambda self, went_well: went_well)
    with pytest.raises(Exception, match="rank"):
        assert results(3, {2: []}) == {expected[False]}


def test_void_steps_must_put_back_buffers(monkeypatch: pytest.MonkeyPatch, expected: dict[bool, str]) -> None:
    monkeypatch.setattr(_logical._Buffers, "void_step", lambda self: None)
    assert expected[False] not in results(2, {3: [0]})


def test_void_steps_must_keep_earlier_gradients(monkeypatch: pytest.MonkeyPatch, expected: dict[bool, str]) -> None:
    real = _logical.LogicalReducer.begin_again

    def begin_again(self: Any, blocks: Any) -> None:
        self._carried = None
        real(self, blocks)

    monkeypatch.setattr(_logical.LogicalReducer, "begin_again", begin_again)
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
    with pytest.raises((AssertionError, IndexError, KeyError, CommError)):
        assert results(4, {2: [1]}, timeout=1.0) == {expected[False]}


@pytest.mark.parametrize("what", ["nothing", "a mixture"])
def test_what_survivors_keep_must_be_their_sums(
    what: str, monkeypatch: pytest.MonkeyPatch, expected: dict[bool, str]
) -> None:
    real = _logical.LogicalReducer._sums_over

    def sums_over(self: Any, block: range) -> Any:
        sums = real(self, block)
        for total in sums:
            total._keep = None
        if what == "a mixture":  # what the sum over the ranks has left there
            self._kept[block] = self._grads
        return sums

    monkeypatch.setattr(_logical.LogicalReducer, "_sums_over", sums_over)
    assert expected[False] not in results(4, {2: [1]})


def test_buddies_must_be_on_another_node(monkeypatch: pytest.MonkeyPatch) -> None:
    real = _buddies.holders_of
    monkeypatch.setattr(_buddies, "holders_of", lambda nodes, copies: real([0] * len(nodes), copies))
    with pytest.raises(CommError, match="all 2 copies"):
        results(4, {4: [0, 2]}, zero=optim.AdamW, before=True, nodes=[0, 1, 0, 1], copies=2)


def test_buddies_must_make_the_same_step(monkeypatch: pytest.MonkeyPatch, spread: str) -> None:
    real = optim.AdamW.step

    def step(self: Any, closure: Any = None) -> Any:  # only on the first part, this rank's own
        for group in self.param_groups:
            group["params"], every = group["params"][:1], group["params"]
            real(self, closure)
            group["params"] = every

    monkeypatch.setattr(optim.AdamW, "step", step)
    assert spread not in results(3, {4: [0]}, zero=optim.AdamW)


def test_what_the_dead_have_not_published_must_be(monkeypatch: pytest.MonkeyPatch, spread: str) -> None:
    def once(group: Any, function: Callable[[], None]) -> None:
        group.commit(group.attempt(function))

    assert results(3, {5: [0]}, zero=optim.AdamW, before=True, copies=2) == {spread}
    monkeypatch.setattr(_zero, "until_agreed", once)
    assert spread not in results(3, {5: [0]}, zero=optim.AdamW, before=True, copies=2)


def test_parts_of_the_dead_must_be_shared_out_anew(monkeypatch: pytest.MonkeyPatch, spread: str) -> None:
    """At once, and not when they are needed: the next one to die may be their last holder."""
    plan: Plan = {4: [0], 9: [1]}  # who were a pair
    assert results(4, plan, zero=optim.AdamW, copies=2) == {spread}
    monkeypatch.setattr(ZeroRedundancyOptimizer, "_recover", lambda self, where="": None)
    with pytest.raises(CommError, match="all 2 copies"):
        results(4, plan, zero=optim.AdamW, copies=2)
