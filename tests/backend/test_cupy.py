"""The CuPy backend on the stand-in for CuPy: kernels, operations, modules, optimizers, training."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import distgrad
from distgrad import cuda
from distgrad.backend import CPU, Kernels, cuda_backend
from distgrad.backend._cupy import _load
from distgrad.nn import functional as F
from tests.backend import cuda_on_host, fake_cupy
from tests.backend.kernel_cases import CASES, KernelCase
from tests.backend.on_device import *  # noqa: F403 - the tests themselves
from tests.backend.on_device import check_kernel, check_operation
from tests.backend.on_device_training import *  # noqa: F403
from tests.backend.on_device_training import digits_net
from tests.jobs import installed_mpis, run_job
from tests.ops.samples import Array, Samples, call
from tests.ops.test_registry import SPECS, Case


@pytest.fixture
def device() -> Iterator[str]:
    with fake_cupy.installed():
        yield "cuda"


# ---- what only the stand-in can tell ---------------------------------------------------------------------------------


def _families() -> list[str]:
    return [name for name, value in vars(Kernels).items() if isinstance(value, property)]


def _methods(family: str) -> dict[str, Any]:
    protocol = getattr(Kernels, family).fget.__annotations__["return"]
    return {name: f for name, f in vars(protocol).items() if inspect.isfunction(f) and not name.startswith("_")}


def test_every_kernel_has_a_case() -> None:
    wanted = {f"{family}.{name}" for family in _families() for name in _methods(family)}
    assert sorted(wanted - {f"{c.family}.{c.method}" for c in CASES}) == []


@pytest.mark.parametrize("family", _families())
def test_kernels_take_the_protocols_arguments(family: str, device: str) -> None:
    backend = cuda_backend()
    assert backend is not None
    for name, function in _methods(family).items():
        wanted = list(inspect.signature(function).parameters)[1:]
        for kernels in (backend.kernels, CPU.kernels):
            assert list(inspect.signature(getattr(getattr(kernels, family), name)).parameters) == wanted


def test_a_step_hardly_waits_for_the_device(device: str) -> None:
    """One check of the targets, and nothing else, until the loss is asked for."""
    net = digits_net().to(device)
    optimizer = distgrad.optim.AdamW(net.parameters(), lr=1e-3)
    x, y = distgrad.randn(4, 1, 8, 8, device=device), distgrad.randint(0, 10, (4,), device=device)
    for _ in range(2):
        optimizer.zero_grad()
        before = fake_cupy.state.syncs
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        assert fake_cupy.state.syncs - before <= 1
    assert loss.item() > 0


@pytest.mark.parametrize("norm_type", [2.0, 1.0, float("inf")])
def test_clipping_waits_once_for_the_norm(norm_type: float, device: str) -> None:
    """And once more for the copy of it that it returns, however many parameters there are."""
    waits = []
    for count in (2, 9):
        params = [distgrad.nn.Parameter(distgrad.ones(3, device=device)) for _ in range(count)]
        for p in params:
            p.grad = distgrad.full_like(p, 2.0)
        before = fake_cupy.state.syncs
        total = distgrad.nn.utils.clip_grad_norm_(params, 1.0, norm_type)
        waits.append(fake_cupy.state.syncs - before)
        assert total.is_cuda
    assert waits[0] == waits[1] <= 2


@pytest.mark.skipif(cuda_on_host.compiler() is None, reason="no C++ compiler to run CUDA kernels on the CPU")
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_optimizers_run_as_one_kernel(dtype: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[str] = []
    right = cuda_on_host.launch

    def launch(source: str, name: str, *rest: Any) -> None:
        launched.append(name)
        right(source, name, *rest)

    monkeypatch.setattr(cuda_on_host, "launch", launch)
    weight = distgrad.nn.Parameter(distgrad.ones(1000, device=device).to(getattr(distgrad, dtype)))
    for optimizer in (distgrad.optim.SGD([weight], lr=0.5), distgrad.optim.AdamW([weight], lr=0.25, weight_decay=0)):
        weight.grad = distgrad.full_like(weight, 0.5)
        optimizer.step()
    assert launched == ["sgd", "adam"]
    np.testing.assert_allclose(weight.float().tolist(), 1 - 0.25 - 0.25, rtol=1e-2)


def test_the_second_device(device: str) -> None:
    t = distgrad.ones(2, device="cuda:1")
    assert str(t.device) == "cuda:1" and str(t.to("cuda").device) == "cuda:0" and t.to("cuda:1") is t
    assert str(distgrad.nn.Linear(2, 2).to("cuda:1").weight.device) == "cuda:1"
    with cuda.device(1):
        assert cuda.current_device() == 1
        assert str(distgrad.zeros(2, device="cuda").device) == "cuda:0", "a bare cuda is this rank's own"
    assert cuda.current_device() == 0


def test_cuda_functions(device: str) -> None:
    assert cuda.is_available() and cuda.device_count() == 2 and cuda.get_device_name() == "stand-in"
    cuda.set_device("cuda:1")
    assert cuda.current_device() == 1
    cuda.synchronize()
    cuda.empty_cache()
    assert 0 < cuda.memory_allocated() <= cuda.memory_reserved()
    assert cuda.is_initialized() and cuda.get_device_capability() == (9, 0)
    assert cuda.mem_get_info("cuda:1") == (1 << 20, 1 << 30)
    cuda.manual_seed_all(3)
    first = distgrad.randn(3, device=device)
    distgrad.manual_seed(3)
    assert first.tolist() == distgrad.randn(3).tolist()


WAYS = {"staged": "staged through pinned memory of the group", "nccl": "NCCL 2.27.7", "mpi": "CUDA-aware MPI"}


@pytest.mark.parametrize(
    ("nodes", "pairs"),
    [("", ["shm staged", "mpi staged", "shm nccl", "mpi mpi"]), ("2x1", ["hierarchical staged"])],
    ids=["one node", "two nodes"],
)
def test_ddp_between_processes(nodes: str, pairs: list[str]) -> None:
    """Two ranks with a device each, whose queues run late."""
    if not installed_mpis():
        pytest.skip("no mpirun beside this Python; install distgrad[mpich]")
    names = " ".join(pairs).split()
    command = installed_mpis()[0].job(2, "-m", "tests.backend.ddp_job", "stand-in", *names)
    outcome = run_job(command, deadline=300.0, environment={"DISTGRAD_TOPOLOGY": nodes} if nodes else {})
    assert outcome.code == 0 and outcome.output.count("all is well") == 2 * len(pairs), outcome.output
    for way, words in WAYS.items():
        assert outcome.output.count(words) == 2 * names[1::2].count(way)


NEVER_DESTROYED = """
import time
from tests.backend import fake_cupy
installed = fake_cupy.installed(late=True)
installed.__enter__()
import distgrad
from distgrad import comm
comm.init_process_group("nccl")
x = distgrad.ones(3, device="cuda")
comm.all_reduce(x)
if comm.get_rank() == 1:
    time.sleep(1.5)
    assert x.tolist() == [2, 2, 2]
