"""What ZeroRedundancyOptimizer promises, as functions that every rank of a group calls; each checks its own rank."""

import copy
import math
import pathlib
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np

import distgrad as dg
from distgrad import Parameter, Tensor, comm, nn, optim
from distgrad.arena import slot_of
from distgrad.autograd._base import share_of
from distgrad.comm import Communicator
from distgrad.errors import CommError, StateDictError
from distgrad.optim import Optimizer
from distgrad.parallel import (
    DistributedDataParallel,
    Join,
    ZeroRedundancyOptimizer,
    broadcast_optimizer_state,
    broadcast_parameters,
)
from tests.optim.reference import OPTIONS
from tests.parallel.models import IN, OUT, Net, loss, values, whole_batch
from tests.parallel.scenarios import everyone, mine, place

SCENARIOS: list[Callable[[], None]] = []
FLAT = [(getattr(optim, name), options) for name, rows in OPTIONS.items() for options in (rows[0], rows[-1])]
SHARED_OUT_WHOLE: list[tuple[type[Optimizer], dict[str, Any]]] = [
    (optim.Adafactor, {"lr": 0.05, "weight_decay": 0.1}),
    (optim.Muon, {"lr": 0.05}),
]


def scenario(function: Callable[[], None]) -> Callable[[], None]:
    """Enters a function into the list of all."""
    SCENARIOS.append(function)
    return function


