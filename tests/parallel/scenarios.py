"""What DistributedDataParallel promises, as functions that every rank of a group calls; each checks its own rank.

They run on ranks that are threads (tests/parallel), and on processes over MPI and shared memory (tests/mpi).
"""

import copy
import dataclasses
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import distgrad as dg
from distgrad import Parameter, Tensor, comm
from distgrad.arena import slot_of
from distgrad.errors import CollectiveMismatchError, CommError
from distgrad.nn import BatchNorm2d, Conv2d, CrossEntropyLoss, Flatten, Linear, Module, ReLU, Sequential
from distgrad.optim import SGD, Adam
from distgrad.parallel import DistributedDataParallel
from tests.parallel.models import IN, OUT, Centred, Dense, Net, close, grads, loss, part, values, whole_batch

SCENARIOS: list[Callable[[], None]] = []


def scenario(function: Callable[[], None]) -> Callable[[], None]:
    """Enters a function into the list of all."""
    SCENARIOS.append(function)
    return function


def place() -> tuple[int, int]:
    """Rank and size of the group."""
    group = comm.get_default()
    return group.rank, group.size


def mine(t: Tensor) -> Tensor:
    """This rank's rows."""
    return part(t, *place())


def everyone(value: Any) -> list[Any]:
    """What each rank has."""
    return comm.get_default().all_gather_object(value)


def large_batch_grads(module: Module, *batches: tuple[Tensor, Tensor]) -> dict[str, Any]:
    """The gradients that one rank gets from the whole batches."""
    for x, y in batches:
        loss(module(x), y).backward()
    return grads(module)


def backward(model: Module, batch: tuple[Tensor, Tensor]) -> None:
    """One forward and backward pass on this rank's rows."""
    x, y = batch
    loss(model(mine(x)), mine(y)).backward()


def descend(module: Module, rate: float = 0.1) -> None:
    """A step of gradient descent."""
    with dg.no_grad():
        for p in module.parameters():
            if p.grad is not None:
                p.sub_(p.grad * rate)
                p.grad = None


# ---- the mean ----------------------------------------------------------------------------------------------------


@scenario
def equals_one_rank_with_the_large_batch() -> None:
    model, reference = DistributedDataParallel(Net()), Net()
    for step in range(5):
        batch = whole_batch(step)
        expected = large_batch_grads(reference, batch)
        backward(model, batch)
        assert close(grads(model.module), expected)
        descend(model)
        descend(reference)
    weights = [p.numpy(force=True).tobytes() for p in model.parameters()]
    assert all(other == weights for other in everyone(weights))


@scenario
def many_small_buckets() -> None:
    model = DistributedDataParallel(Net(), bucket_cap_mb=1e-4)
    assert model._reducer is not None and len(model._reducer.buckets) == 4
    backward(model, whole_batch())
    assert close(grads(model.module), large_batch_grads(Net(), whole_batch()))


@scenario
def gradients_lie_in_the_arena_and_between_them_is_nothing() -> None:
    model = DistributedDataParallel(Net())
    backward(model, whole_batch())
    assert model._reducer is not None
    (arena,) = model._reducer.arenas
    inside = np.zeros(arena.layout.size, bool)
    for p in model.parameters():
        slot = slot_of(p)
        assert slot is not None and p.grad is slot.grad and np.shares_memory(p.grad._data, arena.grad)
        slot.view(inside)[...] = True
    assert not arena.grad[~inside].any() and not arena.param[~inside].any()
    (run,) = arena.runs(model.parameters())
    assert len(run.parameters) == 4


@scenario
def models_of_several_dtypes() -> None:
    class Both(Module):
        def __init__(self) -> None:
            super().__init__()
            self.single, self.double_ = Dense(IN, OUT), Dense(IN, OUT, dtype="float64")

        def forward(self, x: Tensor) -> Tensor:
            return self.single(x) + self.double_(x.double())

    model = DistributedDataParallel(Both())
    assert model._reducer is not None and len(model._reducer.arenas) == 2
    x, y = whole_batch()
    loss(model(mine(x)), mine(y).double()).backward()
    assert close(grads(model.module), large_batch_grads(Both(), (x, y.double())))


