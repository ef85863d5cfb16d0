"""Ranks with different numbers of inputs, and with batches of different sizes."""

from collections.abc import Iterator
from typing import Any

import numpy as np

import distgrad as dg
from distgrad import Tensor, comm, nn
from distgrad.data import DataLoader, TensorDataset
from distgrad.distributed.algorithms.join import Join, Joinable, JoinHook
from distgrad.nn import Linear, Module, Sequential, Tanh
from distgrad.optim import SGD
from distgrad.parallel import DistributedDataParallel
from tests.parallel.models import IN, OUT, Centred, Net, close, grads, loss, values
from tests.parallel.scenarios import everyone, place, scenario


def train(model: Module, optimizer: SGD, batches: Any) -> None:
    """A step for each batch."""
    for x, y in batches:
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()


def weights(module: Module) -> dict[str, Any]:
    """Copies of parameters and buffers."""
    return {name: t.numpy(force=True).copy() for name, t in module.state_dict().items()}


def same_everywhere(module: Module) -> bool:
    """Whether all ranks have the same parameters and buffers, bit for bit."""
    mine = [(name, array.tobytes()) for name, array in weights(module).items()]
    return all(other == mine for other in everyone(mine))


def batches_of(rank: int, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of four rows."""
    for step in range(steps):
        yield values(100 * rank + step, 4, IN), values(1000 + 100 * rank + step, 4, OUT)


def reference(model: Module, counts: list[int], divide_by_all: bool) -> None:
    """What one process does with the batches of ranks of which some end early."""
    optimizer = SGD(model.parameters(), lr=0.1)
    rows = [list(batches_of(rank, n)) for rank, n in enumerate(counts)]
    for step in range(max(counts)):
        optimizer.zero_grad()
        here = [batches[step] for batches in rows if step < len(batches)]
        share = len(counts) if divide_by_all else len(here)
        for x, y in here:
            (loss(model(x), y) / share).backward()
        optimizer.step()


def counts_of(size: int) -> list[int]:
    """The steps that each rank has: the first and the last end early, one has none."""
    return ([2, 4, 0, 3] * size)[:size] if size > 2 else [1, 4]


@scenario
def join_goes_on_with_those_who_have_inputs() -> None:
    rank, size = place()
    counts = counts_of(size)
    for divide_by_all in (True, False):
        model, single = DistributedDataParallel(Net()), Net()
        with model.join(divide_by_initial_world_size=divide_by_all):
            train(model, SGD(model.parameters(), lr=0.1), batches_of(rank, counts[rank]))
        reference(single, counts, divide_by_all)
        assert close(weights(model.module), weights(single), 1e-5)
        assert same_everywhere(model)
        # And the model goes on as before.
        x, y = values(7, 4, IN), values(8, 4, OUT)
        for one in (model, single):
            one.zero_grad()  # those who joined have no gradients, the others those of the last step
            loss(one(x), y).backward()
        assert close(grads(model.module), grads(single), 1e-5)


@scenario
def join_with_buffers_and_no_sync() -> None:
    rank, size = place()
    counts = counts_of(size)
    model = DistributedDataParallel(Centred())
    with model.join():
        for step, (x, y) in enumerate(batches_of(rank, counts[rank])):
            if step % 2 == 0:
                with model.no_sync():
                    loss(model(x), y).backward()
            else:
                loss(model(x), y).backward()
    assert same_everywhere(model)


@scenario
def join_of_a_model_with_synchronised_norms() -> None:
    rank, size = place()
    counts = counts_of(size)

    def build(norm: Any) -> Module:
        return Sequential(Linear(IN, 6), norm(6), Tanh(), Linear(6, OUT), norm(OUT)).double()

    def whole_steps() -> Iterator[tuple[Tensor, Tensor]]:
        rows = [list(batches_of(r, n)) for r, n in enumerate(counts)]
        for step in range(max(counts)):
            here = [b[step] for b in rows if step < len(b)]
            yield dg.cat([x for x, _ in here]).double(), dg.cat([y for _, y in here]).double()

    model, single = DistributedDataParallel(build(nn.SyncBatchNorm)), build(nn.BatchNorm1d)
    single.load_state_dict(model.state_dict())
    with model.join(divide_by_initial_world_size=False):
        own = ((x.double(), y.double()) for x, y in batches_of(rank, counts[rank]))
        train(model, SGD(model.parameters(), lr=0.1), own)
    train(single, SGD(single.parameters(), lr=0.1), whole_steps())
    assert close(weights(model.module), weights(single), 1e-9)
    assert same_everywhere(model)


@scenario
def join_that_ends_early_for_all() -> None:
    rank, _size = place()
    model = DistributedDataParallel(Net())
    steps = 0
    try:
        with model.join(throw_on_early_termination=True):
            for x, y in batches_of(rank, 5 if rank else 2):
                loss(model(x), y).backward()
                steps += 1
    except RuntimeError as error:
        text = str(error)
    else:
        text = "no error"
    assert "at least one rank that exhausted inputs" in text and "out of inputs: [0]" in text, text
    assert steps == 2
    assert len(set(everyone("still together"))) == 1


@scenario
def join_may_be_switched_off() -> None:
    model = DistributedDataParallel(Net())
    with model.join(enable=False):
        loss(model(values(1, 4, IN)), values(2, 4, OUT)).backward()
    assert model._join is None


@scenario
def join_of_two_models_and_a_counter() -> None:
    class Counter(Joinable):
        """Counts the inputs of all ranks, as in torch's tutorial."""

        def __init__(self) -> None:
            self.total = 0.0
            self.ended = ""

        def count(self, n: float) -> None:
            Join.notify_join_context(self)
            buffer = np.array([n])
            comm.get_default().all_reduce(buffer)
            self.total += buffer[0]

        def join_hook(self, **kwargs: Any) -> JoinHook:
            counter = self

            class Hook(JoinHook):
                def main_hook(self) -> None:
                    comm.get_default().all_reduce(np.zeros(1))

                def post_hook(self, is_last_joiner: bool) -> None:
                    counter.ended = "last" if is_last_joiner else "early"

            return Hook()

        @property
        def join_device(self) -> Any:
            return dg.device("cpu")

        @property
        def join_process_group(self) -> Any:
            return comm.get_default()

    rank, size = place()
    counts = counts_of(size)
    first, second, counter = DistributedDataParallel(Net()), DistributedDataParallel(Net(seed=5)), Counter()
    with Join([first, second, counter]):
        for x, y in batches_of(rank, counts[rank]):
            a, b = first(x), second(x)
            (loss(b, y) + loss(a, y)).backward()
            counter.count(1.0)
    assert counter.total == sum(sum(n > step for n in counts) for step in range(counts[rank]))
    assert counter.ended == ("last" if counts[rank] == max(counts) else "early")
    assert same_everywhere(first) and same_everywhere(second)


# ---- weights -----------------------------------------------------------------------------------------------------


def uneven(rank: int, size: int) -> tuple[Tensor, Tensor]:
    """A rank's rows of a batch: 1, 4, 7 ... of them."""
    n = 1 + 3 * rank
    return values(rank, n, IN), values(50 + rank, n, OUT)


def whole(size: int) -> tuple[Tensor, Tensor]:
    """The batch that the ranks' rows make up."""
    parts = [uneven(rank, size) for rank in range(size)]
    return dg.cat([x for x, _ in parts]), dg.cat([y for _, y in parts])


@scenario
def weights_make_the_mean_over_samples() -> None:
    rank, size = place()
    x, y = uneven(rank, size)
    reference = Net()
    every_x, every_y = whole(size)
    loss(reference(every_x), every_y).backward()
    for total in (None, len(every_x)):
        model = DistributedDataParallel(Net())
        with model.weighted(weight=len(x), total=total):
            output = model(x)
        loss(output, y).backward()
        assert close(grads(model.module), grads(reference), 1e-5)
    plain = DistributedDataParallel(Net())
    loss(plain(x), y).backward()
    assert not close(grads(plain.module), grads(reference), 1e-5)


@scenario
def equal_weights_change_no_bit() -> None:
    rank, _ = place()
    x, y = values(rank, 4, IN), values(50 + rank, 4, OUT)
    plain, weighted = DistributedDataParallel(Net()), DistributedDataParallel(Net())
    loss(plain(x), y).backward()
    with weighted.weighted(0.1):
        loss(weighted(x), y).backward()
    for a, b in zip(plain.parameters(), weighted.parameters(), strict=True):
        assert a.grad.numpy().tobytes() == b.grad.numpy().tobytes()


@scenario
def a_rank_of_weight_zero_may_have_nan() -> None:
    rank, _size = place()
    model, reference = DistributedDataParallel(Net()), Net()
    x, y = values(1, 4, IN), values(2, 4, OUT)
    if rank == 0:
        x, y = x[:0], y[:0]  # the mean of nothing is NaN
    with model.weighted(len(x)):
        output = model(x)
    loss(output, y).backward()
    loss(reference(values(1, 4, IN)), values(2, 4, OUT)).backward()
    assert close(grads(model.module), grads(reference), 1e-6)


@scenario
def weights_of_accumulated_batches() -> None:
    rank, size = place()
    model, reference = DistributedDataParallel(Net()), Net()
    x, y = uneven(rank, size)
    z, t = values(30 + rank, 5 - rank, IN), values(40 + rank, 5 - rank, OUT)
    with model.no_sync(), model.weighted(len(x)):
        loss(model(x), y).backward()
    with model.weighted(len(z)):
        loss(model(z), t).backward()
    loss(reference(whole(size)[0]), whole(size)[1]).backward()
    zs = dg.cat([values(30 + r, 5 - r, IN) for r in range(size)])
    ts = dg.cat([values(40 + r, 5 - r, OUT) for r in range(size)])
    loss(reference(zs), ts).backward()
    assert close(grads(model.module), grads(reference), 1e-5)


@scenario
def weights_do_not_reach_what_made_the_inputs() -> None:
    rank, size = place()
    first, second = DistributedDataParallel(Net()), DistributedDataParallel(Linear(OUT, 2))
    with dg.no_grad():
        second.module.weight.fill_(0.5)
        second.module.bias.fill_(0.1)
    x, _ = uneven(rank, size)
    x = x.clone().requires_grad_()
    with first.weighted(len(x)), second.weighted(len(x)):
        output = second(first(x))
    (output * output).mean().backward()
    one, two = Net(), Linear(OUT, 2)
    two.load_state_dict(second.module.state_dict())
    every = whole(size)[0]
    output = two(one(every))
    (output * output).mean().backward()
    assert close(grads(first.module), grads(one), 1e-5) and close(grads(second.module), grads(two), 1e-5)
    own = x.detach().clone().requires_grad_()
    output = two(one(own))
    (output * output).mean().backward()
    assert np.allclose(x.grad.numpy(), own.grad.numpy(), rtol=1e-5, atol=1e-6)


@scenario
def weights_of_a_loss_that_is_no_output() -> None:
    class Aside(Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def forward(self, x: Tensor, y: Tensor) -> None:
            self.loss = loss(self.net(x), y)

    rank, size = place()
    model, reference = DistributedDataParallel(Aside()), Net()
    with model.weighted(1 + 3 * rank):
        model(*uneven(rank, size))
    model.module.loss.backward()
    x, y = whole(size)
    loss(reference(x), y).backward()
    assert close(grads(model.module.net), grads(reference), 1e-5)


@scenario
def a_sharded_loader_says_how_many_samples() -> None:
    _rank, size = place()
    n = 4 * size + 1  # an epoch ends with one sample on one rank
    x, y = values(1, n, IN), values(2, n, OUT)
    model, reference = DistributedDataParallel(Net()), Net()
    loader = DataLoader(TensorDataset(x, y), batch_size=3, sharded=True)  # exact, because it is not shuffled
    with model.join():
        train(model, SGD(model.parameters(), lr=0.1), loader)
    optimizer = SGD(reference.parameters(), lr=0.1)
    train(reference, optimizer, [(x[i : i + 3 * size], y[i : i + 3 * size]) for i in range(0, n, 3 * size)])
    assert close(weights(model.module), weights(reference), 1e-5)
    unweighted = DistributedDataParallel(Net(), weight_by_samples=False)
    with unweighted.join():
        train(unweighted, SGD(unweighted.parameters(), lr=0.1), loader)
    assert not close(weights(unweighted.module), weights(reference), 1e-5)


@scenario
def a_sharded_stream_says_how_many_samples() -> None:
    class Stream(dg.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            return iter(zip(x, y, strict=True))

    _, size = place()
    n = 4 * size + 1
    x, y = values(1, n, IN), values(2, n, OUT)
    model, reference = DistributedDataParallel(Net()), Net()
    with model.join():
        loader = DataLoader(Stream(), batch_size=3, sharded=True)
        train(model, SGD(model.parameters(), lr=0.1), loader)
    optimizer = SGD(reference.parameters(), lr=0.1)
    train(reference, optimizer, [(x[i : i + 3 * size], y[i : i + 3 * size]) for i in range(0, n, 3 * size)])
    assert close(weights(model.module), weights(reference), 1e-5)