class Signs(Optimizer):
    """An optimizer of a user: no arena, and whole parameters."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})

    @dg.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    state = self.state[p]
                    state["count"] = state.get("count", 0) + 1
                    state["last"] = p.grad.sign()
                    p.sub_(state["last"] * group["lr"] / state["count"])
        return None


class Wide(nn.Module):
    """Parameters of many sizes, some of which lie across the borders between ranks; `scale` has no dimension."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.a, self.b = Parameter(values(seed, IN, 131)), Parameter(values(seed + 1, 131))
        self.c, self.scale = Parameter(values(seed + 2, 131, OUT)), Parameter(dg.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        return ((x @ self.a + self.b).tanh() @ self.c) * self.scale


class Matrices(nn.Module):
    """Two matrices, for Muon."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = Parameter(values(0, IN, 9)), Parameter(values(1, 9, OUT))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.a).tanh() @ self.b


def model_for(kind: type[Optimizer]) -> DistributedDataParallel:
    """A wrapped model that this optimizer can train, in buckets of a few hundred elements."""
    return DistributedDataParallel(Matrices() if kind is optim.Muon else Wide(), bucket_cap_mb=0.001)


def train(model: nn.Module, optimizer: Optimizer, steps: range, after: Callable[[], Any] | None = None) -> None:
    """Steps on this rank's rows."""
    for step in steps:
        optimizer.zero_grad()
        x, y = whole_batch(step)
        loss(model(mine(x)), mine(y)).backward()
        optimizer.step()
        if after is not None:
            after()


def bits(model: nn.Module) -> list[bytes]:
    """The parameters' bytes."""
    return [p.numpy(force=True).tobytes() for p in model.parameters()]


def check_same(model: nn.Module, reference: nn.Module) -> None:
    """The same bits as the reference, on every rank."""
    found = bits(model)
    assert found == bits(reference)
    assert all(other == found for other in everyone(found))


def state_bytes(optimizer: Optimizer) -> int:
    """The memory of what an optimizer remembers, the step counts aside."""
    entries = [(k, v) for entry in optimizer.state.values() for k, v in entry.items()]
    return sum(value.nbytes for key, value in entries if isinstance(value, Tensor) and key != "step")


def same_state(a: dict[str, Any], b: dict[str, Any]) -> None:
    """Two state dicts are equal in every key, shape and bit."""
    assert a["state"].keys() == b["state"].keys()
    for number, entry in a["state"].items():
        other = b["state"][number]
        assert entry.keys() == other.keys()
        for key, value in entry.items():
            if isinstance(value, Tensor):
                assert value.shape == other[key].shape and value.dtype == other[key].dtype, (number, key)
                assert np.array_equal(value.numpy(), other[key].numpy()), (number, key)
            else:
                assert value == other[key]
    assert a["param_groups"] == b["param_groups"]


def pair(kind: type[Optimizer], **options: Any) -> tuple[Any, Any, Any, Any]:
    """A model with the plain optimizer and one with the shared-out one."""
    plain, shared = model_for(kind), model_for(kind)
    return plain, kind(plain.parameters(), **options), shared, zero(shared, kind, **options)


def zero(model: nn.Module, kind: type[Optimizer], **options: Any) -> ZeroRedundancyOptimizer:
    """The shared-out optimizer of a model."""
    return ZeroRedundancyOptimizer(model.parameters(), kind, **options)


def whole_state(optimizer: ZeroRedundancyOptimizer) -> dict[str, Any]:
    """The whole state dict, on every rank."""
    rank, size = place()
    for to in range(size):
        optimizer.consolidate_state_dict(to)
        if to == rank:
            found = copy.deepcopy(optimizer.state_dict())
    return found


# ---- the same result, and less memory ------------------------------------------------------------------------------


@scenario
def every_optimizer_gives_the_bits_of_the_plain_one() -> None:
    for kind, options in [*FLAT, *SHARED_OUT_WHOLE, (Signs, {"lr": 0.1})]:
        plain, reference, shared, optimizer = pair(kind, **options)
        train(plain, reference, range(3))
        train(shared, optimizer, range(3))
        check_same(shared, plain)


@scenario
def state_is_a_part_on_each_rank() -> None:
    _, size = place()
    for kind in (optim.Adam, optim.Adafactor):
        plain, reference, shared, optimizer = pair(kind)
        train(plain, reference, range(1))
        train(shared, optimizer, range(1))
        assert optimizer.optim is not None
        own, whole = state_bytes(optimizer.optim), state_bytes(reference)
        assert sum(everyone(own)) == whole
        if kind is optim.Adam:
            padding = 2 * 4 * 128 * len(shared._reducer.buckets)
            assert own <= whole / size + padding
            held = sum(a.nbytes for flats in optimizer.optim._flats.values() for a in flats.values())
            assert held <= whole / size + 2 * padding


@scenario
def parameters_are_where_all_ranks_read_them() -> None:
    _, _, shared, optimizer = pair(optim.Adam)
    train(shared, optimizer, range(2))
    slots = [slot_of(p) for p in shared.parameters()]
    assert all(slot is not None and slot.arena.home is optimizer.process_group for slot in slots)


@scenario
def groups_and_schedules() -> None:
    def grouped(model: Any) -> list[dict[str, Any]]:
        module = model.module
        return [{"params": [module.a, module.c], "lr": 0.05}, {"params": [module.b, module.scale], "weight_decay": 0.1}]

    plain, shared = model_for(optim.AdamW), model_for(optim.AdamW)
    reference = optim.AdamW(grouped(plain), lr=0.01)
    optimizer = ZeroRedundancyOptimizer(grouped(shared), optim.AdamW, lr=0.01)
    schedules = [optim.lr_scheduler.StepLR(one, 2, gamma=0.5) for one in (reference, optimizer)]
    train(plain, reference, range(5), schedules[0].step)
    train(shared, optimizer, range(5), schedules[1].step)
    check_same(shared, plain)
    assert optimizer.param_groups[0]["lr"] == reference.param_groups[0]["lr"] == 0.05 / 4
    assert optimizer.defaults == reference.defaults


@scenario
def named_parameters() -> None:
    _, _, shared, _ = pair(optim.Adam)
    named = list(shared.named_parameters())
    optimizer = ZeroRedundancyOptimizer([{"params": named[:1]}, {"params": named[1:]}], optim.Adam)
    train(shared, optimizer, range(1))
    names = [group["param_names"] for group in whole_state(optimizer)["param_groups"]]
    assert names == [[named[0][0]], [name for name, _ in named[1:]]]


@scenario
def a_group_that_is_added_later() -> None:
    plain, shared = model_for(optim.Adam), model_for(optim.Adam)
    optimizers: list[Optimizer] = [
        optim.Adam([plain.module.a], lr=0.05),
        ZeroRedundancyOptimizer([shared.module.a], optim.Adam, lr=0.05),
    ]
    for model, optimizer in zip((plain, shared), optimizers, strict=True):
        train(model, optimizer, range(2))
        optimizer.add_param_group({"params": [model.module.b, model.module.c], "lr": 0.2})
        model.zero_grad()
        train(model, optimizer, range(2, 4))
    check_same(shared, plain)


@scenario
def two_optimizers_in_one_bucket() -> None:
    plain, shared = DistributedDataParallel(Net()), DistributedDataParallel(Net())
    for model, make in ((plain, _plainly), (shared, ZeroRedundancyOptimizer)):
        first = make([model.module.first.weight, model.module.second.bias], optim.Adam, lr=0.1)
        second = make([model.module.first.bias, model.module.second.weight], optim.SGD, lr=0.1)
        for step in range(3):
            model.zero_grad()
            train(model, first, range(step, step + 1), second.step)
    check_same(shared, plain)


def _plainly(params: Any, kind: type[Optimizer], **options: Any) -> Optimizer:
    return kind(params, **options)


@scenario
def a_closure() -> None:
    plain, reference, shared, optimizer = pair(optim.SGD, lr=0.1)
    for model, one in ((plain, reference), (shared, optimizer)):

        def closure(model: Any = model, one: Any = one) -> Tensor:
            one.zero_grad()
            x, y = whole_batch()
            value = loss(model(mine(x)), mine(y))
            value.backward()
            return value

        assert one.step(closure).item() > 0
    check_same(shared, plain)


@scenario
def without_ddp() -> None:
    def reduced(net: nn.Module, optimizer: Optimizer) -> None:
        for step in range(3):
            optimizer.zero_grad()
            x, y = whole_batch(step)
            loss(net(mine(x)), mine(y)).backward()
            for p in net.parameters():
                comm.all_reduce(p.grad, comm.ReduceOp.AVG)
            optimizer.step()

    plain, shared = Wide(), Wide()
    reduced(plain, optim.Adam(plain.parameters(), 0.1))
    reduced(shared, zero(shared, optim.Adam, lr=0.1))
    check_same(shared, plain)


@scenario
def parameters_of_several_dtypes() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.single, self.double_ = Wide(), Wide().double()

        def forward(self, x: Tensor) -> Tensor:
            return self.single(x) + self.double_(x.double())

    models = [DistributedDataParallel(Both()) for _ in range(2)]
    optimizers = [optim.Adam(models[0].parameters(), 0.1), zero(models[1], optim.Adam, lr=0.1)]
    for model, optimizer in zip(models, optimizers, strict=True):
        for step in range(3):
            optimizer.zero_grad()
            x, y = whole_batch(step)
            loss(model(mine(x)), mine(y).double()).backward()
            optimizer.step()
    check_same(models[1], models[0])


# ---- what users do to models ---------------------------------------------------------------------------------------


@scenario
def unused_frozen_and_unfrozen() -> None:
    plain, shared = DistributedDataParallel(Net()), DistributedDataParallel(Net())
    for model, optimizer in ((plain, optim.Adam(plain.parameters(), 0.1)), (shared, zero(shared, optim.Adam, lr=0.1))):
        train(model, optimizer, range(2))
        optimizer.zero_grad()
        loss(model(mine(values(4, 12, 7)), skip=True), mine(whole_batch()[1])).backward()
        optimizer.step()
        model.module.second.requires_grad_(False)
        train(model, optimizer, range(2, 4))
        model.module.second.requires_grad_(True)
        train(model, optimizer, range(4, 6))
    check_same(shared, plain)


@scenario
def wrapped_after_the_first_steps() -> None:
    for kind in (optim.Adam, optim.Adafactor):
        models: list[Any] = [Wide(), Wide()]
        optimizers = [kind(models[0].parameters(), lr=0.1), zero(models[1], kind, lr=0.1)]
        for i, optimizer in enumerate(optimizers):
            for step in range(2):  # the same rows on every rank
                optimizer.zero_grad()
                x, y = whole_batch(step)
                loss(models[i](x), y).backward()
                optimizer.step()
            models[i] = DistributedDataParallel(models[i], bucket_cap_mb=0.001)
            train(models[i], optimizer, range(2, 5))
        check_same(models[1], models[0])


@scenario
def gradients_from_elsewhere() -> None:
    plain, reference, shared, optimizer = pair(optim.Adam, lr=0.1)
    for model, one in ((plain, reference), (shared, optimizer)):
        x, y = whole_batch()
        for _ in range(2):
            one.zero_grad()
            loss(model(mine(x)), mine(y)).backward(create_graph=True)
            g = model.module.a.grad
            model.module.a._grad = g * 0.5  # a tensor outside the arena, in spite of the setter
            one.step()
    check_same(shared, plain)


@scenario
def a_step_is_a_change_that_autograd_notices() -> None:
    _, _, shared, optimizer = pair(optim.SGD, lr=0.1)
    x, y = whole_batch()
    value = loss(shared(mine(x)), mine(y))
    value.backward(retain_graph=True)
    optimizer.step()
    try:
        value.backward()
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)
    else:
        raise AssertionError("backward through changed parameters went unnoticed")


