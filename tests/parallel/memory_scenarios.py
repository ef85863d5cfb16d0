"""What saves memory or communication: activation checkpoints, sparse gradients, local steps; for every rank."""

from collections.abc import Callable

import numpy as np

import distgrad as dg
from distgrad import Tensor, nn, optim
from distgrad.parallel import (
    DistributedDataParallel,
    PeriodicModelAverager,
    PostLocalSGDOptimizer,
    ZeroRedundancyOptimizer,
)
from distgrad.utils.checkpoint import checkpoint
from tests.parallel.models import Dense, close, grads, loss, values, whole_batch
from tests.parallel.scenarios import backward, everyone, mine, place

SCENARIOS: list[Callable[[], None]] = []


def scenario(function: Callable[[], None]) -> Callable[[], None]:
    """Enters a function into the list of all."""
    SCENARIOS.append(function)
    return function


# ---- activation checkpoints ------------------------------------------------------------------------------------------


class Checkpointed(nn.Module):
    """Three layers, of which the first two are computed again in backward, the second inside the first's checkpoint."""

    def __init__(self, use: bool) -> None:
        super().__init__()
        self.a, self.b, self.c = Dense(5, 7), Dense(7, 7, 1), Dense(7, 3, 2)
        self.use = use

    def two(self, x: Tensor) -> Tensor:
        """The first two layers."""
        y = self.a(x)
        return checkpoint(self.b, y) if self.use else self.b(y)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return self.c(checkpoint(self.two, x) if self.use else self.two(x))


@scenario
def checkpoints_change_no_gradient() -> None:
    for overlap in (False, True):
        model, reference = (
            DistributedDataParallel(Checkpointed(use), bucket_cap_mb=1e-4, overlap=overlap) for use in (True, False)
        )
        calls: list[int] = []
        for p in model.parameters():
            p.register_post_accumulate_grad_hook(lambda p, calls=calls: calls.append(1))
        for step in range(3):
            for one in (model, reference):
                one.zero_grad()
                backward(one, whole_batch(step))
            assert close(grads(model.module), grads(reference.module), 0.0)
        assert len(calls) == 3 * 6


