"""What must hold on a GPU beyond single operations: moving, creating, modules, optimizers, training, DDP, files.

Imported like `on_device`, with a fixture `device`.
"""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distgrad
from distgrad import Tensor, nn, optim
from distgrad.comm import run_threads
from distgrad.nn import functional as F
from distgrad.nn.parallel import DistributedDataParallel
from tests.optim.reference import CASES as OPTIMIZERS

Batch = tuple[Tensor, Tensor]


def numpy_of(t: Any) -> Any:
    """The values of a tensor on any device."""
    return t.detach().cpu().numpy()


def check_same(value: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> None:
    assert value.is_cuda and not wanted.is_cuda
    assert value.dtype == wanted.dtype and value.shape == wanted.shape
    np.testing.assert_allclose(numpy_of(value), numpy_of(wanted), rtol=tolerance, atol=tolerance)


# ---- making and moving -----------------------------------------------------------------------------------------------

CREATED: dict[str, Callable[[str], Tensor]] = {
    "tensor": lambda d: distgrad.tensor([[1.0, 2.0], [3.0, 4.0]], device=d),
    "as_tensor": lambda d: distgrad.as_tensor(np.arange(3), device=d),
    "zeros": lambda d: distgrad.zeros(2, 3, device=d),
    "ones": lambda d: distgrad.ones(2, 3, device=d, dtype=distgrad.int64),
    "full": lambda d: distgrad.full((2, 3), 2.5, device=d),
    "full of a tensor": lambda d: distgrad.full((2,), distgrad.tensor(3), device=d),
    "arange": lambda d: distgrad.arange(2, 9, 2, device=d),
    "arange of floats": lambda d: distgrad.arange(0.0, 1.0, 0.25, device=d),
    "linspace": lambda d: distgrad.linspace(0, 1, 7, device=d),
    "logspace": lambda d: distgrad.logspace(0, 2, 5, device=d),
    "eye": lambda d: distgrad.eye(3, 4, device=d),
    "tril_indices": lambda d: distgrad.tril_indices(3, 4, device=d),
    "triu_indices": lambda d: distgrad.triu_indices(4, 3, 1, device=d),
    "zeros_like": lambda d: distgrad.zeros_like(distgrad.ones(2, device=d)),
    "ones_like": lambda d: distgrad.ones_like(distgrad.zeros(2), device=d),
    "full_like": lambda d: distgrad.full_like(distgrad.zeros(2, device=d), 7),
    "new_tensor": lambda d: distgrad.zeros(2, device=d).new_tensor([1, 2]),
    "new_zeros": lambda d: distgrad.zeros(2, device=d).new_zeros(3),
    "new_full": lambda d: distgrad.zeros(2, device=d).new_full((3,), 4.0),
    "rand": lambda d: distgrad.rand(4, device=d),
    "randn": lambda d: distgrad.randn(2, 3, device=d),
    "randn in float64": lambda d: distgrad.randn(2, 3, device=d, dtype=distgrad.float64),
    "randint": lambda d: distgrad.randint(0, 9, (5,), device=d),
    "randperm": lambda d: distgrad.randperm(6, device=d),
    "rand_like": lambda d: distgrad.rand_like(distgrad.ones(3, device=d)),
    "randn_like": lambda d: distgrad.randn_like(distgrad.ones(3, device=d)),
    "normal": lambda d: distgrad.normal(distgrad.zeros(4, device=d), distgrad.ones(4, device=d)),
    "bernoulli": lambda d: distgrad.bernoulli(distgrad.full((9,), 0.5, device=d)),
    "multinomial": lambda d: distgrad.multinomial(distgrad.ones(2, 5, device=d), 2),
    "poisson": lambda d: distgrad.poisson(distgrad.full((5,), 3.0, device=d)),
    "normal_": lambda d: distgrad.empty(5, device=d).normal_(),
    "uniform_": lambda d: distgrad.empty(5, device=d).uniform_(-1, 1),
    "of a generator": lambda d: distgrad.randn(3, device=d, generator=distgrad.Generator(d).manual_seed(3)),
}


@pytest.mark.parametrize("name", CREATED)
def test_made_on_the_device(name: str, device: str) -> None:
    made = []
    for where in (device, "cpu"):
        distgrad.manual_seed(5)
        made.append(CREATED[name](where))
    check_same(made[0], made[1])


def test_tensors_move(device: str) -> None:
    host = distgrad.randn(2, 3, requires_grad=True)
    there = host.to(device)
    assert there.device.type == "cuda" and there.device.index is not None and there.is_cuda
    assert there.to(device) is there and host.to("cpu") is host
    assert host.cuda().device == there.device and there.get_device() == there.device.index
    (there * 2).sum().backward()
    assert host.grad is not None and not host.grad.is_cuda
    assert (numpy_of(host.grad) == 2).all()
    assert there.to(distgrad.float64).dtype == distgrad.float64
    assert there.to("cpu", distgrad.float64).device.type == "cpu"
    assert distgrad.zeros(1).to(there).is_cuda
    base = distgrad.arange(6.0).reshape(2, 3).t().to(device)
    assert base.tolist() == [[0, 3], [1, 4], [2, 5]]


def test_values_reach_the_host_only_on_request(device: str) -> None:
    t = distgrad.arange(3.0, device=device)
    with pytest.raises(TypeError, match=r"use tensor\.cpu\(\) first"):
        t.numpy()
    with pytest.raises(TypeError, match=r"use tensor\.cpu\(\) first"):
        np.asarray(t)
    assert t.tolist() == [0, 1, 2] and float(t[1]) == 1 and t.sum().item() == 3 and bool(t[1] == 1)
    assert t.numpy(force=True).tolist() == [0, 1, 2] and [float(v) for v in t] == [0, 1, 2]
    assert "device='cuda:" in repr(t) and t.data_ptr() > 0
    assert t.__cuda_array_interface__["shape"] == (3,)
    with pytest.raises(AttributeError, match="on the CPU"):
        _ = t.cpu().__cuda_array_interface__
    assert len(t) == 3 and f"{t[2]:.1f}" == "2.0"


def test_a_missing_device_is_an_error(device: str) -> None:
    with pytest.raises(distgrad.errors.DeviceError, match="expected a number below"):
        distgrad.zeros(2, device="cuda:99")


def test_views_and_writes(device: str) -> None:
    found = []
    for where in (device, "cpu"):
        x = distgrad.arange(12.0, device=where).reshape(3, 4)
        x[1] = -1
        x[:, 0] *= 3
        x[x > 8] += 0.5
        x[distgrad.tensor([0, 2], device=where), [1, 2]] = distgrad.tensor([70.0, 80.0], device=where)
        x[0, 3].add_(5)
        x.t()[2].mul_(2)
        x += 1
        x.index_add_(0, distgrad.tensor([0, 0], device=where), distgrad.ones(2, 4, device=where))
        found.append(x)
    check_same(*found)
    with pytest.raises(distgrad.errors.AutogradError, match="expanded"):
        distgrad.zeros(1, device=device).expand(3).add_(1)


def test_writes_are_differentiated(device: str) -> None:
    found = []
    for where in (device, "cpu"):
        leaf = distgrad.arange(6.0, device=where).requires_grad_()
        x = leaf * 2
        view = x[1:4]
        view.mul_(leaf[:3])
        x[0] = leaf[5]
        (view.sum() * x).sum().backward()
        found.append(leaf.grad)
    check_same(found[0], found[1])


# ---- modules and optimizers ------------------------------------------------------------------------------------------


def digits_net() -> nn.Module:
    """The network of examples/digits.py, smaller."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(6 * 4 * 4, 12), nn.ReLU(), nn.Dropout(0.1), nn.Linear(12, 10),
    )  # fmt: skip


class GPT(nn.Module):
    """One block of a small GPT."""

    def __init__(self, width: int = 8, heads: int = 2, vocabulary: int = 11, context: int = 6) -> None:
        super().__init__()
        self.heads = heads
        self.token, self.position = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width), nn.Dropout(0.1))
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, text: Tensor) -> Tensor:
        x = self.token(text) + self.position(distgrad.arange(text.shape[1], device=text.device))
        b, t, width = x.shape
        q, k, v = (
            part.view(b, t, self.heads, width // self.heads).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).split(width, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, width))
        return self.head(x + self.mlp(self.norm2(x))).transpose(1, 2)  # type: ignore[no-any-return]


class Sequences(nn.Module):
    """Two recurrent layers in both directions, then group norm and a 1-d convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, num_layers=2, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(8, 6, batch_first=True)
        self.norm, self.conv = nn.GroupNorm(2, 6), nn.Conv1d(6, 5, 2)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.gru(self.lstm(x)[0])
        return self.conv(self.norm(y.transpose(1, 2))).mean(2)  # type: ignore[no-any-return]


def _random(*shape: int) -> Tensor:
    return distgrad.tensor(np.random.default_rng(9).standard_normal(shape).astype(np.float32))


def _integers(high: int, *shape: int) -> Tensor:
    return distgrad.tensor(np.random.default_rng(9).integers(0, high, shape))


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Batch]]] = {
    "digits": (digits_net, lambda: (_random(6, 1, 8, 8), _integers(10, 6))),
    "gpt": (GPT, lambda: (_integers(11, 2, 6), _integers(11, 2, 6))),
    "sequences": (Sequences, lambda: (_random(4, 5, 3), _integers(5, 4))),
    "transformer": (
        lambda: nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Flatten(), nn.Linear(40, 3)),
        lambda: (_random(4, 5, 8), _integers(3, 4)),
    ),
}