# ---- state dicts ---------------------------------------------------------------------------------------------------


@scenario
def the_state_dict_is_the_plain_one() -> None:
    for kind in (optim.Adam, optim.NAdam, optim.ASGD, optim.SGD, optim.Adafactor, Signs):
        plain, reference, shared, optimizer = pair(kind, lr=0.05)
        train(plain, reference, range(3))
        train(shared, optimizer, range(3))
        same_state(whole_state(optimizer), reference.state_dict())


@scenario
def resuming_between_plain_and_shared_out() -> None:
    for kind in (optim.AdamW, optim.RMSprop, optim.Adafactor):
        plain, reference, shared, optimizer = pair(kind, lr=0.05)
        train(plain, reference, range(3))
        train(shared, optimizer, range(3))
        state = whole_state(optimizer)
        train(plain, reference, range(3, 6))
        for make in (_plainly, ZeroRedundancyOptimizer):
            model = model_for(kind)
            model.load_state_dict(shared.module.state_dict())
            resumed = make(model.parameters(), kind, lr=9.0)
            resumed.load_state_dict(copy.deepcopy(state))
            assert resumed.param_groups[0]["lr"] == 0.05
            if make is ZeroRedundancyOptimizer:
                same_state(resumed.state_dict(), state)  # also before the first step
            train(model, resumed, range(3, 6))
            check_same(model, plain)