@scenario
def tied_weights() -> None:
    class Tied(Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = Dense(IN, IN), Dense(IN, IN, seed=9)
            self.b.weight = self.a.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x))

    model = DistributedDataParallel(Tied())
    x, _ = whole_batch()
    backward(model, (x, x))
    assert close(grads(model.module), large_batch_grads(Tied(), (x, x)))


# ---- which passes are reduced ------------------------------------------------------------------------------------


@scenario
def no_sync_accumulates_locally() -> None:
    model, local, reference = DistributedDataParallel(Net()), Net(), Net()
    batches = [whole_batch(seed) for seed in (1, 2, 3)]
    with model.no_sync():
        for batch in batches[:2]:
            backward(model, batch)
            backward(local, batch)
    assert close(grads(model.module), grads(local))
    backward(model, batches[2])
    assert close(grads(model.module), large_batch_grads(reference, *batches))
    assert model.require_backward_grad_sync


@scenario
def two_forwards_before_one_backward() -> None:
    model, reference = DistributedDataParallel(Net()), Net()
    (x1, y1), (x2, y2) = whole_batch(1), whole_batch(2)
    (loss(model(mine(x1)), mine(y1)) + loss(model(mine(x2)), mine(y2))).backward()
    assert close(grads(model.module), large_batch_grads(reference, (x1, y1), (x2, y2)))


@scenario
def two_forwards_then_two_backwards() -> None:
    model, reference = DistributedDataParallel(Net()), Net()
    (x1, y1), (x2, y2) = whole_batch(1), whole_batch(2)
    first, second = loss(model(mine(x1)), mine(y1)), loss(model(mine(x2)), mine(y2))
    first.backward()
    second.backward()
    assert close(grads(model.module), large_batch_grads(reference, (x1, y1), (x2, y2)))


@scenario
def backward_twice_through_one_graph() -> None:
    model, reference = DistributedDataParallel(Net()), Net()
    x, y = whole_batch()
    value = loss(model(mine(x)), mine(y))
    value.backward(retain_graph=True)
    value.backward()
    assert close(grads(model.module), large_batch_grads(reference, (x, y), (x, y)))


@scenario
def backward_into_chosen_parameters() -> None:
    model = DistributedDataParallel(Net())
    x, y = whole_batch()
    chosen = model.module.second.weight
    loss(model(mine(x)), mine(y)).backward(inputs=[chosen])
    expected = large_batch_grads(Net(), (x, y))["second.weight"]
    assert chosen.grad is not None and np.allclose(chosen.grad.numpy(), expected, rtol=1e-6, atol=1e-6)
    assert model.module.first.weight.grad is None


@scenario
def a_pass_around_the_wrapper_is_local() -> None:
    model = DistributedDataParallel(Net())
    backward(model, whole_batch())
    descend(model)
    if place()[0] == 0:  # alone: it would fail if it communicated
        backward(model.module, whole_batch())
        model.zero_grad()
    assert len(set(everyone("still together"))) == 1


@scenario
def evaluation_needs_nobody() -> None:
    model = DistributedDataParallel(Centred())
    backward(model, whole_batch())
    model.eval()
    if place()[0] == 0:
        with dg.no_grad():
            model(whole_batch()[0])
    model.train()
    backward(model, whole_batch())


@scenario
def asking_for_gradients_does_not_communicate() -> None:
    model = DistributedDataParallel(Net())
    x = mine(whole_batch()[0]).clone().requires_grad_()
    output = model(x).sum()
    if place()[0] == 0:
        dg.autograd.grad(output, [x], retain_graph=True)
    output.backward()