def train(name: str, where: str, steps: int = 2, make: Any = None) -> tuple[nn.Module, list[float]]:
    """Trains a model for some steps from a fixed seed; the model and its losses."""
    build, data = MODELS[name]
    distgrad.manual_seed(1)
    model = build()
    model.to(where)
    x, y = (t.to(where) for t in data())
    optimizer = (make or (lambda p: optim.AdamW(p, lr=1e-2, eps=1e-3)))(model.parameters())
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss)
    return model, [float(v) for v in losses]


@pytest.mark.parametrize("name", MODELS)
def test_training(name: str, device: str) -> None:
    model, losses = train(name, device)
    reference, wanted = train(name, "cpu")
    np.testing.assert_allclose(losses, wanted, rtol=1e-4)
    for (key, value), (other, expected) in zip(model.state_dict().items(), reference.state_dict().items(), strict=True):
        assert key == other
        check_same(value, expected, 1e-4)
    model.eval(), reference.eval()
    x = MODELS[name][1]()[0]
    check_same(model(x.to(device)), reference(x), 1e-3)


def test_modules_move_as_a_whole(device: str) -> None:
    net = digits_net()
    parameters = list(net.parameters())
    assert net.to(device) is net
    assert [id(p) for p in net.parameters()] == [id(p) for p in parameters], "parameters keep their identity"
    assert all(t.is_cuda for t in net.state_dict().values()), "buffers move, too"
    assert all(p.requires_grad and p.is_leaf for p in net.parameters())
    net(_random(2, 1, 8, 8).to(device)).sum().backward()
    assert all(p.grad is not None and p.grad.is_cuda for p in net.parameters())
    net.cpu()
    assert not any(t.is_cuda for t in net.state_dict().values())
    assert all(p.grad is None or not p.grad.is_cuda for p in net.parameters())


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
def test_optimizer(name: str, options: dict[str, Any], device: str) -> None:
    found = []
    for where in (device, "cpu"):
        net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        net.load_state_dict({k: _random(*v.shape) for k, v in net.state_dict().items()})
        net.to(where)
        optimizer = getattr(optim, name)(net.parameters(), lr=0.01, **options)
        for _ in range(3):
            optimizer.zero_grad()
            net(_random(5, 3).to(where)).square().sum().backward()
            optimizer.step()
        again = getattr(optim, name)(net.parameters(), lr=0.01, **options)
        again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        again.step()
        found.append(list(net.parameters()))
    for value, wanted in zip(*found, strict=True):
        check_same(value, wanted, 1e-4)