@scenario
def resuming_on_another_number_of_ranks() -> None:
    rank, size = place()
    plain, reference, shared, optimizer = pair(optim.Adam, lr=0.05)
    train(plain, reference, range(2))
    train(shared, optimizer, range(2))
    state, weights = whole_state(optimizer), shared.module.state_dict()
    small = comm.get_default().split(0 if rank < size - 1 else None)
    if small is not None:
        results = []
        for kind in (_plainly, ZeroRedundancyOptimizer):
            model = DistributedDataParallel(Wide(), process_group=small, bucket_cap_mb=0.001)
            model.load_state_dict(copy.deepcopy(weights))
            group: dict[str, Communicator] = {} if kind is _plainly else {"process_group": small}
            resumed = kind(model.parameters(), optim.Adam, lr=0.05, **group)
            resumed.load_state_dict(copy.deepcopy(state))
            train(model, resumed, range(2, 5))
            results.append(bits(model))
            del model, resumed
        assert results[0] == results[1]
        small.close()
    everyone("done")


@scenario
def state_that_was_not_collected() -> None:
    rank, _ = place()
    _, _, shared, optimizer = pair(optim.Adam)

    def refuses() -> bool:
        try:
            optimizer.state_dict()
        except StateDictError as error:
            assert f"call `consolidate_state_dict(to={rank})` on all ranks" in str(error)
            return True
        return False

    assert refuses()
    train(shared, optimizer, range(1))
    optimizer.consolidate_state_dict(to=1)
    assert refuses() == (rank != 1)
    train(shared, optimizer, range(1, 2))
    assert refuses()
    optimizer.consolidate_state_dict(to=None)
    everywhere = optimizer.state_dict()
    optimizer.consolidate_state_dict(to=1)
    assert rank != 1 or dg.fingerprint(optimizer.state_dict()) == dg.fingerprint(everywhere)