print(comm.get_backend(), "has ended", flush=True)
"""


def test_a_program_that_ends_without_destroying_nccl() -> None:
    """The rank that ends first, before its last operation has run, still does its part."""
    if not installed_mpis():
        pytest.skip("no mpirun beside this Python; install distgrad[mpich]")
    outcome = run_job(installed_mpis()[0].job(2, "-c", NEVER_DESTROYED), deadline=60.0)
    assert outcome.code == 0 and outcome.output.count("nccl has ended") == 2, outcome.output
    assert "aborted" not in outcome.output and not outcome.left


def test_attention_in_parts(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distgrad.backend._cupy._attention._SCORES", 1)
    for case in CASES:
        if case.family == "attention":
            check_kernel(case, cuda_backend(), device)


def test_a_singular_matrix_is_an_error(device: str) -> None:
    with pytest.raises(RuntimeError, match="Singular"):
        distgrad.linalg.inv(distgrad.zeros(2, 2, device=device))


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_cupy.installed() as cupy:
        monkeypatch.setattr(cupy, "is_available", lambda: False)
        assert not cuda.is_available() and cuda.device_count() == 0
        with pytest.raises(distgrad.errors.DeviceError, match="no usable NVIDIA GPU and driver"):
            distgrad.ones(2).to("cuda")
    monkeypatch.setitem(fake_cupy.sys.modules, "cupy", None)
    _load._find.cache_clear()
    with pytest.raises(distgrad.errors.DeviceError, match=r"pip install 'distgrad\[cuda\]'"):
        distgrad.zeros(2, device="cuda")
    monkeypatch.undo()
    _load._find.cache_clear()


# ---- the stand-in and the checkers notice planted bugs ---------------------------------------------------------------


def _plant(monkeypatch: pytest.MonkeyPatch, family: str, method: str, function: Callable[..., Any]) -> KernelCase:
    backend = cuda_backend()
    assert backend is not None
    kernels = getattr(backend.kernels, family)
    right = getattr(kernels, method)
    monkeypatch.setattr(kernels, method, lambda *args: function(right, *args))
    return next(c for c in CASES if (c.family, c.method) == (family, method))


PLANTED: dict[str, Callable[..., Any]] = {
    "numpy's function": lambda right, x: np.tanh(x),
    "conversion to numpy": lambda right, x: np.asarray(x),
    "an array of the host in an operation": lambda right, x: right(x) + np.zeros(x.shape, x.dtype),
    "an array of the host in a function": lambda right, x: fake_cupy.cupy.maximum(x, np.zeros(x.shape, x.dtype)),
    "a function that CuPy lacks": lambda right, x: fake_cupy.cupy.vecdot(x, x),
    "an argument that CuPy lacks": lambda right, x: fake_cupy.cupy.exp(x, where=x > 0),
    "a method's argument that CuPy lacks": lambda right, x: x.max(axis=0, initial=0),
    "a method of a ufunc that CuPy lacks": lambda right, x: fake_cupy.cupy.maximum.accumulate(x, axis=0),
    "a flag that CuPy lacks": lambda right, x: x if x.flags.writeable else right(x),
    "a result on the host": lambda right, x: right(x).get(),
    "a wrong value": lambda right, x: right(x) * 1.01,
    "a wrong dtype": lambda right, x: right(x).astype("float16"),
    "a changed argument": lambda right, x: (right(x), x.fill(0))[0],
}


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_in_a_kernel_is_noticed(bug: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = cuda_backend()
    case = _plant(monkeypatch, "special", "erf", PLANTED[bug])
    with pytest.raises((TypeError, AttributeError, NotImplementedError, AssertionError)):
        check_kernel(case, backend, device)
    monkeypatch.undo()
    check_kernel(case, backend, device)


class _OnTheHost(distgrad.autograd._op.Op):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return np.square(ctx.backend.to_numpy(x))

    @staticmethod
    def backward(xp: Any, ctx: Any, g: Any) -> Any:
        return g


def test_a_planted_bug_in_an_operation_is_noticed(device: str) -> None:
    sample = call(Array(2, 3))
    for function in (
        lambda x: distgrad.autograd._op.apply1(_OnTheHost, x),  # computes on the host
        lambda x: x * (2 if x.is_cuda else 2.01),  # differs
        lambda x: x.cpu(),  # ends on the host
    ):
        spec = SPECS["exp"].__class__(
            name="planted", family="planted", function=function, method=False, differentiable=True, twice=True,
            inplace=False,
        )  # fmt: skip
        with pytest.raises(AssertionError):
            check_operation(Case(spec, Samples(np.exp, [sample]), sample, "float32"), device, gradients=False)


def test_a_planted_bug_in_a_cuda_source_is_noticed(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if cuda_on_host.compiler() is None:
        pytest.skip("no C++ compiler to run CUDA kernels on the CPU")
    right = cuda_on_host.launch

    def launch(source: str, name: str, *rest: Any) -> None:
        assert "rest2 * g * g" in source
        right(source.replace("rest2 * g * g", "rest2 * g"), name, *rest)

    monkeypatch.setattr(cuda_on_host, "launch", launch)
    case = next(c for c in CASES if str(c).startswith("optim.adam-"))
    with pytest.raises(AssertionError, match="after the call differs"):
        check_kernel(case, cuda_backend(), device)