@pytest.mark.parametrize("name", ["LBFGS", "Muon", "Adafactor"])
def test_optimizer_of_matrices(name: str, device: str) -> None:
    found = []
    for where in (device, "cpu"):
        weight = nn.Parameter(_random(4, 3).to(where))
        optimizer = getattr(optim, name)([weight], lr=0.01)

        def closure(weight: Any = weight, optimizer: Any = optimizer, where: str = where) -> Tensor:
            optimizer.zero_grad()
            loss: Tensor = (_random(5, 4).to(where) @ weight).square().sum()
            loss.backward()
            return loss

        for _ in range(3):
            optimizer.step(closure)
        found.append(weight)
    check_same(found[0], found[1], 1e-3)


# ---- copies, files and ranks -----------------------------------------------------------------------------------------


def test_copies_and_pickles(device: str) -> None:
    net, _ = train("digits", device, steps=1)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True):
            assert b.is_cuda and np.array_equal(numpy_of(a), numpy_of(b))


def test_files(device: str, tmp_path: Path) -> None:
    net, _ = train("digits", device, steps=1)
    distgrad.save(net.state_dict(), tmp_path / "net.dg")
    there, here = distgrad.load(tmp_path / "net.dg"), distgrad.load(tmp_path / "net.dg", map_location="cpu")
    assert all(t.is_cuda for t in there.values()) and not any(t.is_cuda for t in here.values())
    fresh = digits_net().to(device)
    fresh.load_state_dict(here)
    assert all(t.is_cuda for t in fresh.state_dict().values())
    for a, b in zip(net.state_dict().values(), fresh.state_dict().values(), strict=True):
        assert np.array_equal(numpy_of(a), numpy_of(b))