@scenario
def checkpoints_with_a_shared_out_optimizer() -> None:
    results = []
    for use in (True, False):
        model = DistributedDataParallel(Checkpointed(use))
        optimizer = ZeroRedundancyOptimizer(model.parameters(), optim.Adam, lr=0.05, shard_gradients=use)
        for step in range(4):
            optimizer.zero_grad()
            backward(model, whole_batch(step))
            optimizer.step()
        results.append([p.numpy(force=True).copy() for p in model.parameters()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@scenario
def a_gradient_penalty_through_a_checkpoint() -> None:
    def penalised(model: nn.Module, x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        (g,) = dg.autograd.grad(model(x).sum(), [x], create_graph=True)
        return (g * g).mean()  # type: ignore[no-any-return]

    model, reference = DistributedDataParallel(Checkpointed(True)), Checkpointed(False)
    x, _ = whole_batch()
    penalised(model, mine(x)).backward()
    penalised(reference, x).backward()
    assert close(grads(model.module), grads(reference))


# ---- sparse gradients ------------------------------------------------------------------------------------------------


class Words(nn.Module):
    """A table of words and a layer on them; `bags` adds up the words of each row; `tied` uses the table once more."""

    def __init__(self, sparse: bool, bags: bool = False, tied: bool = False) -> None:
        super().__init__()
        start = {"_weight": values(3, 11, 4)}
        self.table = (
            nn.EmbeddingBag(11, 4, sparse=sparse, **start) if bags else nn.Embedding(11, 4, sparse=sparse, **start)
        )
        self.top, self.tied = Dense(4, 3), tied

    def forward(self, words: Tensor) -> Tensor:
        y = self.table(words)
        y = y if y.ndim == 2 else y.sum(1)
        return self.top(y) + (self.table.weight[0, :3] * 0.1 if self.tied else 0.0)


def words(step: int) -> tuple[Tensor, Tensor]:
    """Word numbers (12, 2) and targets (12, 3)."""
    numbers = np.random.default_rng(step).integers(0, 9, (12, 2))
    return dg.tensor(numbers), values(step, 12, 3)


@scenario
def sparse_gradients_are_the_dense_ones() -> None:
    for bags in (False, True):
        sparse, dense = (DistributedDataParallel(Words(use, bags)) for use in (True, False))
        for step in range(3):
            for model in (sparse, dense):
                model.zero_grad()
                backward(model, words(step))
            grad = sparse.module.table.weight.grad
            assert grad.is_sparse and grad.is_coalesced()
            np.testing.assert_allclose(
                grad.to_dense().numpy(), dense.module.table.weight.grad.numpy(), rtol=1e-5, atol=1e-7
            )
            assert close(grads(sparse.module.top), grads(dense.module.top), 0.0)
            rows = (grad.indices().tolist(), grad.values().tolist())
            assert all(other == rows for other in everyone(rows))


@scenario
def training_with_sparse_gradients() -> None:
    for kind in (optim.SGD, optim.Adagrad):
        models = [DistributedDataParallel(Words(use)) for use in (True, False)]
        for model in models:
            optimizer = kind(model.parameters(), lr=0.1)
            for step in range(4):
                optimizer.zero_grad()
                backward(model, words(step))
                optimizer.step()
        for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
            np.testing.assert_allclose(p.numpy(force=True), q.numpy(force=True), rtol=1e-4, atol=1e-6)
        state = [p.numpy(force=True).tobytes() for p in models[0].parameters()]
        assert all(other == state for other in everyone(state))


@scenario
def a_table_that_some_ranks_use() -> None:
    rank, size = place()
    x = dg.tensor([[1, 2], [2, 2]])

    class Maybe(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.top = nn.Embedding(11, 4, sparse=True, _weight=values(3, 11, 4)), Dense(4, 3)

        def forward(self, x: Tensor | None) -> Tensor:
            return self.top(values(0, 2, 4) if x is None else self.table(x).sum(1))

    one = DistributedDataParallel(Maybe())
    one(x if rank == 0 else None).sum().backward()
    grad = one.module.table.weight.grad
    assert grad.indices().tolist() == [[1, 2]]
    alone = Maybe()
    alone(x).sum().backward()
    np.testing.assert_allclose(grad.to_dense().numpy(), alone.table.weight.grad.to_dense().numpy() / size, rtol=1e-6)
    one.zero_grad()
    one(None).sum().backward()
    assert one.module.table.weight.grad is None


@scenario
def sparse_gradients_that_are_accumulated_and_tied() -> None:
    for tied in (False, True):
        sparse, reference = DistributedDataParallel(Words(True, tied=tied)), Words(False, tied=tied)
        for model in (sparse, reference):
            for step in range(2):
                x, y = words(step)
                if model is sparse and step == 0:
                    with sparse.no_sync():
                        backward(sparse, (x, y))
                elif model is sparse:
                    backward(sparse, (x, y))
                else:
                    loss(model(x), y).backward()
        grad = sparse.module.table.weight.grad
        assert grad.is_sparse != tied
        found = grad.numpy() if tied else grad.to_dense().numpy()
        np.testing.assert_allclose(found, reference.table.weight.grad.numpy(), rtol=1e-4, atol=1e-6)


@scenario
def sparse_and_shared_out() -> None:
    model = DistributedDataParallel(Words(True))
    optimizer = ZeroRedundancyOptimizer(model.parameters(), optim.Adagrad, lr=0.1)
    backward(model, words(0))
    try:
        optimizer.step()
    except RuntimeError as error:
        assert "got a sparse gradient of shape [11, 4]" in str(error)
    else:
        raise AssertionError("a sparse gradient was shared out")


# ---- local steps -----------------------------------------------------------------------------------------------------


@scenario
def steps_apart_and_averages() -> None:
    net = Dense(5, 3)
    averager = PeriodicModelAverager(period=2, warmup_steps=1)
    optimizer = PostLocalSGDOptimizer(optim.SGD(net.parameters(), lr=0.1, momentum=0.9), averager)
    clock = optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    alike = []
    for step in range(4):
        optimizer.zero_grad()
        x, y = whole_batch(step)
        loss(net(mine(x)), mine(y)).backward()
        optimizer.step()
        clock.step()
        before = everyone(net.weight.tolist())
        alike.append(all(other == before[0] for other in before))
    assert alike == [False, True, False, True]  # steps are counted from 0: averages at 1 and 3
    state = optimizer.state_dict()
    assert state["step"] == 4 and state["param_groups"][0]["lr"] == 0.1 / 16
    again = PostLocalSGDOptimizer(optim.SGD(net.parameters(), lr=0.1, momentum=0.9), PeriodicModelAverager(2))
    again.load_state_dict(state)
    assert again.averager.step == 4 and again.param_groups[0]["lr"] == 0.1 / 16
    assert (
        again.state[net.weight]["momentum_buffer"].tolist() == optimizer.state[net.weight]["momentum_buffer"].tolist()
    )
