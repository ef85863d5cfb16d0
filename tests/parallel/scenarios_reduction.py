"""How gradients are reduced: during backward, by hooks, tuned, checked and counted."""

from typing import Any

import numpy as np

import distgrad as dg
from distgrad import Parameter, Tensor, comm
from distgrad.distributed.algorithms.ddp_comm_hooks import default_hooks, post_localSGD_hook, powerSGD_hook
from distgrad.errors import AutogradError
from distgrad.futures import Future
from distgrad.nn import Linear, Module, Sequential, Tanh
from distgrad.optim import SGD, Adam
from distgrad.parallel import DistributedDataParallel, GradBucket, PeriodicModelAverager
from distgrad.utils.checkpoint import checkpoint
from tests.parallel.models import IN, OUT, Net, close, grads, loss, values, whole_batch
from tests.parallel.scenarios import backward, everyone, large_batch_grads, mine, place, scenario

SMALL = 1e-4  # MiB: a bucket for each parameter


class Backwards(Module):
    """Uses its parameters in the order in which they are registered, from the last layer to the first."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.middle, self.first = Linear(IN, OUT), Linear(IN, IN), Linear(IN, IN)
        with dg.no_grad():
            for i, p in enumerate(self.parameters()):
                p.copy_(values(i, *p.shape) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.last(self.middle(self.first(x).tanh()).tanh())
        return result


# ---- during backward ---------------------------------------------------------------------------------------------


@scenario
def buckets_are_reduced_during_backward() -> None:
    model = DistributedDataParallel(Net(), bucket_cap_mb=SMALL, overlap=True)
    begun: list[int] = []
    reducer = model._reducer
    assert reducer is not None and reducer.overlap and len(reducer.spans) == 4
    launch = reducer._launch
    reducer._launch = lambda: (begun.append(reducer._queued), launch())  # type: ignore[assignment,func-returns-value]
    for step in range(3):
        backward(model, whole_batch(step))
        expected = large_batch_grads(Net(), whole_batch(step))
        assert close(grads(model.module), expected)
        model.zero_grad()
        if step == 0:
            assert begun == [True] * 4  # all before the end of backward
    assert model.get_ddp_logging_data()["num_buckets_reduced"] == 12


@scenario
def the_order_of_buckets_is_learnt() -> None:
    model, reference = DistributedDataParallel(Backwards(), bucket_cap_mb=SMALL, overlap=True), Backwards()
    optimizer, other = Adam(model.parameters(), 0.1), Adam(reference.parameters(), 0.1)
    for step in range(4):
        optimizer.zero_grad()
        other.zero_grad()
        backward(model, whole_batch(step))
        expected = large_batch_grads(reference, whole_batch(step))
        assert close(grads(model.module), expected, 1e-5)
        optimizer.step()
        other.step()
        assert model.get_ddp_logging_data()["has_rebuilt_buckets"] == (step > 0)
    assert model._reducer is not None
    first = [reducer_member.parameter for reducer_member in model._reducer.buckets[0].members]
    assert first[0] is model.module.last.weight or first[0] is model.module.last.bias
    for p, q in zip(model.parameters(), reference.parameters(), strict=True):
        assert np.allclose(p.numpy(force=True), q.numpy(force=True), rtol=1e-3, atol=1e-4)


@scenario
def unused_parameters_during_backward() -> None:
    rank, size = place()
    model = DistributedDataParallel(Net(), bucket_cap_mb=SMALL, overlap=True)
    for step in range(3):
        skips = rank == size - 1
        x = values(4 + step, 4, 7) if skips else values(3 + step, 4, IN)
        model(x, skip=skips).sum().backward()
        total: dict[str, Any] = {}
        for other in range(size):
            net = Net()
            net(values(4 + step, 4, 7) if other == size - 1 else values(3 + step, 4, IN), skip=other == size - 1)
            value = net(values(4 + step, 4, 7), skip=True) if other == size - 1 else net(values(3 + step, 4, IN))
            value.sum().backward()
            for name, g in grads(net).items():
                total[name] = total.get(name, 0) + (0 if g is None else g) / size
        assert close(grads(model.module), total, 1e-5)
        model.zero_grad()


@scenario
def a_parameter_that_comes_twice_is_named() -> None:
    model = DistributedDataParallel(Net(), bucket_cap_mb=SMALL, overlap=True)
    output = model(mine(whole_batch()[0])).sum()
    inner = model.module.second.bias.sum() * 2.0

    def again(_: Tensor) -> None:
        inner.backward()  # as a reentrant checkpoint does

    model.module.first.bias.register_post_accumulate_grad_hook(again)
    try:
        output.backward()
    except AutogradError as error:
        text = str(error)
    else:
        text = "no error"
    assert "'second.bias'" in text and "use_reentrant=False" in text, text


@scenario
def overlap_and_sizes_change_no_bit() -> None:
    start = Sequential(Linear(IN, 40), Tanh(), Linear(40, 40), Tanh(), Linear(40, OUT)).state_dict()

    def run(**options: Any) -> list[bytes]:
        module = Sequential(Linear(IN, 40), Tanh(), Linear(40, 40), Tanh(), Linear(40, OUT))
        module.load_state_dict(start)
        model = DistributedDataParallel(module, **options)
        optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
        for step in range(4):
            optimizer.zero_grad()
            backward(model, whole_batch(step))
            optimizer.step()
        return [p.numpy(force=True).tobytes() for p in model.parameters()]

    plain = run()
    if comm.get_default().sums_in_order:
        assert run(overlap=True) == plain
        assert run(overlap=True, bucket_cap_mb=0.002) == plain
        assert run(bucket_cap_mb="auto") == plain


@scenario
def tuning_decides_alike_everywhere() -> None:
    module = Sequential(Linear(600, 600), Tanh(), Linear(600, 600), Tanh(), Linear(600, 2))
    model = DistributedDataParallel(module, bucket_cap_mb="auto")
    x = values(1, 2, 600)
    for _ in range(60):
        model(x).sum().backward()
        model.zero_grad()
        if model.get_ddp_logging_data()["tuned"] is not None:
            break
    data = model.get_ddp_logging_data()
    assert data["tuned"] in data["tuning"] and len(data["tuning"]) == 2
    assert len(set(everyone((data["tuned"], tuple(data["tuning"].items()))))) == 1


@scenario
def activation_checkpointing() -> None:
    class Checkpointed(Net):
        def forward(self, x: Tensor, skip: bool = False) -> Tensor:
            hidden = checkpoint(self.first, x, use_reentrant=False)
            result: Tensor = checkpoint(self.second, hidden, use_reentrant=False)
            return result

    fired: list[int] = []
    for overlap in (False, True):
        model = DistributedDataParallel(Checkpointed(), bucket_cap_mb=SMALL, overlap=overlap)
        model.module.first.bias.register_post_accumulate_grad_hook(lambda p: fired.append(1))
        for step in range(2):
            backward(model, whole_batch(step))
            assert close(grads(model.module), large_batch_grads(Net(), whole_batch(step)))
            model.zero_grad()
    assert len(fired) == 4
    with model.no_sync():
        backward(model, whole_batch(0))
    backward(model, whole_batch(1))
    assert close(grads(model.module), large_batch_grads(Net(), whole_batch(0), whole_batch(1)))


# ---- hooks -------------------------------------------------------------------------------------------------------


def hooked(hook: Any, state: Any = None, **options: Any) -> DistributedDataParallel:
    """A model with a hook."""
    model = DistributedDataParallel(Net(), bucket_cap_mb=SMALL, **options)
    model.register_comm_hook(state, hook)
    return model


HOOKS: list[tuple[Any, float]] = [
    (default_hooks.allreduce_hook, 1e-6),
    (default_hooks.fp16_compress_hook, 2e-3),
    (default_hooks.fp16_compress_wrapper(default_hooks.allreduce_hook), 2e-3),
]
if dg.bfloat16 is not None:  # it needs ml_dtypes
    HOOKS += [
        (default_hooks.bf16_compress_hook, 2e-2),
        (default_hooks.bf16_compress_wrapper(default_hooks.allreduce_hook), 2e-2),
    ]


@scenario
def built_in_hooks() -> None:
    expected = large_batch_grads(Net(), whole_batch())
    for hook, tolerance in HOOKS:
        for overlap in (False, True):
            model = hooked(hook, overlap=overlap)
            for _ in range(2):
                backward(model, whole_batch())
                assert close(grads(model.module), expected, tolerance)
                model.zero_grad()


@scenario
def sixteen_bits_are_summed_in_thirty_two() -> None:
    rank, size = place()

    class One(Module):
        def __init__(self) -> None:
            super().__init__()
            self.p = Parameter(dg.zeros(64))

        def forward(self, x: Tensor) -> Tensor:
            return self.p * x

    kinds = [(default_hooks.fp16_compress_hook, dg.float16)]
    if dg.bfloat16 is not None:
        kinds.append((default_hooks.bf16_compress_hook, dg.bfloat16))
    for hook, kind in kinds:
        model = DistributedDataParallel(One())
        model.register_comm_hook(None, hook)
        inputs = [values(other, 64) * 3.0 for other in range(size)]
        model(inputs[rank]).sum().backward()
        mean = sum(x.to(kind).to(dg.float32) for x in inputs) / size
        assert dg.equal(model.module.p.grad, mean.to(kind).to(dg.float32))


@scenario
def a_hook_of_ones_own() -> None:
    seen: list[tuple[int, bool, int]] = []

    def hook(state: dict[str, int], bucket: GradBucket) -> Future[Tensor]:
        state["calls"] = state.get("calls", 0) + 1
        flat = bucket.buffer()
        members = bucket.gradients()
        assert [g.shape for g in members] == [p.shape for p in bucket.parameters()]
        assert flat.ndim == 1 and sum(g.numel() for g in members) <= flat.numel()
        seen.append((bucket.index(), bucket.is_last(), len(members)))
        flat /= comm.get_world_size()
        work = comm.all_reduce(flat, async_op=True)
        assert work is not None
        return work.get_future().then(lambda done: done.value()[0])

    state: dict[str, int] = {}
    model = hooked(hook, state)
    backward(model, whole_batch())
    assert close(grads(model.module), large_batch_grads(Net(), whole_batch()))
    assert state["calls"] == 4 and [entry[:2] for entry in seen] == [(0, False), (1, False), (2, False), (3, True)]
    try:
        model.register_comm_hook(None, hook)
    except RuntimeError as error:
        assert "only be called once" in str(error)
    else:
        raise AssertionError("two hooks were registered")


@scenario
def a_hook_may_return_another_tensor() -> None:
    def hook(state: None, bucket: GradBucket) -> Tensor:
        other = bucket.buffer().clone() * 0.0 + 2.0
        bucket.set_buffer(other)
        assert all((g.numpy() == 2).all() for g in bucket.gradients())
        return other

    model = hooked(hook)
    backward(model, whole_batch())
    assert all((g == 2).all() for g in grads(model.module).values())


@scenario
def hooks_and_unused_parameters() -> None:
    rank, _ = place()
    model = hooked(default_hooks.allreduce_hook)
    model(values(4, 4, 7), skip=True).sum().backward()
    assert model.module.first.weight.grad is None
    model.zero_grad()
    model(values(4, 4, 7) if rank else values(4, 4, IN), skip=bool(rank)).sum().backward()
    assert model.module.first.weight.grad is not None


@scenario
def power_sgd_of_full_rank_is_exact() -> None:
    expected = large_batch_grads(Net(), whole_batch())
    for hook in (powerSGD_hook.powerSGD_hook, powerSGD_hook.batched_powerSGD_hook):
        state = powerSGD_hook.PowerSGDState(
            None, matrix_approximation_rank=30, start_powerSGD_iter=2, min_compression_rate=0.01
        )
        model = DistributedDataParallel(Net())
        model.register_comm_hook(state, hook)
        for _ in range(4):
            backward(model, whole_batch())
            assert close(grads(model.module), expected, 1e-4)
            model.zero_grad()
        assert state.iter == 4 and state.compression_stats()[1] > 0


@scenario
def power_sgd_makes_up_for_what_it_left_out() -> None:
    class Matrix(Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = Parameter(dg.zeros(24, 16))
            self.b = Parameter(dg.zeros(16))

        def forward(self, x: Tensor) -> Tensor:
            return (self.w * x).sum() + (self.b * x[0]).sum()

    rank, size = place()
    gradient = values(rank, 24, 16)
    mean = sum(values(r, 24, 16) for r in range(size)) / size
    for feedback in (True, False):
        state = powerSGD_hook.PowerSGDState(None, 1, 2, use_error_feedback=feedback)
        model = DistributedDataParallel(Matrix())
        model.register_comm_hook(state, powerSGD_hook.powerSGD_hook)
        total, steps = dg.zeros(24, 16), 60
        for step in range(steps + 2):
            model(gradient).backward()
            assert np.allclose(model.module.b.grad.numpy(), mean[0].numpy(), atol=1e-5)
            if step >= 2:
                total += model.module.w.grad
            model.zero_grad()
        error = float(((total / steps - mean) ** 2).sum().sqrt() / (mean**2).sum().sqrt())
        assert (error < 0.2) == feedback, error
        assert len(set(everyone(total.numpy().tobytes()))) == 1
    assert state.compression_stats()[0] > 5


@scenario
def post_local_sgd() -> None:
    _rank, _size = place()
    state = post_localSGD_hook.PostLocalSGDState(None, None, start_localSGD_iter=2)
    model = hooked(post_localSGD_hook.post_localSGD_hook, state, static_graph=True)
    averager = PeriodicModelAverager(period=2, warmup_steps=2)
    optimizer = SGD(model.parameters(), lr=0.1)
    together = []
    for step in range(6):
        optimizer.zero_grad()
        backward(model, whole_batch(step))
        optimizer.step()
        averager.average_parameters(model.parameters())
        together.append(len(set(everyone(model.module.first.weight.numpy(force=True).tobytes()))) == 1)
    assert together == [True, True, True, False, True, False]


# ---- checks and counts -------------------------------------------------------------------------------------------


@scenario
def a_gradient_that_is_not_finite_is_named_everywhere() -> None:
    rank, size = place()
    model = DistributedDataParallel(Net(), check_for_nan=True)
    backward(model, whole_batch())
    model.zero_grad()
    x, y = whole_batch()
    output = model(mine(x))
    if rank == size - 1:
        output = output * float("inf")
    try:
        loss(output, mine(y)).backward()
    except AutogradError as error:
        text = str(error)
    else:
        text = "no error"
    assert f"rank {size - 1}: 'first.weight'" in text and "rank 0" not in text, text
    assert all(other == text for other in everyone(text))


@scenario
def what_reductions_cost() -> None:
    model = DistributedDataParallel(Net())
    for step in range(3):
        backward(model, whole_batch(step))
    data = model.get_ddp_logging_data()
    assert data == model._get_ddp_logging_data()
    assert data["world_size"] == place()[1] and data["rank"] == place()[0]
    assert data["iteration"] == data["num_buckets_reduced"] == 3
    (size,) = data["bucket_sizes"]
    assert data["bytes_reduced"] == 3 * size >= 3 * data["total_parameter_size_bytes"]
    assert 0 < data["seconds_waiting"] < 20 and 0 < data["avg_backward_comm_time"] < 20
    assert data["overlap_share"] < 1 and not data["overlap"] and data["tuned"] is None