@scenario
def pickles_are_refused() -> None:
    _, _, _, optimizer = pair(optim.Adam)
    try:
        copy.deepcopy(optimizer)
    except CommError as error:
        assert "consolidate_state_dict() on all ranks" in str(error)
    else:
        raise AssertionError("an optimizer was copied of which only a part is here")


# ---- clipping ------------------------------------------------------------------------------------------------------


@scenario
def clipping_by_the_global_norm() -> None:
    plain, reference, shared, optimizer = pair(optim.Adam, lr=0.05)
    norms: list[list[float]] = [[], []]
    for i, (model, one) in enumerate(((plain, reference), (shared, optimizer))):
        for step in range(4):
            one.zero_grad()
            x, y = whole_batch(step)
            loss(model(mine(x)), mine(y)).backward()
            norms[i].append(float(nn.utils.clip_grad_norm_(model.parameters(), 0.1)))
            one.step()
    assert norms[0] == norms[1] and min(norms[0]) > 0.1 and math.isfinite(max(norms[0]))
    check_same(shared, plain)


# ---- gradients that are shared out as well -------------------------------------------------------------------------


def shared_pair(kind: type[Optimizer], overlap: bool = False, **options: Any) -> tuple[Any, Any, Any, Any]:
    """A plain model and optimizer, and a model whose gradients and state are shared out."""
    plain, shared = (DistributedDataParallel(Wide(), bucket_cap_mb=0.001, overlap=overlap) for _ in range(2))
    optimizer = zero(shared, kind, shard_gradients=True, **options)
    return plain, kind(plain.parameters(), **options), shared, optimizer


def check_alike(model: nn.Module, reference: nn.Module) -> None:
    """The same bits on every rank, and those of the reference where sums do not depend on how gradients are cut."""
    found = bits(model)
    assert all(other == found for other in everyone(found))
    if comm.get_default().sums_in_order:
        assert found == bits(reference)
    for p, q in zip(model.parameters(), reference.parameters(), strict=True):
        assert np.allclose(p.numpy(force=True), q.numpy(force=True), rtol=1e-4, atol=1e-5)


@scenario
def gradients_are_shared_out() -> None:
    for kind, options in ((optim.Adam, {"lr": 0.05}), (optim.SGD, {"lr": 0.001, "momentum": 0.9})):
        for overlap in (False, True):
            plain, reference, shared, optimizer = shared_pair(kind, overlap, **options)
            train(plain, reference, range(5))
            train(shared, optimizer, range(5))
            check_alike(shared, plain)
            share = [share_of(p.grad) for p in shared.parameters()]
            parts = [s.part.size for s in share]
            assert sum(everyone(sum(parts))) == sum(p.numel() for p in shared.parameters())
            pairs = zip(share, plain.parameters(), strict=True)
            assert all(np.isin(s.part, p.grad.numpy()).all() or not comm.get_default().sums_in_order for s, p in pairs)
            state, expected = whole_state(optimizer), reference.state_dict()
            assert (
                state["state"].keys() == expected["state"].keys() and state["param_groups"] == expected["param_groups"]
            )
            if comm.get_default().sums_in_order:
                same_state(state, expected)