def ddp_step(device: str) -> list[Any]:
    """The parameters after two steps of data-parallel training; each rank has its half of the batch."""
    net = nn.Sequential(nn.Linear(3, 8), nn.SyncBatchNorm(8), nn.Tanh(), nn.Linear(8, 2))
    values = {k: _random(*v.shape).abs() if v.is_floating_point() else v for k, v in net.state_dict().items()}
    net.load_state_dict(values)
    net.to(device)
    model = DistributedDataParallel(net)
    optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    rank, size = distgrad.distributed.get_rank(), distgrad.distributed.get_world_size()
    x = _random(8, 3).to(device).chunk(size)[rank]
    for _ in range(2):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    assert all(p.is_cuda == (device != "cpu") for p in net.parameters())
    return [numpy_of(t) for t in net.state_dict().values()]


def test_ddp_on_threads(device: str) -> None:
    distgrad.zeros(1, device=device)  # the backend is made by this thread
    found, wanted = run_threads(2, lambda: ddp_step(device), timeout=60.0), ddp_step("cpu")
    for rank in found:
        for value, expected in zip(rank, wanted, strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


def test_collectives_on_threads(device: str) -> None:
    dist = distgrad.distributed

    def on_rank() -> list[Any]:
        rank = dist.get_rank()
        x = distgrad.full((3,), float(rank + 1), device=device)
        total = x.clone()
        dist.all_reduce(total)
        parts = [distgrad.zeros(3, device=device) for _ in range(2)]
        dist.all_gather(parts, x)
        copied = x.clone()
        dist.broadcast(copied, 1)
        return [t.tolist() for t in (total, *parts, copied)]

    distgrad.zeros(1, device=device)
    assert run_threads(2, on_rank, timeout=60.0) == [[[3.0] * 3, [1.0] * 3, [2.0] * 3, [2.0] * 3]] * 2
