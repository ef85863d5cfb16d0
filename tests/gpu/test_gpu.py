"""Everything that the stand-in for CuPy is tested with, on a real GPU; and what only a real one has.

`make gpu` runs this. Without a GPU it is one skip, with the reason.
"""

import importlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import distgrad
from distgrad import cuda
from distgrad.backend import cuda_problem
from distgrad.comm import device_transports, get_default, run_threads
from distgrad.comm.device._nccl import nccl_problem
from tests.backend.device_collectives import CASES, Check, Place, busy, run
from tests.backend.on_device import *  # noqa: F403 - the tests themselves
from tests.backend.on_device_training import *  # noqa: F403
from tests.jobs import installed_mpis, run_job

problem = cuda_problem()
if problem is not None:
    pytest.skip(f"no GPU: {problem}", allow_module_level=True)

COLLECTIVES = [(name, check) for name, check in CASES if "point" not in name]

# CuPy warns of what is slow on some machines; that is no failure.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]


@pytest.fixture
def device() -> str:
    return "cuda"


@pytest.fixture
def cupy() -> Any:
    return importlib.import_module("cupy")


# ---- between ranks ---------------------------------------------------------------------------------------------------


def run_jobs(gpus: int, *command: str) -> str:
    """What a job of two ranks prints, with each MPI; skipped where there are too few GPUs."""
    if cuda.device_count() < gpus:
        pytest.skip(f"needs {gpus} GPUs, there are {cuda.device_count()}")
    if not installed_mpis():
        pytest.skip("no mpirun beside this Python; install distgrad[mpich]")
    output = ""
    for mpi in installed_mpis():
        outcome = run_job(mpi.job(2, "-m", *command), deadline=300.0)
        assert outcome.code == 0, outcome.output
        output += outcome.output
    return output


@pytest.mark.parametrize("host", ["mpi", "shm"], ids=lambda name: f"over-{name}")
def test_two_ranks_by_host_memory(host: str) -> None:
    """DDP and the checks of collectives; one GPU is enough."""
    output = run_jobs(1, "tests.backend.ddp_job", "gpu", host, "staged")
    assert output.count("staged through pinned memory of the group") == 2 * len(installed_mpis()), output


def test_two_ranks_by_nccl() -> None:
    if nccl_problem() is not None:
        pytest.skip(f"no NCCL: {nccl_problem()}")
    output = run_jobs(2, "tests.backend.ddp_job", "gpu", "shm", "nccl")
    assert output.count("NCCL ") == output.count("all is well") == 2 * len(installed_mpis()), output


def test_two_ranks_by_cuda_aware_mpi() -> None:
    problem = device_transports()["mpi"]
    if problem is not None:
        pytest.skip(f"no CUDA-aware MPI: {problem}")
    output = run_jobs(1, "tests.backend.ddp_job", "gpu", "mpi", "mpi")
    assert output.count("CUDA-aware MPI") == 2 * len(installed_mpis()), output


def test_two_ranks_of_one_gpu_do_without_nccl() -> None:
    """NCCL does not let ranks share a GPU, which must be noticed before it is asked."""

    def describe() -> str:
        group = get_default()
        group.all_reduce(distgrad.ones(3, device="cuda")._data)
        return group.describe()

    distgrad.zeros(1, device="cuda")
    for text in run_threads(2, describe):
        assert "staged through" in text and ("share the GPU" in text or nccl_problem() is not None), text


@pytest.mark.parametrize("check", [pytest.param(check, id=name) for name, check in COLLECTIVES])
@pytest.mark.parametrize(("size", "way"), [(2, "staged"), (1, "nccl")], ids=["staged", "nccl of one rank"])
def test_collectives_keep_the_order_of_streams(check: Check, size: int, way: str) -> None:
    """On streams that are busy; the ranks are threads of this process on one GPU."""
    if way == "nccl" and nccl_problem() is not None:
        pytest.skip(f"no NCCL: {nccl_problem()}")
    distgrad.zeros(1, device="cuda")
    work = busy()

    def on_rank() -> str:
        group = get_default()
        group.options = replace(group.options, device=way)
        run(group, Place(cuda.current_device(), work), check)
        return group.describe()

    for text in run_threads(size, on_rank, timeout=60.0):
        assert ("NCCL " if way == "nccl" else "staged") in text or "none passed" in text


@pytest.mark.parametrize(("gpus", "way"), [(1, "staged"), (2, "nccl")], ids=lambda value: str(value))
def test_bandwidth(gpus: int, way: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing but that it runs is asserted; the figures belong into docs/gpu.md."""
    output = run_jobs(gpus, "tests.gpu.bandwidth", way)
    with capsys.disabled():
        print("\n" + output)
    assert output.count("GB/s") >= 4 * len(installed_mpis())


# ---- the device ------------------------------------------------------------------------------------------------------


def test_the_device_tells_about_itself() -> None:
    assert cuda.is_available() and cuda.device_count() >= 1
    assert cuda.get_device_name() and 0 <= cuda.current_device() < cuda.device_count()
    held = distgrad.zeros(1 << 20, device="cuda")
    assert cuda.memory_reserved() >= cuda.memory_allocated() >= held.nbytes
    free, total = cuda.mem_get_info()
    assert 0 < free <= total and cuda.get_device_capability() >= (5, 0)
    cuda.synchronize()
    cuda.empty_cache()


def test_cupy_arrays_share_memory_with_tensors(cupy: Any) -> None:
    array = cupy.arange(4, dtype="float32")
    t = distgrad.from_dlpack(array)
    t += 1
    assert t.is_cuda and array.get().tolist() == [1, 2, 3, 4]
    back = cupy.asarray(t)
    back *= 2
    assert t.tolist() == [2, 4, 6, 8]
    assert cupy.from_dlpack(t).get().tolist() == [2, 4, 6, 8]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype: str) -> None:
    found = []
    for where in ("cuda", "cpu"):
        distgrad.manual_seed(1)
        a, b = (distgrad.randn(2, 3, 4, device=where).to(getattr(distgrad, dtype)) for _ in range(2))
        a.requires_grad_()
        y = (a @ b.transpose(1, 2)).softmax(-1).tanh() * 2
        y.sum().backward()
        found.append([numpy_of(t.float()) for t in (y, a.grad)])  # noqa: F405
    for value, wanted in zip(*found, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=3e-2, atol=3e-2)


def test_large_arrays() -> None:
    """More elements than one launch has threads, and products that need cuBLAS."""
    x = distgrad.randn(2048, 2048)
    there = x.to("cuda")
    np.testing.assert_allclose(there.sum().item(), x.sum().item(), rtol=1e-3, atol=1)
    np.testing.assert_allclose(numpy_of(there @ there)[:4], numpy_of(x @ x)[:4], rtol=1e-3, atol=1e-2)  # noqa: F405
    weight = distgrad.nn.Parameter(distgrad.zeros(5_000_000, device="cuda"))
    weight.grad = distgrad.ones_like(weight)
    distgrad.optim.SGD([weight], lr=0.5).step()
    assert weight.min().item() == weight.max().item() == -0.5