@scenario
def a_gradient_penalty() -> None:
    def penalised(model: Module, x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        (g,) = dg.autograd.grad(model(x).sum(), [x], create_graph=True)
        result: Tensor = (g * g).mean()
        return result

    model, reference = DistributedDataParallel(Net()), Net()
    x, _ = whole_batch()
    penalised(model, mine(x)).backward()
    penalised(reference, x).backward()
    expected = grads(reference)
    assert close(grads(model.module), expected)


@scenario
def gradients_with_a_graph_of_their_own() -> None:
    model, reference = DistributedDataParallel(Net()), Net()
    x, y = whole_batch()
    loss(model(mine(x)), mine(y)).backward(create_graph=True)
    assert close(grads(model.module), large_batch_grads(reference, (x, y)))


@scenario
def a_backward_that_breaks_off() -> None:
    model, reference = DistributedDataParallel(Net()), Net()
    x, y = whole_batch()
    value = loss(model(mine(x)), mine(y))

    def fail(_: Tensor) -> None:
        raise ValueError("planted")

    handle = model.module.first.weight.register_hook(fail)
    try:
        value.backward()
    except ValueError:
        handle.remove()
    model.zero_grad()
    backward(model, (x, y))
    assert close(grads(model.module), large_batch_grads(reference, (x, y)))


# ---- unused parameters -------------------------------------------------------------------------------------------


@scenario
def unused_on_one_rank() -> None:
    rank, size = place()
    model = DistributedDataParallel(Net())
    x = values(3, 4, IN) if rank != size - 1 else values(4, 4, 7)
    model(x, skip=rank == size - 1).sum().backward()
    parts = []
    for other in range(size):
        net = Net()
        net(values(3, 4, IN) if other != size - 1 else values(4, 4, 7), skip=other == size - 1).sum().backward()
        parts.append({n: 0 if g is None else g for n, g in grads(net).items()})
    assert close(grads(model.module), {name: sum(p[name] for p in parts) / size for name in parts[0]})


@scenario
def unused_everywhere() -> None:
    model = DistributedDataParallel(Net())
    model(values(4, 4, 7), skip=True).sum().backward()
    assert model.module.first.weight.grad is None and model.module.first.bias.grad is None
    assert model.module.second.weight.grad is not None


@scenario
def a_rank_that_uses_no_parameter() -> None:
    class Maybe(Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = Dense(IN, IN)

        def forward(self, x: Tensor, used: bool) -> Tensor:
            return self.dense(x) if used else x * 2.0

    rank, size = place()
    model, reference = DistributedDataParallel(Maybe()), Maybe()
    x = values(1, 4, IN).requires_grad_()
    model(x, rank != 0).sum().backward()
    reference(x, True).sum().backward()
    expected = {name: g * (size - 1) / size for name, g in grads(reference).items()}
    assert close(grads(model.module), expected)


@scenario
def used_only_while_accumulating() -> None:
    model, reference = DistributedDataParallel(Net()), Net()
    x, y = whole_batch()
    hidden = values(4, 12, 7)
    with model.no_sync():
        backward(model, (x, y))
    loss(model(mine(hidden), skip=True), mine(y)).backward()
    loss(reference(x), y).backward()
    loss(reference(hidden, skip=True), y).backward()
    assert close(grads(model.module), grads(reference))


# ---- inputs and outputs ------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    """A named tuple of outputs."""

    a: Tensor
    b: Tensor


@dataclasses.dataclass(frozen=True)
class Record:
    """A dataclass of outputs."""

    value: Tensor
    note: str


class Opaque:
    """An object that nobody can look into."""

    def __init__(self, value: Tensor) -> None:
        self.value = value


@scenario
def any_inputs_and_outputs() -> None:
    class Anything(Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def forward(self, x: dict[str, Tensor], *, scale: float, form: Callable[[Tensor], Any]) -> Any:
            return form(self.net(x["x"]) * scale)

    forms: list[tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]] = [
        (lambda t: t, lambda o: o),
        (lambda t: (t, 3), lambda o: o[0]),
        (lambda t: [t, [t * 2.0]], lambda o: o[1][0] * 0.5),
        (lambda t: {"out": (t,), "shape": t.shape}, lambda o: o["out"][0]),
        (lambda t: Pair(t * 2.0, t), lambda o: o.b),
        (lambda t: Record(t, "note"), lambda o: o.value),
        (lambda t: Opaque(t), lambda o: o.value),
    ]
    model, reference = DistributedDataParallel(Anything()), Net()
    x, y = whole_batch()
    expected = {f"net.{name}": g for name, g in large_batch_grads(reference, (x, y)).items()}
    for form, unform in forms:
        output = model({"x": mine(x)}, scale=1.0, form=form)
        assert type(output) is type(form(x))
        loss(unform(output), mine(y)).backward()
        assert close(grads(model.module), expected)
        model.zero_grad()


@scenario
def a_loss_that_is_no_output() -> None:
    class Aside(Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def forward(self, x: Tensor, y: Tensor) -> None:
            self.loss = loss(self.net(x), y)

    model = DistributedDataParallel(Aside())
    x, y = whole_batch()
    model(mine(x), mine(y))
    model.module.loss.backward()
    expected = {f"net.{name}": g for name, g in large_batch_grads(Net(), (x, y)).items()}
    assert close(grads(model.module), expected)


@scenario
def an_output_changed_in_place() -> None:
    class Shifted(Net):
        def forward(self, x: Tensor, skip: bool = False) -> Tensor:
            return super().forward(x) + 1.0

    model, reference = DistributedDataParallel(Shifted()), Shifted()
    x, y = whole_batch()
    output = model(mine(x))
    output.mul_(3.0)
    loss(output, mine(y)).backward()
    loss(reference(x) * 3.0, y).backward()
    assert close(grads(model.module), grads(reference))


@scenario
def two_models_at_once() -> None:
    def losses(generator: Module, critic: Module, noise: Tensor, real: Tensor) -> None:
        fake = generator(noise)
        (critic(fake.detach()).mean() - critic(real).mean()).backward()
        critic_grads = grads(critic)
        (-critic(fake).mean()).backward()
        results.append((critic_grads, grads(generator)))

    results: list[tuple[dict[str, Any], dict[str, Any]]] = []
    noise, real = values(1, 12, IN), values(2, 12, OUT)
    generator, critic = DistributedDataParallel(Net()), DistributedDataParallel(Dense(OUT, 1, 5))
    losses(generator, critic, mine(noise), mine(real))
    losses(Net(), Dense(OUT, 1, 5), noise, real)
    for ours, reference in zip(*results, strict=True):
        assert close({name.removeprefix("module."): g for name, g in ours.items()}, reference)


# ---- buffers -----------------------------------------------------------------------------------------------------


@scenario
def starts_from_rank_0() -> None:
    rank, _ = place()
    module = Centred()
    module.frozen = Parameter(dg.zeros(3, 2), requires_grad=False)
    with dg.no_grad():
        for t in [*module.parameters(), *module.buffers()]:
            t.fill_(rank + 1)
    model = DistributedDataParallel(module)
    for t in [*model.parameters(), *model.buffers()]:
        assert (t.numpy(force=True) == 1).all()


@scenario
def init_sync_can_be_left_out() -> None:
    rank, _ = place()
    model = DistributedDataParallel(Net(seed=rank), init_sync=False)
    assert model.module.first.weight.tolist() == Net(seed=rank).first.weight.tolist()


@scenario
def buffers_follow_rank_0() -> None:
    rank, _ = place()
    model = DistributedDataParallel(Centred())
    for step in range(3):
        backward(model, whole_batch(step))
        state = [b.numpy().tobytes() for b in model.buffers()]
        assert all(other == state for other in everyone(state))
        assert model.module.count.item() == step + 1
    model.module.mean.fill_(100.0 * rank)
    model(mine(whole_batch()[0]))
    assert abs(model.module.mean.numpy()).max() < 10


@scenario
def buffers_can_be_left_alone() -> None:
    rank, _ = place()
    model = DistributedDataParallel(Centred(), broadcast_buffers=False)
    model.module.mean.fill_(100.0 * rank)
    backward(model, whole_batch())
    assert abs(model.module.mean.numpy() - 90 * rank).max() < 10


@scenario
def a_network_with_batch_norm() -> None:
    def build() -> Module:
        dg.manual_seed(place()[0])
        return Sequential(Conv2d(1, 4, 3), BatchNorm2d(4), ReLU(), Flatten(), Linear(4 * 4 * 4, 3))

    model = DistributedDataParallel(build())
    optimizer = SGD(model.parameters(), lr=0.05, momentum=0.9)
    criterion = CrossEntropyLoss()
    images, labels = values(place()[0], 6, 1, 6, 6), dg.tensor(np.arange(6) % 3)
    first = None
    for _ in range(30):
        optimizer.zero_grad()
        value = criterion(model(images), labels) + criterion(model(images * 0.9), labels)
        value.backward()
        optimizer.step()
        first = value.item() if first is None else first
    assert value.item() < 0.5 * first
    state = [(name, t.numpy().tobytes()) for name, t in model.state_dict().items()]
    assert len(state) == 9 and all(other == state for other in everyone(state))
    assert model.module[1].num_batches_tracked.item() == 60


@scenario
def two_forwards_with_buffers_before_one_backward() -> None:
    class Saves(Centred):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.scale  # the graph saves the buffer

    def make() -> Saves:
        module = Saves()
        module.register_buffer("scale", dg.ones(OUT) * 2.0)
        return module

    model = DistributedDataParallel(make())
    x1, y1 = whole_batch(1)
    x2, y2 = whole_batch(2)
    (loss(model(mine(x1)), mine(y1)) + loss(model(mine(x2)), mine(y2))).backward()
    assert model.module.count.item() == 2
    assert all(g is not None for g in grads(model.module).values())


# ---- groups ------------------------------------------------------------------------------------------------------


@scenario
def a_group_of_some_ranks() -> None:
    rank, size = place()
    group = comm.get_default().split(rank % 2, rank)
    assert group is not None
    model = DistributedDataParallel(Net(), process_group=group)
    members = range(rank % 2, size, 2)
    batches = [whole_batch(other) for other in members]
    x, y = whole_batch(rank)
    twin = copy.deepcopy(model)
    for one in (model, twin):
        loss(one(x), y).backward()
    total = large_batch_grads(Net(), *batches)
    expected = {name: g / len(members) for name, g in total.items()}
    assert close(grads(model.module), expected) and close(grads(twin.module), expected)
    try:
        pickle.dumps(model)
    except CommError as error:
        assert "expected the default process group for a pickle" in str(error)
    else:
        raise AssertionError("a model of another group was pickled")
    del model, twin
    group.close()


# ---- models that differ ------------------------------------------------------------------------------------------


@scenario
def mismatched_models_are_named_on_every_rank() -> None:
    rank, size = place()
    last = rank == size - 1

    def shape() -> Module:
        return Dense(IN, OUT + last)

    def dtype() -> Module:
        return Dense(IN, OUT, dtype="float64" if last else "float32")

    def missing() -> Module:
        net = Net()
        if last:
            net.extra = Parameter(dg.zeros(2))
        return net

    def frozen() -> Module:
        net = Net()
        net.first.bias.requires_grad_(not last)
        return net

    def order() -> Module:
        net = Module()
        for name in ("a", "b") if last else ("b", "a"):
            net.register_parameter(name, Parameter(dg.zeros(2)))
        return net

    cases = [
        (shape, f"parameter 'weight': distgrad.float32 [5, 3] on rank 0; distgrad.float32 [5, 4] on rank {size - 1}"),
        (dtype, f"distgrad.float64 [5, 3] on rank {size - 1}"),
        (missing, f"parameter 'extra': missing on rank 0; distgrad.float32 [2] on rank {size - 1}"),
        (
            frozen,
            f"parameter 'first.bias': distgrad.float32 [7] on rank 0; distgrad.float32 [7], frozen on rank {size - 1}",
        ),
        (order, f"place 0: 'b' on rank 0; 'a' on rank {size - 1}"),
    ]
    for build, message in cases:
        try:
            DistributedDataParallel(build())
        except CollectiveMismatchError as error:
            text = str(error)
        else:
            text = "no error"
        assert message in text, text
        assert all(other == text for other in everyone(text))


# ---- what users do to models -------------------------------------------------------------------------------------


@scenario
def freezing_and_unfreezing() -> None:
    def check(*trained: str) -> None:
        reference = copy.deepcopy(model.module)
        reference.zero_grad()
        expected = large_batch_grads(reference, whole_batch())
        backward(model, whole_batch())
        found = grads(model.module)
        assert close(found, expected)
        assert {name for name, g in found.items() if g is not None} == set(trained)
        descend(model)

    every = [name for name, _ in Net().named_parameters()]
    second = [name for name in every if name.startswith("second")]
    net = Net()
    net.first.requires_grad_(False)
    model = DistributedDataParallel(net)
    check(*second)
    net.first.requires_grad_(True)
    check(*every)
    net.first.requires_grad_(False)
    check(*second)
    net.first.requires_grad_(True)
    check(*every)


@scenario
def another_dtype_after_wrapping() -> None:
    model = DistributedDataParallel(Net())
    backward(model, whole_batch())
    descend(model)
    model.to(dg.float64)
    reference = copy.deepcopy(model.module)
    x, y = (t.double() for t in whole_batch())
    backward(model, (x, y))
    assert close(grads(model.module), large_batch_grads(reference, (x, y)), 1e-12)


@scenario
def copies_and_pickles() -> None:
    model = DistributedDataParallel(Net())
    backward(model, whole_batch())
    descend(model)
    for module in (copy.deepcopy(model.module), pickle.loads(pickle.dumps(model.module))):
        if place()[0] == 0:  # a copy of the inner model is nobody else's business
            backward(module, whole_batch())
            descend(module)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        before = [p.tolist() for p in model.parameters()]
        with dg.no_grad():
            assert twin(mine(whole_batch()[0])).shape == (12 // place()[1], OUT)
        backward(twin, whole_batch())
        expected = large_batch_grads(copy.deepcopy(model.module), whole_batch())
        assert close(grads(twin.module), expected)
        descend(twin)
        assert [p.tolist() for p in model.parameters()] == before


@scenario
def an_optimizer_that_was_there_first() -> None:
    def train(model: Module, optimizer: Adam, steps: range, rows: Callable[[Tensor], Tensor]) -> None:
        for step in steps:
            optimizer.zero_grad()
            x, y = whole_batch(step)
            loss(model(rows(x)), rows(y)).backward()
            optimizer.step()

    def everything(t: Tensor) -> Tensor:
        return t

    net, reference = Net(), Net()
    optimizer = Adam(net.parameters(), 0.1)
    train(net, optimizer, range(2), everything)
    train(DistributedDataParallel(net), optimizer, range(2, 6), mine)
    train(reference, Adam(reference.parameters(), 0.1), range(6), everything)
    for p, q in zip(net.parameters(), reference.parameters(), strict=True):
        assert np.allclose(p.numpy(force=True), q.numpy(force=True), rtol=1e-4, atol=1e-5)


@scenario
def state_dicts() -> None:
    class Outer(Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = DistributedDataParallel(Net())

    model = DistributedDataParallel(Net())
    plain = Net(seed=3).state_dict()
    assert list(model.state_dict()) == list(plain)
    for given in (plain, {f"module.{name}": t for name, t in plain.items()}):
        model.load_state_dict(given)
        assert all(np.array_equal(t.numpy(), plain[name].numpy()) for name, t in model.state_dict().items())
        descend(model)
    outer = Outer()
    assert list(outer.state_dict()) == [f"inner.{name}" for name in plain]
    for prefix in ("inner.", "inner.module."):
        assert not outer.load_state_dict({prefix + name: t for name, t in plain.items()}).missing_keys
        assert outer.inner.module.first.bias.tolist() == plain["first.bias"].tolist()
    wrong = outer.load_state_dict({"inner.first.other": plain["first.bias"]}, strict=False)
    assert len(wrong.missing_keys) == 4 and len(wrong.unexpected_keys) == 1


@scenario
def a_model_with_a_part_named_module() -> None:
    class Holder(Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            self.module = Net(seed)

        def forward(self, x: Tensor) -> Tensor:
            return self.module(x)

    model, state = DistributedDataParallel(Holder(0)), Holder(7).state_dict()
    for given in (state, {f"module.{name}": t for name, t in state.items()}):
        model.load_state_dict(given)
        assert model.module.module.first.bias.tolist() == state["module.first.bias"].tolist()
