"""Logical shards: gradients, buffers and random numbers are the same on any number of ranks, to the last bit."""

from typing import Any

import numpy as np
import pytest

import distgrad
from distgrad import nn, optim
from distgrad.comm import get_default
from distgrad.comm._threads import run_threads
from distgrad.errors import AutogradError, CommError
from distgrad.nn import functional as F
from distgrad.nn.parallel import DistributedDataParallel
from distgrad.parallel import ZeroRedundancyOptimizer, _tree_sum
from distgrad.parallel._tree_sum import TreeSum, sum_of_blocks
from distgrad.utils.data import DataLoader, TensorDataset

rng = np.random.default_rng(0)
X, Y = rng.standard_normal((44, 6)).astype(np.float32), rng.integers(0, 3, 44)
X[:, 0] += np.arange(44)  # shards differ in what batch normalisation sees


class Net(nn.Module):
    """With batch normalisation, and with a layer that only samples of one class use."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Linear(16, 3)
        self.rare, self.never = nn.Linear(6, 16), nn.Linear(6, 16)
        generator = np.random.default_rng(1)
        with distgrad.no_grad():
            for p in self.parameters():
                p.copy_(distgrad.tensor(generator.standard_normal(p.shape).astype(np.float32) * 0.3))

    def forward(self, x: Any) -> Any:
        y = self.norm(self.first(x))
        if float(x[:, 1].max()) > 1.8:
            y = y + self.rare(x)
        return self.last(F.relu(y))


def train(
    steps: int = 5, shards: int = 8, batch: int = 20, accumulate: bool = False, zero: bool = False
) -> tuple[str, Any]:
    data = TensorDataset(distgrad.from_numpy(X), distgrad.from_numpy(Y))
    loader: Any = DataLoader(data, batch_size=batch, shuffle=True, logical_shards=shards)
    model = DistributedDataParallel(Net(), logical_shards=shards)
    optimizer: Any = optim.AdamW(model.parameters(), lr=0.01)
    if zero:
        optimizer = ZeroRedundancyOptimizer(model.parameters(), optim.AdamW, lr=0.01)
    done = 0
    while done < steps:
        for step in loader.steps():
            for x, y in step:
                F.cross_entropy(model(x), y).backward()
            done += 1
            if not accumulate or done % 2 == 0:
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
            if done == steps:
                break
    return distgrad.fingerprint(model) if zero else distgrad.fingerprint(model, optimizer), model


def hashes(ranks: int, **options: Any) -> set[str]:
    return set(run_threads(ranks, lambda: train(**options)[0]))


@pytest.mark.parametrize(
    "options",
    [{}, {"shards": 5}, {"batch": 7}, {"batch": 3}, {"accumulate": True}, {"shards": 16, "steps": 2}, {"zero": True}],
    ids=str,
)
def test_any_number_of_ranks(options: dict[str, Any]) -> None:
    expected = train(**options)[0]
    for ranks in (1, 2, 3, 4, 5):
        assert hashes(ranks, **options) == {expected}, ranks


def test_sharded_optimizer_state_changes_no_bit() -> None:
    plain = distgrad.fingerprint(train()[1])
    assert hashes(3, zero=True) == {plain}


def test_other_programs_have_other_hashes() -> None:
    variants: list[dict[str, Any]] = [{}, {"shards": 4}, {"batch": 21}, {"steps": 6}]
    assert len({train(**options)[0] for options in variants}) == len(variants)


def test_a_broken_order_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    def add_in_order(self: TreeSum, weight: float) -> None:
        self._added += 1
        if self._added == 1:
            self._waiting = [np.zeros_like(self._array)]
        total = self._waiting[0]
        total += self._array * np.float32(weight)
        if self._added == self._leaves:
            self._array[...] = total

    expected = train()[0]
    assert hashes(2) == {expected}
    monkeypatch.setattr(_tree_sum.TreeSum, "add", add_in_order)
    assert train()[0] not in hashes(2)


def test_gradients_are_those_of_the_whole_batch() -> None:
    x, y = distgrad.from_numpy(X), distgrad.from_numpy(Y)

    def plain() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))

    body = plain()
    model = DistributedDataParallel(body, logical_shards=8)
    loader: Any = DataLoader(TensorDataset(x, y), batch_size=44, logical_shards=8)
    for step in loader.steps():
        assert len(step) == 8
        for a, b in step:
            F.cross_entropy(model(a), b).backward()
    found = [p.grad.numpy().copy() for p in body.parameters()]
    body.zero_grad()
    F.cross_entropy(body(x), y).backward()
    for a, p in zip(found, body.parameters(), strict=True):
        np.testing.assert_allclose(a, p.grad.numpy(), rtol=2e-5, atol=1e-7)


def test_unused_parameters_keep_no_gradient() -> None:
    model = train(accumulate=True, steps=1)[1]
    assert model.module.never.weight.grad is None
    assert model.module.first.weight.grad is not None


def test_running_statistics_are_means_over_samples() -> None:
    model = train(steps=1, batch=20, shards=4)[1]
    norm = model.module.norm
    assert int(norm.num_batches_tracked) == 1
    order = np.random.Generator(np.random.Philox(key=np.array([0, 0], np.uint64))).permutation(44)[:20]
    fresh = Net()
    values = fresh.first(distgrad.from_numpy(X[order])).detach().numpy()
    parts = values.reshape(4, 5, 16)
    np.testing.assert_allclose(norm.running_mean.numpy(), 0.1 * parts.mean(axis=(0, 1)), rtol=1e-4, atol=1e-6)
    unbiased = parts.var(axis=1, ddof=1).mean(axis=0)
    np.testing.assert_allclose(norm.running_var.numpy(), 0.9 + 0.1 * unbiased, rtol=1e-4)


def test_evaluation_leaves_statistics_alone() -> None:
    model = train(steps=1)[1]
    before = model.module.norm.running_mean.numpy().copy()
    model.eval()
    loader: Any = DataLoader(TensorDataset(distgrad.from_numpy(X)), batch_size=20, logical_shards=8)
    for step in loader.steps():
        for (x,) in step:
            model(x)
    assert np.array_equal(model.module.norm.running_mean.numpy(), before)


def test_each_rank_works_on_its_own_shards_only() -> None:
    def count() -> tuple[int, int]:
        calls = 0
        data = TensorDataset(distgrad.from_numpy(X))
        loader: Any = DataLoader(data, batch_size=44, logical_shards=8)
        model = DistributedDataParallel(Net(), logical_shards=8)
        for step in loader.steps():
            for (x,) in step:
                calls += 1
                model(x).sum().backward()
        return get_default().rank, calls

    assert run_threads(3, count) == [(0, 4), (1, 2), (2, 2)]


def test_random_numbers_follow_from_the_shard() -> None:
    def draw() -> list[np.ndarray]:
        distgrad.manual_seed(3)
        loader: Any = DataLoader(TensorDataset(distgrad.from_numpy(X)), batch_size=22, logical_shards=4)
        found = []
        for step in loader.steps():
            for _ in step:
                found.append(F.dropout(distgrad.ones(50), 0.5).numpy())
                distgrad.rand(len(found))  # moves nothing in the next shard
        return found

    first = draw()
    assert len({x.tobytes() for x in first}) == 8  # 2 steps of 4 shards, all different
    assert all(np.array_equal(a, b) for a, b in zip(first, draw(), strict=True))
    distgrad.manual_seed(3)
    outside = distgrad.rand(4).numpy()
    distgrad.manual_seed(3)
    loader: Any = DataLoader(TensorDataset(distgrad.from_numpy(X)), batch_size=22, logical_shards=4)
    for step in loader.steps():
        for _ in step:
            distgrad.rand(7)
    assert np.array_equal(distgrad.rand(4).numpy(), outside)  # the main stream has not moved


def test_a_shard_of_one_sample_has_a_defined_normalisation() -> None:
    assert np.isfinite(train(batch=8, shards=8, steps=2)[1].module.norm.running_var.numpy()).all()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        nn.BatchNorm1d(3)(distgrad.zeros(1, 3))


def test_shards_of_model_and_loader_must_agree() -> None:
    model = DistributedDataParallel(Net(), logical_shards=4)
    loader: Any = DataLoader(TensorDataset(distgrad.from_numpy(X)), batch_size=22)
    with pytest.raises(ValueError, match=r"logical_shards=4 for Dist.*logical_shards=8 for DataLoader"):
        for step in loader.steps():
            for (x,) in step:
                model(x)


def test_training_outside_of_a_step_is_an_error() -> None:
    model = DistributedDataParallel(Net(), logical_shards=4)
    with pytest.raises(AutogradError, match=r"within `for batch in step`"):
        model(distgrad.zeros(4, 6))
    with distgrad.no_grad():
        model(distgrad.zeros(4, 6))


def test_a_step_that_is_left_early_is_an_error() -> None:
    loader: Any = DataLoader(TensorDataset(distgrad.from_numpy(X)), batch_size=22)
    with pytest.raises(RuntimeError, match="run to its end"):
        for step in loader.steps():
            for _ in step:
                break


def test_more_ranks_than_shards() -> None:
    with pytest.raises(CommError, match="at least as many logical shards as ranks"):
        run_threads(3, lambda: DistributedDataParallel(Net(), logical_shards=2))


def test_sync_batchnorm_is_refused() -> None:
    with pytest.raises(AutogradError, match="SyncBatchNorm"):
        DistributedDataParallel(nn.Sequential(nn.Linear(2, 2), nn.SyncBatchNorm(2)), logical_shards=4)


@pytest.mark.parametrize("leaves", [1, 2, 4, 16])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_tree_sum_of_leaves(leaves: int, dtype: Any) -> None:
    values = np.random.default_rng(2).standard_normal((leaves, 70_001)).astype(dtype)
    weights = np.random.default_rng(3).uniform(0.1, 1, leaves)

    def below(start: int, stop: int) -> Any:
        middle = (start + stop) // 2
        if stop - start == 1:
            return values[start] * dtype(weights[start])
        return below(start, middle) + below(middle, stop)

    array = np.empty(values.shape[1], dtype)
    total = TreeSum(array, leaves)
    for _ in range(2):  # it can begin again
        total.restart()
        for value, weight in zip(values, weights, strict=True):
            array[...] = value
            total.add(weight)
        assert np.array_equal(array, below(0, leaves))


def test_the_sum_of_blocks_that_lie_anywhere() -> None:
    values = np.random.default_rng(2).standard_normal((8, 50)).astype(np.float32)
    array, whole = np.empty(50, np.float32), np.empty(50, np.float32)

    def part(leaves: range) -> Any:
        total, result = TreeSum(array := np.empty(50, np.float32), len(leaves), keep := np.empty(50, np.float32)), keep
        for number in leaves:
            array[...] = values[number]
            total.add(0.3)
        assert total.is_complete and (array == keep).all()
        return result

    total = TreeSum(array, 8, whole)
    for row in values:
        array[...] = row
        total.add(0.3)
    blocks = [(range(4), 2), (range(4, 5), 0), (range(5, 6), 1), (range(6, 8), 0)]

    def on_a_rank() -> bytes:
        group = get_default()
        mine = {leaves: part(leaves) for leaves, rank in blocks if rank == group.rank}
        return bytes(sum_of_blocks(group, blocks, mine, array))

    assert set(run_threads(3, on_a_rank)) == {bytes(whole)}