@scenario
def clipping_gradients_that_are_shared_out() -> None:
    for p in (2.0, 1.0, math.inf):
        plain, reference, shared, optimizer = shared_pair(optim.SGD, lr=0.1)
        norms: list[list[float]] = [[], []]
        for i, (model, one) in enumerate(((plain, reference), (shared, optimizer))):
            for step in range(4):
                one.zero_grad()
                x, y = whole_batch(step)
                loss(model(mine(x)), mine(y)).backward()
                norms[i].append(float(nn.utils.clip_grad_norm_(model.parameters(), 0.1, p)))
                one.step()
        np.testing.assert_allclose(norms[0], norms[1], rtol=1e-6)
        assert min(norms[0]) > 0.1 and len(set(everyone(norms[1][-1]))) == 1
        for a, b in zip(plain.parameters(), shared.parameters(), strict=True):
            np.testing.assert_allclose(a.numpy(force=True), b.numpy(force=True), rtol=1e-5, atol=1e-6)


@scenario
def accumulating_gradients_that_are_shared_out() -> None:
    plain, reference, shared, optimizer = shared_pair(optim.Adam, lr=0.05)
    for model, one in ((plain, reference), (shared, optimizer)):
        for step in range(3):
            one.zero_grad(set_to_none=step != 1)
            for i in range(2):
                x, y = whole_batch(2 * step + i)
                with model.no_sync() if i == 0 else nullcontext():
                    loss(model(mine(x)), mine(y)).backward()
            one.step()
    check_alike(shared, plain)
    try:
        loss(shared(mine(x)), mine(y)).backward()
    except RuntimeError as error:
        assert "expected gradients to be cleared before the next backward pass" in str(error)
    else:
        raise AssertionError("a mean of which a part is here was taken for a whole one")


@scenario
def unused_parameters_of_gradients_that_are_shared_out() -> None:
    plain, shared = DistributedDataParallel(Net()), DistributedDataParallel(Net())
    optimizers = [optim.Adam(plain.parameters(), 0.1), zero(shared, optim.Adam, lr=0.1, shard_gradients=True)]
    rank, _ = place()
    for model, optimizer in zip((plain, shared), optimizers, strict=True):
        train(model, optimizer, range(2))
        optimizer.zero_grad()
        x = values(4, 4, 7 if rank == 0 else IN)
        model(x, skip=rank == 0).sum().backward()  # used on some ranks
        optimizer.step()
        optimizer.zero_grad()
        model(values(4, 4, 7), skip=True).sum().backward()  # used on none
        assert model.module.first.weight.grad is None
        optimizer.step()
    check_alike(shared, plain)


@scenario
def who_else_steps_on_gradients_that_are_shared_out() -> None:
    plain, reference, shared, optimizer = shared_pair(optim.SGD, lr=0.001)
    train(shared, optimizer, range(2))
    other = optim.SGD(shared.parameters(), lr=0.001)
    try:
        other.step()
    except RuntimeError as error:
        assert "of which only a part is on this rank" in str(error)
    else:
        raise AssertionError("a plain optimizer took a part of a gradient for the whole")
    del optimizer
    train(plain, reference, range(2))
    train(shared, other, range(2, 4))  # nobody wants parts any more
    train(plain, reference, range(2, 4))
    check_alike(shared, plain)
    try:
        zero(shared, optim.Adafactor, shard_gradients=True)
    except ValueError as error:
        assert "Adafactor needs whole gradients" in str(error)
    else:
        raise AssertionError("an optimizer of whole parameters was given parts of gradients")


# ---- what only one rank has ----------------------------------------------------------------------------------------


@scenario
def resuming_where_only_one_rank_can_read_the_file() -> None:
    rank, size = place()
    root = size - 1

    def make(kind: type[Optimizer], shared: bool, rate: float) -> tuple[Any, Any, Any]:
        model = model_for(kind)
        optimizer = zero(model, kind, lr=rate) if shared else kind(model.parameters(), lr=rate)
        return model, optimizer, optim.lr_scheduler.ExponentialLR(optimizer, 0.9)

    for kind in (optim.Adam, optim.NAdam, optim.Adafactor):
        for shared in (False, True):
            model, optimizer, schedule = make(kind, shared, 0.05)
            train(model, optimizer, range(3), schedule.step)
            if shared:
                optimizer.consolidate_state_dict(root)
            with tempfile.TemporaryDirectory() as folder:
                file = pathlib.Path(folder, "checkpoint.dg")
                if rank == root:
                    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
                    dg.save({name: part.state_dict() for name, part in parts.items()}, file)
                train(model, optimizer, range(3, 6), schedule.step)
                for again in (
                    False,
                    True,
                ):  # the plain optimizer's file for the shared-out one, and the other way round
                    resumed, other, clock = make(kind, again, 7.0)
                    with dg.no_grad():
                        for p in resumed.parameters():
                            p.fill_(rank)
                    if rank == root:
                        saved = dg.load(file)
                        resumed.load_state_dict(saved["model"])
                        other.load_state_dict(saved["optimizer"])
                        clock.load_state_dict(saved["schedule"])
                    broadcast_parameters(resumed, root)
                    broadcast_optimizer_state(other, root)
                    clock.load_state_dict(comm.get_default().broadcast_object(clock.state_dict(), root))
                    train(resumed, other, range(3, 6), clock.step)
                    check_same(resumed, model)
                    assert other.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]


@scenario
def parameters_of_one_rank() -> None:
    rank, _ = place()
    net = Net(seed=rank)
    before = everyone([p.tolist() for p in net.parameters()])
    net.register_buffer("steps", dg.tensor(rank))
    broadcast_parameters(net, root=1)
    assert [p.tolist() for p in net.parameters()] == before[1] and net.steps.item() == 1
    for form in (net.state_dict(), net.named_parameters()):
        with dg.no_grad():
            net.first.bias.fill_(rank)
        broadcast_parameters(form)
        assert net.first.bias.tolist() == [0.0] * 7


@scenario
def hyperparameters_of_one_rank() -> None:
    rank, _ = place()
    for shared in (False, True):
        model = model_for(optim.Adam)
        optimizer: Any = (zero if shared else _plain_of)(model, optim.Adam, lr=0.1 + rank)
        broadcast_optimizer_state(optimizer)
        assert optimizer.param_groups[0]["lr"] == 0.1
        train(model, optimizer, range(2))
        optimizer.param_groups[0]["lr"] = 0.5 + rank
        broadcast_optimizer_state(optimizer, root=1)  # of a state that is spread out, each keeps its part
        train(model, optimizer, range(2, 3))
        assert optimizer.param_groups[0]["lr"] == 1.5 and len(set(everyone(bits(model)[0]))) == 1


def _plain_of(model: nn.Module, kind: type[Optimizer], **options: Any) -> Optimizer:
    return kind(model.parameters(), **options)


# ---- uneven inputs -------------------------------------------------------------------------------------------------


@scenario
def joining_early() -> None:
    rank, size = place()
    for shard in (False, True):
        results = []
        for shared in (False, True):
            model = DistributedDataParallel(Buffered(), bucket_cap_mb=0.001)
            optimizer: Any = optim.Adam(model.parameters(), lr=0.05)
            joinables: list[Any] = [model]
            if shared:
                optimizer = zero(model, optim.Adam, lr=0.05, shard_gradients=shard)
                joinables.append(optimizer)
            clock = optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
            with Join(joinables):
                for step in range(2 + size - rank):  # the last rank is out of inputs first
                    optimizer.zero_grad()
                    x, y = whole_batch(step)
                    loss(model(mine(x)), mine(y)).backward()
                    optimizer.step()
                    clock.step()
            results.append(bits(model))
            assert len(set(everyone(b"".join(results[-1])))) == 1
        if comm.get_default().sums_in_order:
            assert results[0] == results[1]


class Buffered(Wide):
    """`Wide` with a buffer, which is sent as well."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", dg.tensor(0.0))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with dg.no_grad():
                self.count.add_(1)
        return super().forward(x)
